from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from gfocal.data.scenes.generate import make_scenes
from gfocal.errors import UsageError
from gfocal.recipe import load_recipe
from gfocal.runs.checkpoint import save_detector
from gfocal.structures import Detections
from gfocal.studies.figures import data as figures_data
from gfocal.studies.figures import draw as figures
from gfocal.studies.figures import edges as figures_edges
from gfocal.studies.figures.data import beyond, open_source
from gfocal.studies.figures.draw import draw_figures
from gfocal.studies.figures.edges import Found, bins_in_pixels, choose_shown
from gfocal.studies.figures.scores import scored_points
from gfocal.studies.figures.theory import example_edge, qfl_figure
from gfocal.zoo import build_detector

SMALL = ["model.channels=32", "model.head_depth=1", "data.resize.size=64"]


@pytest.fixture(scope="module", autouse=True)
def few_scenes() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures_data, "SCENES", 4)
        figures_data._scenes.cache_clear()
        yield
    figures_data._scenes.cache_clear()


def trained(path: Path, name: str, names: tuple[str, ...] = figures.CLASSES) -> Path:
    """A checkpoint of a detector that finds something everywhere."""
    torch.manual_seed(0)
    recipe = load_recipe(name, SMALL)
    detector = build_detector(recipe, names, pretrained=False)
    with torch.no_grad():
        for conv in detector.head.out:
            conv.bias.unflatten(0, (-1, sum(detector.head.outputs)))[:, : len(names)] = 0.5
    save_detector(path, detector.state_dict(), recipe, names)
    return path


def test_without_a_model_the_figure_that_needs_one_is_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    drawn = draw_figures(tmp_path / "out", say=said.append)
    assert sorted(drawn) == ["quality-focal-loss", "representations", "score-use", "targets"]
    for name, file in drawn.items():
        assert file == tmp_path / "out" / f"{name}.png"
        assert file.read_bytes().startswith(b"\x89PNG")
    assert len(said) == 1
    assert re.search(r"edges is left out.*--model RUN", said[0])


def test_with_models_all_are_drawn_and_svg_holds_the_words(tmp_path: Path) -> None:
    models = [str(trained(tmp_path / f"{name}.safetensors", name)) for name in ("atss_nano", "gfl_nano")]
    said: list[str] = []
    drawn = draw_figures(tmp_path, model=models, format="svg", say=said.append)
    words = {name: file.read_text() for name, file in drawn.items()}
    assert "a branch that never learnt background" in words["score-use"]
    assert "one number: class and quality at once" in words["score-use"]
    assert "invented" not in words["score-use"]
    assert "4 generated scenes of 64 pixels" in words["targets"]
    # Untrained boxes may find no object: then it is said.
    assert ("edges" in drawn) != any("finds no object" in line for line in said)
    again = figures._save(tmp_path / "again.svg", qfl_figure(), "svg")
    assert again.read_text() == words["quality-focal-loss"], "the same bytes each time"


def test_scores_of_points() -> None:
    source = open_source(None, 64)
    branch, joint = (
        build_detector(load_recipe(f"{name}_nano", SMALL), figures.CLASSES, pretrained=False).eval()
        for name in ("atss", "gfl")
    )
    separate, one = scored_points(branch, source), scored_points(joint, source)
    assert np.allclose(separate.classification * separate.quality, separate.score, atol=1e-7)
    assert np.array_equal(one.quality, one.score)
    assert np.array_equal(one.classification, one.score)
    assert not ((separate.iou >= 0.1) & (separate.iou < 0.5)).any(), "neither object nor background"


def found(image: int, side: float, ambiguity: tuple[float, ...], std: float = 1.0) -> Found:
    detection = Detections(
        torch.tensor([[0.0, 0, side, side]]),
        torch.tensor([0.5]),
        torch.tensor([0]),
        edge_std=torch.full((1, 4), std),
    )
    return Found(image, detection, np.array([0, 0, side, side]), np.array(ambiguity))


def test_what_is_shown_is_chosen_by_the_annotations() -> None:
    sharp = (0.0,) * 4
    objects = [
        found(0, 100, (0, 5, 0, 0)),  # 0.05 of its side
        found(1, 50, (4, 0, 0, 0)),  # 0.08
        found(1, 50, (0, 0, 0, 6)),  # 0.12: the first, and of the same image as the one before
        found(2, 20, (1, 0, 0, 0), std=0.0),  # 0.05, after the first of the list: the sort is stable
        found(3, 21, sharp, std=99.0),
        found(4, 500, sharp),
        found(5, 90, sharp),
    ]
    unclear, beside = choose_shown(objects)
    assert unclear == [objects[2], objects[0], objects[3]]
    # The nearest in size to 50, then to 100 and to 20, each of another image: 21, 90, 500.
    assert beside == [objects[4], objects[6], objects[5]]


def test_without_annotations_the_predicted_spread_decides() -> None:
    unknown = (np.nan,) * 4
    objects = [found(i, 50, unknown, std=std) for i, std in enumerate((3.0, 1.0, 9.0, 5.0, 2.0, 4.0))]
    unclear, beside = choose_shown(objects)
    assert unclear == [objects[2], objects[3], objects[5]]
    assert beside == [objects[1], objects[4], objects[0]]


def test_bins_lie_in_pixels_of_the_image() -> None:
    detector = build_detector(load_recipe("gfl_nano", [*SMALL, "model.boxes.reg_max=2"]), ["a"], pretrained=False)
    # Strides of 16 at level 1; an image of 32 x 128 enters at 64 x 64: a stride is 8 high and 32 wide there.
    # Left: half on bins 0 and 1 each, mean 0.5: bin 0 lies half a stride (16 pixels) right of the edge at 40.
    probs = torch.tensor([[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    one = Detections(
        torch.tensor([[40.0, 5, 90, 30]]),
        torch.tensor([0.5]),
        torch.tensor([0]),
        edge_probs=probs,
        levels=torch.tensor([1]),
    )
    places = bins_in_pixels(Found(0, one, np.zeros(4), np.zeros(4)), detector, (32, 128))
    assert places.tolist() == [[56, 24, -8], [5, -3, -11], [58, 90, 122], [14, 22, 30]]


def test_detections_at_the_border_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(None, 64)
    detector = build_detector(load_recipe("gfl_nano", SMALL), figures.CLASSES, pretrained=False).eval()
    truth = [source.index.targets(i) for i in range(len(source.index))]
    counts = [len(targets) for targets in truth]
    row = max(range(4), key=counts.__getitem__)

    def perfect(image: torch.Tensor, **_: object) -> Detections:
        i = next(i for i in range(4) if torch.equal(source.image(i), image))
        boxes, labels = truth[i].boxes.clone(), truth[i].labels
        if i == row:
            boxes[0, 0] = 0.5  # it touches the left border
        return Detections(boxes, torch.full((len(boxes),), 0.9), labels)

    monkeypatch.setattr(detector, "predict", perfect)
    inside = [((t.boxes > 1) & (t.boxes < 63)).all(1) for t in truth]
    inside[row][0] = False
    shown = figures_edges.found_objects(detector, source)
    assert len(shown) == sum(int(mask.sum()) for mask in inside)
    assert all(one.known for one in shown)


def test_the_example_edge_is_what_general_boxes_read() -> None:
    probs, mean, std = example_edge()
    bins = np.arange(len(probs))
    assert probs.sum() == pytest.approx(1)
    assert mean == pytest.approx(probs @ bins)
    assert std == pytest.approx(np.sqrt(probs @ (bins - mean) ** 2))
    peaks = [i for i in range(1, len(probs) - 1) if probs[i - 1] < probs[i] > probs[i + 1]]
    assert len(peaks) == 2, "two likely places"


def test_the_curves_are_those_of_the_loss() -> None:
    by_beta, by_target = qfl_figure().axes
    curves = {line.get_label(): line.get_data() for line in by_beta.lines}
    score, loss = (np.asarray(values) for values in curves["β = 2 (the paper's choice)"])
    entropy = -0.5 * (np.log(1 - score) + np.log(score))
    assert np.allclose(loss, (score - 0.5) ** 2 * entropy, atol=1e-6)
    lines = [np.asarray(line.get_ydata()) for line in by_target.lines if len(line.get_ydata()) > 1]
    assert np.allclose(lines[0], lines[4], atol=1e-6), "focal loss of y = 0"
    assert np.allclose(lines[3], lines[5], atol=1e-6), "focal loss of y = 1"


def test_shares_beyond_the_lines() -> None:
    class Assigned:
        edges = torch.tensor([[1.0, 7.0, 7.5, 17.0]])

    assert (beyond(Assigned(), 7), beyond(Assigned(), 16)) == ("50.00 % beyond", "25.00 % beyond")


def test_data_of_a_person(tmp_path: Path) -> None:
    make_scenes(tmp_path / "data", train=1, val=2, size=64)
    source = open_source(tmp_path / "data", 999)
    assert source.title == "data, 2 pictures"
    assert source.image(0).shape == (3, 64, 64)


def test_refusals(tmp_path: Path) -> None:
    other = trained(tmp_path / "cats.safetensors", "gfl_nano", ("cat", "dog"))
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="png or svg, not 'pdf'"):
        draw_figures(tmp_path, format="pdf")
    with pytest.raises(UsageError, match="it is a file"):
        draw_figures(tmp_path / "file")
    with pytest.raises(UsageError, match="no run folder or checkpoint"):
        draw_figures(tmp_path, model=str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"cat, dog .*give its --data"):
        draw_figures(tmp_path / "out", model=str(other))
    assert not (tmp_path / "out").exists()

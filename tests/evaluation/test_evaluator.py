"""Measuring: boxes come back to original pixels, classes agree, nothing is left changed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gfocal.commands import demo
from gfocal.commands.evaluate import evaluate_files
from gfocal.data.formats.coco.reader import read_coco
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import BrokenInputError, UsageError
from gfocal.evaluation import STATS, EvalResult, positives, weighted_ap
from gfocal.evaluation.coco import BeyondLimit
from gfocal.evaluation.detection import trained
from gfocal.evaluation.evaluator import Evaluation, check_names, evaluate
from gfocal.evaluation.uncertainty import EdgeCorrelation, LevelCorrelation, SizeCorrelation, UncertaintyResult
from gfocal.images.io import Resize
from gfocal.runs.datasets import open_train_data
from gfocal.runtime.distributed import ALONE
from gfocal.structures import Detections
from gfocal.studies.execution import worker
from gfocal.training.fitting.pace import measure_pace
from gfocal.training.train import train
from gfocal.zoo import build_detector
from helpers.small_runs import rewritten, small

SIZES = [(90, 40), (50, 120), (64, 64), (33, 101), (100, 70)]  # width, height


@pytest.fixture
def index(tmp_path: Path) -> DataIndex:
    """Five images of different shapes; image 2 has no objects."""
    images, annotations = [], []
    for i, (width, height) in enumerate(SIZES):
        Image.new("RGB", (width, height), (30 * i, 99, 200)).save(tmp_path / f"{i}.png")
        images.append({"id": i + 1, "file_name": f"{i}.png", "width": width, "height": height})
        for j in range(0 if i == 2 else 2):
            box = [1.5 + j, 2.25, 0.6 * width, 0.7 * height - 3 * j]
            annotations.append({"image_id": i + 1, "category_id": 1 + j, "bbox": box})
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    path = tmp_path / "val.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return read_coco(path, tmp_path)


class Knows:
    """A detector that knows the answers, in pixels of the resized image, off by ``shift`` of them."""

    device = torch.device("cpu")
    tiling = None
    value_range = "type"
    training = True

    def __init__(self, index: DataIndex, resize: Resize, shift: float = 0.0) -> None:
        self.index, self.resize, self.shift, self.names = index, resize, shift, index.names
        self.turn = 0
        self.modes: list[bool] = []

    def eval(self) -> None:
        self.modes.append(False)

    def train(self, mode: bool) -> None:
        self.modes.append(mode)

    def detect(self, images: Tensor, sizes: Tensor) -> list[Detections]:
        found = []
        for height, width in sizes.tolist():
            i, self.turn = self.turn, self.turn + 1
            targets = self.index.targets(i)
            factor = torch.tensor([width / self.index.widths[i], height / self.index.heights[i]]).repeat(2)
            boxes = targets.boxes * factor + self.shift
            found.append(Detections(boxes.float(), torch.full((len(boxes),), 0.9), targets.labels, self.names))
        return found


RESIZES = [Resize("square", size=64), Resize("short_long", short_side=48, long_side=100)]


@pytest.mark.parametrize("resize", RESIZES, ids=lambda resize: resize.kind)
@pytest.mark.parametrize("workers", [0, 1])
def test_right_boxes_score_one(index: DataIndex, resize: Resize, workers: int) -> None:
    knows: Any = Knows(index, resize)
    calls: list[tuple[int, int]] = []
    measured = evaluate(knows, index, batch_size=2, workers=workers, progress=lambda *a: calls.append(a))
    stats = measured.result.stats
    assert stats["AP"] == stats["AP75"] == stats["AR100"] == 1.0
    assert measured.result.per_class == {"a": 1.0, "b": 1.0}
    assert (measured.result.num_images, measured.result.num_detections) == (5, 8)
    assert calls == [(2, 5), (4, 5), (5, 5)]
    assert knows.modes == [False, True], "the mode it had comes back"
    content = measured.to_dict()
    assert content["AP"] == 1.0
    assert content["speed"].keys() == {"ms_per_picture", "seconds"}
    json.dumps(content, allow_nan=False)


def test_matches_are_handed_out_when_asked_for(index: DataIndex) -> None:
    knows: Any = Knows(index, RESIZES[0], shift=3.0)
    measured = evaluate(knows, index, batch_size=2, workers=0, keep_matches=True, resamples=10)
    assert measured.matches is not None
    assert measured.matches.objects.sum(1).tolist() == [2, 2, 0, 2, 2]
    ap = weighted_ap(measured.matches, np.ones((1, 5), int)).mean()
    assert ap == pytest.approx(measured.result.stats["AP"], abs=1e-12)
    assert sorted(measured.matches.images) == [0, 0, 1, 1, 3, 3, 4, 4]
    assert "matches" not in measured.to_dict()
    assert measured.matches.scores == pytest.approx(np.full(8, 0.9))
    assert evaluate(Knows(index, RESIZES[0]), index, workers=0).matches is None  # type: ignore[arg-type]


def test_boxes_that_are_off_do_not(index: DataIndex) -> None:
    knows: Any = Knows(index, RESIZES[0], shift=3.0)
    stats = evaluate(knows, index, batch_size=2, workers=0).result.stats
    assert stats["AP50"] == 1.0
    assert stats["AP"] < 0.8


def test_classes_are_matched_by_name(index: DataIndex) -> None:
    names = ("c", "b", "a")

    class Other(Knows):
        def detect(self, images: Tensor, sizes: Tensor) -> list[Detections]:
            # Its own numbers, and something of class c, of which the data know nothing, in each image.
            found = []
            for one in super().detect(images, sizes):
                boxes = torch.cat([one.boxes, torch.tensor([[1.0, 1, 9, 9]])])
                labels = torch.cat([2 - one.labels, torch.tensor([0])])
                found.append(Detections(boxes, torch.full((len(boxes),), 0.9), labels, names))
            return found

    knows: Any = Other(index, RESIZES[0])
    knows.names = names
    assert check_names(knows, index).names == names
    result = evaluate(knows, index, workers=0).result
    assert result.stats["AP"] == 1.0
    assert result.per_class == {"c": None, "b": 1.0, "a": 1.0}


def test_objects_of_unknown_classes_are_refused(index: DataIndex) -> None:
    knows: Any = Knows(index, RESIZES[0])
    knows.names = ("a", "c")
    message = (
        r"val\.json are not the detector's: it does not know b \(4 boxes\); 1 of the data's 2 classes are in the "
        r"detector, which has also c\. `gfocal eval` has --rename OLD=NEW .* and --only-common"
    )
    with pytest.raises(UsageError, match=message):
        evaluate(knows, index)


def test_no_images(index: DataIndex) -> None:
    empty = replace(index, image_ids=index.image_ids[:0])
    knows: Any = Knows(index, RESIZES[0])
    with pytest.raises(UsageError, match=r"val\.json lists no pictures"):
        evaluate(knows, empty)


def test_no_objects_gives_no_numbers(index: DataIndex, tmp_path: Path) -> None:
    background = rewritten(index, tmp_path / "new", lambda content: content.update(annotations=[]))
    content = evaluate(Knows(background, RESIZES[0]), background, workers=0).to_dict()  # type: ignore[arg-type]
    assert content["AP"] is None
    assert content["num_images"] == 5


def test_a_broken_image_stops_or_is_listed(index: DataIndex) -> None:
    index.path(1).write_bytes(b"no picture")
    detector = build_detector(small(), index.names)
    with pytest.raises(BrokenInputError, match=r"1\.png .*; replace it; --skip-broken leaves it out$"):
        evaluate(detector, index, batch_size=2, workers=0)
    assert detector.training, "an error leaves the mode as it was too"
    measured = evaluate(detector, index, batch_size=2, workers=0, skip_broken=True)
    assert len(measured.skipped) == 1
    assert "1.png" in measured.skipped[0]
    assert "(left out of the evaluation)" in measured.skipped[0]
    assert "--skip-broken" not in measured.skipped[0]
    assert measured.result.num_images == 4


def test_skipping_means_the_same_for_a_missing_and_a_damaged_image(index: DataIndex) -> None:
    results = []
    for damage in (lambda path: path.write_bytes(b"no picture"), lambda path: path.unlink()):
        damage(index.path(4))
        now = read_coco(index.annotations, index.images_dir, skip_broken=True)
        results.append(evaluate(Knows(now, RESIZES[0], 2.0), now, workers=0, skip_broken=True).result)  # type: ignore[arg-type]
    assert len(now) == 4, "the missing one is found when the annotations are read"
    assert results[0] == results[1]
    assert results[0].num_images == 4


def test_no_image_that_can_be_read(index: DataIndex) -> None:
    for i in range(len(index)):
        index.path(i).write_bytes(b"no picture")
    with pytest.raises(UsageError, match="none of the 5 pictures"):
        evaluate(build_detector(small(), index.names), index, workers=0, skip_broken=True)


def test_a_stand_in_is_not_counted_twice(index: DataIndex) -> None:
    class Next(Knows):
        def detect(self, images: Tensor, sizes: Tensor) -> list[Detections]:
            if self.turn == 1:
                self.turn = 2  # image 2 stands in for the broken one ...
                found = super().detect(images, sizes)
                self.turn = 2  # ... and has its own turn
                return found
            return super().detect(images, sizes)

    index.path(1).write_bytes(b"no picture")
    knows: Any = Next(index, RESIZES[0])
    result = evaluate(knows, index, batch_size=1, workers=0, skip_broken=True).result
    # All six objects of the other images are found once; the two of the broken one are not asked for.
    assert result.num_detections == 6
    assert result.stats["AP"] == result.stats["AR100"] == 1.0


@pytest.mark.parametrize("training", [True, False])
def test_a_real_detector_keeps_its_mode_and_values(index: DataIndex, training: bool) -> None:
    detector = build_detector(small(), index.names).train(training)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    for precision in ("fp32", "bf16"):
        evaluate(detector, index, batch_size=4, workers=0, precision=precision)
    assert all(module.training is training for module in detector.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in detector.state_dict().items())


def with_ambiguity(index: DataIndex, folder: Path) -> DataIndex:
    """Ambiguity of the edges: different for each object and edge."""

    def add(content: dict[str, Any]) -> None:
        for i, annotation in enumerate(content["annotations"]):
            annotation["edge_ambiguity"] = [1.0 + (4 * i + edge) * 7 % 32 for edge in range(4)]

    return rewritten(index, folder, add)


class Unsure(Knows):
    """Says the true ambiguity, in pixels of the resized image."""

    def detect(self, images: Tensor, sizes: Tensor) -> list[Detections]:
        start, found = self.turn, super().detect(images, sizes)
        for i, (height, width) in enumerate(sizes.tolist()):
            row = start + i
            own = slice(self.index.box_start[row], self.index.box_start[row + 1])
            factor = torch.tensor([width / self.index.widths[row], height / self.index.heights[row]]).repeat(2)
            assert self.index.edge_ambiguity is not None
            std = torch.from_numpy(self.index.edge_ambiguity[own]).float() * factor
            levels = torch.ones(len(std), dtype=torch.int64)
            found[i] = replace(found[i], edge_std=std, levels=levels)
        return found


@pytest.mark.parametrize("resize", RESIZES, ids=lambda resize: resize.kind)
def test_edge_std_is_compared_in_original_pixels(index: DataIndex, tmp_path: Path, resize: Resize) -> None:
    # In pixels of the resized images, each scaled by its own factors, the order would be another.
    unsure: Any = Unsure(with_ambiguity(index, tmp_path / "new"), resize)
    content = evaluate(unsure, unsure.index, batch_size=2, workers=0).to_dict()
    uncertainty = content["edge_uncertainty"]
    assert uncertainty["overall"]["correlation"] == pytest.approx(1.0)
    assert uncertainty["overall"]["edges"] == 32
    assert uncertainty["levels"] == [{"level": 1, **uncertainty["overall"]}]
    assert [entry["edges"] for entry in uncertainty["sizes"]] == [12, 8, 12]
    json.dumps(content, allow_nan=False)


def test_edge_std_needs_both_sides(index: DataIndex, tmp_path: Path) -> None:
    told = with_ambiguity(index, tmp_path / "new")
    without_std: Any = Knows(told, RESIZES[0])
    assert evaluate(without_std, told, workers=0).to_dict()["edge_uncertainty"] is None
    real = build_detector(small(), index.names)
    assert evaluate(real, index, workers=0).to_dict()["edge_uncertainty"] is None
    result = evaluate(real, told, workers=0).to_dict()["edge_uncertainty"]
    assert result is None or result["mean_over_sizes"] is None


def test_evaluation_and_prediction_pad_alike(index: DataIndex) -> None:
    detector = build_detector(small(), index.names)
    detector.resize = Resize("short_long", short_side=40, long_side=60, fill=(124, 116, 104))
    seen: list[Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "detect", lambda images, *args, **kwargs: seen.append(images) or detect(images))
        detect = type(detector).detect.__get__(detector)
        evaluate(detector, index, batch_size=1, workers=0)
        detector.predict([index.path(i) for i in range(len(index))])
    assert len(seen) == 10
    for one, other in zip(seen[:5], seen[5:], strict=True):
        assert torch.equal(one, other)
        assert one[0, :, -1, -1].tolist() == [124, 116, 104]


def test_validation_data_follow_the_classes_of_the_training_data(index: DataIndex, tmp_path: Path) -> None:
    def other_ids(content: dict[str, Any]) -> None:
        # The order turns round, and there is a class without objects in between.
        content["categories"] = [{"id": 4, "name": "a"}, {"id": 3, "name": "c"}, {"id": 1, "name": "b"}]
        for annotation in content["annotations"]:
            annotation["category_id"] = {1: 4, 2: 1}[annotation["category_id"]]

    train = rewritten(index, tmp_path / "one", lambda content: None)
    val = rewritten(index, tmp_path / "two", other_ids)
    (tmp_path / "images").mkdir()
    for i in range(len(index)):
        index.path(i).rename(tmp_path / "images" / index.file_name(i))
    train_index, val_index = open_train_data(train.annotations, val.annotations)
    assert val_index is not None
    assert train_index.names == val_index.names == ("a", "b")
    assert val.labels.tolist() == [2, 0] * 4
    assert val_index.labels.tolist() == train_index.labels.tolist() == [0, 1] * 4


def made_evaluation() -> Evaluation:
    stats = dict.fromkeys(STATS, 0.25) | {"APl": math.nan, "ARl": math.nan}
    result = EvalResult(stats, {"a": 0.25, "b": None}, None, 5, 17, {"AP": (0.1, 0.5)})
    edges = EdgeCorrelation(0.5, 40, 0.75, None, 4)
    nothing = EdgeCorrelation(None, 0, None, None, 0)
    sizes = SizeCorrelation("small", 3.5, 9.0, edges), SizeCorrelation("large", None, None, nothing)
    uncertainty = UncertaintyResult(None, None, edges, sizes, (LevelCorrelation(2, edges),))
    return Evaluation(result, 12.3456789, 1.0, ("a.png is broken",), uncertainty)


def test_what_is_beyond_the_limit_comes_back_from_json() -> None:
    found = made_evaluation()
    beyond = BeyondLimit(500, 0.4, 0.6, 0.5, 0.7)
    found = replace(found, result=replace(found.result, num_objects=812, beyond=beyond))
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert content["beyond"] == {"max_detections": 500, "AP": 0.4, "AP50": 0.6, "AP75": 0.5, "AR": 0.7}
    assert content["num_objects"] == 812
    assert Evaluation.from_dict(content).result.beyond == beyond
    earlier = {name: value for name, value in content.items() if name not in ("beyond", "num_objects")}
    assert Evaluation.from_dict(earlier).result.num_objects is None


def test_json_and_back() -> None:
    """Its keys are what scripts read: they stay as they are."""
    found = made_evaluation()
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert list(content) == [
        *STATS, "per_class", "score_iou_correlation", "num_images", "num_detections", "intervals", "num_objects",
        "best_f1", "edge_uncertainty", "speed", "skipped",
    ]  # fmt: skip
    assert content["APl"] is None
    assert content["speed"] == {"ms_per_picture": 12.346, "seconds": 1.0}
    edges = ["correlation", "edges", "ceiling", "uncertain_correlation", "uncertain_edges"]
    assert list(content["edge_uncertainty"]["sizes"][0]) == ["size", "from", "to", *edges]
    assert list(content["edge_uncertainty"]["levels"][0]) == ["level", *edges]
    again = Evaluation.from_dict(content)
    assert again == replace(found, ms_per_image=12.346)
    for later in ("intervals", "edge_uncertainty"):
        del content[later]
    old = Evaluation.from_dict(content)
    assert (old.result.intervals, old.edge_uncertainty) == ({}, None)
    with pytest.raises(ValueError, match="AP75 is missing"):
        Evaluation.from_dict({key: value for key, value in content.items() if key != "AP75"})


# --- by a recipe


def test_everything_that_measures_by_a_recipe_waits_as_long_as_it_says(
    tmp_path: Path, scenes: Path, train_index: DataIndex, val_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only a training: a study or a demo would end after it, on a disk that it was told to wait for."""
    asked: list[object] = []
    for module in (trained, positives):
        real = module.make_loader

        def noted(*args: Any, real: Any = real, **options: Any) -> Any:
            asked.append(options["worker_timeout"])
            return real(*args, **options)

        monkeypatch.setattr(module, "make_loader", noted)

    def calls() -> list[object]:
        found = list(asked)
        asked.clear()
        return found

    recipe, run = small("data.worker_timeout=0", "schedule.epochs=1"), tmp_path / "run"
    train(recipe, train_index, val_index, run, progress=False)
    assert calls() == [0]
    detector = build_detector(recipe, train_index.names, pretrained=False)
    measure_pace(recipe, detector, train_index, val_index, out=run, limit=0.0, processes=ALONE)
    assert calls() == [0]
    worker._measured(run / "last.safetensors", recipe, val_index)
    assert calls() == [0, 0], "the detections, and the positives"
    demo._measure(run, val_index)
    assert calls() == [0]
    evaluate_files(str(run), scenes)
    assert calls() == [0]

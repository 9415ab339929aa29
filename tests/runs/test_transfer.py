"""Starting from the weights of another detector: what is taken, what starts new, what is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.recipe import build_recipe
from gfocal.runs.checkpoint import load_detector, save_detector
from gfocal.runs.transfer import PARTS, other_inputs, start_from
from gfocal.zoo import build_detector
from helpers.small_runs import TINY, small


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A detector of two classes."""
    torch.manual_seed(5)
    recipe = small("data.resize.size=96", "predict.nms_iou=0.4")
    path = tmp_path / "some.safetensors"
    weights = build_detector(recipe, ("cat", "dog")).state_dict()
    save_detector(path, weights, recipe, ("cat", "dog"), category_ids=[3, 17], notes={"metrics": {"AP": 0.25}})
    return path


def test_the_same_classes_take_everything(saved: Path) -> None:
    detector = build_detector(small(), ("cat", "dog"))
    assert start_from(detector, saved).fresh == []
    source = load_detector(saved)[0].state_dict()
    assert all(torch.equal(tensor, source[name]) for name, tensor in detector.state_dict().items())


@pytest.mark.parametrize("names", [("cow", "owl"), ("cow", "owl", "hen"), ("cow",)])
def test_other_classes_keep_all_but_the_class_rows(saved: Path, names: tuple[str, ...]) -> None:
    detector = build_detector(small(), names)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    fresh = start_from(detector, saved).fresh
    assert sorted(fresh) == [f"head.out.{level}.{kind}" for level in range(3) for kind in ("bias", "weight")]
    source = load_detector(saved)[0].state_dict()
    for name, tensor in detector.state_dict().items():
        if name in fresh:
            classes = len(names)
            assert torch.equal(tensor[:classes], before[name][:classes]), "class rows start new"
            assert torch.equal(tensor[classes:], source[name][2:]), "the box code's 32 rows come along"
            assert len(tensor[classes:]) == 32
        else:
            assert torch.equal(tensor, source[name]), name


def test_a_head_can_start_anew(saved: Path) -> None:
    torch.manual_seed(8)
    detector = build_detector(small(), ("cat", "dog"))
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    theirs = load_detector(saved)[0].state_dict()
    fresh = start_from(detector, saved, ("backbone", "neck")).fresh
    assert fresh == [name for name in before if name.startswith("head.")]
    for name, tensor in detector.state_dict().items():
        assert torch.equal(tensor, before[name] if name in fresh else theirs[name]), name


def test_another_detector_takes_backbone_and_neck(saved: Path) -> None:
    recipe = small(*TINY, "data.resize.size=96", name="retinanet_nano")
    detector = build_detector(recipe, ("cat", "dog"))
    fresh = start_from(detector, saved, ("backbone", "neck")).fresh
    assert {name.partition(".")[0] for name in fresh} == {"head"}
    # A head that starts anew learns any points; the pixels of the backbone must still be those it was trained with.
    assert other_inputs(recipe, saved, ("backbone", "neck")) == []
    assert any(line.startswith("model.points.kind square -> octave") for line in other_inputs(recipe, saved))


def test_a_quality_of_its_own_weights_belongs_to_the_head(tmp_path: Path) -> None:
    recipe = small("model.quality.kind=joint_v2")
    source, path = build_detector(recipe, ("a",)), tmp_path / "v2.safetensors"
    nn.init.constant_(source.quality.stack[0].weight, 0.5)
    save_detector(path, source.state_dict(), recipe, ("a",))
    for parts, value in ((PARTS, 0.5), (("backbone", "neck"), None)):
        detector = build_detector(recipe, ("a",))
        fresh = start_from(detector, path, parts).fresh
        assert ("quality.stack.0.weight" in fresh) == (value is None)
        assert bool((detector.quality.stack[0].weight == 0.5).all()) == (value is not None)


def test_a_part_that_does_not_exist_is_refused(saved: Path) -> None:
    with pytest.raises(UsageError, match="--init-parts takes backbone, neck, head, not tail"):
        start_from(build_detector(small(), ("cat", "dog")), saved, ("backbone", "tail"))


def test_rows_of_several_anchors_are_not_mixed(saved: Path) -> None:
    # The rows of a head with one anchor a location are not those of one with nine, whatever their number.
    detector = build_detector(small(*TINY, name="retinanet_nano"), ("cat", "dog"))
    before = detector.state_dict()["head.out.0.weight"].clone()
    start_from(detector, saved)
    assert torch.equal(detector.state_dict()["head.out.0.weight"], before)


def test_another_range_of_values_is_another_input(saved: Path, tmp_path: Path) -> None:
    """Weights of before there was the key are of "type"."""
    wide = small("data.range=[0,4095]", "data.resize.size=96")
    assert other_inputs(wide, saved) == ["data.range type -> [0.0, 4095.0]"]
    detector, recipe, about = load_detector(saved)
    del about.recipe["data"]["range"]  # type: ignore[attr-defined]
    assert build_recipe(about.recipe, (), "before").data.range == "type"
    save_detector(tmp_path / "wide.safetensors", detector.state_dict(), wide, about.names)
    assert other_inputs(recipe, tmp_path / "wide.safetensors") == ["data.range [0.0, 4095.0] -> type"]
    assert other_inputs(wide, tmp_path / "wide.safetensors") == []


def test_other_inputs_are_found(saved: Path) -> None:
    assert other_inputs(small("optim.lr=3", "data.resize.size=96"), saved) == []
    other = small("model.points.offset=0", "model.points.scale=8", "model.pixels.order=rgb")
    pixels, offset, scale, size = other_inputs(other, saved)
    assert "'bgr'" in pixels.partition(" -> ")[0]
    assert (offset, scale) == ("model.points.offset 0.5 -> 0.0", "model.points.scale 5.0 -> 8.0")
    assert size == "data.resize.size 96 -> 64"
    resized = other_inputs(small("data.resize.kind=short_long"), saved)
    assert resized == ["data.resize.kind square -> short_long"]


@pytest.mark.parametrize(
    ("more", "reads"),
    [
        (["model.assigner.kind=atss"], True),
        (["model.assigner.kind=task_aligned"], False),  # looks at points and predictions, at no anchor
        (["model.assigner.kind=task_aligned", "model.assigner.static_epochs=1"], True),
        (["model.assigner.kind=fcos", "model.assigner.static_epochs=1"], False),
    ],
)
def test_the_anchors_side_matters_to_assigners_that_look_at_it(saved: Path, more: list[str], reads: bool) -> None:
    lines = other_inputs(small("data.resize.size=96", "model.points.scale=8", *more), saved)
    assert lines == (["model.points.scale 5.0 -> 8.0"] if reads else [])


def test_another_architecture_is_refused(saved: Path, tmp_path: Path) -> None:
    recipe = small("model.pretrained=false", "model.channels=32", name="gfl_r18")
    with pytest.raises(UsageError, match=r"some\.safetensors has another architecture than the recipe"):
        start_from(build_detector(recipe, ("cat", "dog")), saved)
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="is not a gfocal checkpoint"):
        start_from(build_detector(small(), ("cat", "dog")), tmp_path / "x.safetensors")


# --- equal shapes that mean something else --------------------------------------------------------------------------


def trained(folder: Path, name: str, *overrides: str) -> Path:
    """A checkpoint of a row with two classes, every output convolution filled with 7."""
    recipe = small(*TINY, *overrides, name=name)
    detector = build_detector(recipe, ("cat", "dog"))
    for key, tensor in detector.state_dict().items():
        if key.startswith("head.out."):
            tensor.fill_(7)
    save_detector(folder / "x.safetensors", detector.state_dict(), recipe, ("cat", "dog"))
    return folder / "x.safetensors"


def rows_taken(detector: DenseDetector) -> list[bool]:
    """Of an anchor's outputs at the first level, which came from the trained detector."""
    bias = detector.state_dict()["head.out.0.bias"]
    return (bias.view(-1, sum(detector.head.outputs))[0] == 7).tolist()


@pytest.mark.parametrize(
    ("source", "target", "overrides", "taken"),
    [
        # [cat, dog | l, t, r, b | branch]: distances are no deltas; the same branch means the same.
        ("fcos_nano", "atss_nano", [], [True] * 2 + [False] * 4 + [True]),
        ("fcos_nano", "atss_nano", ["model.boxes.code=distances"], [True] * 7),
        ("fcos_nano", "fcos_nano", ["model.quality.kind=iou"], [True] * 6 + [False]),
        ("fcos_nano", "fcos_nano", ["model.quality.kind=none"], [True] * 6),
        ("atss_nano", "atss_nano", ["model.boxes.stds=[1, 1, 1, 1]"], [True] * 2 + [False] * 4 + [True]),
        ("atss_nano", "atss_nano", ["model.points.scale=8"], [True] * 2 + [False] * 4 + [True]),
        ("gfl_nano", "gfl_nano", ["model.boxes.delta=0.5"], [True] * 2 + [False] * 32),
        ("gfl_nano", "gfl_nano", ["model.boxes.kind=general"], [True] * 34),
        # C + 1 and 4 numbers of a softmax, or C, 4 and a branch: as many, in another order.
        ("ssd_nano", "ssd_nano", ["model.quality.kind=iou"], [False] * 2 + [True] * 4 + [False]),
        ("ssd_nano", "ssd_nano", ["model.quality.kind=joint"], [False] * 2 + [True] * 4),
        ("ssd_nano", "retinanet_nano", [], [False] * 6),  # nine anchors instead of four
    ],
)
def test_outputs_are_taken_where_they_mean_the_same(
    tmp_path: Path, source: str, target: str, overrides: list[str], taken: list[bool]
) -> None:
    detector = build_detector(small(*TINY, *overrides, name=target), ("cat", "dog"))
    fresh = start_from(detector, trained(tmp_path, source)).fresh
    assert rows_taken(detector) == taken
    assert ("head.out.0.bias" in fresh) != all(taken)


def test_a_shared_head_compares_meanings_too(tmp_path: Path) -> None:
    tiny = ("model.pretrained=false", "model.frozen_stages=0", "model.norm_eval=false", "model.backbone=resnet18")
    tiny += ("model.channels=32", "model.head_depth=1")
    recipe = small(*tiny, name="fcos_r50")
    path = tmp_path / "x.safetensors"
    save_detector(path, build_detector(recipe, ("cat", "dog")).state_dict(), recipe, ("cat", "dog"))
    other = small(*tiny, "model.quality.kind=iou", "model.boxes.code=log_deltas", name="fcos_r50")
    fresh = set(start_from(build_detector(other, ("cat", "dog")), path).fresh)
    expected = {f"head.{kind}_out.{what}" for kind in ("box", "quality") for what in ("weight", "bias")}
    assert fresh == expected | {f"head.scales.{level}.scale" for level in range(5)}


def test_only_inputs_that_matter_are_told(tmp_path: Path) -> None:
    # FCOS with distances reads no anchor: its scale says nothing.
    assert other_inputs(small(*TINY, name="atss_nano"), trained(tmp_path, "fcos_nano")) == []
    found = other_inputs(small(*TINY, "model.points.scale=8", name="atss_nano"), trained(tmp_path, "gfl_nano"))
    assert found == ["model.points.scale 5.0 -> 8.0"]

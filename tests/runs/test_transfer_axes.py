"""One axis of the recipe changes: what is kept, what starts from scratch, and what a person reads about it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gfocal.detector import DenseDetector
from gfocal.recipe import Recipe
from gfocal.runs.checkpoint import save_detector
from gfocal.runs.initial_weights import Start, describe_start, start_weights
from gfocal.zoo import build_detector
from helpers.small_runs import small

CONV = ("model.backbone=test_resnet", "model.pretrained=false", "model.frozen_stages=0", "model.norm_eval=false")
CONV += ("model.channels=32", "model.head_depth=3", "data.resize.size=64", "data.resize.kind=square")
NANO = ("model.backbone=test_resnet", "model.pretrained=false", "model.channels=32", "model.head_depth=1")
NAMES = ("cat", "dog")


def recipe_of(row: str, *overrides: str) -> Recipe:
    return small(*(NANO if row.endswith("_nano") else CONV), *overrides, name=row)


def trained(folder: Path, recipe: Recipe) -> tuple[DenseDetector, Path]:
    """A detector whose outputs differ from place to place as much as trained ones do."""
    torch.manual_seed(3)
    detector = build_detector(recipe, NAMES).eval()
    with torch.no_grad():
        for kind in ("class", "box", "quality"):
            for layer in detector.head.output_layers(kind):
                layer.weight.normal_(std=0.3)
                layer.bias.normal_()
                for i, factor in enumerate(layer.factors):
                    factor.fill_(0.5 + 0.2 * i)
    path = folder / "x.safetensors"
    save_detector(path, detector.state_dict(), recipe, NAMES)
    return detector, path


def started(row: str, folder: Path, before: tuple[str, ...], after: tuple[str, ...]) -> tuple[DenseDetector, Start]:
    _, path = trained(folder, recipe_of(row, *before))
    torch.manual_seed(4)
    recipe = recipe_of(row, *after)
    detector = build_detector(recipe, NAMES).eval()
    return detector, start_weights(detector, recipe, path)


def boxes_and_scores(detector: DenseDetector) -> tuple[Tensor, Tensor]:
    """Of every place of two images of noise."""
    images = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    points = detector.points(64, 64)
    with torch.no_grad():
        out = detector.raw(images)
        boxes = torch.stack([detector.box_coder.decode(points, code) for code in out.box])
        return boxes, detector.quality.class_logits(out)


@pytest.mark.parametrize("row", ["gfl_nano", "gfl_r18"])
@pytest.mark.parametrize("quality", ["joint", "joint_v2"])
@pytest.mark.parametrize(("before", "after"), [(5, 6), (5, 9), (1, 2), (3, 30)])
def test_more_bins_leave_boxes_where_they_were(row: str, quality: str, before: int, after: int, tmp_path: Path) -> None:
    kind = f"model.quality.kind={quality}"
    source, path = trained(tmp_path, recipe_of(row, kind, f"model.boxes.reg_max={before}"))
    recipe = recipe_of(row, kind, f"model.boxes.reg_max={after}")
    detector = build_detector(recipe, NAMES).eval()
    start = start_weights(detector, recipe, path)
    if quality == "joint_v2" and before < 3:  # it reads all of fewer than four bins
        assert start.taken.new["quality"] > 0
        return
    (boxes, scores), (expected, expected_scores) = boxes_and_scores(detector), boxes_and_scores(source)
    # The new bins have at most e^-10 of the last one's probability together, and lie at most ``after`` bins farther.
    strides = source.points(64, 64).stride[:, None]
    bound = after * math.exp(-10) * strides + 1e-3
    assert ((boxes - expected).abs() <= bound).all()
    assert torch.allclose(scores, expected_scores, atol=2e-3)
    assert not torch.allclose(boxes, boxes_and_scores(build_detector(recipe, NAMES).eval())[0], atol=1)
    assert start.taken.lowered == 4 * (after - before)
    (line,) = (line for line in describe_start(start) if "box outputs" in line)
    assert f"since model.boxes.reg_max {before} -> {after}; the others are kept, and new bins start" in line


def test_numbers_of_new_bins(tmp_path: Path) -> None:
    """Of 4 x 7 bins, 4 are new, on three levels of one anchor: 4 * (32 weights + 1 bias) * 3 of 28 * 33 * 3."""
    _, start = started("gfl_nano", tmp_path, ("model.boxes.reg_max=5",), ("model.boxes.reg_max=6",))
    assert (start.taken.new["box"], start.taken.total["box"]) == (396, 2772)
    assert start.to_dict()["new_numbers"]["box"] == [396, 2772]
    assert {group for group, count in start.taken.new.items() if count} == {"box"}
    assert "init: box outputs: 396 of 2,772 numbers start from scratch, since" in "\n".join(describe_start(start))


def test_new_bins_learn(tmp_path: Path) -> None:
    """The slope of a new bin's logit under DFL is that of the bin it is: its probability less 1."""
    detector, _ = started("gfl_nano", tmp_path, ("model.boxes.reg_max=5",), ("model.boxes.reg_max=6",))
    code = torch.zeros(1, 28).add(detector.head.output_layers("box")[0].bias[0]).requires_grad_()
    probs = detector.box_coder.edge_probs(code)
    (-probs[0, 0, 6].log()).backward()
    assert code.grad is not None
    assert float(code.grad[0, 6]) == pytest.approx(-1, abs=1e-3)


def test_fewer_bins_keep_the_rest(tmp_path: Path) -> None:
    source, path = trained(tmp_path, recipe_of("gfl_nano", "model.boxes.reg_max=6"))
    recipe = recipe_of("gfl_nano", "model.boxes.reg_max=4")
    detector = build_detector(recipe, NAMES).eval()
    start = start_weights(detector, recipe, path)
    assert start.taken.new["box"] == 0
    for own, other in zip(detector.head.output_layers("box"), source.head.output_layers("box"), strict=True):
        assert torch.equal(own.bias.view(4, 5), other.bias.view(4, 7)[:, :5])


AXES: list[tuple[str, tuple[str, ...], tuple[str, ...], dict[str, str]]] = [
    # row, before, after, group -> the end of its line
    ("gfl_nano", (), ("model.boxes.delta=0.5",), {"box": "model.boxes.delta 1.0 -> 0.5"}),
    ("gfl_nano", (), ("model.boxes.kind=dirac",), {"box": "model.boxes.kind general_dfl -> dirac"}),
    ("gfl_nano", (), ("model.boxes.kind=general",), {}),
    ("atss_nano", (), ("model.boxes.stds=[1,1,1,1]",),
     {"box": "model.boxes.stds [0.1, 0.1, 0.2, 0.2] -> [1.0, 1.0, 1.0, 1.0]"}),
    ("atss_nano", (), ("model.points.scale=8",), {"box": "model.points.scale 5.0 -> 8.0"}),
    ("atss_nano", (), ("model.quality.kind=iou",), {"quality": "model.quality.kind centerness -> iou"}),
    ("gfl_nano", (), ("model.quality.kind=joint_v2",), {"quality": "model.quality.kind joint -> joint_v2"}),
    ("gfl_nano", (), ("model.quality.kind=iou",), {"quality": "model.quality.kind joint -> iou"}),
    ("gfl_nano", ("model.head=pico_se", "model.quality.kind=varifocal_aligned"),
     ("model.head=pico_se", "model.quality.kind=iou"), {"quality": "model.quality.kind varifocal_aligned -> iou"}),
    ("gfl_nano", (), ("model.head_depth=2",), {"head": "model.head_depth 1 -> 2"}),
    ("gfl_nano", (), ("model.neck=fpn",), {"neck": "model.neck light_pan -> fpn"}),
    ("gfl_r18", (), ("model.head_norm=none",), {"head": "model.head_norm group -> none"}),
    ("gfl_r18", (), ("model.level_scales=false",), {}),
    ("gfl_r18", ("model.level_scales=false",), (), {"box": "model.level_scales False -> True"}),
    ("gfl_r18", (), ("model.deformable=[4]",), {"backbone": "model.deformable [] -> [4]"}),
    ("gfl_r18", (), ("model.deformable_tower=true",), {"head": "model.deformable_tower False -> True"}),
    ("gfl_r18", (), ("model.norm=picture",), {}),
    ("gfl_r18", (), ("data.resize.size=96",), {}),
    ("gfl_r18", ("model.strides=[8,16,32,64]",), ("model.strides=[8,16,32,64,128]",),
     {"neck": "model.strides [8, 16, 32, 64] -> [8, 16, 32, 64, 128]",
      "box": "model.strides [8, 16, 32, 64] -> [8, 16, 32, 64, 128]"}),
]  # fmt: skip


@pytest.mark.parametrize(("row", "before", "after", "expected"), AXES, ids=[f"{a[0]}-{a[2] or a[1]}" for a in AXES])
def test_a_changed_axis_says_what_starts_from_scratch(
    row: str, before: tuple[str, ...], after: tuple[str, ...], expected: dict[str, str], tmp_path: Path
) -> None:
    _, start = started(row, tmp_path, before, after)
    words = {
        "backbone": "the backbone",
        "box": "box outputs",
        "quality": "the quality",
        "head": "the head below its outputs",
        "neck": "the neck",
    }
    lines = [line for line in describe_start(start) if ", since " in line]
    assert {line.partition(":")[2].partition(":")[0].strip() for line in lines} == {words[group] for group in expected}
    for group, reason in expected.items():
        new, total = start.taken.new[group], start.taken.total[group]  # type: ignore[index]
        assert 0 < new <= total
        line = f"init: {words[group]}: {new:,} of {total:,} numbers start from scratch, since {reason}"
        assert any(found.startswith(line) for found in lines), lines


def test_deformable_convolutions_start_as_what_they_were(tmp_path: Path) -> None:
    source, path = trained(tmp_path, recipe_of("gfl_r18"))
    recipe = recipe_of("gfl_r18", "model.deformable=[4]", "model.deformable_tower=true")
    detector = build_detector(recipe, NAMES).eval()
    start = start_weights(detector, recipe, path)
    assert {name.rpartition(".conv_offset.")[0] for name in start.fresh} == {
        *("backbone.body.layer3.0.conv2", "head.class_tower.6", "head.box_tower.6")
    }
    for ours, theirs in zip(boxes_and_scores(detector), boxes_and_scores(source), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_levels_go_by_their_strides(tmp_path: Path) -> None:
    """Without the finest level, the second becomes the first: of every list of levels the weights move along."""
    before, after = ("model.strides=[8,16,32,64]",), ("model.strides=[16,32,64,128]",)
    source, path = trained(tmp_path, recipe_of("gfl_r18", *before))
    recipe = recipe_of("gfl_r18", *after)
    detector = build_detector(recipe, NAMES)
    start = start_weights(detector, recipe, path)
    own, theirs = detector.state_dict(), source.state_dict()
    for ours, name in (
        ("neck.lateral.0.weight", "neck.lateral.1.weight"),
        ("neck.output.1.bias", "neck.output.2.bias"),
        ("neck.extra.0.weight", "neck.extra.0.weight"),
        ("head.scales.0.scale", "head.scales.1.scale"),
        ("head.scales.2.scale", "head.scales.3.scale"),
    ):
        assert torch.equal(own[ours], theirs[name]), ours
    new = {name for name in start.fresh if name.startswith(("neck.", "head."))}
    assert new == {"neck.extra.1.weight", "neck.extra.1.bias", "head.scales.3.scale"}


def test_layers_of_a_tower_come_after_the_same_ones(tmp_path: Path) -> None:
    """With norms the seventh layer is the third convolution, without them the fourth: as large, and something else."""
    more = ("model.head_depth=4", "model.tower_bias=true")
    detector, start = started("gfl_r18", tmp_path, more, (*more, "model.head_norm=none"))
    assert isinstance(detector.head.class_tower[6], torch.nn.Conv2d)
    assert "head.class_tower.0.weight" not in start.fresh
    assert "head.class_tower.6.weight" in start.fresh


@pytest.mark.parametrize("heads", [("depthwise", "depthwise_5x5"), ("depthwise_5x5", "depthwise")])
def test_a_separable_head_keeps_what_lies_behind_kernels_of_another_size(
    heads: tuple[str, str], tmp_path: Path
) -> None:
    before, after = ((f"model.head={head}",) for head in heads)
    detector, start = started("gfl_nano", tmp_path, before, after)
    own = detector.head.state_dict()
    kernels = [f"head.{name}" for name, tensor in own.items() if tensor.dim() == 4 and tensor.shape[-1] > 1]
    assert kernels
    assert [name for name in start.fresh if name.startswith("head.")] == kernels


@pytest.mark.parametrize(("names", "known"), [(NAMES, True), (("cat", "fox"), False), (("dog",), True)])
def test_weights_that_know_all_classes_are_to_be_measured_first(
    names: tuple[str, ...], known: bool, tmp_path: Path
) -> None:
    recipe = recipe_of("gfl_nano")
    _, path = trained(tmp_path, recipe)
    lines = describe_start(start_weights(build_detector(recipe, names), recipe, path))
    assert any(f"eval {path} --data DATA` says how good they are without training" in line for line in lines) == known

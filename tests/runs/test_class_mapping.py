"""Rows of a head's class outputs follow their classes by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gfocal.data.index.data_index import DataIndex
from gfocal.detector import DenseDetector
from gfocal.recipe import Recipe
from gfocal.runs.checkpoint import save_detector
from gfocal.runs.class_mapping import describe_classes, match_classes
from gfocal.runs.transfer import start_from
from gfocal.training.train import train
from gfocal.zoo import build_detector
from helpers.small_runs import rewritten, small

# --- names ----------------------------------------------------------------------------------------------------------


def pairs(own: Sequence[str], other: Sequence[str]) -> list[tuple[int, int]]:
    return list(match_classes(own, other).pairs)


def test_equal_names_in_any_order() -> None:
    match = match_classes(["cow", "dog", "cat"], ["cat", "dog", "owl"])
    assert match.pairs == ((1, 1), (2, 0))
    assert (match.new, match.unused, match.loose) == (("cow",), ("owl",), ())


def test_case_and_blanks_where_nothing_else_fits() -> None:
    match = match_classes(["Traffic Light", "CAR"], ["car", "traffic_light"])
    assert match.pairs == ((0, 1), (1, 0))
    assert match.loose == (("Traffic Light", "traffic_light"), ("CAR", "car"))
    # The exact one wins, and the one that is left has nobody.
    assert pairs(["car", "Car"], ["Car"]) == [(1, 0)]


@pytest.mark.parametrize(("own", "other"), [(["Car"], ["car", "CAR"]), (["car", "CAR"], ["Car"])])
def test_an_ambiguous_name_is_left_alone(own: list[str], other: list[str]) -> None:
    assert pairs(own, other) == []


def test_one_name_twice() -> None:
    assert pairs(["a", "b", "a", "a"], ["a", "a", "b"]) == [(0, 0), (1, 2), (2, 1)]


def test_what_is_said() -> None:
    own = ["cat", "Dog", *"abcdefgh"]
    first, second = describe_classes(match_classes(own, ["dog", "cat", "owl"]))
    assert first == (
        "init: 2 of 10 classes keep their outputs, by name; new: a, b, c, d, e, f, ... (8 in all); not used: owl"
    )
    assert second == "init: names that differ in case or blanks were treated as the same: dog -> Dog"


# --- rows -----------------------------------------------------------------------------------------------------------

OLD, NEW = ("cat", "dog", "owl"), ("owl", "cow", "cat")
NANO = ("model.backbone=test_resnet", "model.pretrained=false")
TINY = (*NANO, "model.channels=32", "model.head_depth=1", "model.frozen_stages=0", "model.norm_eval=false")
PLAIN = (*NANO, "model.head=plain")

HEADS = [
    pytest.param("gfl_nano", NANO, ["head.out.{}"], id="depthwise"),
    pytest.param("fcos_nano", NANO, ["head.out.{}"], id="depthwise-branch"),
    pytest.param("retinanet_nano", NANO, ["head.out.{}"], id="depthwise-nine-anchors"),
    pytest.param("ssd_nano", NANO, ["head.out.{}"], id="softmax"),
    pytest.param("gfl_r50", TINY, ["head.class_out"], id="shared"),
    pytest.param("retinanet_r50", TINY, ["head.class_out"], id="shared-nine-anchors"),
    pytest.param("gfl_nano", PLAIN, ["head.class_out.{}"], id="plain"),
    pytest.param("ssd_nano", PLAIN, ["head.class_out.{}"], id="plain-softmax"),
]


def marked(detector: DenseDetector) -> dict[str, Tensor]:
    """State in which output row r of anchor a is 100 a + r + 1, in weight and bias."""
    state = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    for name, tensor in state.items():
        if name.startswith(("head.out.", "head.class_out.")):
            width = sum(detector.head.outputs) if name.startswith("head.out.") else detector.head.outputs[0]
            rows = torch.arange(len(tensor))
            values = 100 * (rows // width) + rows % width + 1.0
            tensor.copy_(values.view(-1, *[1] * (tensor.ndim - 1)).expand_as(tensor))
    return state


@pytest.mark.parametrize(("name", "overrides", "tensors"), HEADS)
def test_each_kind_of_head(name: str, overrides: tuple[str, ...], tensors: list[str], tmp_path: Path) -> None:
    recipe = small(*overrides, name=name)
    source, detector = build_detector(recipe, OLD), build_detector(recipe, NEW)
    save_detector(tmp_path / "x.safetensors", marked(source), recipe, OLD)
    before = {key: tensor.clone() for key, tensor in detector.state_dict().items()}
    fresh = start_from(detector, tmp_path / "x.safetensors").fresh
    outputs = detector.head.outputs
    softmax = outputs[0] == 4
    for tensor in (pattern.format(level) for pattern in tensors for level in range(3 if "{}" in pattern else 1)):
        for what in ("weight", "bias"):
            key = f"{tensor}.{what}"
            assert key in fresh, "the cow is new"
            width = sum(outputs) if ".out." in key else outputs[0]
            got = (
                detector.state_dict()[key].unflatten(0, (-1, width)).flatten(2)
                if what == "weight"
                else (detector.state_dict()[key].view(-1, width, 1))
            )
            own = before[key].unflatten(0, (-1, width)).reshape(got.shape)
            for anchor in range(len(got)):
                # owl was row 3, cat row 1; the background, where there is one, is the last class row of both.
                expected = [3, None, 1, 4] if softmax else [3, None, 1]
                expected += list(range(len(expected) + 1, width + 1))
                for row, value in enumerate(expected):
                    if value is None:
                        assert torch.equal(got[anchor, row], own[anchor, row]), "cow starts new"
                    else:
                        assert (got[anchor, row] == 100 * anchor + value).all(), (key, anchor, row)


def test_all_classes_in_another_order_leave_nothing_new(tmp_path: Path) -> None:
    recipe = small()
    save_detector(tmp_path / "x.safetensors", build_detector(recipe, OLD).state_dict(), recipe, OLD)
    assert start_from(build_detector(recipe, ("owl", "cat", "dog")), tmp_path / "x.safetensors").fresh == []


def trained(recipe: Recipe, names: Sequence[str], path: Path) -> DenseDetector:
    """A detector of random values whose classes differ, as a checkpoint and in evaluation mode."""
    torch.manual_seed(3)
    detector = build_detector(recipe, names)
    for module in detector.head.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.5)
    save_detector(path, detector.state_dict(), recipe, names)
    return detector.eval()


@pytest.mark.parametrize(("name", "overrides", "tensors"), HEADS)
@torch.no_grad()
def test_matched_classes_score_as_before(
    name: str, overrides: tuple[str, ...], tensors: list[str], tmp_path: Path
) -> None:
    recipe = small(*overrides, name=name)
    source = trained(recipe, OLD, tmp_path / "x.safetensors")
    torch.manual_seed(4)
    detector = build_detector(recipe, NEW).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    apart = (detector(images).class_logits[..., 0] - source(images).class_logits[..., 2]).abs().mean()
    start_from(detector, tmp_path / "x.safetensors")
    new, old = detector(images), source(images)
    # Of another number of rows the convolution may add up in another order.
    torch.testing.assert_close(new.class_logits[..., [0, 2]], old.class_logits[..., [2, 0]], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(new.box, old.box, rtol=1e-4, atol=1e-5)
    assert apart > 0.01, "before, they had nothing in common"
    if new.class_logits.shape[-1] == 3:  # of a softmax the new class takes its share
        scores, theirs = (d.quality.class_logits(out).sigmoid() for d, out in ((detector, new), (source, old)))
        torch.testing.assert_close(scores[..., [0, 2]], theirs[..., [2, 0]], rtol=1e-4, atol=1e-6)


def test_the_outputs_of_a_sigmoid_are_none_of_a_softmax(tmp_path: Path) -> None:
    source = small("model.quality.kind=none", name="ssd_nano")
    trained(source, ("a", "b", "c"), tmp_path / "x.safetensors")  # as many outputs as two classes and a background
    detector = build_detector(small(name="ssd_nano"), ("a", "b"))
    before = detector.state_dict()["head.out.0.bias"].view(-1, 7).clone()
    start_from(detector, tmp_path / "x.safetensors")
    after = detector.state_dict()["head.out.0.bias"].view(-1, 7)
    assert torch.equal(after[:, :3], before[:, :3])
    assert not torch.equal(after[:, 3:], before[:, 3:])


def test_training_tells_which_classes_came_along(
    tmp_path: Path, train_index: DataIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(small(), train_index.names[1:], tmp_path / "x.safetensors")

    def rename(content: dict) -> None:
        content["categories"][-1]["name"] = content["categories"][-1]["name"].upper()

    index = rewritten(train_index, tmp_path / "data", rename)
    train(small("schedule.epochs=1"), index, None, tmp_path / "run", init=tmp_path / "x.safetensors")
    said = capsys.readouterr().err
    count = len(index.names)
    assert f"init: {count - 1} of {count} classes keep their outputs, by name; new: {index.names[0]}\n" in said
    assert f"treated as the same: {train_index.names[-1]} -> {index.names[-1]}" in said
    noted = json.loads((tmp_path / "run" / "run.json").read_text())["init"]["classes"]
    assert (noted["matched"], noted["new"], noted["unused"]) == (count - 1, [index.names[0]], [])

"""PicoDet of PaddleDetection: every published name has its place, and the real weights say what a runner recorded."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gfocal.data.formats.coco.classes import COCO_NAMES
from gfocal.data.formats.open import open_dataset
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.evaluation.evaluator import evaluate
from gfocal.interop import picodet_names
from gfocal.interop.load import import_weights
from gfocal.recipe import ModelRecipe, load_recipe
from gfocal.runs.checkpoint import load_detector
from gfocal.zoo import build_detector
from helpers.known_answers import assert_published, names_of
from helpers.mmdetection_files import rule_weights
from helpers.paddle_files import save_paddle

LATERAL = "neck.conv_t.convs.1.conv.weight"
VARIANCE = "backbone._conv1._batch_norm._variance"
Arrays = dict[str, Any]


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    state = rule_weights(names_of("picodet_s_esnet"))
    # The rule knows torch's names of the statistics.
    return {
        name: np.abs(value.numpy()) + 0.5 if name.endswith("_variance") else value.numpy()
        for name, value in state.items()
    }


def test_the_published_weights_say_what_was_recorded(shared: Path, tmp_path: Path) -> None:
    report = import_weights(shared / "weights/picodet_s_320_coco.pdparams", tmp_path)
    assert (report.recipe, report.changed, report.used, len(report.unused)) == ("picodet_s", (), 575, 5)
    assert report.notes[0] == "StructuredToParameterName@@, paddle's own table of 580 names, is left out"
    assert report.notes[-1].startswith("103 of 103 batch norms are folded")
    assert_published(load_detector(tmp_path)[0], shared / "weights/picodet_s_320_raw.npz", sigmoid=True)


@pytest.mark.parametrize("prefix", ["", "module.", "ema_"])
def test_every_published_name_has_its_place(arrays: Arrays, tmp_path: Path, prefix: str) -> None:
    file = save_paddle(tmp_path / "picodet_s_416_coco.pdparams", {prefix + name: a for name, a in arrays.items()})
    report = import_weights(file, tmp_path)
    assert (report.format, report.recipe, report.changed) == ("picodet", "picodet_s", ("data.resize.size=416",))
    assert report.used + len(report.unused) == len(arrays) == 580
    assert set(report.unused) == {f"head.p{i}_feat.scale_reg" for i in range(3, 7)} | {
        "head.distribution_project.project"
    }
    assert any(prefix in note for note in report.notes[1:])
    ours = load_detector(tmp_path)[0].state_dict()
    used = [float(np.sum(a, dtype=np.float64)) for name, a in arrays.items() if name not in report.unused]
    assert sum(float(value.double().sum()) for value in ours.values()) == pytest.approx(sum(used), rel=1e-9)
    for name, theirs in {
        "backbone.stem.0.0.weight": "backbone._conv1._conv.weight",
        "backbone.stages.1.0.short.1.0.weight": "backbone.3_1._conv_linear_1._conv.weight",
        "backbone.stages.1.0.main.0.1.bias": "backbone.3_1._conv_pw_2._batch_norm.bias",
        "backbone.stages.1.0.main.2.fc1.bias": "backbone.3_1._se.conv1.bias",
        "backbone.stages.1.0.join.0.1.running_mean": "backbone.3_1._conv_dw_mv1._batch_norm._mean",
        "backbone.stages.1.6.attention.fc2.weight": "backbone.3_7._se.conv2.weight",
        "backbone.stages.2.2.last.1.running_var": "backbone.4_3._conv_linear._batch_norm._variance",
        "neck.lateral.1.0.weight": LATERAL,
        "neck.down_blocks.0.main.0.0.weight": "neck.top_down_blocks.0.main_conv.conv.weight",
        "neck.up_blocks.1.short.1.bias": "neck.bottom_up_blocks.1.short_conv.bn.bias",
        "neck.up_blocks.1.main.1.0.weight": "neck.bottom_up_blocks.1.blocks.0.conv1.conv.weight",
        "neck.up_blocks.0.main.2.4.weight": "neck.bottom_up_blocks.0.blocks.0.conv2.bn2.weight",
        "neck.down_blocks.1.join.0.weight": "neck.top_down_blocks.1.final_conv.conv.weight",
        "neck.halvings.1.3.weight": "neck.downsamples.1.pwconv.weight",
        "neck.extra.lateral.0.weight": "neck.first_top_conv.dwconv.weight",
        "neck.extra.level.1.weight": "neck.second_top_conv.bn1.weight",
        "head.blocks.3.1.0.weight": "head.conv_feat.cls_conv_dw3.1.conv.weight",
        "head.blocks.2.0.4.bias": "head.conv_feat.cls_conv_pw2.0.norm.bias",
        "head.out.3.bias": "head.head_cls3.bias",
    }.items():
        np.testing.assert_array_equal(ours[name].numpy(), arrays[theirs], err_msg=name)


def theirs(detector: DenseDetector, model: ModelRecipe) -> Arrays:
    """The arrays of a detector under their names."""
    by = picodet_names.names_of(model.backbone, model.neck, model.head)
    state = {by.their_name(name): value.numpy() for name, value in detector.state_dict().items()}
    return {name: value for name, value in state.items() if "num_batches" not in name}


@pytest.mark.parametrize(
    "recipe",
    [
        "picodet_s",
        "picodet_xs_lcnet",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("picodet_l", "picodet_s_lcnet", "picodet_m_lcnet", "picodet_l_lcnet")
        ),
    ],
)
def test_sizes_classes_and_bins_come_from_the_shapes(tmp_path: Path, recipe: str) -> None:
    of_recipe = load_recipe(recipe, ["model.boxes.reg_max=9"])
    own = build_detector(of_recipe, ["a", "b", "c"], pretrained=False)
    state = theirs(own, of_recipe.model)
    state["head.distribution_project.project"] = np.arange(10.0)
    file = save_paddle(tmp_path / f"{recipe}_640.pdparams", state, numpy="_core")
    report = import_weights(file, tmp_path, names=["x", "y", "z"], size=256)
    assert (report.recipe, report.classes) == (recipe, 3)
    assert report.changed == ("model.boxes.reg_max=9", "data.resize.size=256")
    assert not any("batch norms" in note for note in report.notes)  # new ones are none that were folded
    read = load_detector(tmp_path)[0]
    assert read.names == ("x", "y", "z")
    assert all(torch.equal(value, read.state_dict()[name]) for name, value in own.state_dict().items())


@pytest.fixture(scope="module")
def of_2022() -> Arrays:
    state = {name: value.numpy() for name, value in rule_weights(names_of("picodet_s_lcnet")).items()}
    return {name: state[re.sub(r"_list\.(\d)", r"\1", name)] for name in state}


def test_every_name_of_2022_has_its_place(of_2022: Arrays, tmp_path: Path) -> None:
    report = import_weights(save_paddle(tmp_path / "picodet_s_416_coco_lcnet.pdparams", of_2022), tmp_path)
    assert (report.recipe, report.changed, report.classes) == ("picodet_s_lcnet", ("data.resize.size=416",), 80)
    again = {
        f"head.head_{kind}_list.{i}.{what}" for kind in ("cls", "reg") for i in range(4) for what in ("weight", "bias")
    }
    assert set(report.unused) == again | {f"head.p{i}_feat.scale_reg" for i in range(3, 7)} | {
        "head.distribution_project.project"
    }
    assert report.used + len(report.unused) == len(of_2022)
    ours = load_detector(tmp_path)[0].state_dict()
    for name, array in {
        "backbone.stem.1.3.weight": "backbone.blocks2.0.pw_conv.conv.weight",
        "backbone.stages.2.1.3.fc2.bias": "backbone.blocks6.1.se.conv2.bias",
        "neck.up_blocks.1.1.4.running_var": "neck.bottom_up_blocks.1.1.pw_conv.bn._variance",
        "head.attention.3.mix.1.running_mean": "head.conv_feat.se.3.conv.norm._mean",
        "head.box_out.2.bias": "head.head_reg2.bias",
        "head.quality_out.1.3.weight": "head.cls_align.1.pwconv.weight",
    }.items():
        np.testing.assert_array_equal(ours[name].numpy(), of_2022[array], err_msg=name)


def test_outputs_of_2022_under_either_name(of_2022: Arrays, tmp_path: Path) -> None:
    once = {name: a for name, a in of_2022.items() if not re.match(r"head\.head_(cls|reg)\d", name)}
    assert len(of_2022) - len(once) == 16
    import_weights(save_paddle(tmp_path / "a.pdparams", once), tmp_path / "a")
    import_weights(save_paddle(tmp_path / "b.pdparams", of_2022), tmp_path / "b")
    first, second = (load_detector(tmp_path / name)[0].state_dict() for name in "ab")
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    other = {**of_2022, "head.head_cls_list.1.bias": of_2022["head.head_cls1.bias"] + 1}
    with pytest.raises(UsageError, match=r"other numbers in head\.head_cls_list\.1\.bias than in head\.head_cls1"):
        import_weights(save_paddle(tmp_path / "c.pdparams", other), tmp_path / "c")
    odd = {**of_2022, **{f"head.head_reg{i}.weight": np.ones((30, 96, 1, 1), np.float32) for i in range(4)}}
    odd = {name: a for name, a in odd.items() if "_list" not in name}
    with pytest.raises(UsageError, match="30 are of boxes, which must be 4 x the bins"):
        import_weights(save_paddle(tmp_path / "d.pdparams", odd), tmp_path / "d")


def test_other_parts_together(tmp_path: Path) -> None:
    """picodet_lcnet_1_5x_416_coco is one: neck and head of 2021 on LCNet."""
    keys = ["model.backbone=lcnet_x1_5", "model.channels=128", "model.head_depth=4"]
    recipe = load_recipe("picodet_s", keys)
    own = build_detector(recipe, COCO_NAMES, pretrained=False)
    file = save_paddle(tmp_path / "picodet_lcnet_1_5x_416_coco.pdparams", theirs(own, recipe.model))
    report = import_weights(file, tmp_path)
    assert report.recipe == "picodet_s"
    assert set(report.changed) == {
        'model.backbone="lcnet_x1_5"',
        *("model.channels=128", "model.head_depth=4", "data.resize.size=416"),
    }
    read = load_detector(tmp_path)[0].state_dict()
    assert all(torch.equal(value, read[name]) for name, value in own.state_dict().items())


def without(words: str) -> Callable[[Arrays], Any]:
    return lambda state: [state.pop(name) for name in list(state) if words in name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop(LATERAL), f"does not fit PicoDet; tensors 1 missing: {LATERAL}"),
        (lambda s: s.update({LATERAL: s[LATERAL][:-1]}), f"another shape: {LATERAL} .95, 192, 1, 1. instead of"),
        (lambda s: s.update({"neck.extra": np.ones(1)}), "1 unknown: neck.extra"),
        (lambda s: s.update({"epoch": 3}), "1 unknown: epoch"),
        (lambda s: s.update({LATERAL: "text"}), f"{LATERAL} str instead of"),
        (lambda s: s.update({LATERAL: s[LATERAL] * np.nan}), f"not a number: 18,432 of 18,432 in {LATERAL}"),
        (lambda s: s.update({VARIANCE: -s[VARIANCE]}), f"variances below 0: 24 of 24 in {VARIANCE}"),
        (lambda s: s.update({"head.distribution_project.project": np.arange(40)}), "160 are of boxes.* -48 of"),
        (lambda s: s.update({"head.head_cls0.weight": np.ones(3)}), "no tensor head.head_cls0.weight of four"),
        (lambda s: s.pop("head.head_cls0.weight"), "no tensor head.head_cls0.weight of four"),
        (without("backbone.2_1"), r"its backbone \(backbone._conv1._conv.weight, .*\) is none of esnet_x0_75"),
        (without("head.conv_feat"), r"holds no PicoDet \(its tensors are backbone._conv1"),
        (lambda s: (s.clear(), s.update({"LR_Scheduler": {"last_epoch": 3}})), r"an optimizer's state \(.pdopt\)"),
        (lambda s: s.clear(), "holds no PicoDet"),
    ],
)
def test_what_does_not_fit_is_named(
    arrays: Arrays, tmp_path: Path, change: Callable[[Arrays], Any], message: str
) -> None:
    tampered = dict(arrays)
    change(tampered)
    with pytest.raises(UsageError, match=message):
        import_weights(save_paddle(tmp_path / "a.pdparams", tampered), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_that_do_not_apply(arrays: Arrays, tmp_path: Path) -> None:
    file = save_paddle(tmp_path / "a.pdparams", arrays)
    with pytest.raises(UsageError, match="--style is for ResNets of mmdetection; PicoDet's network has only one"):
        import_weights(file, tmp_path / "out", style="caffe")
    with pytest.raises(UsageError, match="names must be a list of texts"):
        import_weights(file, tmp_path / "out", names="cat")  # type: ignore[arg-type]


def test_a_hostile_file_under_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return exec, ("open('ran', 'w')",)

    monkeypatch.chdir(tmp_path)
    for name in ("a.pdparams", "a.pth", "a.ckpt", "a.onnx", "a"):
        (tmp_path / name).write_bytes(pickle.dumps({"w": Evil()}))
        with pytest.raises(UsageError, match=r"its pickle calls builtins\.exec, .*nothing in it was run"):
            import_weights(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_a_network_made_for_inference_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.pdiparams").write_bytes(b"\0" * 40)
    with pytest.raises(UsageError, match=r"give the \.pdparams file that it was made from"):
        import_weights(tmp_path / "model.pdiparams", tmp_path / "out")


@pytest.mark.slow
def test_accuracy_on_real_images(shared: Path, tmp_path: Path) -> None:
    # An independent runner: 0.2572 with cubic resizing, 0.2579 with a linear one.
    import_weights(shared / "weights/picodet_s_320_coco.pdparams", tmp_path)
    val = open_dataset(shared / "data/coco_mini", "val")
    assert evaluate(load_detector(tmp_path)[0], val, workers=0).result.stats["AP"] >= 0.254

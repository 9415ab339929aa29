"""What an import takes from names, shapes and configuration; and what it refuses, by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from gfocal.data.formats.coco.classes import COCO_CATEGORY_IDS, COCO_NAMES
from gfocal.errors import UsageError
from gfocal.interop.config_text import parse_config
from gfocal.interop.load import import_weights
from gfocal.interop.mmdetection import fit, import_mmdetection, our_names
from gfocal.interop.mmdetection_recipe import Found, find_row, recipe_of
from gfocal.models import TimmBackbone
from gfocal.recipe import load_recipe
from gfocal.runs.checkpoint import load_detector
from gfocal.serialization.torch_files import Checkpoint
from gfocal.zoo import build_detector
from helpers.known_answers import RECORDED
from helpers.mmdetection_files import CAFFE, config_text, config_text_3, empty_weights, rule_weights, save_as

CLS, REG = "bbox_head.gfl_cls.weight", "bbox_head.gfl_reg.weight"


@pytest.fixture
def keys() -> Path:
    return RECORDED


def found(keys: Path, model: str, *, changes: Any = None, meta: Any = None, style: Any = None) -> Found:
    state = empty_weights(keys / f"{model}.txt", changes)
    meta = {"config": config_text(model)} if meta is None else meta
    return recipe_of(find_row(state, "file"), state, meta, style, "file")


# --- configurations, read and not run


def test_a_configuration_is_read_as_literals() -> None:
    text = """
a = dict(x=1, y=[1, -2.5, 'text', (True, None)], z={'k': {'n': 1e-4}})
b = dict(type='B', **a)
c = b
c = dict(z=dict(more=3))
d = [a, dict(l=lambda: 1)]
e = __import__('os').system('false')
f, g = 1, 2
for i in range(3):
    h = 1
a.x = 5
"""
    a = {"x": 1, "y": [1, -2.5, "text", [True, None]], "z": {"k": {"n": 1e-4}}}
    assert parse_config(text) == {
        "a": a,
        "b": {"type": "B", **a},
        "c": {"type": "B", **a, "z": {"k": {"n": 1e-4}, "more": 3}},
        "d": [a, {"l": None}],
        "e": None,
    }


def test_texts_of_several_files_are_merged_in_their_order() -> None:
    text = "/work dir/base.py\nx = 1\n"
    assert parse_config(text) == {}  # a path with a space is no line that is known
    text = "/base.py\nm = dict(a=dict(x=1, y=2), b=3, c=dict(z=1))\nconfigs/own.py\n"
    text += "m = dict(a=dict(y=5), c=dict(_delete_=True, q=1))\n"
    assert parse_config(text) == {"m": {"a": {"x": 1, "y": 5}, "b": 3, "c": {"_delete_": True, "q": 1}}}


@pytest.mark.parametrize("text", [None, 3, b"a = 1", "a = (", "a = " + "(" * 5000, "\0", "x" * 2_000_000, ""])
def test_other_texts_give_nothing(text: object) -> None:
    assert parse_config(text) == {}


def test_code_in_a_configuration_is_not_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    code = f"open({str(touched)!r}, 'w')"
    assert parse_config(f"{code}\na = {code}\nb = dict(x={code})\nc = [{code} for _ in [1]]\n")["b"] == {"x": None}
    assert not touched.exists()


# --- rows


@pytest.mark.parametrize(
    ("model", "row"),
    [
        ("gfl_r50", "gfl_r50"),
        ("atss_r50", "atss_r50"),
        ("fcos_r50_giou", "fcos_r50"),
        ("retinanet_r50", "retinanet_r50"),
        ("foveabox_r50", "foveabox_r50"),
        ("ssd512_vgg16", "ssd512_vgg16"),
    ],
)
def test_rows_and_every_shape(keys: Path, model: str, row: str) -> None:
    state = empty_weights(keys / f"{model}.txt")
    assert find_row(state, "file") == row
    of_file = found(keys, model)
    assert of_file.classes == 80
    assert of_file.notes == ()
    # What the configuration says is what our row has: nothing of the network changes but colours and stride.
    ours, plain = of_file.recipe.to_dict()["model"], load_recipe(row).to_dict()["model"]
    changed = {key for key in ours if ours[key] != plain[key]}
    assert changed == ({"style", "pixels"} if model.startswith("fcos") else set())
    assert of_file.recipe.predict.clip_margin == (1 if row == "foveabox_r50" else 0)
    own = build_detector(of_file.recipe, COCO_NAMES, pretrained=False).state_dict()
    assert set(our_names(state).values()) == set(own)
    fit(state, own, "file")


@pytest.mark.parametrize(("model", "old"), [("fcos_r50_giou", "fcos"), ("foveabox_r50", "fovea")])
def test_names_that_mmdetection_once_had(keys: Path, model: str, old: str) -> None:
    new = empty_weights(keys / f"{model}.txt")
    state = {name.replace("bbox_head.conv_", f"bbox_head.{old}_"): value for name, value in new.items()}
    assert state.keys() != new.keys()
    assert find_row(state, "file") == find_row(new, "file")
    assert set(our_names(state).values()) == set(our_names(new).values())


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (["roi_head.bbox_head.fc_cls.weight", "rpn_head.rpn_cls.weight"], "two-stage"),
        (["bbox_head.vfnet_cls.weight", "bbox_head.cls_convs.0.conv.weight"], "vfnet_cls"),
        (["fc.weight"], "fc.weight"),
        ([], "none"),
        (["bbox_head.conv_cls.weight", "bbox_head.conv_reg.weight", "bbox_head.scales.0.scale"], "conv_cls"),
        (["fpn.lateral_convs.0.conv.weight", "head.weight"], "fpn.lateral_convs"),
        (["bad\x1b[2J.weight"], r"bad\?\[2J"),
    ],
)
def test_other_detectors_are_refused(names: list[str], word: str) -> None:
    with pytest.raises(UsageError, match=word) as error:
        find_row(dict.fromkeys(names, torch.zeros(1)), "file")
    assert "RetinaNet" in str(error.value)
    assert "NanoDet-m and NanoDet-Plus; PicoDet as .pdparams or .onnx" in str(error.value)


def test_classes_and_bins_come_from_the_shapes(keys: Path) -> None:
    of_file = found(keys, "gfl_r50", changes={CLS: (3, 256, 3, 3), REG: (44, 256, 3, 3)})
    assert of_file.classes == 3
    assert of_file.recipe.model.boxes.reg_max == 10
    assert found(keys, "retinanet_r50", changes={"bbox_head.retina_cls.weight": (63, 256, 3, 3)}).classes == 7
    assert found(keys, "ssd512_vgg16", changes={"bbox_head.cls_convs.0.0.weight": (24, 512, 3, 3)}).classes == 5
    for outputs in (80, 0):
        with pytest.raises(UsageError, match=f"retina_cls.weight has {outputs} outputs"):
            found(keys, "retinanet_r50", changes={"bbox_head.retina_cls.weight": (outputs, 256, 3, 3)})
    with pytest.raises(UsageError, match="4 outputs"):
        found(keys, "ssd512_vgg16", changes={"bbox_head.cls_convs.0.0.weight": (4, 512, 3, 3)})


def test_joint_v2_is_told_from_its_small_network(keys: Path) -> None:
    v2 = {"0.weight": (64, 20, 1, 1), "0.bias": (64,), "2.weight": (1, 64, 1, 1), "2.bias": (1,)}
    state = rule_weights(keys / "gfl_r50.txt")
    state |= {f"bbox_head.reg_conf.{name}": torch.randn(shape) for name, shape in v2.items()}
    recipe = recipe_of("gfl_r50", state, {"config": config_text("gfl_r50")}, None, "file").recipe
    assert recipe.model.quality.kind == "joint_v2"
    detector = build_detector(recipe, COCO_NAMES, pretrained=False)
    detector.load_state_dict(fit(state, detector.state_dict(), "file"))
    # The same numbers by a 1x1 convolution of theirs and a linear layer of ours.
    x = torch.randn(1, 20, 3, 2)
    theirs = torch.nn.functional.conv2d(x, state["bbox_head.reg_conf.0.weight"], state["bbox_head.reg_conf.0.bias"])
    ours = detector.quality.stack[0](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("head", ["GFocalHead", "LDGFLv2Head"])
def test_heads_that_multiply_probabilities_are_no_softmax(keys: Path, head: str) -> None:
    """GFL v2's configuration: the head itself takes the sigmoids, so that its loss does not."""
    text = config_text("gfl_r50", head=", loss_cls=dict(type='QualityFocalLoss', use_sigmoid=False)")
    assert found(keys, "gfl_r50", meta={"config": text.replace("'GFLHead'", f"'{head}'")}).classes == 80
    with pytest.raises(UsageError, match="softmax"):
        found(keys, "gfl_r50", meta={"config": text.replace("type='GFLHead', ", "")})


def test_what_ghm_counts_by_has_no_place(keys: Path) -> None:
    state = empty_weights(keys / "retinanet_r50.txt")
    own = build_detector(found(keys, "retinanet_r50").recipe, COCO_NAMES, pretrained=False).state_dict()
    counts = {
        f"bbox_head.loss_{part}.{what}": torch.zeros(30) for part in ("cls", "bbox") for what in ("edges", "acc_sum")
    }
    assert fit({**state, **counts}, own, "file").keys() == own.keys()
    with pytest.raises(UsageError, match=r"unknown: bbox_head\.loss_cls\.other"):
        fit({**state, "bbox_head.loss_cls.other": torch.zeros(30)}, own, "file")


def test_a_resnet101_and_another_depth_of_towers(keys: Path) -> None:
    state = empty_weights(keys / "gfl_r50.txt")
    block = {n: v for n, v in state.items() if n.startswith("backbone.layer3.5.")}
    for i in range(6, 23):
        state |= {n.replace("layer3.5.", f"layer3.{i}."): v for n, v in block.items()}
    state = {n: v for n, v in state.items() if "_convs.3." not in n or n.startswith("neck.")}
    of_file = recipe_of("gfl_r50", state, {"config": config_text("gfl_r50")}, None, "file")
    assert of_file.recipe.model.backbone == "resnet101.tv_in1k"
    assert of_file.recipe.model.head_depth == 3


def test_a_backbone_that_is_not_known_is_refused_by_name(keys: Path) -> None:
    changes = {n: None for n in empty_weights(keys / "gfl_r50.txt") if n.startswith("backbone.layer4.2.")}
    with pytest.raises(UsageError, match=r"blocks \(3, 4, 6, 2\).*resnet50"):
        found(keys, "gfl_r50", changes=changes)
    state = empty_weights(keys / "gfl_r50.txt", {"backbone.layer2.0.conv2.gate.weight": (18, 128, 3, 3)})
    recipe = recipe_of("gfl_r50", state, {"config": config_text("gfl_r50")}, None, "file").recipe
    own = build_detector(recipe, COCO_NAMES, pretrained=False).state_dict()
    with pytest.raises(UsageError, match=r"1 unknown: backbone\.layer2\.0\.conv2\.gate\.weight"):
        fit(state, own, "file")


def deformed(state: dict[str, Any], stages: tuple[int, ...], outputs: int) -> dict[str, Any]:
    """With the tensors of deformable 3x3 convolutions in some stages, of random values."""
    torch.manual_seed(0)
    convs = [n for n in state if re.fullmatch(r"backbone\.layer\d\.\d+\.conv2\.weight", n)]
    for name in convs:
        if int(name[len("backbone.layer")]) + 1 in stages:
            inside = name.removesuffix("weight") + "conv_offset"
            inputs = state[name.replace("conv2", "conv1")].shape[0]
            state |= {f"{inside}.weight": torch.randn(outputs, inputs, 3, 3), f"{inside}.bias": torch.randn(outputs)}
    return state


@pytest.mark.parametrize(("outputs", "modulated"), [(27, True), (18, False)])
def test_deformable_stages(keys: Path, outputs: int, modulated: bool) -> None:
    state = deformed(rule_weights(keys / "gfl_r50.txt"), (3, 4, 5), outputs)
    of_file = recipe_of("gfl_r50", state, {"config": config_text("gfl_r50")}, None, "file")
    assert of_file.recipe.model.deformable == (3, 4, 5)
    assert of_file.recipe.model.modulated == modulated
    assert set(of_file.changed) >= {"model.deformable=[3, 4, 5]"}
    detector = build_detector(of_file.recipe, COCO_NAMES, pretrained=False)
    detector.load_state_dict(fit(state, detector.state_dict(), "file"))
    # Theirs weighs by the sigmoid itself.
    name, x = "layer4.1.conv2", torch.randn(1, 512, 5, 4)
    offsets = torch.nn.functional.conv2d(
        x, state[f"backbone.{name}.conv_offset.weight"] / 50, state[f"backbone.{name}.conv_offset.bias"], padding=1
    )
    first, second, weights = offsets.split(9, 1) if modulated else (*offsets.split(9, 1), None)
    theirs = torchvision.ops.deform_conv2d(
        x,
        torch.cat((first, second), 1),
        state[f"backbone.{name}.weight"],
        padding=1,
        mask=None if weights is None else weights.sigmoid(),
    )
    ours = detector.backbone.body.get_submodule(name)
    ours.conv_offset.weight.data /= 50
    torch.testing.assert_close(ours(x), theirs, rtol=1e-4, atol=1e-3)


def test_deformable_stages_of_a_resnext_and_the_names_that_mmcv_once_had(keys: Path) -> None:
    net = TimmBackbone("resnext50_32x4d.tv_in1k").state_dict()
    state = {n: v for n, v in empty_weights(keys / "gfl_r50.txt").items() if not n.startswith("backbone.")}
    state |= {n.replace("body", "backbone"): v for n, v in net.items()}
    state = deformed(state, (4, 5), 27)
    old = {n.replace(".conv2.conv_offset.", ".conv2_offset."): v for n, v in state.items()}
    assert old.keys() != state.keys()
    for names in (state, old):
        recipe = recipe_of("gfl_r50", names, {"config": config_text("gfl_r50")}, None, "file").recipe
        assert (recipe.model.backbone, recipe.model.deformable) == ("resnext50_32x4d.tv_in1k", (4, 5))
        own = build_detector(recipe, COCO_NAMES, pretrained=False).state_dict()
        placed = fit(names, own, "file")
        where = "layer3.2.conv2"
        assert torch.equal(placed[f"backbone.body.{where}.weight"], net[f"body.{where}.weight"] / 2)
        assert torch.equal(placed["backbone.body.layer2.0.conv2.weight"], net["body.layer2.0.conv2.weight"])


def test_deformable_towers(keys: Path) -> None:
    state = empty_weights(keys / "fcos_r50_giou.txt")
    for tower in ("cls", "reg"):
        inside = f"bbox_head.{tower}_convs.3.conv.conv_offset"
        state |= {f"{inside}.weight": torch.zeros(27, 256, 3, 3), f"{inside}.bias": torch.zeros(27)}
    state["bbox_head.cls_convs.3.conv.weight"] = torch.full((256, 256, 3, 3), 3.0)
    text = config_text("fcos_r50_giou", head=", dcn_on_last_conv=True")
    recipe = recipe_of("fcos_r50", state, {"config": text}, None, "file").recipe
    assert recipe.model.deformable_tower
    assert recipe.model.deformable == ()
    assert recipe.model.head_depth == 4
    own = build_detector(recipe, COCO_NAMES, pretrained=False).state_dict()
    assert bool((fit(state, own, "file")["head.class_tower.9.weight"] == 1.5).all())


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({2: 54, 3: 54}, "have 54 outputs of offsets; gfocal's have 18 or, with weights, 27, as with deform_groups=1"),
        ({2: 18, 3: 27}, "have 18 and 27 outputs"),
    ],
)
def test_other_deformable_convolutions_are_refused(keys: Path, shapes: dict[int, int], words: str) -> None:
    changes = {f"backbone.layer{i}.0.conv2.conv_offset.weight": (n, 128, 3, 3) for i, n in shapes.items()}
    with pytest.raises(UsageError, match=words):
        found(keys, "gfl_r50", changes=changes)


def test_a_stage_that_is_deformable_in_part_is_refused(keys: Path) -> None:
    changes = {"backbone.layer2.1.conv2.conv_offset.weight": (27, 128, 3, 3)}
    recipe = found(keys, "gfl_r50", changes=changes).recipe
    own = build_detector(recipe, COCO_NAMES, pretrained=False).state_dict()
    with pytest.raises(UsageError, match=r"7 missing: backbone\.body\.layer2\.0\.conv2\.conv_offset\.weight"):
        fit(empty_weights(keys / "gfl_r50.txt", changes), own, "file")


# --- what a file says about itself, and what it does not


def test_style_is_asked_for_where_the_file_has_none(keys: Path) -> None:
    with pytest.raises(UsageError, match=r"same names and shapes.*--style pytorch.*--style caffe"):
        found(keys, "atss_r50", meta={})
    caffe = found(keys, "atss_r50", meta={}, style="caffe").recipe.model
    assert (caffe.style, caffe.pixels.order, caffe.pixels.mean, caffe.pixels.std) == (
        "caffe", "bgr", (103.53, 116.28, 123.675), (1, 1, 1))  # fmt: skip
    of_file = found(keys, "atss_r50", meta={}, style="pytorch")
    model = of_file.recipe.model
    assert (model.style, model.pixels.order, model.pixels.mean, model.pixels.std) == (
        "pytorch", "rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # fmt: skip
    assert any("no configuration" in note for note in of_file.notes)
    assert of_file.changed == ()
    assert set(found(keys, "atss_r50", meta={}, style="caffe").changed) == {
        'model.style="caffe"', 'model.pixels.order="bgr"', "model.pixels.mean=[103.53, 116.28, 123.675]",
        "model.pixels.std=[1.0, 1.0, 1.0]",
    }  # fmt: skip


def test_a_style_that_contradicts_the_file_is_refused(keys: Path) -> None:
    with pytest.raises(UsageError, match="says itself that its style is pytorch"):
        found(keys, "atss_r50", style="caffe")
    assert found(keys, "atss_r50", style="pytorch").recipe == found(keys, "atss_r50").recipe
    with pytest.raises(UsageError, match="SSD's VGG has only one"):
        found(keys, "ssd512_vgg16", style="caffe")


def test_ssd_needs_no_style(keys: Path) -> None:
    pixels = found(keys, "ssd512_vgg16", meta={}).recipe.model.pixels
    assert (pixels.order, pixels.mean, pixels.std) == ("rgb", (123.675, 116.28, 103.53), (1, 1, 1))


def test_colours_and_stride_are_two_things(keys: Path) -> None:
    # mmdetection has files of caffe weights with another mean; and mean and stride need not go together.
    norm = "mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False"
    meta = {"config": config_text("retinanet_r50", pixels=norm, style="caffe")}
    model = found(keys, "retinanet_r50", meta=meta).recipe.model
    assert (model.style, model.pixels.order, model.pixels.mean) == ("caffe", "bgr", (103.53, 116.28, 123.675))
    meta = {"config": config_text("retinanet_r50", pixels=CAFFE, style="pytorch")}
    model = found(keys, "retinanet_r50", meta=meta).recipe.model
    assert (model.style, model.pixels.order) == ("pytorch", "bgr")


def test_colours_of_version_3_are_bgr_unless_it_turns_them(keys: Path) -> None:
    text = config_text_3("atss_r50").replace("bgr_to_rgb=True, ", "")
    assert found(keys, "atss_r50", meta={"cfg": text}).recipe.model.pixels.order == "bgr"
    text = config_text("atss_r50").replace(", to_rgb=True", "")
    assert found(keys, "atss_r50", meta={"config": text}).recipe.model.pixels.order == "rgb"


def test_files_of_version_3(keys: Path) -> None:
    for name, order, style in (("atss_r50", "rgb", "pytorch"), ("fcos_r50_giou", "bgr", "caffe")):
        recipe = found(keys, name, meta={"cfg": config_text_3(name)}).recipe
        assert (recipe.model.pixels.order, recipe.model.style) == (order, style)
        assert recipe.predict.nms_iou == 0.6
        assert (recipe.data.resize.short_side, recipe.data.resize.long_side) == (800, 1333)


@pytest.mark.parametrize(
    "meta",
    [{"CLASSES": ("a", "b")}, {"dataset_meta": {"classes": ["a", "b"]}}, {"dataset_meta": {"CLASSES": ["a", "b"]}}],
)
def test_names_of_classes(keys: Path, meta: dict[str, Any]) -> None:
    text = config_text("gfl_r50")
    assert list(found(keys, "gfl_r50", meta={"config": text, **meta}).names) == ["a", "b"]  # type: ignore[call-overload]
    assert found(keys, "gfl_r50").names is None


def test_thresholds_and_sizes_are_those_of_the_file(keys: Path) -> None:
    text = config_text("gfl_r50").replace("score_thr=0.05, max_per_img=100", "score_thr=0.1, max_per_img=300")
    text = text.replace("nms_pre=1000", "nms_pre=500").replace("iou_threshold=0.6", "iou_threshold=0.7")
    recipe = found(keys, "gfl_r50", meta={"config": text.replace("(1333, 800)", "(600, 1000)")}).recipe
    predict, resize = recipe.predict, recipe.data.resize
    assert (predict.score_threshold, predict.max_detections, predict.pre_nms_top_k, predict.nms_iou) == (
        0.1,
        300,
        500,
        0.7,
    )
    assert (resize.kind, resize.short_side, resize.long_side, resize.pad) == ("short_long", 600, 1000, "mean")
    assert not predict.class_agnostic
    agnostic = text.replace("nms=dict(", "nms=dict(class_agnostic=True, ")
    assert found(keys, "gfl_r50", meta={"config": agnostic}).recipe.predict.class_agnostic
    square = text.replace("(1333, 800)", "(640, 640)").replace("keep_ratio=True", "keep_ratio=False")
    assert found(keys, "gfl_r50", meta={"config": square}).recipe.data.resize.size == 640
    # The form before 2.4: test_cfg beside the model, iou_thr in nms.
    early = text.replace("    test_cfg=dict(", ")\ntest_cfg = dict(").replace("iou_threshold=", "iou_thr=")
    early = early.replace("score_thr=0.1, max_per_img=300))", "score_thr=0.1, max_per_img=300)")
    assert found(keys, "gfl_r50", meta={"config": early}).recipe.predict.nms_iou == 0.7


def test_what_is_not_known_here_is_noted(keys: Path) -> None:
    text = config_text("gfl_r50").replace("type='nms'", "type='soft_nms'").replace("(1333, 800)", "(1333, 600)")
    notes = found(keys, "gfl_r50", meta={"config": text.replace("keep_ratio=True", "keep_ratio=False")}).notes
    assert len(notes) == 2
    assert "soft_nms" in notes[0]
    assert "1333 x 600" in notes[1]


@pytest.mark.parametrize(
    ("model", "old", "new", "word"),
    [
        ("gfl_r50", "octave_base_scale=8", "octave_base_scale=4", "octave_base_scale 4"),
        ("gfl_r50", "type='GFLHead'", "type='PAAHead'", "type PAAHead.*GFLHead"),
        ("atss_r50", "[0.1, 0.1, 0.2, 0.2]", "[1.0, 1.0, 1.0]", "target_stds.*four numbers"),
        ("atss_r50", "[0.1, 0.1, 0.2, 0.2]", "[1.0, 1.0, 1.0, 0.0]", "model.boxes.stds"),
        ("atss_r50", "target_means=[.0, .0, .0, .0]", "target_means=[.1, .0, .0, .0]", "target_means"),
        ("retinanet_r50", "[0.5, 1.0, 2.0]", "[0.5, 1.0, 3.0]", "ratios"),
        ("foveabox_r50", "[16, 32, 64, 128, 256]", "[8, 16, 32, 64, 128]", "base_edge_list"),
        ("ssd512_vgg16", "(0.1, 0.9)", "(0.15, 0.9)", "basesize_ratio_range"),
        ("gfl_r50", "reg_max=16", "norm_cfg=dict(type='GN', num_groups=16)", "16 groups"),
        ("gfl_r50", "reg_max=16", "loss_cls=dict(use_sigmoid=False)", "softmax"),
        ("gfl_r50", "neck=dict(", "neck=dict(add_extra_convs='on_lateral', ", "on_lateral"),
        ("fcos_r50_giou", "norm_on_bbox=True", "norm_on_bbox=False", "older FCOS.*logarithms"),
        ("fcos_r50_giou", "norm_on_bbox=True, ", "", "older FCOS"),
        ("gfl_r50", "style='pytorch'", "style='odd'", "style must be"),
        ("gfl_r50", "style='pytorch'", "style=['caffe']", "style must be"),
    ],
)
def test_a_configuration_of_something_else_is_refused(keys: Path, model: str, old: str, new: str, word: str) -> None:
    text = config_text(model)
    assert old in text
    with pytest.raises(UsageError, match=word):
        found(keys, model, meta={"config": text.replace(old, new)})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("score_thr=0.05", "score_thr=b'x'"),
        ("nms_pre=1000", "nms_pre=..."),
        ("max_per_img=100", "max_per_img=1j"),
        ("(1333, 800)", "(1e999, 800)"),
        ("(1333, 800)", "(" + "9" * 400 + ", 800)"),
    ],
)
def test_what_no_recipe_can_hold_counts_as_not_said(keys: Path, old: str, new: str) -> None:
    text = config_text("gfl_r50")
    assert old in text
    assert (
        found(keys, "gfl_r50", meta={"config": text.replace(old, new)}).recipe.predict == load_recipe("gfl_r50").predict
    )


def test_a_distilled_detector_is_read_without_its_teacher(keys: Path, tmp_path: Path) -> None:
    own = empty_weights(keys / "gfl_r50.txt")
    inside = {f"bbox_head.teacher_models.{name}": value for name, value in own.items()}
    inside["bbox_head.teacher_models.backbone.layer2.0.conv2.conv_offset.weight"] = torch.zeros(27, 128, 3, 3)
    text = config_text("gfl_r50").replace("'GFLHead'", "'LDGFLHead'")
    # Its tensors come first here; in files they come last.
    report = import_mmdetection(
        tmp_path / "a.pth", tmp_path / "out", content=Checkpoint({**inside, **own}, {"config": text})
    )
    assert report.used == len(own) - 1  # integral.project
    assert f"{len(inside)} tensors of the teacher are left out: bbox_head.teacher_models.*" in report.notes
    recipe = load_detector(tmp_path / "out")[1]
    assert (recipe.model.deformable, recipe.model.deformable_tower) == ((), False)


def test_retinanets_that_were_trained_otherwise(keys: Path) -> None:
    plain = config_text("retinanet_r50")
    assert "bbox_coder=dict(target_stds=[1.0, 1.0, 1.0, 1.0])" in plain
    free = plain.replace("'RetinaHead'", "'FreeAnchorRetinaHead'").replace(
        "target_stds=[1.0, 1.0, 1.0, 1.0]", "target_stds=[0.1, 0.1, 0.2, 0.2]"
    )
    early = free.replace("bbox_coder=dict(target_stds=[0.1, 0.1, 0.2, 0.2])", "target_stds=[0.1, 0.1, 0.2, 0.2]")
    assert "bbox_coder" not in early
    for text in (free, early):
        of_file = found(keys, "retinanet_r50", meta={"config": text})
        assert of_file.recipe.model.boxes.stds == (0.1, 0.1, 0.2, 0.2)
        assert "model.boxes.stds=[0.1, 0.1, 0.2, 0.2]" in of_file.changed
    for row, head in (("retinanet_r50", "RetinaHead"), ("ssd512_vgg16", "SSDHead")):
        text = config_text(row)
        assert f"'{head}'" in text
        of_file = found(keys, row, meta={"config": text.replace(head, f"PISA{head}")})
        assert of_file.recipe == found(keys, row).recipe


def test_the_tower_of_the_centerness(keys: Path) -> None:
    text = config_text("fcos_r50_giou")
    for new, tower in (("centerness_on_reg=True", "box"), ("centerness_on_reg=False", "class"), ("a=1", "class")):
        meta = {"config": text.replace("centerness_on_reg=True", new)}
        assert found(keys, "fcos_r50_giou", meta=meta).recipe.model.quality_on == tower
    assert any("norm_on_bbox" in note for note in found(keys, "fcos_r50_giou", meta={}, style="caffe").notes)


def test_a_scoped_name_of_a_head_is_the_same_head(keys: Path) -> None:
    text = config_text("gfl_r50").replace("type='GFLHead'", "type='mmdet.GFLHead'")
    assert found(keys, "gfl_r50", meta={"config": text}).recipe == found(keys, "gfl_r50").recipe


# --- whole files


def test_a_file_from_end_to_end(keys: Path, tmp_path: Path) -> None:
    # Half the size, and under the names of a network that was trained on several devices.
    state = {f"module.{n}": v.half().contiguous() for n, v in empty_weights(keys / "retinanet_r50.txt").items()}
    file = save_as(tmp_path / "a.pth", state, {"config": config_text("retinanet_r50")}, "2.x")
    report = import_weights(file, tmp_path / "out")
    detector, recipe, about = load_detector(tmp_path / "out")
    assert detector.names == COCO_NAMES
    assert tuple(about.category_ids) == COCO_CATEGORY_IDS
    assert about.notes == {"imported_from": "a.pth", "format": "mmdetection"}
    assert recipe.predict.nms_iou == 0.5
    assert next(detector.parameters()).dtype == torch.float32
    assert (report.recipe, report.used, report.unused, report.classes) == ("retinanet_r50", len(state), (), 80)
    assert report.changed == ('data.resize.pad="mean"',)  # in the rest the file and the row agree
    assert report.lines()[0].endswith(f"retinanet_r50 of mmdetection, {len(state)} tensors, 80 classes")
    with pytest.raises(UsageError, match="exists already"):
        import_weights(file, tmp_path / "out")
    with pytest.raises(UsageError, match="--size is for NanoDet"):
        import_weights(file, tmp_path / "other", size=320)


FPN = "neck.fpn_convs.1.conv.weight"


@pytest.mark.parametrize(
    ("name", "shape", "word"),
    [
        (REG, None, "1 missing: head.box_out.weight"),
        ("bbox_head.gfl_cls.weight", None, r"has no tensor bbox_head\.\*_cls\.weight"),
        (FPN, (256, 256, 1, 1), rf"1 of another shape: {FPN} \(256, 256, 1, 1\) instead of \(256, 256, 3, 3\)"),
        ("bbox_head.atss_centerness.weight", (1, 256, 3, 3), "1 unknown: bbox_head.atss_centerness.weight"),
        ("optimizer.state", (1,), "1 unknown: optimizer.state"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(keys: Path, tmp_path: Path, name: str, shape: Any, word: str) -> None:
    content = Checkpoint(empty_weights(keys / "gfl_r50.txt", {name: shape}), {"config": config_text("gfl_r50")})
    with pytest.raises(UsageError, match=word):
        import_mmdetection(tmp_path / "a.pth", tmp_path / "out", content=content)
    assert not (tmp_path / "out").exists()


def test_an_entry_that_is_no_tensor_is_named(keys: Path, tmp_path: Path) -> None:
    state = {**empty_weights(keys / "gfl_r50.txt"), FPN: "text"}
    with pytest.raises(UsageError, match=f"1 of another shape: {FPN} str instead of"):
        import_mmdetection(tmp_path / "a.pth", tmp_path, content=Checkpoint(state, {"config": config_text("gfl_r50")}))


def test_other_classes_than_the_file_names(keys: Path, tmp_path: Path) -> None:
    changes = {CLS: (2, 256, 3, 3), "bbox_head.gfl_cls.bias": (2,)}
    meta = {"config": config_text("gfl_r50"), "CLASSES": ("a", "b", "c")}
    content = Checkpoint(empty_weights(keys / "gfl_r50.txt", changes), meta, ("evil\x1b.thing",))
    report = import_mmdetection(tmp_path / "a.pth", tmp_path, content=content)
    assert load_detector(tmp_path)[0].names == ("class 0", "class 1")
    lines = report.lines()
    assert any("names 3 classes and has outputs for 2" in line for line in lines)
    assert "without a place, as expected: 1 tensors: bbox_head.integral.project" in lines
    assert lines[-1] == "left out, not run: objects of 1 other classes: evil?.thing"

"""The recipe of a detector of mmdetection: from the names and shapes of its tensors, and from its configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from gfocal.errors import UsageError
from gfocal.interop.config_text import find, parse_config
from gfocal.interop.mmdetection_config import (
    Asked,
    Config,
    Style,
    ask_fcos,
    ask_pixels,
    ask_predict,
    ask_resize,
    ask_stds,
    ask_style,
    check_fixed,
    configured_pixels,
)
from gfocal.interop.report import differing, printable
from gfocal.recipe import Recipe, load_recipe

# Bottlenecks?, blocks of each stage, outputs of the first convolution, inputs of its 3x3 -> timm's name.
_BACKBONES: dict[tuple[bool, tuple[int, ...], int, int], str] = {
    (False, (2, 2, 2, 2), 64, 64): "resnet18.tv_in1k",
    (False, (3, 4, 6, 3), 64, 64): "resnet34.tv_in1k",
    (True, (3, 4, 6, 3), 64, 64): "resnet50.tv_in1k",
    (True, (3, 4, 23, 3), 64, 64): "resnet101.tv_in1k",
    (True, (3, 8, 36, 3), 64, 64): "resnet152.tv_in1k",
    (True, (3, 4, 6, 3), 128, 4): "resnext50_32x4d.tv_in1k",
    (True, (3, 4, 23, 3), 128, 4): "resnext101_32x4d.gluon_in1k",
    (True, (3, 4, 23, 3), 256, 4): "resnext101_64x4d.tv_in1k",
    (True, (3, 4, 23, 3), 256, 8): "resnext101_32x8d.tv_in1k",
}
_OFFSETS = re.compile(r"\.conv\d?(?:\.conv)?_offset\.weight$")
_PLAIN, _MODULATED = 18, 27  # outputs that deform a 3x3 kernel: two offsets a number, and a weight
_OUTPUTS = {"gfl_cls": "gfl_r50", "atss_cls": "atss_r50", "retina_cls": "retinanet_r50"}


@dataclass(frozen=True)
class Found:
    """What a file is: its recipe, the keys that are not the row's own, its classes and their names, and notes."""

    recipe: Recipe
    changed: tuple[str, ...]
    classes: int
    names: object
    notes: tuple[str, ...]


def find_row(state: Mapping[str, object], where: str) -> str:
    """The recipe whose names these are.

    Raises:
        UsageError: none's, saying what was found instead.
    """
    parts = {name.split(".")[1] for name in state if name.startswith("bbox_head.") and name.count(".") > 1}
    for output, row in _OUTPUTS.items():
        if output in parts:
            return row
    if {"conv_cls", "conv_reg"} <= parts or {"fcos_cls", "fovea_cls"} & parts:
        branch = {"conv_centerness", "fcos_centerness"} & parts
        if branch or "scales" not in parts:
            return "fcos_r50" if branch else "foveabox_r50"
    if {"cls_convs", "reg_convs"} == parts and any(name.startswith("backbone.features.") for name in state):
        return "ssd512_vgg16"
    kind = "a two-stage detector" if any(name.startswith("roi_head.") for name in state) else "its tensors are"
    few = ", ".join(printable(name) for name in list(state)[:3]) or "none"
    raise UsageError(
        f"{where} holds no detector that can be imported ({kind}: {few}, ...); what can: of mmdetection GFL, GFL v2, "
        "ATSS, FCOS, RetinaNet, FoveaBox, SSD512; NanoDet-m and NanoDet-Plus; PicoDet as .pdparams or .onnx"
    )


def recipe_of(
    row: str, state: Mapping[str, object], meta: Mapping[str, object], style: Style | None, where: str
) -> Found:
    """The recipe of these tensors.

    Args:
        row: of :func:`find_row`.
        state: the tensors by mmdetection's names.
        meta: what the file says about itself.
        style: see :func:`gfocal.interop.mmdetection.import_mmdetection`.
        where: start of messages.

    Raises:
        UsageError: shapes or configuration that no recipe has, or a style that is missing or contradicts the file.
    """
    config = parse_config(next((meta[key] for key in ("config", "cfg") if key in meta), None))
    asked = Asked()
    if not config:
        asked.notes.append(f"no configuration in the file: thresholds and picture size are those of {row}")
    check_fixed(row, config, where)
    if row == "ssd512_vgg16":
        if style is not None:
            raise UsageError("--style is for ResNets; SSD's VGG has only one")
        ask_pixels(asked, configured_pixels(config))
    else:
        backbone = asked.keys["model.backbone"] = _backbone(state, where)
        _ask_deformable(asked, state, where)
        ask_style(asked, config, style, backbone, where)
        channels = _pyramid(asked, config, state, where)
        _head(asked, row, config, state, channels, where)
    if row in ("atss_r50", "retinanet_r50", "ssd512_vgg16"):
        ask_stds(asked, config, where)
    if row == "fcos_r50":
        ask_fcos(asked, config, where)
    if row == "foveabox_r50":
        asked.keys["predict.clip_margin"] = 1.0  # as theirs
    ask_predict(asked, config)
    ask_resize(asked, config)
    changed = differing(row, asked.keys)
    classes = _classes(row, state, where)
    names = next((n for n in (find(meta, "CLASSES"), *_dataset_names(meta)) if n), None)
    return Found(load_recipe(row, changed), changed, classes, names, tuple(asked.notes))


def _dataset_names(meta: Mapping[str, object]) -> tuple[object, ...]:
    return find(meta, "dataset_meta", "classes"), find(meta, "dataset_meta", "CLASSES")


def _rows(state: Mapping[str, object], name: str, where: str) -> int:
    """Number of outputs of a convolution."""
    weight = state.get(name)
    if not isinstance(weight, Tensor) or weight.ndim == 0:
        raise UsageError(f"{where} has no tensor {name}")
    return len(weight)


def _classes(row: str, state: Mapping[str, object], where: str) -> int:
    """Number of classes by the shape of the class outputs."""
    if row == "ssd512_vgg16":
        name, anchors, background = "bbox_head.cls_convs.0.0.weight", 4, 1
    else:
        found = (n for n in state if n.startswith("bbox_head.") and n.endswith("_cls.weight"))
        name = next(found, "bbox_head.*_cls.weight")
        anchors, background = 9 if row == "retinanet_r50" else 1, 0
    outputs = _rows(state, name, where)
    if outputs % anchors or outputs // anchors <= background:
        raise UsageError(f"{where}: {name} has {outputs} outputs, which is no number of classes for {anchors} anchors")
    return outputs // anchors - background


def _backbone(state: Mapping[str, object], where: str) -> str:
    """Timm's name."""
    blocks = {tuple(n.split(".")[1:3]) for n in state if n.startswith("backbone.layer") and n.count(".") > 2}
    counts = tuple(sum(stage == f"layer{i}" for stage, _ in blocks) for i in range(1, 5))
    bottleneck = "backbone.layer1.0.conv3.weight" in state
    first, second = state.get("backbone.layer1.0.conv1.weight"), state.get("backbone.layer1.0.conv2.weight")
    if isinstance(first, Tensor) and isinstance(second, Tensor) and first.ndim == second.ndim == 4:
        name = _BACKBONES.get((bottleneck, counts, first.shape[0], second.shape[1]))
        if name is not None:
            return name
    known = ", ".join(name.split(".")[0] for name in _BACKBONES.values())
    few = ", ".join([printable(n) for n in state if n.startswith("backbone.")][:3])
    raise UsageError(f"{where}: its backbone ({few}, ...; blocks {counts}) is none of {known}")


def _ask_deformable(asked: Asked, state: Mapping[str, object], where: str) -> None:
    """Which stages of a ResNet, and whether the towers, have deformable convolutions."""
    found = {name: tensor for name, tensor in state.items() if _OFFSETS.search(name) and isinstance(tensor, Tensor)}
    outputs = {len(tensor) if tensor.ndim else 0 for name, tensor in found.items() if name.startswith("backbone.")}
    if outputs - {_PLAIN, _MODULATED} or len(outputs) > 1:
        raise UsageError(
            f"{where}: its deformable convolutions have {' and '.join(map(str, sorted(outputs)))} outputs of offsets; "
            f"gfocal's have {_PLAIN} or, with weights, {_MODULATED}, as with deform_groups=1"
        )
    stages = {int(match[1]) + 1 for name in found if (match := re.match(r"backbone\.layer(\d)\.", name))}
    asked.keys["model.deformable"] = sorted(stages)
    if outputs == {_PLAIN}:
        asked.keys["model.modulated"] = False
    asked.keys["model.deformable_tower"] = any(name.startswith("bbox_head.") for name in found)


def _pyramid(asked: Asked, config: Config, state: Mapping[str, object], where: str) -> int:
    """The channels of its levels."""
    channels = 256
    lateral, extra = state.get("neck.lateral_convs.0.conv.weight"), state.get("neck.fpn_convs.3.conv.weight")
    if isinstance(lateral, Tensor) and lateral.ndim:
        asked.keys["model.channels"] = channels = len(lateral)
        if isinstance(extra, Tensor) and extra.ndim == 4:
            asked.keys["model.extra_from"] = "output" if extra.shape[1] == channels else "input"
    neck = find(config, "model", "neck")
    if neck is not None:
        asked.keys["model.relu_before_extra"] = find(neck, "relu_before_extra_convs") is True
        if find(neck, "add_extra_convs") == "on_lateral":
            raise UsageError(f"{where}: its extra levels start at the lateral maps (on_lateral); gfocal's cannot")
    return channels


def _head(asked: Asked, row: str, config: Config, state: Mapping[str, object], channels: int, where: str) -> None:
    """Depth, layers and box form of a head with towers."""
    depth = sum(n.startswith("bbox_head.cls_convs.") and n.endswith(".conv.weight") for n in state)
    normed = "bbox_head.cls_convs.0.gn.weight" in state
    asked.keys["model.head_depth"] = max(depth, 1)
    asked.keys["model.head_norm"] = "group" if normed else "none"
    asked.keys["model.tower_bias"] = normed and "bbox_head.cls_convs.0.conv.bias" in state
    asked.keys["model.level_scales"] = any(n.startswith("bbox_head.scales.") for n in state)
    groups = find(config, "model", "bbox_head", "norm_cfg", "num_groups")
    ours = min(32, channels // 2)
    if normed and (groups or 32) != ours:
        raise UsageError(f"{where}: its head has GroupNorm of {groups or 32} groups; gfocal's has {ours} here")
    if row == "gfl_r50":
        edges = state.get("bbox_head.gfl_reg.weight")
        if isinstance(edges, Tensor) and edges.ndim and len(edges) % 4 == 0:
            asked.keys["model.boxes.reg_max"] = max(len(edges) // 4 - 1, 1)
        if any(n.startswith("bbox_head.reg_conf.") for n in state):
            asked.keys["model.quality.kind"] = "joint_v2"

"""What the configuration in a file of mmdetection asks of a recipe: colours, thresholds, image size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, NoReturn

from gfocal.errors import UsageError
from gfocal.interop.config_text import find, numbers, steps

Style = Literal["pytorch", "caffe"]
Config = Mapping[str, object]


class Pixels(NamedTuple):
    """How the colours of a picture enter: order of the channels, and what is taken off and divided by."""

    order: Literal["rgb", "bgr"]
    mean: tuple[float, ...]
    std: tuple[float, ...]


_COLOURS: dict[str, Pixels] = {
    "pytorch": Pixels("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    # Of the FCOS that can be imported; others of that style have 102.9801 115.9465 122.7717, half a grey level away.
    "caffe": Pixels("bgr", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0)),
}
_STRIDES = [8, 16, 32, 64, 128]
_SQUARE = {"octave_base_scale": 8, "scales_per_octave": 1, "ratios": [1.0], "strides": _STRIDES}
_NO_MEANS = {"target_means": [0.0] * 4}
_TYPES = {
    "gfl_r50": ("GFLHead", "GFocalHead", "LDHead", "LDGFLHead", "LDGFLv2Head"),
    "atss_r50": ("ATSSHead",),
    "fcos_r50": ("FCOSHead",),
    "retinanet_r50": ("RetinaHead", "FreeAnchorRetinaHead", "PISARetinaHead"),
    "foveabox_r50": ("FoveaHead",),
    "ssd512_vgg16": ("SSDHead", "PISASSDHead"),
}
"""What model.bbox_head.type may be for a row of ours: heads of the same outputs, however they were trained."""
_OWN_SIGMOID = ("GFocalHead", "LDGFLv2Head")
"""Heads that give their loss probabilities, so that use_sigmoid is False there although their classes are sigmoids."""
# What a row of ours does and its configuration must not have otherwise, under model.bbox_head; silence is consent.
_FIXED: dict[str, Mapping[str, object]] = {
    "gfl_r50": {"anchor_generator": _SQUARE},
    "atss_r50": {"anchor_generator": _SQUARE, "bbox_coder": _NO_MEANS},
    "fcos_r50": {"strides": _STRIDES},
    "retinanet_r50": {
        "anchor_generator": {
            "octave_base_scale": 4,
            "scales_per_octave": 3,
            "ratios": [0.5, 1.0, 2.0],
            "strides": _STRIDES,
        },
        "bbox_coder": _NO_MEANS,
    },
    "foveabox_r50": {"strides": _STRIDES, "base_edge_list": [16, 32, 64, 128, 256]},
    "ssd512_vgg16": {
        "anchor_generator": {
            "input_size": 512,
            "strides": [*_STRIDES, 256, 512],
            "ratios": [[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]],
            "basesize_ratio_range": [0.1, 0.9],
        },
        "bbox_coder": _NO_MEANS,
    },
}


@dataclass
class Asked:
    """Collects recipe keys and notes."""

    keys: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def check_fixed(row: str, config: Config, where: str) -> None:
    """Refuse a configuration whose head works otherwise than the row's."""

    def refuse(path: str, theirs: object, wanted: object) -> NoReturn:
        raise UsageError(f"{where}: its configuration has {path} {theirs}; the importer knows {wanted}")

    def compare(expected: Mapping[str, object], given: object, path: str) -> None:
        for key, value in expected.items():
            theirs = find(given, key)
            if isinstance(value, Mapping):
                compare(value, theirs, f"{path}.{key}")
            elif theirs is not None and theirs != value:
                refuse(f"{path}.{key}", theirs, value)

    given = find(config, "model", "bbox_head", "type")
    kind = None if given is None else str(given).removeprefix("mmdet.")
    if kind is not None and kind not in _TYPES[row]:
        refuse("model.bbox_head.type", kind, " or ".join(_TYPES[row]))
    compare(_FIXED[row], find(config, "model", "bbox_head"), "model.bbox_head")
    softmax = find(config, "model", "bbox_head", "loss_cls", "use_sigmoid") is False and kind not in _OWN_SIGMOID
    if softmax and row != "ssd512_vgg16":
        raise UsageError(f"{where}: its classes are a softmax; the importer knows sigmoids for this detector")


def ask_style(asked: Asked, config: Config, style: Style | None, backbone_name: str, where: str) -> None:
    backbone = find(config, "model", "backbone")
    said = None if backbone is None else find(backbone, "style") or "pytorch"  # mmdetection's own default
    pixels = configured_pixels(config)
    if style is None and (said is None or pixels is None):
        raise UsageError(
            f"{where} does not say how pictures enter, and its tensors cannot: networks of both styles have the same "
            "names and shapes. Say --style pytorch (RGB, mean 123.675 116.28 103.53, std 58.395 57.12 57.375, stride "
            "on the 3x3 of a block) or --style caffe (BGR, mean 103.53 116.28 123.675, std 1, stride on its first "
            "1x1); with the wrong one it finds little. The configuration that it was trained with has it as "
            "backbone style and as img_norm_cfg or data_preprocessor"
        )
    if style is not None and said is not None and style != said:
        raise UsageError(f"{where} says itself that its style is {said}; leave out --style {style}")
    chosen = said or style
    if not isinstance(chosen, str) or chosen not in _COLOURS:
        raise UsageError(f"{where}: style must be pytorch or caffe, got {chosen}")
    basic = backbone_name.startswith(("resnet18", "resnet34"))  # no bottlenecks: one place for a stride
    asked.keys["model.style"] = "pytorch" if basic else chosen
    ask_pixels(asked, pixels or _COLOURS[chosen])


def configured_pixels(config: Config) -> Pixels | None:
    """Those of the configuration: data_preprocessor (3.x), Normalize of the test pipeline (2.x)."""
    new = find(config, "model", "data_preprocessor") or find(config, "data_preprocessor")
    normalize = [step for step in _test_steps(config) if step.get("type") == "Normalize"]
    for given, key, default in ((new, "bgr_to_rgb", False), *((s, "to_rgb", True) for s in normalize)):
        mean, std = numbers(find(given, "mean"), 3), numbers(find(given, "std"), 3)
        if mean and std:
            order = find(given, key)
            return Pixels("rgb" if (default if order is None else order) else "bgr", mean, std)
    return None


def _test_steps(config: Config) -> list[dict[str, object]]:
    places = (
        find(config, "data", "test", "pipeline"),
        find(config, "test_dataloader", "dataset", "pipeline"),
        config.get("test_pipeline"),
    )
    found = [step for pipeline in places for step in steps(pipeline)]
    return [*found, {**norm, "type": "Normalize"}] if isinstance(norm := config.get("img_norm_cfg"), dict) else found


def ask_pixels(asked: Asked, pixels: Pixels | None) -> None:
    if pixels is not None:
        order, mean, std = pixels
        asked.keys |= {"model.pixels.order": order, "model.pixels.mean": list(mean), "model.pixels.std": list(std)}


def ask_stds(asked: Asked, config: Config, where: str) -> None:
    """Divisors of the deltas that boxes are coded as; before mmdetection 2 the head itself had them."""
    head = find(config, "model", "bbox_head")
    given = find(head, "bbox_coder", "target_stds") or find(head, "target_stds")
    if given is None:
        return
    stds = numbers(given, 4)
    if stds is None:
        raise UsageError(f"{where}: its configuration has target_stds {given}; the importer knows four numbers")
    asked.keys["model.boxes.stds"] = list(stds)


def ask_fcos(asked: Asked, config: Config, where: str) -> None:
    head = find(config, "model", "bbox_head")
    if head is None:
        asked.notes.append("taken as FCOS with normalised distances (norm_on_bbox) and centerness on the box tower")
        return
    if find(head, "norm_on_bbox") is not True:
        raise UsageError(
            f"{where} is the older FCOS, whose outputs are logarithms of pixels (norm_on_bbox is not set); gfocal's "
            "are distances in strides. Files of the form with norm_on_bbox, centerness_on_reg and center_sampling can "
            "be imported"
        )
    asked.keys["model.quality_on"] = "box" if find(head, "centerness_on_reg") is True else "class"


def ask_predict(asked: Asked, config: Config) -> None:
    test = find(config, "model", "test_cfg") or config.get("test_cfg")
    nms = find(test, "nms")
    kind = find(nms, "type")
    if kind not in (None, "nms"):
        asked.notes.append(f"its suppression {kind} is not known here; plain suppression takes its place")
    iou = find(nms, "iou_threshold")
    values = {
        "score_threshold": find(test, "score_thr"),
        "pre_nms_top_k": find(test, "nms_pre"),
        "nms_iou": find(nms, "iou_thr") if iou is None else iou,
        "max_detections": find(test, "max_per_img"),
        "class_agnostic": find(nms, "class_agnostic"),
    }
    asked.keys |= {f"predict.{key}": value for key, value in values.items() if value is not None}


def ask_resize(asked: Asked, config: Config) -> None:
    found = list(_test_steps(config))
    scale = next((numbers(s.get(key), 2) for s in found for key in ("img_scale", "scale") if key in s), None)
    if scale is None:
        if config:
            asked.notes.append("no picture size in the configuration: taken from the recipe")
        return
    ratio = any(step.get("keep_ratio") is True for step in found)
    short, long = sorted(int(side) for side in scale)
    if ratio:
        asked.keys |= {"data.resize.kind": "short_long", "data.resize.short_side": short}
        # Theirs puts 0 beside an image after mean and std.
        asked.keys |= {"data.resize.long_side": long, "data.resize.pad": "mean"}
    elif short == long:
        asked.keys |= {"data.resize.kind": "square", "data.resize.size": short}
    else:
        asked.notes.append(f"pictures were stretched to {long} x {short} pixels, which has no key: see data.resize")

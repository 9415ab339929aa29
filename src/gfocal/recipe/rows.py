"""The rows of the paper's tables as defaults, and which choices of the axes go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gfocal.recipe.forms import ANY, ASSIGNERS, ASSISTANTS, BOX_WEIGHTS, BOXES, QUALITIES, fitting

Section = dict[str, Any]

_POINT: Section = {"kind": "square", "scale": 8.0, "offset": 0.5}
_ANCHOR: Section = {"kind": "square", "scale": 8.0, "offset": 0.0}
_NO_NORM: Section = {"head_norm": "none", "level_scales": False, "extra_from": "input"}
# NanoDet-Plus and PicoDet were published as networks, not as heads for any: theirs is part of the row.
_SMALL: Section = {
    "channels": 96,
    "head_depth": 2,
    "strides": [8, 16, 32, 64],
    "boxes": {"kind": "general_dfl", "reg_max": 7, "delta": 1.0},
    "box_weight": "score",
}
_SMALL_SQUARE: Section = {"resize": {"kind": "square", "size": 320}}

DETECTORS: dict[str, dict[str, Section]] = {
    "fcos": {
        "model": {
            "points": _POINT,
            "assigner": {"kind": "fcos", "radius": 1.5},
            "quality": {"kind": "centerness"},
            "boxes": {"kind": "dirac", "code": "distances", "loss": "giou"},
            "box_weight": "centerness",
            "loss_weights": {"box": 1.0},
            "relu_before_extra": True,
            "tower_bias": True,
        },
    },
    "atss": {
        "model": {
            "points": _ANCHOR,
            "assigner": {"kind": "atss", "top_k": 9},
            "quality": {"kind": "centerness"},
            "boxes": {"kind": "dirac", "code": "deltas", "stds": [0.1, 0.1, 0.2, 0.2], "loss": "giou"},
            "box_weight": "centerness",
        },
    },
    "gfl": {
        "model": {
            "points": _ANCHOR,
            "assigner": {"kind": "atss", "top_k": 9},
            "quality": {"kind": "joint", "beta": 2.0},
            "boxes": {"kind": "general_dfl", "reg_max": 16, "delta": 1.0},
            "box_weight": "score",
        },
    },
    "retinanet": {
        "model": {
            "points": {"kind": "octave", "scale": 4.0, "offset": 0.0},
            "assigner": {"kind": "max_iou", "positive_iou": 0.5, "negative_iou": 0.4, "low_quality": "all"},
            "quality": {"kind": "none"},
            "boxes": {"kind": "dirac", "code": "deltas", "stds": [1.0, 1.0, 1.0, 1.0], "loss": "l1"},
            "box_weight": "none",
            "loss_weights": {"box": 1.0},
            **_NO_NORM,
        },
        "predict": {"nms_iou": 0.5},
    },
    "foveabox": {
        "model": {
            "points": {**_POINT, "scale": 2.0},
            "assigner": {"kind": "fovea", "sigma": 0.4},
            "quality": {"kind": "none", "alpha": 0.4, "gamma": 1.5},
            "boxes": {"kind": "dirac", "code": "log_deltas", "loss": "smooth_l1", "smooth_beta": 0.11},
            "box_weight": "none",
            "loss_weights": {"box": 1.0},
            "norm": "plus_pictures",
            **_NO_NORM,
        },
        "predict": {"nms_iou": 0.5},
    },
    "ssd": {
        "model": {
            "points": {"kind": "ssd", "offset": 0.5},
            "assigner": {"kind": "max_iou", "positive_iou": 0.5, "negative_iou": 0.5, "low_quality": "first"},
            "quality": {"kind": "softmax_mined", "negatives": 3},
            "boxes": {"kind": "dirac", "code": "deltas", "loss": "smooth_l1", "smooth_beta": 1.0},
            "box_weight": "none",
            "loss_weights": {"box": 1.0},
        },
        "predict": {"score_threshold": 0.02, "nms_iou": 0.45, "max_detections": 200},
    },
    "nanodet_plus": {
        "model": {
            **_SMALL,
            "backbone": "shufflenet_v2_x1_0",
            "neck": "ghost_pan",
            "head": "depthwise_5x5",
            "points": {**_POINT, "scale": 5.0, "offset": 0.0},
            "assigner": {"kind": "dsla", "static_epochs": 5},
            "quality": {"kind": "joint", "beta": 2.0},
            "pixels": {"order": "bgr", "mean": [103.53, 116.28, 123.675], "std": [57.375, 57.12, 58.395]},
        },
        "data": _SMALL_SQUARE,
        "optim": {"kind": "adamw", "lr": 1e-3, "weight_decay": 0.05, "clip_norm": 35},
        "schedule": {"kind": "cosine", "final_lr": 0.05, "warmup_start": 1e-4, "ema": 0.9998},
    },
    "picodet": {
        "model": {
            **_SMALL,
            "backbone": "esnet_x0_75",
            "neck": "csp_pan",
            "head": "pico",
            "points": {**_POINT, "scale": 5.0},
            "assigner": {"kind": "sim_ota"},
            "quality": {"kind": "varifocal"},
        },
        "data": _SMALL_SQUARE,
        "optim": {"lr": 0.4, "reference_batch": 512, "weight_decay": 4e-5, "decay_norm_and_bias": False},
        "schedule": {"kind": "cosine", "final_lr": 0.0, "warmup_start": 0.1, "ema": 0.9998},
        "predict": {"score_threshold": 0.025},
    },
    "picodet_lcnet": {
        "model": {
            **_SMALL,
            "backbone": "lcnet_x0_75",
            "neck": "lc_pan",
            "head": "pico_se",
            "points": {**_POINT, "scale": 5.0},
            # A third of the run that the recipes have, as published.
            "assigner": {"kind": "task_aligned", "static_epochs": 20},
            "quality": {"kind": "varifocal_aligned"},
            "box_weight": "target",
            "norm": "weights",
            "loss_weights": {"box": 2.5, "dfl": 0.5},
        },
        "data": _SMALL_SQUARE,
        "optim": {"lr": 0.32, "reference_batch": 256, "weight_decay": 4e-5, "decay_norm_and_bias": False},
        "schedule": {"kind": "cosine", "final_lr": 0.0, "warmup_start": 0.1, "ema": 0.9998},
        "predict": {"score_threshold": 0.025},
    },
}
"""What ``model.detector`` fills in where a recipe is silent; :data:`AXES` says what else fits."""

_CODES = {"square": ("distances", "deltas", "log_deltas"), "octave": ("deltas",), "ssd": ("deltas",)}

AXES: dict[str, dict[str, tuple[str, ...]]] = {
    points: {
        "assigner.kind": fitting(ASSIGNERS, points),
        "assistant.kind": fitting(ASSISTANTS, points),
        "quality.kind": fitting(QUALITIES, points),
        "boxes.kind": fitting(BOXES, points),
        "boxes.code": _CODES[points],
        "box_weight": fitting(BOX_WEIGHTS, points),
    }
    for points in ANY
}
"""What fits, by ``model.points.kind``: several anchors per location have no single centre or set of distances."""

_WHY = {
    "assigner.kind": "it works on one anchor per location",
    "assistant.kind": "its head is shared by all levels, which have other anchors here",
    "quality.kind": "softmax_mined is SSD's own, and centerness and joint_v2 need one point per location",
    "boxes.kind": "its edges are distances from one point per location",
    "boxes.code": "only deltas distinguish several anchors per location",
    "box_weight": "centerness needs one point per location",
}


def check_axes(detector: str, points: str, chosen: Mapping[str, str]) -> None:
    """Refuse a combination that makes no sense.

    Args:
        detector: the row's name, for the message.
        points: ``points.kind``.
        chosen: a value for each key of :data:`AXES`.

    Raises:
        ValueError: naming the value and those that fit.
    """
    for key, allowed in AXES[points].items():
        if key == "boxes.code" and "code" not in BOXES[chosen["boxes.kind"]].keys:
            continue
        if chosen[key] not in allowed:
            raise ValueError(
                f"{key} {chosen[key]} does not go with detector {detector} (points.kind {points}): {_WHY[key]}; "
                f"what goes: {', '.join(allowed)}"
            )
    _check_assistant(chosen["assistant.kind"], chosen["assigner.kind"])
    quality, boxes = chosen["quality.kind"], chosen["boxes.kind"]
    if QUALITIES[quality].bins and not BOXES[boxes].bins:
        binned = [name for name, form in BOXES.items() if form.bins]
        others = [name for name in AXES[points]["quality.kind"] if not QUALITIES[name].bins]
        raise ValueError(
            f"quality.kind {quality} reads the distributions of the edges, which boxes.kind {boxes} does not have; "
            f"what goes: boxes.kind {' or '.join(binned)}, or quality.kind {', '.join(others)}"
        )
    _check_target(quality, chosen["box_weight"])


def _check_assistant(assistant: str, assigner: str) -> None:
    """Refuse predictions that nobody looks at.

    Raises:
        ValueError: naming the values that go.
    """
    if ASSISTANTS[assistant].place is not None and not ASSIGNERS[assigner].dynamic:
        dynamic = [name for name, form in ASSIGNERS.items() if form.dynamic]
        raise ValueError(
            f"assistant.kind {assistant} makes the predictions by which objects are assigned, and assigner.kind "
            f"{assigner} looks at none; what goes: assigner.kind {', '.join(dynamic)}, or assistant.kind none"
        )


def _check_target(quality: str, box_weight: str) -> None:
    """Refuse box terms that are weighted by a target which the quality does not have.

    Raises:
        ValueError: naming the values that go.
    """
    if BOX_WEIGHTS[box_weight].target and not QUALITIES[quality].target:
        having = [name for name, form in QUALITIES.items() if form.target]
        others = [name for name, form in BOX_WEIGHTS.items() if not form.target]
        raise ValueError(
            f"box_weight {box_weight} is the target that the quality learns, and quality.kind {quality} learns none; "
            f"what goes: quality.kind {', '.join(having)}, or box_weight {', '.join(others)}"
        )


def with_row_defaults(content: Any) -> Any:
    """Plain recipe data with what its detector fills in; anything unexpected is left for the types to refuse."""
    if not isinstance(content, Mapping):
        return content
    model = content.get("model", {})
    name = model.get("detector", "gfl") if isinstance(model, Mapping) else None
    row = DETECTORS.get(name) if isinstance(name, str) else None
    return content if row is None else _merged(row, content)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        under = result.get(key)
        result[key] = _merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return result

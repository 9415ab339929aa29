"""Weights of one detector for another: what means the same is taken, the rest starts new and is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfocal.detector import DenseDetector
from gfocal.engine.checkpoint import find_weights, load_detector, load_weights, read_about
from gfocal.errors import UsageError
from gfocal.recipe import ModelRecipe, Recipe, build_recipe

PARTS = ("backbone", "neck", "head")


def start_from(detector: DenseDetector, path: Path, parts: Sequence[str] = PARTS) -> list[str]:
    """Copy the weights of a checkpoint that mean the same here; return the names of those that start new.

    Equal shapes are not enough for a head's outputs. Class outputs are copied only for the same class names, box
    outputs only for the same code, those of a quality branch only for the same quality.

    Args:
        detector: what gets the weights.
        path: run folder or checkpoint.
        parts: of :data:`PARTS`; the others start new.

    Raises:
        UsageError: most of what should be copied does not fit, or a part that does not exist.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise UsageError(f"--init-parts takes {', '.join(PARTS)}, not {', '.join(unknown)}")
    source, _, _ = load_detector(path)
    own, theirs = detector.state_dict(), source.state_dict()
    same = {
        "class": detector.names == source.names,
        "box": _box_code(detector) == _box_code(source),
        "quality": _quality(detector) == _quality(source),
    }
    merged, fresh = dict(own), []
    for name, tensor in own.items():
        taken = None
        if _part(name) in parts and name in theirs:
            taken = _outputs(name, tensor, theirs[name], detector, source, same)
        merged[name] = tensor if taken is None else taken
        if taken is None or taken is not theirs[name]:
            fresh.append(name)
    wanted = [name for name in own if _part(name) in parts]
    unfit = sum(name in fresh for name in wanted)
    if unfit > len(wanted) // 2:
        raise UsageError(
            f"{path} has another architecture than the recipe: {unfit} of {len(wanted)} tensors do not fit"
        )
    load_weights(detector, merged, str(path))
    return fresh


def other_inputs(recipe: Recipe, path: Path, parts: Sequence[str] = PARTS) -> list[str]:
    """What the weights of a checkpoint were trained for and ``recipe`` has otherwise, as "points.offset 0.5 -> 0.0"."""
    theirs = build_recipe(read_about(find_weights(path))["recipe"], (), str(path)).model
    ours = recipe.model
    keys = ["pixels", "style", "strides"]
    if "head" in parts:  # one that starts new learns any points
        keys += ["points.kind", "points.offset"]
        keys += ["points.scale"] if _reads_scale(theirs) and _reads_scale(ours) else []
    pairs = {key: (_value(theirs, key), _value(ours, key)) for key in keys}
    return [f"model.{key} {before} -> {after}" for key, (before, after) in pairs.items() if before != after]


def _value(model: ModelRecipe, key: str) -> Any:
    value: Any = model.model_dump(mode="json")
    for word in key.split("."):
        value = value[word]
    return value


def _reads_scale(model: ModelRecipe) -> bool:
    """Whether the size of the one square anchor decides anything."""
    by_code = model.boxes.kind == "dirac" and model.boxes.code != "distances"
    return model.points.kind != "ssd" and (by_code or model.assigner.kind in ("atss", "max_iou"))


def _part(name: str) -> str:
    """Of :data:`PARTS`: a quality with parameters of its own (GFL v2) is trained like the head, and is part of it."""
    part = name.partition(".")[0]
    return part if part in PARTS else "head"


def _box_code(detector: DenseDetector) -> tuple[Any, ...]:
    """All that decides what the numbers of the box outputs mean."""
    boxes = detector.boxes
    code = getattr(boxes, "code", None)
    meaning: list[Any] = [type(boxes), code, getattr(boxes, "reg_max", None), getattr(boxes, "delta", None)]
    if code == "deltas":
        meaning.append(boxes.stds)  # type: ignore[attr-defined]
    if code in ("deltas", "log_deltas"):  # which are relative to anchors
        meaning.append(detector.points(64, 64).anchors.tolist())
    return tuple(meaning)


def _quality(detector: DenseDetector) -> tuple[Any, ...]:
    return type(detector.quality), getattr(detector.quality, "kind", None)


_KINDS = {
    "head.class_out.": "class",
    "head.box_out.": "box",
    "head.scales.": "box",
    "head.quality_out.": "quality",
    "quality.": "quality",
}


def _outputs(
    name: str, own: Tensor, theirs: Tensor, detector: DenseDetector, source: DenseDetector, same: dict[str, bool]
) -> Tensor | None:
    """``theirs`` where all of it fits, a mixture where a part of its rows does, None where nothing does."""
    if name.startswith("head.out."):
        return _rows(own, theirs, detector.head.outputs, source.head.outputs, same)  # type: ignore[arg-type]
    kind = next((kind for prefix, kind in _KINDS.items() if name.startswith(prefix)), None)
    if own.shape != theirs.shape or (kind is not None and not same[kind]):
        return None
    return theirs


def _rows(
    own: Tensor, theirs: Tensor, layout: tuple[int, ...], other: tuple[int, ...], same: dict[str, bool]
) -> Tensor | None:
    """One convolution gives the class, box and quality outputs of each anchor of a location, in that order."""
    anchors = len(own) // sum(layout)
    if anchors != len(theirs) // sum(other) or own.shape[1:] != theirs.shape[1:]:
        return None
    fits = [a == b and same[kind] for a, b, kind in zip(layout, other, ("class", "box", "quality"), strict=True)]
    if layout == other and all(fit or not count for fit, count in zip(fits, layout, strict=True)):
        return theirs
    if not any(fit and count for fit, count in zip(fits, layout, strict=True)):
        return None
    parts = own.unflatten(0, (anchors, -1)).split(layout, 1)
    others = theirs.unflatten(0, (anchors, -1)).split(other, 1)
    chosen = [b if fit else a for a, b, fit in zip(parts, others, fits, strict=True)]
    return torch.cat(chosen, 1).flatten(0, 1)

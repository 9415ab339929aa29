"""Weights of one detector for another: what means the same is taken, the rest starts new and is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.recipe import ModelRecipe, Recipe, build_recipe
from gfocal.recipe.forms import ASSIGNERS
from gfocal.runs.checkpoint import find_weights, load_detector, load_weights, read_about
from gfocal.runs.class_mapping import match_classes

PARTS = ("backbone", "neck", "head")


def start_from(detector: DenseDetector, path: Path, parts: Sequence[str] = PARTS) -> list[str]:
    """Copy the weights of a checkpoint that mean the same here; return the names of those that start new.

    Equal shapes are not enough for a head's outputs. Class outputs are copied for classes of the same name, row by row
    (see :func:`gfocal.runs.class_mapping.match_classes`); box outputs only for the same code, those of a quality branch
    only for the same quality.

    Args:
        detector: what gets the weights.
        path: run folder or checkpoint.
        parts: of :data:`PARTS`; the others start new.

    Returns:
        Names of tensors that start new, or some of whose rows do.

    Raises:
        UsageError: most of what should be copied does not fit, or a part that does not exist.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise UsageError(f"--init-parts takes {', '.join(PARTS)}, not {', '.join(unknown)}")
    source, _, _ = load_detector(path)
    own, theirs = detector.state_dict(), source.state_dict()
    rows = _Rows.of(detector, source)
    merged, fresh = dict(own), []
    for name, tensor in own.items():
        taken, whole = None, False
        if _part(name) in parts and name in theirs:
            taken, whole = rows.outputs(name, tensor, theirs[name])
        merged[name] = tensor if taken is None else taken
        if not whole:
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
    theirs = build_recipe(read_about(find_weights(path)).recipe, (), str(path)).model
    ours = recipe.model
    keys = ["pixels", "style", "strides"]
    if "head" in parts:  # one that starts new learns any points
        keys += ["points.kind", "points.offset"]
        keys += ["points.scale"] if _reads_scale(theirs) and _reads_scale(ours) else []
    pairs = {key: (_value(theirs, key), _value(ours, key)) for key in keys}
    return [f"model.{key} {before} -> {after}" for key, (before, after) in pairs.items() if before != after]


def _value(model: ModelRecipe, key: str) -> object:
    value: Any = model.model_dump(mode="json")
    for word in key.split("."):
        value = value[word]
    return value


def _reads_scale(model: ModelRecipe) -> bool:
    """Whether the size of the one square anchor decides anything."""
    by_code = model.boxes.kind == "dirac" and model.boxes.code != "distances"
    assigner = model.assigner
    by_assigner = assigner.kind in ("atss", "max_iou") or (ASSIGNERS[assigner.kind].dynamic and assigner.static_epochs)
    return model.points.kind != "ssd" and bool(by_code or by_assigner)


def _part(name: str) -> str:
    """Of :data:`PARTS`: a quality with parameters of its own (GFL v2) is trained like the head, and is part of it."""
    part = name.partition(".")[0]
    return part if part in PARTS else "head"


def _box_code(detector: DenseDetector) -> tuple[object, ...]:
    """All that decides what the numbers of the box outputs mean."""
    coder = detector.box_coder
    code = getattr(coder, "code", None)
    meaning: list[object] = [type(coder), code, getattr(coder, "reg_max", None), getattr(coder, "delta", None)]
    if code == "deltas":
        meaning.append(coder.stds)  # type: ignore[attr-defined]
    if code in ("deltas", "log_deltas"):  # which are relative to anchors
        meaning.append(detector.points(64, 64).anchors.tolist())
    return tuple(meaning)


def _quality(detector: DenseDetector) -> tuple[object, ...]:
    return type(detector.quality), getattr(detector.quality, "kind", None)


_KINDS = {
    "head.class_out.": "class",
    "head.box_out.": "box",
    "head.scales.": "box",
    "head.quality_out.": "quality",
    "quality.": "quality",
}
_BLOCKS = ("class", "box", "quality")
"""Where one convolution gives all outputs, those of each anchor of a location come in this order."""


@dataclass(frozen=True)
class _Rows:
    """Which outputs of an anchor mean the same in two heads.

    Attributes:
        own, other: outputs of an anchor in each, (class, box, quality).
        same: by kind, (own row, other row) of each pair within the outputs of that kind.
        alike: by kind, whether all of them are the same, in order and number.
    """

    own: tuple[int, int, int]
    other: tuple[int, int, int]
    same: dict[str, list[tuple[int, int]]]
    alike: dict[str, bool]

    @classmethod
    def of(cls, detector: DenseDetector, source: DenseDetector) -> _Rows:
        own, other = detector.head.outputs, source.head.outputs
        classes = list(match_classes(detector.names, source.names).pairs)
        background = own[0] - len(detector.names), other[0] - len(source.names)
        if background[0] != background[1]:  # a softmax's logits mean something else than those of a sigmoid
            classes = []
        elif background[0]:  # its last one is the background's
            classes.append((own[0] - 1, other[0] - 1))
        meaning = {
            "box": _box_code(detector) == _box_code(source),
            "quality": _quality(detector) == _quality(source),
        }
        same = {"class": classes}
        for kind, count, count_other in zip(_BLOCKS[1:], own[1:], other[1:], strict=True):
            same[kind] = [(i, i) for i in range(count)] if meaning[kind] and count == count_other else []
        # The parameters of a quality that has no rows in the head count as well.
        in_order = own[0] == other[0] and classes == [(i, i) for i in range(own[0])]
        return cls(own, other, same, {"class": in_order, **meaning})

    def outputs(self, name: str, own: Tensor, theirs: Tensor) -> tuple[Tensor | None, bool]:
        """What tensor ``name`` becomes, None where nothing fits; and whether none of it is new."""
        kind = next((kind for prefix, kind in _KINDS.items() if name.startswith(prefix)), None)
        if name.startswith("head.out."):
            return self._mixed(own, theirs, _BLOCKS)
        if kind == "class":
            return self._mixed(own, theirs, ("class",))
        fits = own.shape == theirs.shape and (kind is None or self.alike[kind])
        return (theirs if fits else None), fits

    def _mixed(self, own: Tensor, theirs: Tensor, kinds: Sequence[str]) -> tuple[Tensor | None, bool]:
        """A convolution's rows, anchor by anchor and of each anchor ``kinds`` in turn."""
        counts = [(self.own[i], self.other[i]) for i, kind in enumerate(_BLOCKS) if kind in kinds]
        width, width_other = (sum(side) for side in zip(*counts, strict=True))
        anchors = len(own) // width
        if anchors != len(theirs) // width_other or own.shape[1:] != theirs.shape[1:]:
            return None, False
        pairs, start, start_other = [], 0, 0
        for kind, (count, count_other) in zip(kinds, counts, strict=True):
            pairs += [(start + i, start_other + j) for i, j in self.same[kind]]
            start, start_other = start + count, start_other + count_other
        if not pairs:
            return None, False
        to, origin = (list(side) for side in zip(*pairs, strict=True))
        mixed = own.unflatten(0, (anchors, -1)).clone()
        mixed[:, to] = theirs.unflatten(0, (anchors, -1))[:, origin].to(mixed)
        return mixed.flatten(0, 1), len(pairs) == width

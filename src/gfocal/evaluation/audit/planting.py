"""Faults planted into a copy of a data set's labels, to see how many of them a list of suspects shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gfocal.errors import UsageError, require_number
from gfocal.evaluation.audit.labels import Labels
from gfocal.evaluation.ground_truth import FloatArray, IntArray
from gfocal.evaluation.overlaps import box_ious

Kind = Literal["edge", "missing", "class", "duplicate", "spurious"]
KINDS: tuple[Kind, ...] = ("edge", "missing", "class", "duplicate", "spurious")
"""Faults of labels: one edge in a wrong place, an object without a label, a wrong class, two labels of one object, a
label of nothing."""
NONE = -1
SHIFT = (0.2, 0.5)
"""Of the side that an edge bounds: how far planted edges are moved."""
_JITTER = 0.05  # of a side, either way: how far the second label of an object is off
_APART = 0.3  # IoU with every label below which a box is of nothing
_TRIES = 20


@dataclass(frozen=True)
class Planted:
    """Labels with faults.

    Attributes:
        labels: N of them, sorted by image.
        kind: (N,) number of the fault in :data:`KINDS`, -1 for none.
        source: (N,) which label of the original each was; -1 for a new one.
        removed: (R,) labels of the original that are missing.
        removed_boxes: (R, 4) where they were.
        removed_rows: (R,) on which images.
    """

    labels: Labels
    kind: IntArray
    source: IntArray
    removed: IntArray
    removed_boxes: FloatArray
    removed_rows: IntArray


def plant(labels: Labels, share: float, seed: int) -> Planted:
    """A copy in which a share of the labels is wrong, each kind of fault about as often as the others.

    No label has two faults. Crowds and ignored labels are left alone. One edge is shifted by 20-50 % of its side,
    inwards or outwards; a wrong class is drawn from those of the other labels; a duplicate is off by at most 5 % of a
    side; a label of nothing has the size and class of some label, where no label is. With one class alone none is
    wrong, and the other kinds come the more often.

    Args:
        labels: the original, which stays as it is.
        share: faults over labels, above 0 and at most 0.5.
        seed: of the choice.

    Raises:
        UsageError: the share is out of range.
    """
    require_number("planted", share, least=0, most=0.5)
    if share == 0:
        raise UsageError("planted must be above 0: without a fault there is nothing to find")
    random = np.random.default_rng(seed)
    sides = labels.clipped[:, 2:] - labels.clipped[:, :2]
    able = np.flatnonzero(labels.real & (sides > 0).all(1))
    classes = len(np.unique(labels.labels[able])) > 1
    kinds = [number for number, kind in enumerate(KINDS) if kind != "class" or classes]
    count = min(max(round(share * len(able)), 1), len(able))
    chosen = random.permutation(able)[:count]
    fault = np.array(kinds, np.int64)[(np.arange(count) + random.integers(len(kinds))) % len(kinds)]
    kind = np.full(len(labels), NONE)
    changed = labels.clipped.copy(), labels.labels.copy()
    new: list[tuple[int, FloatArray, int, int]] = []  # image, box, class, fault
    for label, number in zip(chosen.tolist(), fault.tolist(), strict=True):
        what = KINDS[number]
        if what == "edge":
            changed[0][label] = _shifted(labels.clipped[label], labels.limits[labels.rows[label]], random)
        elif what == "class":
            others = labels.labels[able][labels.labels[able] != labels.labels[label]]
            changed[1][label] = random.choice(others)
        elif what == "duplicate":
            box = _jittered(labels.clipped[label], labels.limits[labels.rows[label]], random)
            new.append((int(labels.rows[label]), box, int(labels.labels[label]), number))
        elif what == "spurious":
            new += _of_nothing(labels, label, number, random)
        if what in ("edge", "class", "missing"):
            kind[label] = number
    return _put_together(labels, changed, kind, new)


def _shifted(box: FloatArray, limits: FloatArray, random: np.random.Generator) -> FloatArray:
    """One edge elsewhere; outwards only where the image goes on for long enough."""
    edge, far = int(random.integers(4)), random.uniform(*SHIFT)
    outwards = 1 if edge >= 2 else -1
    step = far * (box[edge % 2 + 2] - box[edge % 2])
    moved = box[edge] + outwards * step * random.choice([-1, 1])
    if not 0 <= moved <= limits[edge]:
        moved = box[edge] - outwards * step
    changed = box.copy()
    changed[edge] = moved
    return changed


def _jittered(box: FloatArray, limits: FloatArray, random: np.random.Generator) -> FloatArray:
    sides = np.tile(box[2:] - box[:2], 2)
    return np.clip(box + random.uniform(-_JITTER, _JITTER, 4) * sides, 0, limits)


def _of_nothing(
    labels: Labels, like: int, number: int, random: np.random.Generator
) -> list[tuple[int, FloatArray, int, int]]:
    """A box somewhere on some image where no label is; none where there is no room."""
    sides = labels.clipped[like, 2:] - labels.clipped[like, :2]
    for _ in range(_TRIES):
        row = int(random.integers(len(labels.image_ids)))
        room = labels.sizes[row] - sides
        if (room < 0).any():
            continue
        corner = random.uniform(0, 1, 2) * room
        box = np.concatenate([corner, corner + sides])
        if (box_ious(box[None], labels.clipped[labels.rows == row]) < _APART).all():
            return [(row, box, int(labels.labels[like]), number)]
    return []


def _put_together(
    labels: Labels,
    changed: tuple[FloatArray, IntArray],
    kind: IntArray,
    new: list[tuple[int, FloatArray, int, int]],
) -> Planted:
    removed = np.flatnonzero(kind == KINDS.index("missing"))
    kept = np.flatnonzero(kind != KINDS.index("missing"))
    rows = np.concatenate([labels.rows[kept], np.array([row for row, *_ in new], np.int64)])
    order = np.argsort(rows, kind="stable")
    boxes = np.array([box for _, box, _, _ in new]).reshape(-1, 4)
    none, false = np.full(len(new), NONE), np.zeros(len(new), bool)
    copy = replace(
        labels,
        rows=rows[order],
        boxes=np.concatenate([changed[0][kept], boxes])[order],
        labels=np.concatenate([changed[1][kept], np.array([own for _, _, own, _ in new], np.int64)])[order],
        crowd=np.concatenate([labels.crowd[kept], false])[order],
        ignore=np.concatenate([labels.ignore[kept], false])[order],
    )
    faults = np.concatenate([kind[kept], np.array([number for *_, number in new], np.int64)])[order]
    source = np.concatenate([kept, none])[order]
    return Planted(copy, faults, source, removed, labels.clipped[removed], labels.rows[removed])

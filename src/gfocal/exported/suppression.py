"""Greedy suppression in numpy, for files that leave it to whoever runs them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_WIDE = 4.0  # times the median width: few boxes are wider


def suppress_arrays(
    boxes: np.ndarray, labels: np.ndarray, *, iou: float, limit: int, class_agnostic: bool = False
) -> np.ndarray:
    """What :func:`gfocal.models.postprocess.suppress` keeps.

    Args:
        boxes: (N, 4) xyxy, best score first.
        labels: (N,) class of each.
        iou: boxes of more overlap with a better one of their class go; in [0, 1].
        limit: number to keep at most.
        class_agnostic: suppress across classes.

    Returns:
        (K,) int64 indices, best first.
    """
    corners = boxes.astype(np.float64)
    areas = (corners[:, 2:] - corners[:, :2]).prod(1)
    near_of = _neighbours(corners)
    gone, kept = np.zeros(len(boxes), bool), list[int]()
    for best in range(len(boxes)):
        if len(kept) == limit:
            break
        if gone[best]:
            continue
        kept.append(best)
        left = near_of(best)
        left = left[left > best]
        sides = np.minimum(corners[left, 2:], corners[best, 2:]) - np.maximum(corners[left, :2], corners[best, :2])
        shared = sides.clip(min=0).prod(1)
        over = shared > iou * (areas[left] + areas[best] - shared)
        gone[left[over if class_agnostic else over & (labels[left] == labels[best])]] = True
    return np.array(kept, np.int64)


def _neighbours(corners: np.ndarray) -> Callable[[int], np.ndarray]:
    """What gives the boxes that one may overlap: of thousands, as tiles have, few do.

    All but the widest are sorted by where they begin; of these only those count that begin no later than the one ends,
    and no earlier than the widest of them before it begins.
    """
    widths = corners[:, 2] - corners[:, 0]
    most = _WIDE * float(np.median(widths)) if len(widths) else 0.0
    wide = np.flatnonzero(~(widths <= most))  # and those that are no numbers
    sorted_ = np.flatnonzero(widths <= most)
    sorted_ = sorted_[np.argsort(corners[sorted_, 0], kind="stable")]
    first = np.searchsorted(corners[sorted_, 0], corners[:, 0] - most)
    last = np.searchsorted(corners[sorted_, 0], corners[:, 2], side="right")
    return lambda best: np.concatenate([sorted_[first[best] : last[best]], wide])

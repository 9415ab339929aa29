"""Greedy suppression in numpy, for files that leave it to whoever runs them."""

from __future__ import annotations

import numpy as np


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
    left, kept = np.arange(len(boxes)), list[int]()
    while len(left) and len(kept) < limit:
        best, left = left[0], left[1:]
        kept.append(int(best))
        sides = np.minimum(corners[left, 2:], corners[best, 2:]) - np.maximum(corners[left, :2], corners[best, :2])
        shared = sides.clip(min=0).prod(1)
        over = shared > iou * (areas[left] + areas[best] - shared)
        left = left[~(over if class_agnostic else over & (labels[left] == labels[best]))]
    return np.array(kept, np.int64)

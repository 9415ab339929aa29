"""How well scores agree with IoUs."""

from __future__ import annotations

import math

import numpy as np

from gfocal.evaluation.ground_truth import FloatArray, GroundTruth, IntArray
from gfocal.evaluation.overlaps import box_ious

MIN_SCORE = 0.05
MIN_IOU = 0.1
"""From where on a detection counts in :func:`score_iou_correlation`."""


def own_ious(index: GroundTruth, rows: IntArray, boxes: FloatArray, labels: IntArray) -> FloatArray:
    """The IoU of each detection with its own ground truth: the box of its class that it overlaps most.

    Args:
        index: the ground truth; crowd and ignored boxes have no say.
        rows: (N,) which image of the data set each detection is of, as a row of ``index.image_ids``.
        boxes: (N, 4) xyxy in original pixels.
        labels: (N,) in 0..C-1.

    Returns:
        (N,) in [0, 1]; 0 where the image has no box of that class. Several detections may share a ground truth.
    """
    ious = np.zeros(len(rows))
    counted = ~(index.crowd | index.ignore)
    order = np.argsort(rows, kind="stable")
    starts = np.flatnonzero(np.diff(rows[order], prepend=-1))
    for mine in np.split(order, starts[1:]) if len(order) else []:
        first, end = index.box_start[rows[mine[0]]], index.box_start[rows[mine[0]] + 1]
        truth = first + np.flatnonzero(counted[first:end])
        if not len(truth):
            continue
        overlap = box_ious(boxes[mine], index.boxes[truth].astype(np.float64))
        same = labels[mine][:, None] == index.labels[truth]
        ious[mine] = np.where(same, overlap, 0.0).max(axis=1)
    return ious


def score_iou_correlation(
    scores: FloatArray, ious: FloatArray, *, min_score: float = MIN_SCORE, min_iou: float = MIN_IOU
) -> float | None:
    """Spearman's rank correlation of score and IoU over matched boxes: does a better box get a higher score?

    This is what a joint score is trained for: the target of Quality Focal Loss is the IoU of the decoded box and its
    ground truth. So every detection that survives non-maximum suppression with a score of at least ``min_score`` is
    asked about itself: its score against its IoU with its own ground truth (:func:`own_ious`). It counts as matched
    from ``min_iou`` on, so that badly placed boxes have their say (at 0.5 half of the range would be gone), and boxes
    of nothing do not. Matching is not one-to-one, in contrast to average precision: picking one box of each object by
    score, or by IoU, would hide the very cases where the two disagree.

    Args:
        scores: (N,) in [0, 1].
        ious: (N,) in [0, 1].
        min_score: detections below are left out.
        min_iou: detections below are left out.

    Returns:
        In [-1, 1]; None with fewer than 3 matched boxes, or where all scores or all IoUs are equal.
    """
    matched = (scores >= min_score) & (ious >= min_iou)
    return spearman(scores[matched], ious[matched])


def spearman(first: FloatArray, second: FloatArray) -> float | None:
    """Spearman's rank correlation; equal values share their average rank.

    Returns:
        In [-1, 1]; None with fewer than 3 pairs or where one side is constant.
    """
    if len(first) < 3:
        return None
    ranks = [_average_ranks(values) for values in (first, second)]
    x, y = (r - r.mean() for r in ranks)
    norm = math.sqrt(float(x @ x) * float(y @ y))
    return float(np.clip((x @ y) / norm, -1.0, 1.0)) if norm > 0 else None


def _average_ranks(values: FloatArray) -> FloatArray:
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]

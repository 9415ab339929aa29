"""How far detections and objects overlap, crowds as COCO has them."""

from __future__ import annotations

import numpy as np

from gfocal.evaluation.ground_truth import BoolArray, FloatArray


def box_ious(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """(D, G) IoU of (D, 4) and (G, 4) float64 xyxy boxes; 0 for two without area."""
    sides = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    shared = sides.clip(min=0).prod(2)
    areas, other_areas = ((each[:, 2:] - each[:, :2]).prod(1) for each in (boxes, others))
    with np.errstate(invalid="ignore", divide="ignore"):
        ious: FloatArray = np.nan_to_num(shared / (areas[:, None] + other_areas - shared))
    return ious


def overlaps(boxes: FloatArray, truth: FloatArray, crowd: BoolArray) -> FloatArray:
    """(D, G) IoU; with a crowd the share of the detection's own area inside it."""
    overlap = box_ious(boxes, truth)
    if crowd.any():
        sides = np.minimum(boxes[:, None, 2:], truth[crowd][None, :, 2:]) - np.maximum(
            boxes[:, None, :2], truth[crowd][None, :, :2]
        )
        area = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1e-300)
        overlap[:, crowd] = sides.clip(min=0).prod(2) / area[:, None]
    return overlap

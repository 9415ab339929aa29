"""How far detections and objects overlap, crowds as COCO has them."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.ops import box_iou

from gfocal.evaluation.ground_truth import BoolArray, FloatArray


def overlaps(boxes: FloatArray, truth: FloatArray, crowd: BoolArray) -> FloatArray:
    """(D, G) IoU; with a crowd the share of the detection's own area inside it."""
    overlap = np.nan_to_num(box_iou(torch.from_numpy(boxes), torch.from_numpy(truth)).numpy())
    if crowd.any():
        sides = np.minimum(boxes[:, None, 2:], truth[crowd][None, :, 2:]) - np.maximum(
            boxes[:, None, :2], truth[crowd][None, :, :2]
        )
        area = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1e-300)
        overlap[:, crowd] = sides.clip(min=0).prod(2) / area[:, None]
    return overlap

"""Box geometry: xyxy float boxes in pixels, the IoU family, and the two codes that boxes are learnt in.

Areas and codes are computed in float32 at least: in half precision large boxes overflow and edges are off by pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "aligned_iou",
    "area",
    "boxes_to_deltas",
    "boxes_to_distances",
    "centerness",
    "clip_boxes",
    "deltas_to_boxes",
    "distances_to_boxes",
    "giou_loss",
]

# A ratio of widths beyond this is a divergence, not a box (the limit that torchvision and others use too).
_MAX_LOG_RATIO = math.log(1000.0 / 16)


def _float(*boxes: Tensor) -> tuple[Tensor, ...]:
    return tuple(b if b.dtype in (torch.float32, torch.float64) else b.float() for b in boxes)


def area(boxes: Tensor) -> Tensor:
    """(...) area of (..., 4) boxes; 0 where a box is inverted."""
    (boxes,) = _float(boxes)
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return size[..., 0] * size[..., 1]


def aligned_iou(boxes: Tensor, others: Tensor, *, generalized: bool = False, eps: float = 1e-6) -> Tensor:
    """IoU, or generalized IoU, of boxes that stand beside each other.

    Args:
        boxes: (..., 4) xyxy.
        others: (..., 4) xyxy, broadcastable: the pairwise matrix of (N, 4) and (M, 4) comes from
            ``aligned_iou(a[:, None], b[None])``.
        generalized: subtract the share of the enclosing box that neither covers (arXiv 1902.09630).
        eps: least union and least enclosing area, in square pixels, so that boxes without area give 0.

    Returns:
        (...) in [0, 1]; generalized in [-1, 1]. Differentiable in both arguments.
    """
    boxes, others = _float(boxes, others)
    overlap = (torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(boxes[..., :2], others[..., :2])).clamp(
        min=0
    )
    intersection = overlap[..., 0] * overlap[..., 1]
    union = (area(boxes) + area(others) - intersection).clamp(min=eps)
    iou = intersection / union
    if not generalized:
        return iou
    enclosing = torch.maximum(boxes[..., 2:], others[..., 2:]) - torch.minimum(boxes[..., :2], others[..., :2])
    enclosing = enclosing.clamp(min=0)
    enclosing_area = (enclosing[..., 0] * enclosing[..., 1]).clamp(min=eps)
    return iou - (enclosing_area - union) / enclosing_area


def giou_loss(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """1 - generalized IoU, element-wise: (..., 4), (..., 4) -> (...) in [0, 2]."""
    if boxes.shape != target_boxes.shape:
        raise ValueError(f"boxes {tuple(boxes.shape)} and target_boxes {tuple(target_boxes.shape)} must be aligned")
    return 1 - aligned_iou(boxes, target_boxes, generalized=True)


def clip_boxes(boxes: Tensor, height: float | Tensor, width: float | Tensor) -> Tensor:
    """Boxes with every corner inside an image of that size: x in [0, width], y in [0, height]."""
    x = boxes[..., 0::2].clamp(min=0).clamp(max=width)
    y = boxes[..., 1::2].clamp(min=0).clamp(max=height)
    return torch.stack((x[..., 0], y[..., 0], x[..., 1], y[..., 1]), -1)


def boxes_to_distances(xy: Tensor, boxes: Tensor) -> Tensor:
    """Distances left, top, right, bottom in pixels from points (..., 2) to the edges of boxes (..., 4).

    Negative where the point lies outside the box.
    """
    xy, boxes = _float(xy, boxes)
    return torch.cat((xy - boxes[..., :2], boxes[..., 2:] - xy), -1)


def distances_to_boxes(xy: Tensor, distances: Tensor) -> Tensor:
    """The inverse of :func:`boxes_to_distances`: (..., 2), (..., 4) pixels -> (..., 4) xyxy."""
    xy, distances = _float(xy, distances)
    return torch.cat((xy - distances[..., :2], xy + distances[..., 2:]), -1)


def centerness(xy: Tensor, boxes: Tensor) -> Tensor:
    """How central points (..., 2) lie in boxes (..., 4): (...) in [0, 1], 1 at the centre, 0 on an edge or outside.

    It is sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of the distances to the edges.

    Source:
        FCOS, arXiv 1904.01355, eq. 3.

    Example:
        >>> round(float(centerness(torch.tensor([2.0, 5.0]), torch.tensor([0.0, 0.0, 10.0, 10.0]))), 4)  # sqrt(2 / 8)
        0.5
    """
    edges = boxes_to_distances(xy, boxes).clamp(min=0)
    nearer, farther = torch.minimum(edges[..., :2], edges[..., 2:]), torch.maximum(edges[..., :2], edges[..., 2:])
    return (nearer / farther.clamp(min=1e-6)).prod(-1).sqrt()


def boxes_to_deltas(anchors: Tensor, boxes: Tensor, stds: tuple[float, float, float, float]) -> Tensor:
    """Centre shift over the anchor's size and log ratio of sizes, each divided by its std.

    Args:
        anchors: (..., 4) xyxy with positive sizes.
        boxes: (..., 4) xyxy with positive sizes.
        stds: of dx, dy, dw, dh.

    Source:
        R-CNN's box code, arXiv 1311.2524, appendix C.
    """
    anchors, boxes = _float(anchors, boxes)
    size, other = anchors[..., 2:] - anchors[..., :2], boxes[..., 2:] - boxes[..., :2]
    shift = ((boxes[..., :2] + boxes[..., 2:]) - (anchors[..., :2] + anchors[..., 2:])) / 2 / size
    return torch.cat((shift, (other / size).log()), -1) / boxes.new_tensor(stds)


def deltas_to_boxes(anchors: Tensor, deltas: Tensor, stds: tuple[float, float, float, float]) -> Tensor:
    """The inverse of :func:`boxes_to_deltas`; log ratios are limited to those of 1000 / 16."""
    anchors, deltas = _float(anchors, deltas)
    deltas = deltas * deltas.new_tensor(stds)
    size = anchors[..., 2:] - anchors[..., :2]
    centre = (anchors[..., :2] + anchors[..., 2:]) / 2 + deltas[..., :2] * size
    half = size * deltas[..., 2:].clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO).exp() / 2
    return torch.cat((centre - half, centre + half), -1)

"""Greedy suppression of a batch as a mask: nothing in it has a size that depends on the data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._higher_order_ops import while_loop

Suppress = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(B, K, 4) boxes, (B, K) scores (of no candidate: -1) and (B, K) int64 classes -> (B, K) bool: which stay."""


def greedy_mask(boxes: Tensor, scores: Tensor, labels: Tensor, *, iou: float, limit: int) -> Tensor:
    """What :func:`gfocal.models.postprocess.suppress` keeps, for a batch, as one loop.

    A round takes the best of each image that is left and strikes out what overlaps it. It needs K numbers an image, no
    matrix of K x K, and ends when every image has its ``limit`` or nothing left.

    Args:
        boxes: (B, K, 4) xyxy.
        scores: (B, K); those of no candidate are -1, others above 0.
        labels: (B, K) int64.
        iou: boxes of more overlap with a better one of their class go.
        limit: kept of each image at most.

    Returns:
        (B, K) bool.
    """
    areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    ranks = torch.arange(boxes.shape[1], device=boxes.device)

    def more(turn: Tensor, left: Tensor, kept: Tensor) -> Tensor:
        return (turn < limit) & (left.amax((0, 1)) > 0)

    def strike(turn: Tensor, left: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        best = left.argmax(1, keepdim=True)
        box = boxes.gather(1, best[..., None].expand(-1, 1, 4))
        sides = torch.minimum(boxes[..., 2:], box[..., 2:]) - torch.maximum(boxes[..., :2], box[..., :2])
        shared = sides.clamp(min=0).prod(-1)
        over = shared > iou * (areas + areas.gather(1, best) - shared)
        chosen = (ranks == best) & (left > 0)
        gone = (over & (labels == labels.gather(1, best))) | chosen
        return turn + 1, torch.where(gone, -1.0, left), kept | chosen

    start = torch.zeros((), dtype=torch.int64, device=boxes.device)
    _, _, kept = while_loop(more, strike, (start, scores.clone(), torch.zeros_like(scores, dtype=torch.bool)))
    return kept


@torch.library.custom_op("gfocal::greedy_mask", mutates_args=())
def greedy_mask_op(boxes: Tensor, scores: Tensor, labels: Tensor, classes: int, iou: float, limit: int) -> Tensor:
    """:func:`greedy_mask` as one node of a graph, for formats that have an operator of their own for it."""
    return greedy_mask(boxes, scores, labels, iou=iou, limit=limit)


@greedy_mask_op.register_fake
def _(boxes: Tensor, scores: Tensor, labels: Tensor, classes: int, iou: float, limit: int) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)

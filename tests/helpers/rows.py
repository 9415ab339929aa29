"""What positives learn, for forms that are asked one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from gfocal.points import Points
from gfocal.representation import PositiveRows
from gfocal.structures import HeadOutput


def positive_rows(
    points: Points,
    boxes: Tensor | None,
    target_boxes: Tensor,
    *,
    gt_index: Tensor | None = None,
    alignment: Tensor | None = None,
    out: HeadOutput | None = None,
) -> PositiveRows:
    """Places that learn ``target_boxes`` of class 0, by default each an object of its own."""
    count = len(target_boxes)
    return PositiveRows(
        points=points,
        target_boxes=target_boxes,
        labels=torch.zeros(count, dtype=torch.int64),
        gt_index=torch.arange(count) if gt_index is None else gt_index,
        out=out,
        boxes=boxes,
        alignment=alignment,
    )

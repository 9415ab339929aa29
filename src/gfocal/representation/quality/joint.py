"""Joint quality: one vector that is class and quality at once."""

from __future__ import annotations

import torch
from torch import Tensor

from gfocal.boxes import aligned_iou
from gfocal.losses import quality_focal_loss
from gfocal.representation.protocols import LearningRows, PositiveRows, Quality


class JointQuality(Quality):
    """Quality Focal Loss against the IoU of the predicted box: {"cls"}; the score estimates that IoU.

    Where the assigner has measured how well each prediction fits (``task_aligned``), the target is that measure, scaled
    to the IoU of the object's best box: see :func:`soft_target`.

    Args:
        beta: QFL's exponent, >= 0.

    Source:
        Generalized Focal Loss, arXiv 2006.04388, section 3 (joint representation).
    """

    score_rule = "one number for class and quality: the IoU that the detector expects of this class"

    def __init__(self, beta: float = 2.0) -> None:
        if not beta >= 0:
            raise ValueError(f"beta must be >= 0, got {beta}")
        self.beta = beta

    def target(self, positives: PositiveRows) -> Tensor:
        iou = aligned_iou(positives.known_boxes.detach(), positives.target_boxes)
        return iou if positives.alignment is None else soft_target(positives.alignment, iou, positives.gt_index)

    def losses(self, rows: LearningRows) -> dict[str, Tensor]:
        iou = rows.known_target
        per_point = rows.out.box.new_zeros(rows.labels.shape, dtype=iou.dtype)
        per_point[rows.positive] = iou
        x, target = rows.out.class_logits, (rows.labels, per_point)
        return {"cls": quality_focal_loss(x, target, beta=self.beta, reduction="sum", norm=rows.norm)}


@torch.no_grad()
def soft_target(alignment: Tensor, iou: Tensor, gt_index: Tensor) -> Tensor:
    """(N,) alignment t of N positives, scaled within each object so that its largest value is the object's largest IoU.

    An object none of whose positives is aligned at all (all t are 0) has the target 0.

    Args:
        alignment: (N,) t >= 0.
        iou: (N,) of each positive's decoded box and its object; its precision is that of the result.
        gt_index: (N,) int64 >= 0, the object that each positive learns.

    Source:
        TOOD, arXiv 2108.07755, section 3.2, "normalized t".

    Example:
        >>> soft_target(torch.tensor([0.2, 0.1, 0.0]), torch.tensor([0.6, 0.8, 0.5]), torch.tensor([0, 0, 1]))
        tensor([0.8000, 0.4000, 0.0000])
    """
    if len(iou) == 0:
        return iou
    nothing = iou.new_zeros(int(gt_index.max()) + 1)
    highest = nothing.to(alignment.dtype).scatter_reduce(0, gt_index, alignment, "amax")[gt_index]
    best = nothing.scatter_reduce(0, gt_index, iou, "amax")[gt_index]
    # t / highest lies in [0, 1] also where t underflows in the precision of the IoU: divided before it is converted.
    return torch.where(highest > 0, alignment / highest, 0).to(iou.dtype) * best

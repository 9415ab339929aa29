"""Joint quality: one vector that is class and quality at once."""

from __future__ import annotations

from torch import Tensor

from gfocal.boxes import aligned_iou
from gfocal.losses import quality_focal_loss
from gfocal.points import Points
from gfocal.representation.protocols import LearningRows, Quality


class JointQuality(Quality):
    """Quality Focal Loss against the IoU of the predicted box: {"cls"}; the score estimates that IoU.

    Args:
        beta: QFL's exponent, >= 0.

    Source:
        Generalized Focal Loss, arXiv 2006.04388, section 3 (joint representation).
    """

    def __init__(self, beta: float = 2.0) -> None:
        if not beta >= 0:
            raise ValueError(f"beta must be >= 0, got {beta}")
        self.beta = beta

    def target(self, points: Points, boxes: Tensor, target_boxes: Tensor) -> Tensor:
        return aligned_iou(boxes.detach(), target_boxes)

    def losses(self, rows: LearningRows) -> dict[str, Tensor]:
        iou = rows.known_target
        per_point = rows.out.box.new_zeros(rows.labels.shape, dtype=iou.dtype)
        per_point[rows.positive] = iou
        x, target = rows.out.class_logits, (rows.labels, per_point)
        return {"cls": quality_focal_loss(x, target, beta=self.beta, reduction="sum", norm=rows.norm)}

"""Joint quality: one vector that is class and quality at once."""

from __future__ import annotations

from torch import Tensor

from gfocal.boxes import aligned_iou
from gfocal.losses import quality_focal_loss
from gfocal.points import Points
from gfocal.structures import HeadOutput


class JointQuality:
    """Quality Focal Loss against the IoU of the predicted box: {"cls"}; the score estimates that IoU.

    Args:
        beta: QFL's exponent, >= 0.

    Source:
        Generalized Focal Loss, arXiv 2006.04388, section 3 (joint representation).
    """

    quality_channels = 0
    summed = False

    def __init__(self, beta: float = 2.0) -> None:
        if not beta >= 0:
            raise ValueError(f"beta must be >= 0, got {beta}")
        self.beta = beta

    def num_logits(self, num_classes: int) -> int:
        return num_classes

    def target(self, points: Points, boxes: Tensor, target_boxes: Tensor) -> Tensor:
        return aligned_iou(boxes.detach(), target_boxes)

    def losses(
        self,
        out: HeadOutput,
        labels: Tensor,
        positive: Tensor,
        quality: Tensor | None,
        *,
        image: Tensor | None = None,
        norm: Tensor | float,
        sums: Tensor | None = None,
    ) -> dict[str, Tensor]:
        if quality is None:
            raise ValueError("joint quality needs the IoU of every positive")
        per_point = out.box.new_zeros(labels.shape, dtype=quality.dtype)
        per_point[positive] = quality
        loss = quality_focal_loss(out.class_logits, (labels, per_point), beta=self.beta, reduction="sum", norm=norm)
        return {"cls": loss}

    def sums(self, out: HeadOutput, labels: Tensor, positive: Tensor, quality: Tensor | None) -> Tensor | None:
        return None

    def class_logits(self, out: HeadOutput) -> Tensor:
        return out.class_logits

    def scores(self, candidate_scores: Tensor, out: HeadOutput) -> Tensor:
        return candidate_scores

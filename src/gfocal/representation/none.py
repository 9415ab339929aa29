"""No quality: focal loss, and the score is the class probability."""

from __future__ import annotations

from torch import Tensor

from gfocal.losses import focal_loss
from gfocal.points import Points
from gfocal.structures import HeadOutput


class NoQuality:
    """Focal loss on the classes alone: {"cls"}; the paper's "w/o quality branch".

    Args:
        alpha: weight of the positives, or None.
        gamma: focal loss's exponent.
    """

    quality_channels = 0
    summed = False

    def __init__(self, alpha: float | None = 0.25, gamma: float = 2.0) -> None:
        self.alpha = alpha
        self.gamma = gamma

    def num_logits(self, num_classes: int) -> int:
        return num_classes

    def target(self, points: Points, boxes: Tensor, target_boxes: Tensor) -> Tensor | None:
        return None

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
        loss = focal_loss(out.class_logits, labels, alpha=self.alpha, gamma=self.gamma, reduction="sum", norm=norm)
        return {"cls": loss}

    def sums(self, out: HeadOutput, labels: Tensor, positive: Tensor, quality: Tensor | None) -> Tensor | None:
        return None

    def class_logits(self, out: HeadOutput) -> Tensor:
        return out.class_logits

    def scores(self, candidate_scores: Tensor, out: HeadOutput) -> Tensor:
        return candidate_scores

"""No quality: focal loss, and the score is the class probability."""

from __future__ import annotations

from torch import Tensor

from gfocal.losses import focal_loss
from gfocal.representation.protocols import LearningRows, Quality


class NoQuality(Quality):
    """Focal loss on the classes alone: {"cls"}; the paper's "w/o quality branch".

    Args:
        alpha: weight of the positives, or None.
        gamma: focal loss's exponent.
    """

    def __init__(self, alpha: float | None = 0.25, gamma: float = 2.0) -> None:
        self.alpha = alpha
        self.gamma = gamma

    def losses(self, rows: LearningRows) -> dict[str, Tensor]:
        x, labels = rows.out.class_logits, rows.labels
        return {"cls": focal_loss(x, labels, alpha=self.alpha, gamma=self.gamma, reduction="sum", norm=rows.norm)}

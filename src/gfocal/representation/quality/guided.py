"""Guided quality: no branch; a positive's classification loss counts more the better its place or box is."""

from __future__ import annotations

import torch
from torch import Tensor

from gfocal.losses import focal_loss, reduce_loss
from gfocal.representation.protocols import LearningRows, PositiveRows, Quality
from gfocal.representation.quality.branch import QualityKind, check_kind, measure

# A share S' / S below this is nothing but rounding: dividing by it would overflow float32.
_LEAST_SHARE = 1e-20


class GuidedQuality(Quality):
    """Focal loss whose positives are re-weighted by their quality: {"cls"}.

    The loss of a positive place (all its classes) is multiplied by w = q^eta * S / S'. S is the sum of the
    positives' losses, S' the sum of q^eta times loss, both detached and over the whole optimizer step. So the
    positives together cost as much as before, and the good ones a larger share of it. Where S' is 0 (no positive
    has any quality), w is 1. The quality only guides training: the score is the class probability.

    Args:
        kind: "centerness" of the point in its ground truth, or "iou" of the decoded, detached box.
        eta: exponent >= 0 of the quality; 0 is plain focal loss.
        alpha: focal loss's weight of the positives, or None.
        gamma: focal loss's exponent.

    Source:
        Generalized Focal Loss, arXiv 2006.04388, Table 1, names "centerness-guided" and "IoU-guided" and gives no
        formula. The formula is that of IoU-balanced classification loss, arXiv 1908.05641, with its
        eta; that it is what the table means is our reading.
    """

    def __init__(self, kind: QualityKind, eta: float = 1.5, alpha: float | None = 0.25, gamma: float = 2.0) -> None:
        check_kind(kind)
        if not eta >= 0:
            raise ValueError(f"eta must be >= 0, got {eta}")
        self.kind: QualityKind = kind
        self.meaning = (kind,)
        self.eta = eta
        self.alpha = alpha
        self.gamma = gamma

    def target(self, positives: PositiveRows) -> Tensor:
        return measure(self.kind, positives)

    def sums(self, rows: LearningRows) -> Tensor:
        """(2,) S and S' of this batch."""
        with torch.no_grad():
            known = self._each(rows.out.class_logits[rows.positive], rows.labels[rows.positive])
            return torch.stack((known.sum(), (self._factor(rows, known) * known).sum()))

    def losses(self, rows: LearningRows) -> dict[str, Tensor]:
        loss = self._each(rows.out.class_logits, rows.labels)
        known = loss.detach()[rows.positive]
        factor = self._factor(rows, known)
        of_step = rows.sums
        total, guided = (known.sum(), (factor * known).sum()) if of_step is None else of_step.detach().to(loss.dtype)
        weight = torch.ones_like(loss)
        weight[rows.positive] = torch.where(guided > _LEAST_SHARE * total, factor * (total / guided), 1)
        return {"cls": reduce_loss(loss, weight=weight, reduction="sum", norm=rows.norm)}

    def _each(self, class_logits: Tensor, labels: Tensor) -> Tensor:
        """(M,) loss of each place over its classes."""
        return focal_loss(class_logits, labels, alpha=self.alpha, gamma=self.gamma).sum(-1)

    def _factor(self, rows: LearningRows, like: Tensor) -> Tensor:
        """(N,) q^eta."""
        return rows.known_target.detach().to(like.dtype).pow(self.eta)

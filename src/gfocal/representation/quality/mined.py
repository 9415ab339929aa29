"""SSD's classification: a softmax with a background logit, and the hardest negatives of each image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gfocal.losses.reduction import at_least_float32, reduce_loss
from gfocal.representation.protocols import LearningRows, Quality
from gfocal.structures import HeadOutput


class MinedSoftmax(Quality):
    """Cross-entropy over C + 1 classes, the background last, of the positives and the worst negatives: {"cls"}.

    Of each image the ``negatives`` times as many negatives as it has positives count, those of the largest loss;
    among equals the lowest index. An image without positives teaches nothing here. The score is the softmax
    probability of the class.

    Args:
        negatives: negatives a positive, >= 1.

    Source:
        SSD, arXiv 1512.02325, section 2.2 (confidence loss, hard negative mining).
    """

    score_rule = "the class's share of a softmax over all classes and the background"

    def __init__(self, negatives: int = 3) -> None:
        if negatives < 1:
            raise ValueError(f"negatives must be >= 1, got {negatives}")
        self.negatives = negatives

    def num_logits(self, num_classes: int) -> int:
        return num_classes + 1

    def losses(self, rows: LearningRows) -> dict[str, Tensor]:
        logits, labels = at_least_float32(rows.out.class_logits), rows.labels
        background = logits.shape[-1] - 1
        loss = F.cross_entropy(logits, labels.where(labels >= 0, background), reduction="none")
        learnt = torch.cat((rows.positive, self._mine(loss.detach(), rows)))
        return {"cls": reduce_loss(loss[learnt], reduction="sum", norm=rows.norm)}

    def class_logits(self, out: HeadOutput) -> Tensor:
        """The logit log p - log(1 - p) of each class's softmax probability p."""
        log_p = at_least_float32(out.class_logits).log_softmax(-1)[..., :-1]
        # A probability that rounds to 1 would have an infinite logit.
        rest = (1 - log_p.exp()).clamp(min=torch.finfo(log_p.dtype).eps)
        return log_p - rest.log()

    def score_parts(self, labels: Tensor, out: HeadOutput) -> dict[str, Tensor]:
        shares = at_least_float32(out.class_logits).softmax(-1)
        return {"class": shares.gather(-1, labels[:, None])[:, 0], "background": shares[:, -1]}

    def _mine(self, loss: Tensor, rows: LearningRows) -> Tensor:
        """Indices of the negatives that count."""
        image = torch.zeros_like(rows.labels) if rows.image is None else rows.image
        negative = (rows.labels < 0).nonzero().squeeze(1)
        worst = negative[loss[negative].sort(descending=True, stable=True).indices]
        order = image[worst].sort(stable=True)  # by image, the worst of each first
        worst, owner = worst[order.indices], order.values
        rank = torch.arange(len(worst), device=worst.device) - torch.searchsorted(owner, owner)
        owners = image[rows.positive].sort().values
        wanted = torch.searchsorted(owners, owner, right=True) - torch.searchsorted(owners, owner)
        return worst[rank < self.negatives * wanted]

"""PicoDet's second score: the geometric mean of a class score and an output of its own, learnt as one."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from gfocal.losses.reduction import at_least_float32
from gfocal.representation.protocols import LearningRows, PositiveRows, Quality, class_part
from gfocal.representation.quality.joint_v2 import product_logits
from gfocal.representation.quality.varifocal import VarifocalQuality
from gfocal.structures import HeadOutput


class VarifocalAligned(Quality):
    """Varifocal loss on sqrt(sigmoid(class) * sigmoid(quality)) against the target of ``VarifocalQuality``: {"cls"}.

    The quality is one more logit a place, of no meaning alone: only the product is learnt. Threshold and top-k look at
    the final score.

    Args:
        alpha: weight of the negatives, >= 0.
        gamma: exponent of the negatives' score, >= 0.

    Raises:
        ValueError: alpha or gamma below 0.

    Source:
        PaddleDetection's ``heads/pico_head.py`` (PicoHeadV2), after TOOD's aligned scores, arXiv 2108.07755, section
        3.1. The 1e-9 that it adds under the root is left out.
    """

    quality_channels = 1
    score_rule = "√(class × quality)"

    def __init__(self, alpha: float = 0.75, gamma: float = 2.0) -> None:
        self._varifocal = VarifocalQuality(alpha, gamma)

    def target(self, positives: PositiveRows) -> Tensor:
        return self._varifocal.target(positives)

    def losses(self, rows: LearningRows) -> dict[str, Tensor]:
        mean = replace(rows.out, class_logits=self.class_logits(rows.out))
        return self._varifocal.losses(replace(rows, out=mean))

    def class_logits(self, out: HeadOutput) -> Tensor:
        if out.quality_logits is None:
            raise ValueError("an aligned score needs quality_logits; build the head with quality_outputs=1")
        return geometric_mean_logits(at_least_float32(out.class_logits), at_least_float32(out.quality_logits))

    def score_parts(self, labels: Tensor, out: HeadOutput) -> dict[str, Tensor]:
        if out.quality_logits is None:
            raise ValueError("an aligned score needs quality_logits; build the head with quality_outputs=1")
        quality = at_least_float32(out.quality_logits[..., 0]).sigmoid()
        return {"class": class_part(labels, out), "quality": quality}


def geometric_mean_logits(class_logits: Tensor, quality_logits: Tensor) -> Tensor:
    """The logit of sqrt(sigmoid(x) * sigmoid(z)), exact to rounding for logits of any size.

    With l the logit of the product p^2, 1 - p = (1 - p^2) / (1 + p), so that the logit of p is
    log p + log(1 + p) - log(1 - p^2): no difference of nearly equal numbers.

    Args:
        class_logits: (..., C) x, float32 or float64.
        quality_logits: (..., 1) z, the same.

    Returns:
        (..., C).

    Example:
        >>> import torch
        >>> logits = geometric_mean_logits(torch.tensor([0.0, 100.0]), torch.tensor([0.0]))
        >>> [round(float(p), 4) for p in logits.sigmoid()]  # 1/2, and the root of 1/2
        [0.5, 0.7071]
    """
    product = product_logits(class_logits, quality_logits)
    log_p = F.logsigmoid(product) / 2
    return log_p + log_p.exp().log1p() - F.logsigmoid(-product)

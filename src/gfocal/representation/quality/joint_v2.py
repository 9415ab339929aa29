"""GFL v2's quality: what the shape of a place's own edge distributions says about its box."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfocal.losses.reduction import at_least_float32, without_autocast
from gfocal.representation.protocols import LearningRows, PositiveRows, Quality, class_part
from gfocal.representation.quality.joint import JointQuality
from gfocal.structures import HeadOutput

_LARGEST = 4
_HIDDEN = 64


class JointV2(nn.Module, Quality):
    """Score = sigmoid(class) * sigmoid(quality), learnt as one by Quality Focal Loss against the IoU: {"cls"}.

    The quality of a place comes from its four edge distributions: of each the four largest probabilities and
    their mean, through 20 -> 64 -> ReLU -> 1. Nothing is detached: the loss of every place, negatives too, also
    teaches the box code.

    Args:
        num_bins: n + 1, bins of each edge, >= 2. With fewer than four all of them are taken.
        beta: QFL's exponent, >= 0.

    Attributes:
        stack: the small network; its layers 0 and 2 are ``reg_conf.0`` and ``reg_conf.2`` of the authors' weights
            (1 x 1 convolutions there), edges in the order left, top, right, bottom.

    Source:
        Generalized Focal Loss V2, arXiv 2011.12885, section 3.2-3.3 (k = 4, p = 64); initial values std 0.01 and
        biases 0 as in the authors' code.
    """

    score_rule = "class × quality of the distributions"

    def __init__(self, num_bins: int, beta: float = 2.0) -> None:
        super().__init__()
        if num_bins < 2:
            raise ValueError(f"num_bins must be >= 2, got {num_bins}")
        self.num_bins = num_bins
        self.joint = JointQuality(beta)
        self.largest = min(_LARGEST, num_bins)
        self.stack = nn.Sequential(nn.Linear(4 * (self.largest + 1), _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1))
        for name, parameter in self.stack.named_parameters():
            nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.normal_(parameter, std=0.01)

    def target(self, positives: PositiveRows) -> Tensor:
        return self.joint.target(positives)

    def losses(self, rows: LearningRows) -> dict[str, Tensor]:
        product = replace(rows.out, class_logits=self.class_logits(rows.out))
        return self.joint.losses(replace(rows, out=product))

    def class_logits(self, out: HeadOutput) -> Tensor:
        return product_logits(out.class_logits, self.quality_logits(out.box))

    def score_parts(self, labels: Tensor, out: HeadOutput) -> dict[str, Tensor]:
        quality = self.quality_logits(out.box)[..., 0].sigmoid()
        return {"class": class_part(labels, out), "quality of the distributions": quality}

    def quality_logits(self, box: Tensor) -> Tensor:
        """(..., 1) logit of the quality that the distributions (..., 4 * num_bins) speak of."""
        # Post-processing may run under autocast; the criterion turns it off. Both must see the same scores.
        with without_autocast(box):
            top = at_least_float32(box).unflatten(-1, (4, self.num_bins)).softmax(-1).topk(self.largest).values
            statistics = torch.cat((top, top.mean(-1, keepdim=True)), -1).flatten(-2)
            return at_least_float32(self.stack(statistics.to(next(self.stack.parameters()).dtype)))


def product_logits(class_logits: Tensor, quality_logits: Tensor) -> Tensor:
    """The logit of sigmoid(x) * sigmoid(z), exact to rounding for logits of any size.

    With a = e^-x and b = e^-z the product is 1 / ((1 + a)(1 + b)), and its logit -log(b + a (1 + b)): no difference of
    nearly equal numbers. softplus(-z) = log(1 + b) is taken once a place; the rest is -logaddexp(-z, softplus(-z) - x),
    written with a sigmoid because torch's logaddexp takes six times as long on a CPU.

    Args:
        class_logits: (..., C) x, of any precision.
        quality_logits: (..., 1) z, float32 or float64.

    Returns:
        (..., C) of the higher precision of the two.

    Example:
        >>> logits = product_logits(torch.tensor([0.0, 100.0]), torch.tensor([0.0]))
        >>> [round(float(p), 4) for p in logits.sigmoid()]  # 1/2 * 1/2, 1 * 1/2
        [0.25, 0.5]
    """
    first = -quality_logits
    second = -F.logsigmoid(quality_logits) - class_logits  # not softplus, which is x itself from 20 on
    return (second - first).abs().sigmoid().log() - torch.maximum(first, second)

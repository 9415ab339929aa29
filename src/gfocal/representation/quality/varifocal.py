"""Varifocal quality: the joint score, learnt by varifocal loss."""

from __future__ import annotations

from torch import Tensor

from gfocal.losses import varifocal_loss
from gfocal.representation.protocols import LearningRows, PositiveRows, Quality
from gfocal.representation.quality.joint import JointQuality


class VarifocalQuality(Quality):
    """Varifocal loss against the target of :class:`JointQuality`: {"cls"}; the score estimates the IoU.

    Args:
        alpha: weight of the negatives, >= 0.
        gamma: exponent of the negatives' score, >= 0.

    Raises:
        ValueError: alpha or gamma below 0.

    Source:
        VarifocalNet, arXiv 2008.13367, section 3.2; PicoDet, arXiv 2111.00902, section 3.3.
    """

    score_rule = "one number for class and quality: the IoU that the detector expects of this class"

    def __init__(self, alpha: float = 0.75, gamma: float = 2.0) -> None:
        if not (alpha >= 0 and gamma >= 0):
            raise ValueError(f"alpha and gamma must be >= 0, got {alpha} and {gamma}")
        self.alpha, self.gamma = alpha, gamma
        self._joint = JointQuality()

    def target(self, positives: PositiveRows) -> Tensor:
        return self._joint.target(positives)

    def losses(self, rows: LearningRows) -> dict[str, Tensor]:
        iou = rows.known_target
        per_point = rows.out.box.new_zeros(rows.labels.shape, dtype=iou.dtype)
        per_point[rows.positive] = iou
        x, target = rows.out.class_logits, (rows.labels, per_point)
        loss = varifocal_loss(x, target, alpha=self.alpha, gamma=self.gamma, reduction="sum", norm=rows.norm)
        return {"cls": loss}

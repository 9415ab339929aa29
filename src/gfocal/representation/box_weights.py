"""How much each positive's box terms count; a form is one class here, and one line in the table of names."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gfocal.boxes import centerness
from gfocal.losses.reduction import at_least_float32
from gfocal.representation.protocols import PositiveRows, Quality


@dataclass(frozen=True)
class ScoreWeight:
    """The largest class score, as the published GFL checkpoints were trained."""

    reads_outputs = True

    def __call__(self, positives: PositiveRows, quality: Quality) -> Tensor:
        scores = at_least_float32(quality.class_logits(positives.known_out).detach()).sigmoid()
        return scores.amax(-1) if scores.numel() else scores.sum(-1)


@dataclass(frozen=True)
class CenternessWeight:
    """FCOS's centerness of the point in its ground truth."""

    reads_outputs = False

    def __call__(self, positives: PositiveRows, quality: Quality) -> Tensor:
        return centerness(positives.points.xy, positives.target_boxes)


@dataclass(frozen=True)
class TargetWeight:
    """What the quality learns there: a joint quality's IoU or soft target (TOOD, arXiv 2108.07755, section 3.2)."""

    reads_outputs = True

    def __call__(self, positives: PositiveRows, quality: Quality) -> Tensor:
        target = quality.target(positives) if positives.target is None else positives.target
        if target is None:
            raise ValueError(
                f"box_weight target needs a quality that learns a target; {type(quality).__name__} has none"
            )
        return target.detach()

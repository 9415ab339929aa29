"""How much each positive's box terms count; a form is one class here, and one line in the table of names."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gfocal.boxes import centerness
from gfocal.losses.reduction import at_least_float32
from gfocal.points import Points
from gfocal.representation.protocols import Quality
from gfocal.structures import HeadOutput


@dataclass(frozen=True)
class ScoreWeight:
    """The largest class score, as the published GFL checkpoints were trained."""

    reads_outputs = True

    def __call__(self, out: HeadOutput | None, points: Points, target_boxes: Tensor, quality: Quality) -> Tensor:
        if out is None:
            raise ValueError("box_weight score needs the outputs")
        scores = at_least_float32(quality.class_logits(out).detach()).sigmoid()
        return scores.amax(-1) if scores.numel() else scores.sum(-1)


@dataclass(frozen=True)
class CenternessWeight:
    """FCOS's centerness of the point in its ground truth."""

    reads_outputs = False

    def __call__(self, out: HeadOutput | None, points: Points, target_boxes: Tensor, quality: Quality) -> Tensor:
        return centerness(points.xy, target_boxes)


def no_weight() -> None:
    """No weighting: every positive counts the same, as the paper's formula has it."""

"""A separate quality branch: one more logit a place, learnt beside the classes and multiplied into the score."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from gfocal.boxes import aligned_iou, centerness
from gfocal.losses import centerness_loss
from gfocal.losses.reduction import at_least_float32
from gfocal.representation.protocols import LearningRows, PositiveRows, Quality, class_part
from gfocal.representation.quality.none import NoQuality
from gfocal.structures import HeadOutput

QualityKind = Literal["centerness", "iou"]


def check_kind(kind: str) -> None:
    if kind not in ("centerness", "iou"):
        raise ValueError(f"kind must be 'centerness' or 'iou', got {kind!r}")


def measure(kind: QualityKind, positives: PositiveRows) -> Tensor:
    """(N,) detached quality in [0, 1] of N positives.

    Args:
        kind: "centerness" of the point in its ground truth; "iou" of the decoded box and its ground truth.
        positives: for "iou", with their boxes.
    """
    if kind == "centerness":
        return centerness(positives.points.xy, positives.target_boxes)
    return aligned_iou(positives.known_boxes.detach(), positives.target_boxes)


class BranchQuality(Quality):
    """Focal loss on the classes and a branch of its own for the quality: {"cls", "quality"}.

    The branch is one logit a place. It learns the quality of the positives by binary cross-entropy; the sum goes
    through ``norm`` (the number of positives). The final score is class score times sigmoid of the branch; the
    threshold and the top-k look at the class score alone.

    Args:
        kind: "centerness" (FCOS, ATSS) or "iou" of the decoded box.
        alpha: focal loss's weight of the positives, or None.
        gamma: focal loss's exponent.

    Source:
        FCOS, arXiv 1904.01355, section 3.2 (centerness). Generalized Focal Loss, arXiv 2006.04388, Table 1
        ("centerness-branch", "IoU-branch").
    """

    quality_channels = 1

    def __init__(self, kind: QualityKind, alpha: float | None = 0.25, gamma: float = 2.0) -> None:
        check_kind(kind)
        self.kind: QualityKind = kind
        self.meaning = (kind,)
        self.classes = NoQuality(alpha, gamma)
        self.score_rule = f"class × {'IoU' if kind == 'iou' else kind}"

    def target(self, positives: PositiveRows) -> Tensor:
        return measure(self.kind, positives)

    def losses(self, rows: LearningRows) -> dict[str, Tensor]:
        branch = _branch(rows.out)[rows.positive]
        loss = centerness_loss(branch, rows.known_target, reduction="sum", norm=rows.norm)
        return {**self.classes.losses(rows), "quality": loss}

    def scores(self, candidate_scores: Tensor, out: HeadOutput) -> Tensor:
        return candidate_scores * _branch(out).sigmoid()

    def score_parts(self, labels: Tensor, out: HeadOutput) -> dict[str, Tensor]:
        name = "IoU" if self.kind == "iou" else self.kind
        return {"class": class_part(labels, out), name: _branch(out).sigmoid()}


def _branch(out: HeadOutput) -> Tensor:
    """(...) the branch's logit of each place."""
    if out.quality_logits is None:
        raise ValueError("a quality branch needs quality_logits; build the head with quality_outputs=1")
    return at_least_float32(out.quality_logits[..., 0])

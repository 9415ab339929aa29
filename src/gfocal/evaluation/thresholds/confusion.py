"""Which classes a detector takes for which, above a score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gfocal.evaluation.ground_truth import IntArray
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.evaluation.thresholds.matching import IOU, Matching, take_in_order
from gfocal.utils.text import distinct

OUT, RIGHT, CONFUSED, WRONG = range(4)
"""What becomes of a detection or an object.

OUT: below the score, ignored, a crowd, or of an image that was left out. RIGHT: a detection that found an object of its
class, or that object. CONFUSED: a detection on an object of another class that none of its own found, or that object.
WRONG: a detection of nothing, or an object that is missed.
"""


@dataclass(frozen=True)
class Verdicts:
    """What becomes of D detections and G boxes of the ground truth above a score.

    Attributes:
        detections: (D,) one of :data:`OUT`, :data:`RIGHT`, :data:`CONFUSED`, :data:`WRONG` each.
        objects: (G,) the same.
        partner: (D,) row of the object that a right or confused detection lies on; -1 for the others.
    """

    detections: IntArray
    objects: IntArray
    partner: IntArray


@dataclass(frozen=True)
class Confusion:
    """Objects by what they were taken for.

    Attributes:
        score: detections above it count.
        iou: a detection and an object belong together from this overlap on.
        classes: C names; the matrix has one row and one column more, the background.
        matrix: (C + 1, C + 1): row, what it is; column, what it was taken for. The last row holds detections of
            nothing, the last column missed objects.
    """

    score: float
    iou: float
    classes: tuple[str, ...]
    matrix: IntArray = field(compare=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON types; ``background`` is said to be the last row and column."""
        labels = [*self.classes, "background"]
        return {"score": self.score, "iou": self.iou, "rows_are_truth": True, "labels": labels} | {
            "matrix": self.matrix.tolist()
        }


def judge(findings: Findings, matching: Matching, score: float) -> Verdicts:
    """Verdicts on the detections that score higher than ``score``.

    First each takes an object of its own class, as for precision and recall. Then what is left of both is paired
    across classes, in the order of the scores: that is confusion. So the diagonal of the matrix holds the right ones
    of precision and recall, whatever other classes are found at the same place.
    """
    passing = findings.scores > score
    right = passing & matching.right
    pairs, taken = matching.pairs, np.zeros(len(matching.to_find), bool)
    taken[matching.object[right]] = True
    left = passing & ~matching.right & ~matching.ignored
    free = matching.to_find & ~taken
    confused = take_in_order(pairs.only(left[pairs.detection] & free[pairs.object]), len(left), len(free))
    partner = np.where(right, matching.object, confused)
    detections = np.select([right, confused >= 0, left], [RIGHT, CONFUSED, WRONG], OUT)
    objects = np.where(matching.to_find, WRONG, OUT)
    for verdict in (RIGHT, CONFUSED):
        objects[partner[detections == verdict]] = verdict
    return Verdicts(detections, objects, partner)


def confusion(findings: Findings, verdicts: Verdicts, score: float) -> Confusion:
    """The matrix of verdicts that :func:`judge` gave at ``score``."""
    classes = len(findings.index.names)
    truth = np.asarray(findings.index.labels).astype(np.int64)
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    meant = np.where(verdicts.partner >= 0, truth[verdicts.partner] if len(truth) else classes, classes)
    counted = verdicts.detections != OUT
    np.add.at(matrix, (meant[counted], findings.labels[counted]), 1)
    np.add.at(matrix, (truth[verdicts.objects == WRONG], classes), 1)
    return Confusion(score, IOU, tuple(distinct(findings.index.names)), matrix)

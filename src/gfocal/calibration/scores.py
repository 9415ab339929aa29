"""Scores that are chances: a monotone map of a detector's scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gfocal.calibration.quantiles import FloatArray
from gfocal.errors import UsageError, require_number

ScoreKind = Literal["isotonic", "platt"]
Rule = Literal["right", "iou"]
RULES: dict[Rule, str] = {
    "right": "it finds an object of its class: IoU 0.5 or more, best score first, each object once",
    "iou": "its IoU with the object that it finds (IoU 0.5 or more, best score first, each object once); else 0",
}
"""What a calibrated score is the mean of."""
TIE = 1e-6
"""Share of the raw score in a calibrated one: equal chances keep the order of their scores, so AP stays as it was."""
TARGETS = tuple(round(0.01 * k, 2) for k in range(1, 100))
"""Precisions and recalls that thresholds are kept for."""


@dataclass(frozen=True)
class Threshold:
    """The score from which on something holds, and the 95 % interval of that score over resampled images.

    Attributes:
        score: of the detector, not calibrated: what ``gfocal predict --score`` takes; None where no score does it.
        low, high: None where it is out of reach in more than 5 % of the resampled sets of images.
    """

    score: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ScoreCalibration:
    """A map of scores, and thresholds.

    Attributes:
        kind: "isotonic" (steps with straight lines between) or "platt" (a logistic curve of the score's logarithmic
            odds).
        rule: what a calibrated score is the mean of, see :data:`RULES`.
        x, y: of "isotonic": (K,) scores, ascending, and what they become.
        slope, offset: of "platt".
        candidates: Brier score of each kind, each image by a map that was fitted without it: the smaller was taken.
        detections: that it was fitted on.
        precision, recall: thresholds for :data:`TARGETS`.
    """

    kind: ScoreKind
    rule: Rule
    x: tuple[float, ...]
    y: tuple[float, ...]
    slope: float
    offset: float
    candidates: dict[str, float]
    detections: int
    precision: tuple[Threshold, ...] = ()
    recall: tuple[Threshold, ...] = ()

    def of(self, scores: FloatArray) -> FloatArray:
        """(N,) float64 in [0, 1]; of two different scores the higher one stays the higher."""
        raw = np.asarray(scores, np.float64)
        if self.kind == "isotonic":
            mapped = np.interp(raw, self.x, self.y)
        else:
            mapped = 1 / (1 + np.exp(-np.clip(self.slope * odds(raw) + self.offset, -60, 60)))
        calibrated: FloatArray = (1 - TIE) * mapped + TIE * raw
        return calibrated

    def threshold_for(self, *, precision: float | None = None, recall: float | None = None) -> Threshold:
        """The lowest score with a precision of at least so much, or the highest with such a recall.

        At IoU 0.5, on the images of the calibration.

        Args:
            precision: share of right boxes among those above the threshold; taken as the next higher hundredth.
            recall: share of objects that are found.

        Raises:
            UsageError: neither or both are given, or one is out of range.
        """
        if (precision is None) == (recall is None):
            raise UsageError("give precision or recall, one of them")
        name, wanted = ("precision", precision) if recall is None else ("recall", recall)
        require_number(name, wanted, least=TARGETS[0], most=TARGETS[-1])
        assert wanted is not None
        place = int(np.searchsorted(np.array(TARGETS) + 1e-9, float(wanted)))
        return (self.precision if recall is None else self.recall)[place]


def odds(scores: FloatArray) -> FloatArray:
    """Logarithm of score / (1 - score), of 0 and 1 as of what is very near."""
    inner = np.clip(scores, 1e-7, 1 - 1e-7)
    found: FloatArray = np.log(inner / (1 - inner))
    return found

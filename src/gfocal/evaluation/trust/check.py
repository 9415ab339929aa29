"""Do the intervals and scores of a calibrated detector hold on other images than those of the calibration?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gfocal.calibration.edges_fit import REPORTED
from gfocal.calibration.stored import Calibration
from gfocal.detections import Detections
from gfocal.evaluation.ground_truth import GroundTruth
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.evaluation.trust.overlap import Overlap
from gfocal.evaluation.trust.samples import matched_samples, score_samples
from gfocal.evaluation.trust.tables import IntervalTable, ScoreRow, interval_table, score_row

PROMISE = (
    "The promise: of objects that are found (IoU 0.5), as many edges or boxes lie inside as the level says, on average "
    "over new pictures like those of the calibration; not for each class, size or picture, nor for missed objects"
)
_DEVIATIONS = 2.576  # beyond: once in 200 by chance, of eight shares that go together


@dataclass(frozen=True)
class CalibrationCheck:
    """A calibration on the images of an evaluation.

    Attributes:
        intervals: what they hold here; None where nothing was found.
        before, after: scores as they are and calibrated; None without detections.
        drops: a line for each promise that does not hold here, beyond chance.
        seen: whether this is the very data set of the calibration, on which it looks too good.
        overlap: how many of these images are of the calibration; None where it does not say which it has seen.
    """

    intervals: IntervalTable | None
    before: ScoreRow | None
    after: ScoreRow | None
    drops: tuple[str, ...]
    seen: bool = False
    overlap: Overlap | None = None

    def describe_seen(self) -> str:
        """What to know where the calibration has seen images of these; "" where it has not, as far as is known."""
        if self.seen:
            return "these are the pictures of the calibration itself: on others it holds a little less"
        return "" if self.overlap is None else self.overlap.describe()


def check_calibration(
    index: GroundTruth, image_ids: Sequence[int], detections: Sequence[Detections], findings: Findings
) -> CalibrationCheck | None:
    """Measure the calibration that detections carry; None where they carry none that holds for them."""
    own = next((found.calibration for found in detections if found.calibration is not None), None)
    if not isinstance(own, Calibration) or own.unfit:
        return None
    samples, scores = matched_samples(index, image_ids, detections), score_samples(findings)
    table = None
    if samples is not None and len(samples.sizes):
        edges = samples.edges

        def widths(level: float, whole: bool) -> np.ndarray:
            return own.edges.half_widths(edges.features, edges.labels, edges.names, level, whole_box=whole)

        table = interval_table(samples, widths, sorted({*REPORTED, own.level}), own.level)
    return CalibrationCheck(
        intervals=table,
        before=score_row(scores, scores.scores) if len(scores) else None,
        after=score_row(scores, own.scores.of(scores.scores)) if len(scores) else None,
        drops=() if table is None else tuple(_drops(table, own.edges.matches)),
    )


def _drops(table: IntervalTable, matches: int) -> list[str]:
    """Shares that are lower than chance allows: that of these images, and that of the calibration's.

    ``matches``: boxes of the calibration. Boxes of one image are alike there as much as here.
    """
    lines = []
    for row in table.levels:
        for what, share, fitted in (("edges", row.edges, 4 * matches), ("whole boxes", row.box, matches)):
            alike = share.worth / share.count
            variance = row.level * (1 - row.level) * (1 / share.worth + 1 / (alike * fitted))
            if share.share < row.level - _DEVIATIONS * math.sqrt(variance):
                lines.append(
                    f"intervals of {100 * row.level:g} % hold {100 * share.share:.1f} % of {what} here "
                    f"({100 * share.low:.1f} to {100 * share.high:.1f} %): these pictures are not like those of the "
                    "calibration"
                )
    return lines

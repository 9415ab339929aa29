"""All that is known of why a detector is as good as it is."""

from __future__ import annotations

from dataclasses import dataclass

from gfocal.evaluation.diagnosis.edges import EdgeCalibration, edge_calibration
from gfocal.evaluation.diagnosis.error_types import ErrorTypes, error_types
from gfocal.evaluation.diagnosis.intervals import RESAMPLES, Intervals, intervals
from gfocal.evaluation.diagnosis.reliability import Reliability, reliability
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.evaluation.thresholds.matching import Matching


@dataclass(frozen=True)
class Diagnosis:
    """Of one detector on one data set.

    Attributes:
        intervals: of COCO's numbers and of each class.
        errors: by kind; None without an object to find.
        scores: beside what came of them.
        edges: beside their ``edge_std``; None where boxes come without.
    """

    intervals: Intervals
    errors: ErrorTypes | None
    scores: Reliability
    edges: EdgeCalibration | None


def diagnose(findings: Findings, matching: Matching, score: float, *, resamples: int = RESAMPLES) -> Diagnosis:
    """See :class:`Diagnosis`.

    Args:
        findings: of all images.
        matching: what :func:`gfocal.evaluation.thresholds.matching.match` says of them.
        score: errors above it are counted.
        resamples: sets of images to draw for the intervals.
    """
    return Diagnosis(
        intervals=intervals(findings, resamples=resamples),
        errors=error_types(findings, score),
        scores=reliability(findings, matching),
        edges=edge_calibration(findings, matching),
    )

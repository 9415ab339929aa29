"""Is a score what it says? Scores beside the share of right detections, and beside their IoU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gfocal.evaluation.ground_truth import FloatArray, IntArray
from gfocal.evaluation.overlaps import box_ious
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.evaluation.thresholds.matching import IOU, Matching

BINS = 10


@dataclass(frozen=True)
class ScoreBin:
    """The detections whose scores lie in (low, high].

    Attributes:
        low, high: of the bin.
        detections: how many.
        score: their mean score; None without detections, as the others.
        right: share of them that found an object.
        iou: mean IoU with the object that each found, 0 for one that found none.
    """

    low: float
    high: float
    detections: int
    score: float | None
    right: float | None
    iou: float | None


@dataclass(frozen=True)
class Reliability:
    """What scores are worth.

    Attributes:
        matching_iou: from where on a detection has found an object of its class, greedily in the order of the scores.
        detections: that count: all but those on crowds and ignored boxes.
        d_ece: mean distance of score and share of right ones over the bins, weighted by their detections (detection
            expected calibration error, Küppers et al., CVPRW 2020, of scores alone); None without detections.
        iou_ece: the same of score and mean IoU (the idea of LaECE, Oksuz et al., CVPR 2023, of all classes together).
        bins: equally wide, from 0 to 1.
    """

    matching_iou: float
    detections: int
    d_ece: float | None
    iou_ece: float | None
    bins: tuple[ScoreBin, ...]


def reliability(findings: Findings, matching: Matching) -> Reliability:
    """Scores beside what came of them.

    Args:
        findings: of all images; every detection counts, whatever its score.
        matching: what :func:`gfocal.evaluation.thresholds.matching.match` says of them.
    """
    counted = ~matching.ignored & findings.kept[findings.rows]
    scores = findings.scores[counted]
    right, ious = matching.right[counted], found_ious(findings, matching)[counted]
    place = np.ceil(scores * BINS).clip(1, BINS).astype(np.int64) - 1
    count = np.bincount(place, minlength=BINS)
    mean_score, share, mean_iou = (
        np.divide(np.bincount(place, values, BINS), count, out=np.full(BINS, np.nan), where=count > 0)
        for values in (scores, right.astype(np.float64), ious)
    )
    bins = tuple(
        ScoreBin(i / BINS, (i + 1) / BINS, int(count[i]), *(_known(each[i]) for each in (mean_score, share, mean_iou)))
        for i in range(BINS)
    )
    return Reliability(IOU, len(scores), _error(count, mean_score - share), _error(count, mean_score - mean_iou), bins)


def found_ious(findings: Findings, matching: Matching) -> FloatArray:
    """(D,) IoU of each detection with the object that it found; 0 where it found none."""
    ious = np.zeros(len(findings.rows))
    own = np.flatnonzero(matching.right)
    truth = np.asarray(findings.index.boxes[matching.object[own]], np.float64).reshape(-1, 4)
    for start in range(0, len(own), 256):  # pairs of a few: all against all of them is less than a loop
        some = slice(start, start + 256)
        ious[own[some]] = np.diagonal(box_ious(findings.boxes[own[some]], truth[some]))
    return ious


def _error(count: IntArray, gap: FloatArray) -> float | None:
    return float((count * np.nan_to_num(np.abs(gap))).sum() / count.sum()) if count.sum() else None


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)

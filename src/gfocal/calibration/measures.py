"""How good intervals and scores are: coverage, interval score, D-ECE, LaECE, LRP."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gfocal.calibration.features import IntArray
from gfocal.calibration.quantiles import FloatArray

BoolArray = NDArray[np.bool_]
BINS = 25
"""Of equal width, for D-ECE and LaECE."""


@dataclass(frozen=True)
class Share:
    """A share, and a 95 % interval of it.

    Attributes:
        share: in [0, 1]; NaN of nothing.
        low, high: where it lies for images of this kind: boxes of one image are alike, so images count, not boxes.
        count: what it is a share of.
        worth: independent ones that would vary as much.
    """

    share: float
    low: float
    high: float
    count: int
    worth: float


def share_of(hits: BoolArray, images: IntArray) -> Share:
    """The share of hits, with Wilson's interval for as many independent boxes as the images are worth.

    The variance of a ratio over clusters says how many independent boxes would vary as much; never more than there are.

    Args:
        hits: (N,) or (N, E), one or several a box.
        images: (N,) image of each.
    """
    if not hits.size:
        return Share(math.nan, 0.0, 1.0, 0, 0.0)
    rows = hits.reshape(len(hits), -1)
    share = float(rows.mean())
    known, place = np.unique(images, return_inverse=True)
    excess = np.bincount(place, (rows - share).sum(1))
    worth = float(len(rows))
    if len(known) > 1 and 0 < share < 1:
        variance = float(excess @ excess) / rows.size**2 * len(known) / (len(known) - 1)
        worth = min(share * (1 - share) / max(variance, 1e-300), float(rows.size))
    else:
        worth = float(len(known))
    low, high = _wilson(share, worth)
    return Share(share, low, high, rows.size, worth)


def _wilson(share: float, count: float, z: float = 1.959964) -> tuple[float, float]:
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def interval_score(intervals: FloatArray, truth: FloatArray, level: float) -> FloatArray:
    """Width, and a fine of 2 / (1 - level) for each pixel that the truth lies outside: smaller is better.

    Args:
        intervals: (..., 2) low and high.
        truth: (...).
        level: that they are meant for.

    Source:
        T. Gneiting and A. Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", 2007, eq. 43.

    Example:
        >>> interval_score(np.array([[0.0, 10.0], [0.0, 10.0]]), np.array([5.0, 12.0]), 0.9).round(6).tolist()
        [10.0, 50.0]
    """
    low, high = intervals[..., 0], intervals[..., 1]
    outside = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    score: FloatArray = high - low + 2 / (1 - level) * outside
    return score


def inside(intervals: FloatArray, truth: FloatArray) -> BoolArray:
    """Whether the truth lies in each interval, up to rounding of single-precision pixels."""
    rounding = 1e-6 * np.maximum(np.abs(truth), 1)
    held: BoolArray = (truth >= intervals[..., 0] - rounding) & (truth <= intervals[..., 1] + rounding)
    return held


def d_ece(scores: FloatArray, right: FloatArray, bins: int = BINS) -> float:
    """Detection expected calibration error: mean over the detections of |mean score - precision| of their bin.

    Args:
        scores: (D,) in [0, 1].
        right: (D,) 1 for a detection that found an object, 0 for one that did not.
        bins: of equal width.

    Returns:
        In [0, 1]; NaN without detections.

    Source:
        F. Küppers et al., "Multivariate Confidence Calibration for Object Detection", CVPR workshops 2020, by scores
        alone.
    """
    if not len(scores):
        return math.nan
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    return float(np.abs(np.bincount(place, scores - right, bins)).sum() / len(scores))


def la_ece(scores: FloatArray, ious: FloatArray, labels: IntArray, bins: int = BINS) -> float:
    """Localisation-aware ECE: the mean over classes of |mean score - precision x mean IoU| over bins.

    Args:
        scores: (D,) in [0, 1].
        ious: (D,) IoU of a detection that found an object with it, 0 for others: its mean over a bin is precision
            times mean IoU.
        labels: (D,) class.
        bins: of equal width.

    Returns:
        In [0, 1]; NaN without detections. Classes without detections have no say.

    Source:
        K. Oksuz et al., "Towards Building Self-Aware Object Detectors via Reliable Uncertainty Quantification and
        Calibration", CVPR 2023; S. Kuzucu et al., "On Calibration of Object Detectors", ECCV 2024, arXiv 2405.20459.
    """
    classes = np.unique(labels)
    if not len(classes):
        return math.nan
    return float(np.mean([d_ece(scores[labels == c], ious[labels == c], bins) for c in classes]))


def lrp(ious: FloatArray, missed: int) -> float:
    """Localisation-recall-precision error of the detections that are kept: 0 at best, 1 at worst.

    Args:
        ious: (D,) IoU with the object that a detection found at an IoU of 0.5 or more, 0 for one that found none.
        missed: objects that none found.

    Returns:
        In [0, 1]; NaN where there is neither a detection nor an object.

    Source:
        K. Oksuz et al., "Localization Recall Precision (LRP)", ECCV 2018.
    """
    found = ious > 0
    total = len(ious) + missed
    if not total:
        return math.nan
    return float(((1 - ious[found]) / 0.5).sum() + (~found).sum() + missed) / total

"""Does ``edge_std`` know which edges are uncertain? It is compared with how uncertain they were made.

Rank correlation, since the two differ in scale on purpose: ``edge_std`` is the spread of a learnt distribution over
bins, the truth is the spread that a generated scene drew the edge from. Large objects have a larger spread of both, so
that a detector which only knows how large an object is would correlate too: the headline figure is the mean over thirds
of like size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np

from gfocal.detections import Detections
from gfocal.evaluation.agreement import spearman
from gfocal.evaluation.ground_truth import FloatArray, GroundTruth, IntArray
from gfocal.evaluation.overlaps import box_ious
from gfocal.utils.records import FLAT, named

MIN_EDGES = 20
"""With fewer edges a correlation says nothing, and None is given."""
MIN_IOU = 0.5
_SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class EdgeCorrelation:
    """Rank correlation of ``edge_std`` and true ambiguity over some edges.

    Attributes:
        correlation: in [-1, 1]; None with fewer than :data:`MIN_EDGES` edges or where one side is constant.
        edges: how many there are.
        ceiling: the correlation of a perfect predictor, since sharp edges all tie in truth; None as above.
        uncertain_correlation: over those that are not sharp; None as above.
        uncertain_edges: how many are not sharp.
    """

    correlation: float | None
    edges: int
    ceiling: float | None
    uncertain_correlation: float | None
    uncertain_edges: int


@dataclass(frozen=True)
class SizeCorrelation:
    """Of a third of the matched objects.

    Attributes:
        size: "small", "medium" or "large".
        smallest, largest: square root of the area of its objects, pixels; None where there are none.
        found: of their edges.
    """

    size: str
    smallest: float | None = field(metadata=named("from"))
    largest: float | None = field(metadata=named("to"))
    found: EdgeCorrelation = field(metadata=FLAT)


@dataclass(frozen=True)
class LevelCorrelation:
    """Of the objects found on a level of the pyramid, 0 the finest."""

    level: int
    found: EdgeCorrelation = field(metadata=FLAT)


@dataclass(frozen=True)
class UncertaintyResult:
    """How ``edge_std`` and true ambiguity agree.

    Attributes:
        mean_over_sizes: mean of the three correlations under ``sizes``, None if one of them is.
        uncertain_mean_over_sizes: the same of the edges that are not sharp.
        overall: of all edges.
        sizes: small, medium, large.
        levels: those on which something was found; None if they are not known.
    """

    mean_over_sizes: float | None
    uncertain_mean_over_sizes: float | None
    overall: EdgeCorrelation
    sizes: tuple[SizeCorrelation, ...]
    levels: tuple[LevelCorrelation, ...] | None


@dataclass(frozen=True)
class MatchedEdges:
    """M detections with their objects.

    Attributes:
        edge_std: (M, 4) predicted, pixels.
        ambiguity: (M, 4) true, pixels.
        size: (M,) square root of the object's area, pixels.
        level: (M,) level of the pyramid; None if not known.
    """

    edge_std: FloatArray
    ambiguity: FloatArray
    size: FloatArray
    level: IntArray | None

    def correlation(self, mask: Any = slice(None)) -> EdgeCorrelation:
        """Over all edges of some objects, and over those of them that are uncertain at all."""
        predicted, true = self.edge_std[mask].ravel(), self.ambiguity[mask].ravel()
        uncertain = true > 0
        return EdgeCorrelation(
            correlation=_correlation(predicted, true),
            edges=len(true),
            ceiling=_ceiling(true),
            uncertain_correlation=_correlation(predicted[uncertain], true[uncertain]),
            uncertain_edges=int(uncertain.sum()),
        )


def _correlation(predicted: FloatArray, true: FloatArray) -> float | None:
    return spearman(predicted, true) if len(true) >= MIN_EDGES else None


def _ceiling(true: FloatArray) -> float | None:
    """The correlation of a perfect predictor whose values all differ: ties of the truth (sharp edges) are out of reach.

    Such ranks have the covariance var(ranks of the truth), since the ranks of tied values are the mean of those of the
    predictor: what remains is the ratio of the two standard deviations.
    """
    if len(true) < MIN_EDGES:
        return None
    ties = np.unique(true, return_counts=True)[1].astype(np.float64)
    count = float(len(true))
    share = 1 - float((ties**3 - ties).sum()) / (count**3 - count)
    return math.sqrt(share) if share > 0 else None


class EdgeUncertainty:
    """Collects the detections of a data set, then correlates ``edge_std`` with the true ambiguity of edges.

    Args:
        index: the ground truth.
        ambiguity: (N, 4) standard deviation in pixels of left, top, right, bottom of each of its boxes, as drawn; NaN
            where it is not known: such a box is matched, but does not count.
    """

    def __init__(self, index: GroundTruth, ambiguity: FloatArray) -> None:
        self._index, self._ambiguity = index, ambiguity
        self._row_of = {int(image_id): row for row, image_id in enumerate(index.image_ids)}
        self._parts: list[MatchedEdges] = []

    def update(self, image_ids: Sequence[int], detections: Sequence[Detections]) -> None:
        """Add some images.

        Args:
            image_ids: the data set's own ids.
            detections: one an image, boxes and ``edge_std`` in original pixels; without ``edge_std`` they are passed
                over.

        Raises:
            KeyError: an id is unknown.
        """
        for image_id, found in zip(image_ids, detections, strict=True):
            if found.edge_std is None:
                continue
            row = self._row_of[int(image_id)]
            mine, theirs = match_objects(self._index, row, found)
            known = np.isfinite(self._ambiguity[theirs]).all(1)
            mine, theirs = mine[known], theirs[known]
            self._parts.append(
                MatchedEdges(
                    np.asarray(found.edge_std, np.float64)[mine],
                    self._ambiguity[theirs],
                    np.sqrt(self._index.area[theirs]),
                    None if found.levels is None else np.asarray(found.levels)[mine],
                )
            )

    def compute(self) -> UncertaintyResult | None:
        """The correlations; None if no detection came with ``edge_std``."""
        if not self._parts:
            return None
        edges = _concatenated(self._parts)
        sizes = _by_size(edges)
        return UncertaintyResult(
            mean_over_sizes=_mean([entry.found.correlation for entry in sizes]),
            uncertain_mean_over_sizes=_mean([entry.found.uncertain_correlation for entry in sizes]),
            overall=edges.correlation(),
            sizes=sizes,
            levels=_by_level(edges),
        )


@dataclass(frozen=True)
class EdgeCoverage:
    """How often an edge lies within its interval: what its ``edge_std`` gives, or a calibration.

    Attributes:
        nominal: the share that is promised.
        covered: share of the edges, in [0, 1]; None where there are none.
        edges: of detections that found an object, see :func:`match_objects`.
    """

    nominal: float
    covered: float | None
    edges: int


def edge_coverage(
    index: GroundTruth, image_ids: Sequence[int], detections: Sequence[Detections], nominal: float = 0.9
) -> EdgeCoverage | None:
    """The share of annotated edges within the two-sided ``nominal`` interval around the predicted ones.

    The interval is that of a normal distribution with the standard deviation ``edge_std``; nothing is calibrated here.

    Args:
        index: the ground truth.
        image_ids: the data set's own ids.
        detections: one an image, in original pixels.
        nominal: in (0, 1).

    Returns:
        None if no detection comes with ``edge_std``.
    """
    reach = NormalDist().inv_cdf((1 + nominal) / 2)

    def interval(found: Detections) -> FloatArray | None:
        if found.edge_std is None:
            return None
        half = reach * np.asarray(found.edge_std, np.float64)
        boxes = np.asarray(found.boxes, np.float64)
        return np.stack([boxes - half, boxes + half], -1)

    return _coverage(index, image_ids, detections, nominal, interval)


def interval_coverage(
    index: GroundTruth, image_ids: Sequence[int], detections: Sequence[Detections]
) -> EdgeCoverage | None:
    """The share of annotated edges within the intervals of the calibration, at the calibration's own level.

    Args:
        index: the ground truth.
        image_ids: the data set's own ids.
        detections: one an image, in original pixels.

    Returns:
        None if none comes with a calibration that holds for the detector as it is used.
    """
    calibration = next((found.calibration for found in detections if found.calibrated), None)
    if calibration is None:
        return None

    def interval(found: Detections) -> FloatArray | None:
        return np.asarray(found.edge_interval()) if found.calibrated else None

    return _coverage(index, image_ids, detections, calibration.level, interval)


def _coverage(
    index: GroundTruth,
    image_ids: Sequence[int],
    detections: Sequence[Detections],
    nominal: float,
    interval: Callable[[Detections], FloatArray | None],
) -> EdgeCoverage | None:
    """``interval``: (N, 4, 2) lowest and highest position of each edge; None where detections have none."""
    row_of = {int(image_id): row for row, image_id in enumerate(index.image_ids)}
    inside = list[np.ndarray]()
    for image_id, found in zip(image_ids, detections, strict=True):
        ends = interval(found)
        if ends is not None:
            mine, theirs = match_objects(index, row_of[int(image_id)], found)
            edges = index.boxes[theirs].astype(np.float64)
            inside.append((ends[mine, :, 0] <= edges) & (edges <= ends[mine, :, 1]))
    if not inside:
        return None
    every = np.concatenate([part.ravel() for part in inside])
    return EdgeCoverage(nominal, float(every.mean()) if len(every) else None, len(every))


def match_objects(index: GroundTruth, row: int, found: Detections) -> tuple[IntArray, IntArray]:
    """Detections of one image with the objects that they found.

    The best score chooses first: of the boxes of its class that are still free the one with the highest IoU, if that
    is at least 0.5. Crowds and ignored boxes have no say.

    Args:
        index: the ground truth.
        row: which image of it.
        found: in original pixels.

    Returns:
        (M,) rows of ``found`` and (M,) rows of ``index.boxes``.
    """
    first, end = index.box_start[row], index.box_start[row + 1]
    truth = first + np.flatnonzero(~(index.crowd[first:end] | index.ignore[first:end]))
    pairs: list[tuple[int, int]] = []
    if len(truth) and len(found):
        ious = box_ious(np.asarray(found.boxes, np.float64), index.boxes[truth].astype(np.float64))
        ious = np.where(np.asarray(found.labels)[:, None] == index.labels[truth], ious, 0.0)
        for i in np.argsort(-np.asarray(found.scores, np.float64), kind="stable").tolist():
            best = int(ious[i].argmax())
            if ious[i, best] >= MIN_IOU:
                pairs.append((i, int(truth[best])))
                ious[:, best] = 0.0
    chosen = np.array(pairs, np.int64).reshape(-1, 2)
    return chosen[:, 0], chosen[:, 1]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _concatenated(parts: Sequence[MatchedEdges]) -> MatchedEdges:
    levels = [part.level for part in parts if part.level is not None]
    return MatchedEdges(
        np.concatenate([part.edge_std for part in parts]),
        np.concatenate([part.ambiguity for part in parts]),
        np.concatenate([part.size for part in parts]),
        np.concatenate(levels) if len(levels) == len(parts) else None,
    )


def _by_size(edges: MatchedEdges) -> tuple[SizeCorrelation, ...]:
    """Thirds of the objects; equal sizes stay together."""
    bounds = np.quantile(edges.size, (1 / 3, 2 / 3)) if len(edges.size) else np.zeros(2)
    third = np.searchsorted(bounds, edges.size, side="left")
    entries = []
    for i, name in enumerate(_SIZES):
        own = edges.size[third == i]
        smallest, largest = (float(own.min()), float(own.max())) if len(own) else (None, None)
        entries.append(SizeCorrelation(name, smallest, largest, edges.correlation(third == i)))
    return tuple(entries)


def _by_level(edges: MatchedEdges) -> tuple[LevelCorrelation, ...] | None:
    if edges.level is None:
        return None
    levels = np.unique(edges.level)
    return tuple(LevelCorrelation(int(level), edges.correlation(edges.level == level)) for level in levels)

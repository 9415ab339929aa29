"""Coverage, widths and interval scores, by level, size and class; calibration errors of scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from gfocal.calibration.edges import intervals
from gfocal.calibration.edges_fit import OWN_GROUP
from gfocal.calibration.measures import Share, d_ece, inside, interval_score, la_ece, lrp, share_of
from gfocal.calibration.scores_fit import ScoreSamples
from gfocal.evaluation.ground_truth import BoolArray, FloatArray
from gfocal.evaluation.trust.samples import MatchedSamples
from gfocal.utils.records import named

EDGES = ("left", "top", "right", "bottom")
SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class LevelRow:
    """What intervals of a level hold.

    Attributes:
        level: what they promise.
        edges: share of all edges inside.
        each: of left, top, right, bottom.
        box: share of boxes with all four edges inside the intervals for whole boxes.
        width: mean of the edges' intervals, pixels.
        score: mean interval score of the edges, pixels; smaller is better.
        box_width: mean width of the intervals for whole boxes, pixels.
    """

    level: float
    edges: Share
    each: tuple[Share, ...]
    box: Share
    width: float
    score: float
    box_width: float


@dataclass(frozen=True)
class GroupRow:
    """What intervals hold of some objects.

    Attributes:
        name: a third by size ("small", ...), or a class.
        smallest, largest: square root of their areas, pixels.
        edges, box: see :class:`LevelRow`.
        width, score: the same.
    """

    name: str
    smallest: float | None = field(metadata=named("from"))
    largest: float | None = field(metadata=named("to"))
    edges: Share
    box: Share
    width: float
    score: float


@dataclass(frozen=True)
class IntervalTable:
    """What intervals hold.

    Attributes:
        matches: boxes that found an object.
        levels: a row for each level.
        level: of the rows below.
        sizes: thirds of the objects by size.
        classes: those with 100 matches or more.
    """

    matches: int
    levels: tuple[LevelRow, ...]
    level: float
    sizes: tuple[GroupRow, ...]
    classes: tuple[GroupRow, ...]


Widths = Callable[[float, bool], FloatArray]
"""(level, whole box) -> (M, 4) half-widths in pixels."""


def interval_table(samples: MatchedSamples, widths: Widths, levels: Sequence[float], level: float) -> IntervalTable:
    """Measure intervals on boxes that they were not fitted on.

    Args:
        samples: M boxes.
        widths: their half-widths at a level.
        levels: of the rows.
        level: that sizes and classes are shown at.
    """
    rows = []
    for each in levels:
        single, box = (_Held.of(samples, widths(each, whole), each) for whole in (False, True))
        rows.append(
            LevelRow(
                level=each,
                edges=single.share(),
                each=tuple(single.share(edge=k) for k in range(4)),
                box=box.box_share(),
                width=single.width(),
                score=single.score(),
                box_width=box.width(),
            )
        )
    single, box = (_Held.of(samples, widths(level, whole), level) for whole in (False, True))
    thirds = [(name, mask) for name, mask in zip(SIZES, thirds_of(samples.sizes), strict=True)]
    names, labels = samples.edges.names, samples.edges.labels
    own = [] if labels is None else [(names[c], np.asarray(labels == c, bool)) for c in range(len(names))]
    return IntervalTable(
        matches=len(samples.sizes),
        levels=tuple(rows),
        level=level,
        sizes=tuple(_group(name, mask, samples, single, box) for name, mask in thirds),
        classes=tuple(_group(name, mask, samples, single, box) for name, mask in own if mask.sum() >= OWN_GROUP),
    )


def thirds_of(sizes: FloatArray) -> list[BoolArray]:
    """Masks of the small, medium and large third; equal sizes stay together."""
    bounds = np.quantile(sizes, (1 / 3, 2 / 3)) if len(sizes) else np.zeros(2)
    third = np.searchsorted(bounds, sizes, side="left")
    return [third == k for k in range(3)]


@dataclass(frozen=True)
class _Held:
    """(M, 4) what is inside, how wide, at what score; (M,) images."""

    hits: BoolArray
    widths: FloatArray
    scores: FloatArray
    images: np.ndarray

    @staticmethod
    def of(samples: MatchedSamples, half_widths: FloatArray, level: float) -> _Held:
        edges = samples.edges
        boxes = edges.features.boxes
        assert boxes is not None
        truth = boxes + edges.errors
        found = intervals(boxes, half_widths, edges.features.limits)
        return _Held(
            inside(found, truth), found[..., 1] - found[..., 0], interval_score(found, truth, level), edges.images
        )

    def share(self, mask: BoolArray | None = None, edge: int | None = None) -> Share:
        rows = self.hits if mask is None else self.hits[mask]
        images = self.images if mask is None else self.images[mask]
        return share_of(rows if edge is None else rows[:, edge], images)

    def box_share(self, mask: BoolArray | None = None) -> Share:
        rows: BoolArray = np.asarray(self.hits.all(1), bool)
        return share_of(rows if mask is None else rows[mask], self.images if mask is None else self.images[mask])

    def width(self, mask: BoolArray | None = None) -> float:
        return _mean(self.widths if mask is None else self.widths[mask])

    def score(self, mask: BoolArray | None = None) -> float:
        return _mean(self.scores if mask is None else self.scores[mask])


def _group(name: str, mask: BoolArray, samples: MatchedSamples, single: _Held, box: _Held) -> GroupRow:
    own = samples.sizes[mask]
    smallest, largest = (float(own.min()), float(own.max())) if len(own) else (None, None)
    shares = single.share(mask), box.box_share(mask)
    return GroupRow(name, smallest, largest, *shares, single.width(mask), single.score(mask))


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if values.size else float("nan")


@dataclass(frozen=True)
class ScoreRow:
    """How far scores are from chances, and what a threshold of theirs keeps.

    Attributes:
        d_ece, la_ece: see :mod:`gfocal.calibration.measures`; 25 bins.
        brier: mean squared difference of score and right (1) or wrong (0).
        lrp: at the threshold with the smallest one: a monotone map keeps it.
    """

    d_ece: float
    la_ece: float
    brier: float
    lrp: float


def score_row(samples: ScoreSamples, scores: FloatArray) -> ScoreRow:
    """Of scores that take the place of the samples' own."""
    return ScoreRow(
        d_ece=d_ece(scores, samples.right),
        la_ece=la_ece(scores, samples.ious, samples.labels),
        brier=_mean((scores - samples.right) ** 2),
        lrp=_best_lrp(samples, scores),
    )


def _best_lrp(samples: ScoreSamples, scores: FloatArray) -> float:
    """The smallest over 200 thresholds that keep equally many more detections each."""
    order = np.argsort(-scores, kind="stable")
    ious, objects = samples.ious[order], int(samples.objects.sum())
    found = []
    for count in np.unique(np.linspace(0, len(ious), 201).astype(np.int64)).tolist():
        kept = ious[:count]
        found.append(lrp(kept, objects - int((kept > 0).sum())))
    return min(found)

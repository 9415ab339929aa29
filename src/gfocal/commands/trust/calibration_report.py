"""What a calibration came to: before and after, on images that it did not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np

from gfocal.calibration.edges_fit import REPORTED, cross_fitted
from gfocal.calibration.scale import ScaleKind
from gfocal.calibration.scores import RULES, Threshold
from gfocal.calibration.scores_fit import cross_fitted_scores
from gfocal.calibration.stored import Calibration
from gfocal.commands.trust.look import Looked, evaluated
from gfocal.evaluation.trust.check import PROMISE
from gfocal.evaluation.trust.samples import MatchedSamples
from gfocal.evaluation.trust.tables import IntervalTable, ScoreRow, interval_table, score_row
from gfocal.utils.records import FLAT, IF_ANY, named

HOW = (
    "Numbers are of pictures that the calibration did not see: five parts, each measured by a calibration that was "
    "chosen and fitted on the other four. What is stored is fitted on all of them"
)
_PRECISIONS, _RECALLS = (0.5, 0.8, 0.9, 0.95), (0.5, 0.8, 0.9)


@dataclass(frozen=True)
class ThresholdRow:
    """A score from which on precision or recall is reached."""

    of: str
    target: float
    threshold: Threshold


@dataclass(frozen=True)
class Source:
    """What is calibrated, on what.

    Attributes:
        model, out: the weights, and the file that has the calibration now.
        data, split: annotations and split.
    """

    model: str
    out: str
    data: str
    split: str


@dataclass(frozen=True)
class CalibrationReport:
    """What a calibration came to.

    Attributes:
        source: what is calibrated, on what.
        images, objects: that could be read, and what there was to find on them.
        scale: the kind that was taken, see :class:`gfocal.calibration.scale.Scale`.
        candidates: see :class:`gfocal.calibration.EdgeCalibration`.
        own_classes: classes with quantiles of their own; all others share theirs.
        before: the distributions read as normal ones; None for boxes without.
        after, constant, size: intervals of the calibration, constant ones, ones proportional to the box.
        score_kind, rule: the map of scores, and what a calibrated score is the mean of.
        scores_before, scores_after: see :class:`ScoreRow`.
        ap_before, ap_after: AP by the scores and by the calibrated ones.
        thresholds: scores for ``gfocal predict --score``.
        how, promise: what the numbers are of, and what the intervals say.
        notes: what else should be known.
        skipped: a line for each image or record that could not be read.
    """

    source: Source = field(metadata=FLAT)
    images: int = field(metadata=named("pictures"))
    objects: int
    scale: str
    candidates: dict[str, float]
    own_classes: tuple[str, ...]
    before: IntervalTable | None = field(metadata=IF_ANY)
    after: IntervalTable
    constant: IntervalTable
    size: IntervalTable
    score_kind: str
    rule: str
    scores_before: ScoreRow
    scores_after: ScoreRow
    ap_before: float
    ap_after: float
    thresholds: tuple[ThresholdRow, ...]
    how: str
    promise: str
    notes: tuple[str, ...]
    skipped: tuple[str, ...]


def report_of(
    looked: Looked, calibration: Calibration, source: Source, notes: Sequence[str], seed: int
) -> CalibrationReport:
    """Before and after."""
    matched, scores = looked.matched, looked.scores
    edges, chances, level = calibration.edges, calibration.scores, calibration.level
    levels = sorted({*REPORTED, level})
    mapped = {
        image_id: replace(one, scores=chances.of(np.asarray(one.scores, np.float64)))  # type: ignore[arg-type]
        for image_id, one in looked.found.items()
    }
    return CalibrationReport(
        source=source,
        images=calibration.images,
        objects=calibration.objects,
        scale=edges.scale.kind,
        candidates=edges.candidates,
        own_classes=tuple(group.name for group in edges.groups[:-1]),
        before=_table_before(matched, levels, level),
        after=_cross_table(matched, levels, level, None, seed),
        constant=_cross_table(matched, levels, level, ("constant",), seed),
        size=_cross_table(matched, levels, level, ("size",), seed),
        score_kind=chances.kind,
        rule=RULES[chances.rule],
        scores_before=score_row(scores, scores.scores),
        scores_after=score_row(scores, cross_fitted_scores(scores, chances.rule, seed=seed)),
        ap_before=looked.evaluator.compute().stats["AP"],
        ap_after=evaluated(looked.index, mapped).compute().stats["AP"],
        thresholds=(
            *(ThresholdRow("precision", p, chances.threshold_for(precision=p)) for p in _PRECISIONS),
            *(ThresholdRow("recall", r, chances.threshold_for(recall=r)) for r in _RECALLS),
        ),
        how=HOW,
        promise=PROMISE,
        notes=tuple(notes),
        skipped=(*looked.index.skipped, *looked.skipped),
    )


def _cross_table(
    matched: MatchedSamples, levels: Sequence[float], level: float, kinds: Sequence[ScaleKind] | None, seed: int
) -> IntervalTable:
    edges, boxes = cross_fitted(matched.edges, levels, kinds=kinds, seed=seed)

    def widths(each: float, whole: bool) -> np.ndarray:
        return (boxes if whole else edges)[levels.index(each)]

    return interval_table(matched, widths, levels, level)


def _table_before(matched: MatchedSamples, levels: Sequence[float], level: float) -> IntervalTable | None:
    """The distributions read as normal ones, the edges of a box as independent."""
    std = matched.edges.features.edge_std
    if std is None:
        return None

    def widths(each: float, whole: bool) -> np.ndarray:
        share = each**0.25 if whole else each
        return NormalDist().inv_cdf((1 + share) / 2) * std

    return interval_table(matched, widths, levels, level)

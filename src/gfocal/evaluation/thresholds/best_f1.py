"""The score from which on detections are best kept, of each class and of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gfocal.evaluation.ground_truth import FloatArray
from gfocal.evaluation.thresholds.curve import THRESHOLDS, Curve, Point, best_threshold
from gfocal.evaluation.thresholds.matching import IOU
from gfocal.utils.records import FLAT


@dataclass(frozen=True)
class ClassF1:
    """One class.

    Attributes:
        best: at the threshold that is best for it; its keys stand beside ``objects``.
        objects: how many there are to find.
        at_micro: at the threshold that is best for all classes together.
    """

    best: Point = field(metadata=FLAT)
    objects: int
    at_micro: Point


@dataclass(frozen=True)
class BestF1:
    """Where F1 is largest, and what precision and recall are there.

    A detection is right where it overlaps an object of its class by an IoU of at least ``iou`` that no better one has
    taken, the best score first. Crowds and ignored boxes count as in :class:`~gfocal.evaluation.CocoEvaluator`.

    Attributes:
        iou: 0.5.
        micro: of all detections and objects together, at one threshold; those of a class without objects are wrong.
        macro: the mean over the classes with objects, at the one threshold where the mean F1 is largest; a class
            without detections there has no precision, and no part in that mean.
        per_class: by name.
    """

    iou: float
    micro: Point
    macro: Point
    per_class: dict[str, ClassF1]


def best_f1(names: Sequence[str], each: Sequence[Curve], micro: Curve) -> BestF1:
    """From the curves of the classes ``names`` and that of all of them together."""
    best = micro.best()
    per_class = {
        name: ClassF1(curve.best(), curve.objects, curve.at(best.threshold))
        for name, curve in zip(names, each, strict=True)
    }
    return BestF1(IOU, best, _macro(each), per_class)


def mean_f1(each: Sequence[Curve], thresholds: FloatArray) -> FloatArray:
    """(T,) the mean F1 of the classes with objects at each threshold; 0 without such classes."""
    known = [curve.f1_at(thresholds) for curve in each if curve.objects]
    return np.mean(known, 0) if known else np.zeros(len(thresholds))


def _macro(each: Sequence[Curve]) -> Point:
    scores = np.concatenate([np.zeros(0), *(curve.scores for curve in each if curve.objects)])
    threshold = best_threshold(scores, mean_f1(each, THRESHOLDS))
    points = [curve.at(threshold) for curve in each if curve.objects]
    values = ([p.precision for p in points], [p.recall for p in points], [p.f1 for p in points])
    return Point(threshold, *(_mean([v for v in some if v is not None]) for some in values))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None

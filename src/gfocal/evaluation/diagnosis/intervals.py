"""COCO's 12 numbers, and AP of each class, with the interval in which they lie for other images of the same kind."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gfocal.evaluation.bootstrap import class_ap, resampled_weights
from gfocal.evaluation.coco import STATS, Stat
from gfocal.evaluation.diagnosis.areas import AREAS, match_in_areas
from gfocal.evaluation.ground_truth import FloatArray, IntArray
from gfocal.evaluation.matches import Matches
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.utils.text import distinct

RESAMPLES = 200
_AP: Mapping[str, tuple[Stat, ...]] = {"all": ("AP", "AP50", "AP75"), "s": ("APs",), "m": ("APm",), "l": ("APl",)}
_AR: Mapping[str, tuple[Stat, ...]] = {"all": ("AR1", "AR10", "AR100"), "s": ("ARs",), "m": ("ARm",), "l": ("ARl",)}
_LIMITS: Mapping[str, int] = {"AR1": 1, "AR10": 10}  # detections of a class in an image; all that are kept for others


@dataclass(frozen=True)
class Interval:
    """A number and its 95 % interval over images.

    Attributes:
        value: of the images as they are; None where there is nothing to find.
        low, high: None too where they cannot be told: one image, or no object.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ClassAP:
    """AP and AP50 of a class with their intervals."""

    ap: Interval
    ap50: Interval


@dataclass(frozen=True)
class Intervals:
    """The 12 numbers, and each class by name."""

    stats: dict[str, Interval]
    per_class: dict[str, ClassAP]


def intervals(findings: Findings, *, resamples: int = RESAMPLES, seed: int = 0) -> Intervals:
    """All numbers with 95 % intervals: a bootstrap over images, see :func:`gfocal.evaluation.ap_intervals`.

    Args:
        findings: of all images.
        resamples: sets of images to draw.
        seed: of these.
    """
    found = match_in_areas(findings)
    images = int(findings.kept.sum())
    drawn = resampled_weights(images, resamples if images > 1 else 0, seed)
    weights = np.concatenate([np.ones((1, images), np.int64), drawn])
    stats, per_class = {}, {}
    for area in AREAS:
        matches, places = found[area]
        ap, recalls = _of_classes(matches, places, weights)
        values = {"AP": ap.mean(2), "AP50": ap[..., 0], "AP75": ap[..., 5]}
        for name in _AP[area]:
            stats[name] = _interval(_class_mean(values[name if area == "all" else "AP"]))
        for name in _AR[area]:
            stats[name] = _interval(_class_mean(recalls[_LIMITS.get(name, 100)]))
        if area == "all":
            names = distinct(findings.index.names)
            per_class = {
                name: ClassAP(_interval(values["AP"][label]), _interval(values["AP50"][label]))
                for label, name in enumerate(names)
            }
    return Intervals({name: stats[name] for name in STATS}, per_class)


def _of_classes(matches: Matches, places: IntArray, weights: IntArray) -> tuple[FloatArray, dict[int, FloatArray]]:
    """(C, B, T) AP, and by limit the (C, B) recall, mean over T; NaN where none of the images drawn has the class."""
    classes = matches.objects.shape[1]
    ap = np.full((classes, len(weights), len(matches.right)), np.nan)
    recalls = {limit: np.full((classes, len(weights)), np.nan) for limit in (1, 10, 100)}
    for label, own in _by_class(matches.labels, classes):
        to_find = weights @ matches.objects[:, label]
        there = to_find > 0
        if not there.any():
            continue
        ap[label, there] = class_ap(matches, own, weights[there], to_find[there])
        for limit, recall in recalls.items():
            counted = own[places[own] < limit]
            right = matches.right[:, counted].mean(0)
            sums = np.bincount(matches.images[counted], right, weights.shape[1])
            recall[label, there] = (weights[there] @ sums) / to_find[there]
    return ap, recalls


def _by_class(labels: IntArray, classes: int) -> Iterator[tuple[int, IntArray]]:
    by_class = np.argsort(labels, kind="stable")  # within a class the order of the scores stays
    bounds = np.searchsorted(labels[by_class], np.arange(classes + 1))
    for label in range(classes):
        yield label, by_class[bounds[label] : bounds[label + 1]]


def _class_mean(values: FloatArray) -> FloatArray:
    """(B,) of (C, B): a class without objects among the images drawn has no say."""
    known = np.isfinite(values)
    sums, counts = np.where(known, values, 0.0).sum(0), known.sum(0)
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def _interval(values: FloatArray) -> Interval:
    """The first value is that of the images as they are; the middle of the others is moved there."""
    value = float(values[0])
    drawn = values[1:][np.isfinite(values[1:])]
    if math.isnan(value):
        return Interval(None)
    if not len(drawn):
        return Interval(value)
    low, high = np.percentile(drawn, (2.5, 97.5)) + value - drawn.mean()
    return Interval(value, float(max(low, 0.0)), float(min(high, 1.0)))

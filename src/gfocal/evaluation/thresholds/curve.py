"""Precision, recall and F1 as functions of the score from which on detections count."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gfocal.evaluation.ground_truth import BoolArray, FloatArray, IntArray
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.evaluation.thresholds.matching import Matching

THRESHOLDS: FloatArray = np.arange(1000) / 1000
"""What the best one is chosen among: three digits can be typed, and more of them say nothing on other images."""


@dataclass(frozen=True)
class Point:
    """What the detections that score higher than ``threshold`` come to.

    Attributes:
        threshold: as ``gfocal predict --score`` takes it; None: no detection passes.
        precision: share of the detections that are right; None without detections.
        recall: share of the objects that are found; None without objects.
        f1: harmonic mean of both, 2 right / (detections + objects); None without objects.
    """

    threshold: float | None
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Curve:
    """Counts at each of K scores, of one class or of several together; the highest score first.

    Attributes:
        scores: (K,) different, falling.
        right: (K,) detections of at least that score that found an object.
        detections: (K,) detections of at least that score; ignored ones do not count.
        objects: how many there are to find.
    """

    scores: FloatArray
    right: IntArray
    detections: IntArray
    objects: int

    @property
    def precision(self) -> FloatArray:
        """(K,) in [0, 1]."""
        return self.right / self.detections

    @property
    def recall(self) -> FloatArray:
        """(K,) in [0, 1]; NaN without objects."""
        return self.right / (self.objects or math.nan)

    @property
    def f1(self) -> FloatArray:
        """(K,) in [0, 1]; NaN without objects."""
        return 2 * self.right / (self.detections + (self.objects or math.nan))

    def best(self) -> Point:
        """Where F1 is largest among :data:`THRESHOLDS`; without objects, or a right detection, nothing passes."""
        return self.at(best_threshold(self.scores, self.f1_at(THRESHOLDS)))

    def at(self, threshold: float | None) -> Point:
        """What scores higher than ``threshold``; nothing does if it is None."""
        at = -1 if threshold is None else int(self._passing(np.array([threshold]))[0]) - 1
        right, count = (int(self.right[at]), int(self.detections[at])) if at >= 0 else (0, 0)
        recall, f1 = (right / self.objects, 2 * right / (count + self.objects)) if self.objects else (None, None)
        return Point(threshold, right / count if count else None, recall, f1)

    def f1_at(self, thresholds: FloatArray) -> FloatArray:
        """(T,) F1 of what scores higher than each of T thresholds; NaN without objects."""
        passing = self._passing(thresholds)
        right, count = (np.concatenate([[0], values])[passing] for values in (self.right, self.detections))
        return 2 * right / (count + (self.objects or math.nan))

    def _passing(self, thresholds: FloatArray) -> IntArray:
        """(T,) how many of ``scores`` are higher."""
        return np.searchsorted(-self.scores, -thresholds, side="left")


def best_threshold(scores: FloatArray, f1: FloatArray) -> float | None:
    """The threshold of the largest of ``f1`` (T,), which belong to :data:`THRESHOLDS`; None where all are 0 or NaN.

    Of several that let the same detections pass, the middle one: it is farthest from what would change that. Where
    all ``scores`` pass, the highest: what would score still lower was never asked for.
    """
    if not (f1 > 0).any():
        return None
    last = len(f1) - 1 - int(f1[::-1].argmax())  # of equal maxima that of the highest threshold
    passing = np.searchsorted(-np.sort(scores)[::-1], -THRESHOLDS, side="left")
    same = np.flatnonzero(passing == passing[last])
    return float(THRESHOLDS[same[-1] if passing[last] == len(scores) else same[len(same) // 2]])


def curves(findings: Findings, matching: Matching) -> tuple[list[Curve], Curve]:
    """C curves, one a class, and that of all classes together, where detections of absent classes count as wrong."""
    counted = ~matching.ignored
    labels = np.asarray(findings.index.labels)[matching.to_find].astype(np.int64)
    objects = np.bincount(labels, minlength=len(findings.index.names)).tolist()
    scores, right, found = findings.scores[counted], matching.right[counted], findings.labels[counted]
    by_class = np.argsort(found, kind="stable")
    ends = np.searchsorted(found[by_class], np.arange(len(objects) + 1))
    each = np.split(by_class, ends[1:-1])
    own = [_curve(scores[mine], right[mine], count) for mine, count in zip(each, objects, strict=True)]
    return own, _curve(scores, right, sum(objects))


def _curve(scores: FloatArray, found: BoolArray, objects: int) -> Curve:
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], found[order].astype(np.int64).cumsum()
    ends = np.flatnonzero(np.diff(scores, append=-math.inf))  # equal scores pass together
    return Curve(scores[ends], right[ends], ends + 1, objects)

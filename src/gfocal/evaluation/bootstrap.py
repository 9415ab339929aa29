"""How far a measure would move with other images of the same kind: a bootstrap over images."""

from __future__ import annotations

import numpy as np

from gfocal.evaluation.agreement import MIN_IOU, MIN_SCORE
from gfocal.evaluation.ground_truth import FloatArray, IntArray
from gfocal.evaluation.matches import IOUS, Matches

_RECALLS = np.linspace(0, 1, 101)
_AT_ONCE = 2_000_000
"""Ranks in memory at a time: 16 MB an array."""


def resampled_weights(images: int, resamples: int, seed: int = 0) -> IntArray:
    """(resamples, images): how often each image is drawn when as many are drawn with replacement."""
    generator = np.random.default_rng(seed)
    chance = np.full(images, 1 / images)
    return generator.multinomial(images, chance, size=resamples)


def weighted_ap(matches: Matches, weights: IntArray) -> FloatArray:
    """(B, T) average precision, mean over the classes, where image i counts ``weights[b, i]`` times.

    With all weights 1 this is COCO's AP (mean over T); a class without objects among the images drawn has no say.

    Args:
        matches: of the images.
        weights: (B, I) >= 0.
    """
    classes = matches.objects.shape[1]
    sums = np.zeros((len(weights), len(IOUS)))
    counts = np.zeros((len(weights), 1))
    by_class = np.argsort(matches.labels, kind="stable")  # within a class the order of the scores stays
    bounds = np.searchsorted(matches.labels[by_class], np.arange(classes + 1))
    for label in range(classes):
        to_find = weights @ matches.objects[:, label]
        there = to_find > 0
        if there.any():
            own = by_class[bounds[label] : bounds[label + 1]]
            sums[there] += class_ap(matches, own, weights[there], to_find[there])
            counts[there] += 1
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / counts)


def class_ap(matches: Matches, own: IntArray, weights: IntArray, to_find: IntArray) -> FloatArray:
    """(B, T) average precision of one class where image i counts ``weights[b, i]`` times.

    Args:
        matches: of the images.
        own: (N,) rows of the detections of the class, best score first.
        weights: (B, I) >= 0.
        to_find: (B,) > 0: objects of the class, as often as their images count.
    """
    result = np.zeros((len(weights), len(IOUS)))
    weight = weights[:, matches.images[own]]
    for t in range(len(IOUS)):
        right, counted = matches.right[t, own], ~matches.ignored[t, own]
        # Precision only peaks where something is found: the rest of the curve need not be looked at.
        seen = np.cumsum(weight * counted, axis=1)[:, right]
        found = np.cumsum(weight[:, right], axis=1)
        precision = found / np.maximum(seen, 1)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        # How many of the 101 recalls are reached up to each detection; compared as COCO does, as a float64 quotient.
        reached = np.searchsorted(_RECALLS, found / to_find[:, None], side="right")
        result[:, t] = (envelope * np.diff(reached, prepend=0, axis=1)).sum(1) / len(_RECALLS)
    return result


def weighted_correlation(matches: Matches, weights: IntArray) -> FloatArray:
    """(B,) correlation of score and IoU (Spearman) where image i counts ``weights[b, i]`` times.

    Exact: what :func:`~gfocal.evaluation.agreement.score_iou_correlation` says of a data set with that many copies of
    each image. Copies of a detection tie, so ranks follow from cumulative weights in one order of the scores and one
    of the IoUs, for all B: 15,000 matched detections and 200 resamples take 0.1 s.

    Args:
        matches: of the images.
        weights: (B, I) >= 0, whole numbers.

    Returns:
        In [-1, 1]; NaN with fewer than 3 matched boxes, or where all scores or all IoUs drawn are equal.
    """
    own = (matches.scores >= MIN_SCORE) & (matches.ious >= MIN_IOU)
    return weighted_spearman(matches.images[own], matches.scores[own], matches.ious[own], weights)


def weighted_spearman(images: IntArray, one: FloatArray, other: FloatArray, weights: IntArray) -> FloatArray:
    """(B,) Spearman's correlation of N pairs, where those of image i count ``weights[b, i]`` times.

    Args:
        images: (N,) row of the image of each pair.
        one, other: (N,) the values.
        weights: (B, I) >= 0, whole numbers.

    Returns:
        In [-1, 1]; NaN with fewer than 3 pairs, or where one side is constant.
    """
    result = np.full(len(weights), np.nan)
    if not len(images):
        return result
    sides = [np.unique(values, return_inverse=True)[1] for values in (one, other)]
    step = max(_AT_ONCE // len(images), 1)
    for first in range(0, len(weights), step):
        weight = weights[first : first + step, images].astype(np.float64)
        total = weight.sum(1, keepdims=True)
        x, y = (_weighted_ranks(group, weight) - (total + 1) / 2 for group in sides)
        norm = np.sqrt((weight * x * x).sum(1) * (weight * y * y).sum(1))
        there = (total[:, 0] >= 3) & (norm > 0)
        result[first : first + step][there] = ((weight * x * y).sum(1)[there] / norm[there]).clip(-1.0, 1.0)
    return result


def weighted_mean(images: IntArray, values: FloatArray, weights: IntArray) -> FloatArray:
    """(B,) mean of N values where those of image i count ``weights[b, i]`` times; NaN of none."""
    sums, counts = (np.bincount(images, own, weights.shape[1]) for own in (values, np.ones(len(images))))
    with np.errstate(invalid="ignore"):
        return np.asarray((weights @ sums) / (weights @ counts))


def _weighted_ranks(group: IntArray, weight: FloatArray) -> FloatArray:
    """(B, M) average ranks from 1 on; ``group`` (M,) numbers the distinct values from the smallest up."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sums = np.add.reduceat(weight[:, order], starts, axis=1)
    ranks: FloatArray = np.cumsum(sums, axis=1) - (sums - 1) / 2
    return ranks[:, group]


def ap_intervals(matches: Matches, *, resamples: int = 200, seed: int = 0) -> dict[str, tuple[float, float]]:
    """How far AP, AP50 and AP75 move: 95 % intervals; nothing for fewer than two images or no object.

    The middle of the resampled values is moved to the value itself: drawing an image twice counts its detections as
    confirmed, which lifts AP where a class has few objects, and that is no property of the detector.

    This is the spread over images. Another seed of the training moves AP too, and is not part of it.
    """
    images = len(matches.objects)
    if images < 2 or not matches.objects.sum():
        return {}
    weights = np.concatenate([np.ones((1, images), np.int64), resampled_weights(images, resamples, seed)])
    aps = weighted_ap(matches, weights)
    intervals = {}
    for name, values in (("AP", aps.mean(1)), ("AP50", aps[:, 0]), ("AP75", aps[:, 5])):
        low, high = np.nanpercentile(values[1:], (2.5, 97.5)) + values[0] - np.nanmean(values[1:])
        intervals[name] = (float(max(low, 0.0)), float(min(high, 1.0)))
    return intervals

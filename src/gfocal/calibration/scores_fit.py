"""Fitting a map of scores, and thresholds with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gfocal.calibration.features import IntArray, image_folds
from gfocal.calibration.quantiles import FloatArray
from gfocal.calibration.scores import TARGETS, Rule, ScoreCalibration, ScoreKind, Threshold, odds
from gfocal.errors import UsageError
from gfocal.utils.text import counted

FOLDS = 5
RESAMPLES = 200
_STEPS = 1000  # scores that thresholds are looked for at


@dataclass(frozen=True)
class ScoreSamples:
    """D detections, right and wrong, of I images; those in crowds or on ignored boxes have no say.

    Attributes:
        scores: (D,) in [0, 1].
        ious: (D,) IoU with the object that each found; 0 for none.
        images: (D,) row of each one's image.
        labels: (D,) class.
        objects: (I,) how many there are to find on each image.

    Raises:
        UsageError: shapes do not fit, or a number is not finite or out of range.
    """

    scores: FloatArray
    ious: FloatArray
    images: IntArray
    labels: IntArray
    objects: IntArray

    def __post_init__(self) -> None:
        if not self.scores.shape == self.ious.shape == self.images.shape == self.labels.shape == (len(self.scores),):
            raise UsageError("scores, ious, images and labels must have one shape, (D,)")
        for name, values in (("scores", self.scores), ("ious", self.ious)):
            if not ((values >= 0) & (values <= 1)).all():
                raise UsageError(f"{name} must lie between 0 and 1, and be numbers")

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def right(self) -> FloatArray:
        """(D,) 1 for those that found an object, else 0."""
        return (self.ious > 0).astype(np.float64)

    def targets(self, rule: Rule) -> FloatArray:
        """(D,) what calibrated scores are the mean of."""
        return self.ious if rule == "iou" else self.right

    def of_images(self, kept: np.ndarray) -> ScoreSamples:
        """Those of the images ``kept`` (I,), as if there were no others."""
        mine = kept[self.images]
        rows = (np.cumsum(kept) - 1)[self.images[mine]]
        return ScoreSamples(self.scores[mine], self.ious[mine], rows, self.labels[mine], self.objects[kept])


def fit_scores(
    samples: ScoreSamples, rule: Rule = "right", *, seed: int = 0, resamples: int = RESAMPLES
) -> ScoreCalibration:
    """A monotone map of scores to chances: isotonic or Platt's, whichever has the smaller Brier score on unseen images.

    Args:
        samples: detections of images that the detector did not learn from.
        rule: what a score shall be the mean of.
        seed: of the folds and of resampled images.
        resamples: sets of images for the intervals of thresholds.

    Raises:
        UsageError: there is no detection, or only one image with some.
    """
    images = len(np.unique(samples.images))
    if images < 2:
        raise UsageError(
            f"{counted(len(samples), 'detection')} on {counted(images, 'picture')}: scores are calibrated on two or "
            "more pictures with detections"
        )
    target = samples.targets(rule)
    fold = image_folds(samples.images, FOLDS, seed)
    kinds: tuple[ScoreKind, ...] = ("isotonic", "platt")
    candidates = {kind: _brier(kind, samples.scores, target, fold) for kind in kinds}
    best = min(kinds, key=lambda kind: candidates[kind])
    precision, recall = _thresholds(samples, resamples, seed)
    x, y, slope, offset = _fit(best, samples.scores, target)
    return ScoreCalibration(
        kind=best,
        rule=rule,
        x=x,
        y=y,
        slope=slope,
        offset=offset,
        candidates={str(kind): value for kind, value in candidates.items()},
        detections=len(samples),
        precision=precision,
        recall=recall,
    )


def cross_fitted_scores(samples: ScoreSamples, rule: Rule, *, seed: int = 0) -> FloatArray:
    """(D,) calibrated scores, each by a map that has not seen its image, nor was chosen by it."""
    fold = image_folds(samples.images, FOLDS, seed + 1000)
    found = np.empty(len(samples))
    of_image = np.zeros(len(samples.objects), np.int64)
    of_image[samples.images] = fold
    for own in np.unique(fold):
        fitted = fit_scores(samples.of_images(of_image != own), rule, seed=seed, resamples=0)
        found[fold == own] = fitted.of(samples.scores[fold == own])
    return found


def _fit(
    kind: ScoreKind, scores: FloatArray, target: FloatArray
) -> tuple[tuple[float, ...], tuple[float, ...], float, float]:
    if kind == "platt":
        return (), (), *fit_platt(scores, target)
    x, y = fit_isotonic(scores, target)
    return tuple(x.tolist()), tuple(y.tolist()), 0.0, 0.0


def _brier(kind: ScoreKind, scores: FloatArray, target: FloatArray, fold: IntArray) -> float:
    errors = np.empty(len(scores))
    for own in np.unique(fold):
        mine = fold == own
        x, y, slope, offset = _fit(kind, scores[~mine], target[~mine])
        fitted = ScoreCalibration(kind, "right", x, y, slope, offset, {}, 0)
        errors[mine] = fitted.of(scores[mine]) - target[mine]
    return float((errors**2).mean())


def fit_isotonic(scores: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The non-decreasing function of the score with the smallest squared error, by pooling adjacent violators.

    Args:
        scores: (N,), at least one.
        target: (N,).

    Returns:
        (K,) scores, ascending, and (K,) values: the first and the last score of each pool.
    """
    known, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(place, target) / counts
    sums, sizes, starts = [0.0] * len(known), [0.0] * len(known), [0] * len(known)
    last = -1
    for i, (mean, count) in enumerate(zip(means.tolist(), counts.tolist(), strict=True)):
        last += 1
        sums[last], sizes[last], starts[last] = mean * count, float(count), i
        while last > 0 and sums[last - 1] * sizes[last] >= sums[last] * sizes[last - 1]:
            sums[last - 1] += sums[last]
            sizes[last - 1] += sizes[last]
            last -= 1
    ends = [*(start - 1 for start in starts[1 : last + 1]), len(known) - 1]
    x, y = [], []
    for k in range(last + 1):
        value = min(max(sums[k] / sizes[k], 0.0), 1.0)
        for i in dict.fromkeys((starts[k], ends[k])):
            x.append(float(known[i]))
            y.append(value)
    return np.array(x), np.array(y)


def fit_platt(scores: FloatArray, target: FloatArray) -> tuple[float, float]:
    """Slope and offset of the logistic curve of a score's odds that is likeliest; the slope is above 0.

    Targets are drawn towards one half by as much as one detection of each kind, so that the curve stays finite where
    all are right or all are wrong.

    Source:
        J. Platt, "Probabilistic Outputs for Support Vector Machines", 1999.
    """
    design = np.stack([odds(scores), np.ones(len(scores))], 1)
    softened = (target * len(target) + 1) / (len(target) + 2)
    weights = np.array([1.0, 0.0])
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights, -60, 60)))
        curve = (design * (chance * (1 - chance))[:, None]).T @ design + 1e-6 * np.eye(2)
        step = np.clip(np.linalg.solve(curve, design.T @ (softened - chance)), -1, 1)
        weights += step
        if np.abs(step).max() < 1e-10:
            break
    return float(max(weights[0], 1e-3)), float(weights[1])


def _thresholds(
    samples: ScoreSamples, resamples: int, seed: int
) -> tuple[tuple[Threshold, ...], tuple[Threshold, ...]]:
    """For each of the targets: of all images, and of sets of images that are drawn with replacement."""
    count = len(samples.objects)
    step = np.minimum((samples.scores * _STEPS).astype(np.int64), _STEPS - 1)
    random = np.random.default_rng(seed)
    drawn = (np.bincount(random.integers(0, count, count), minlength=count) for _ in range(resamples))
    sets = []
    for times in (np.ones(count), *drawn):
        weights = np.asarray(times, np.float64)[samples.images]
        all_, right = (_by_step(step, own) for own in (weights, weights * samples.right))
        sets.append(_one_set(all_, right, float(times @ samples.objects)))
    found = np.array(sets)  # (1 + R, 2, T)
    columns = found.transpose(1, 2, 0)
    precision, recall = (tuple(_with_interval(row) for row in kind) for kind in columns)
    return precision, recall


def _by_step(step: IntArray, weights: FloatArray) -> FloatArray:
    return np.asarray(np.bincount(step, weights, _STEPS), np.float64)


def _one_set(all_: FloatArray, right: FloatArray, objects: float) -> FloatArray:
    """(2, T) thresholds in [0, 1) for precision and recall; NaN where out of reach."""
    above = np.cumsum(all_[::-1])[::-1]
    found = np.cumsum(right[::-1])[::-1]
    precision = np.where(above > 0, found / np.maximum(above, 1), -1.0)
    recall = found / max(objects, 1.0)
    thresholds = np.full((2, len(TARGETS)), np.nan)
    for i, target in enumerate(TARGETS):
        enough = np.flatnonzero(precision >= target)
        thresholds[0, i] = enough[0] / _STEPS if len(enough) else np.nan
        enough = np.flatnonzero(recall >= target)
        thresholds[1, i] = enough[-1] / _STEPS if len(enough) else np.nan
    return thresholds


def _with_interval(values: FloatArray) -> Threshold:
    """The first is of all images, the others of resampled ones."""
    score = None if np.isnan(values[0]) else float(values[0])
    drawn = values[1:]
    if score is None or not len(drawn) or np.isnan(drawn).mean() > 0.05:
        return Threshold(score)
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return Threshold(score, float(low), float(high))

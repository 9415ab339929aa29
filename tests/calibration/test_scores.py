"""Scores that are chances: isotonic and Platt's by hand and beside loops, order kept, thresholds, extremes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from gfocal.calibration import ScoreSamples, cross_fitted_scores, d_ece, fit_scores, la_ece
from gfocal.calibration.scores import TARGETS, ScoreCalibration
from gfocal.calibration.scores_fit import fit_isotonic, fit_platt
from gfocal.errors import UsageError
from oracles import calibration as oracle


def made(count: int = 3000, seed: int = 0, power: float = 2.0) -> ScoreSamples:
    """A score of s is right with the chance s ** power."""
    random = np.random.default_rng(seed)
    scores = np.round(random.uniform(0, 1, count), 4)
    ious = np.where(random.random(count) < scores**power, random.uniform(0.5, 1, count), 0)
    return ScoreSamples(scores, ious, np.arange(count) // 10, random.integers(0, 3, count), np.full(count // 10, 6))


def test_isotonic_by_hand() -> None:
    # 0.2 and 0.3 violate (1 > 0): pooled to 1/2; 0.1 stays 0, 0.9 stays 1.
    x, y = fit_isotonic(np.array([0.9, 0.1, 0.3, 0.2]), np.array([1.0, 0, 0, 1]))
    assert x.tolist() == [0.1, 0.2, 0.3, 0.9]
    assert y.tolist() == [0, 0.5, 0.5, 1]
    x, y = fit_isotonic(np.array([0.5, 0.5, 0.7]), np.array([0.0, 1, 0]))
    assert (x.tolist(), y.tolist()) == ([0.5, 0.7], [1 / 3, 1 / 3])


@pytest.mark.parametrize("seed", range(6))
def test_isotonic_is_that_of_loops(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = np.round(random.random(40), seed % 3 + 1)
    targets = (random.random(40) < scores).astype(float) if seed % 2 else random.random(40)
    x, y = fit_isotonic(scores, targets)
    expected = oracle.isotonic(scores.tolist(), targets.tolist())
    found = np.interp(sorted(expected), x, y)
    assert found == pytest.approx([expected[score] for score in sorted(expected)], abs=1e-12)


def test_platt_finds_the_curve_that_was_drawn_from() -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(0.02, 0.98, 40000)
    chance = 1 / (1 + np.exp(-(1.7 * np.log(scores / (1 - scores)) - 1.2)))
    slope, offset = fit_platt(scores, (random.random(40000) < chance).astype(float))
    assert (slope, offset) == pytest.approx((1.7, -1.2), abs=0.05)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_all_right_or_all_wrong_stay_finite(target: float) -> None:
    samples = ScoreSamples(
        np.linspace(0, 1, 40), np.full(40, target), np.arange(40) // 4, np.zeros(40, int), np.full(10, 4)
    )
    found = fit_scores(samples, resamples=10)
    mapped = found.of(np.array([0.0, 0.3, 1.0]))
    assert np.isfinite(mapped).all()
    assert np.abs(mapped - target).max() < 0.1
    assert (np.diff(mapped) > 0).all()


@pytest.mark.parametrize("kind", ["isotonic", "platt"])
def test_the_order_of_scores_is_kept(kind: Any) -> None:
    """Neighbours in single precision, pools of equal chances, scores beyond those that were fitted on."""
    x, y = fit_isotonic(np.array([0.2, 0.3, 0.4, 0.6]), np.array([0.0, 1, 0, 0]))
    found = ScoreCalibration(kind, "right", tuple(x), tuple(y), 0.7, -2.0, {}, 4)
    start = np.float32([0.001, 0.1, 0.25, 0.35, 0.5, 0.9, 0.999])
    raw = np.unique(np.concatenate([start, np.nextafter(start, np.float32(1)), [np.float32(1)]]))
    mapped = found.of(raw)
    assert (np.diff(mapped) > 0).all()
    assert mapped.dtype == np.float64
    assert 0 <= mapped.min() <= mapped.max() <= 1


def test_calibrated_scores_are_chances_on_new_images() -> None:
    samples, new = made(), made(seed=7)
    found = fit_scores(samples)
    before, after = (d_ece(scores, new.right) for scores in (new.scores, found.of(new.scores)))
    assert before > 0.15
    assert after < 0.3 * before
    own = cross_fitted_scores(samples, "right")
    assert d_ece(own, samples.right) < 0.25 * before
    by_iou = fit_scores(samples, "iou")
    assert la_ece(by_iou.of(new.scores), new.ious, new.labels) < la_ece(found.of(new.scores), new.ious, new.labels)


def test_the_kind_is_chosen_on_unseen_images() -> None:
    smooth, stepped = made(400, power=1.3), made(4000)
    stepped = ScoreSamples(
        stepped.scores,
        np.where(np.random.default_rng(0).random(4000) < np.where(stepped.scores > 0.5, 0.6, 0.1), 0.8, 0),
        stepped.images,
        stepped.labels,
        stepped.objects,
    )
    assert fit_scores(smooth).kind == "platt"
    assert fit_scores(stepped).kind == "isotonic"


def test_thresholds_are_those_of_loops() -> None:
    samples = made(300)
    found = fit_scores(samples, resamples=20)
    right, objects = (samples.ious > 0).tolist(), int(samples.objects.sum())
    for target in (0.05, 0.5, 0.73, 0.9, 0.99):
        by = {"scores": samples.scores.tolist(), "right": right, "objects": objects}
        expected = oracle.threshold(**by, precision=target, recall=None)  # type: ignore[arg-type]
        assert found.threshold_for(precision=target).score == expected
        expected = oracle.threshold(**by, precision=None, recall=target)  # type: ignore[arg-type]
        assert found.threshold_for(recall=target).score == expected
    assert found.threshold_for(precision=0.895) == found.threshold_for(precision=0.9)
    assert TARGETS[0] == 0.01


def test_intervals_of_thresholds_hold_them() -> None:
    found = fit_scores(made(6000), resamples=200)
    for row in (found.threshold_for(precision=0.6), found.threshold_for(recall=0.4)):
        assert row.score is not None
        assert row.low is not None
        assert row.high is not None
        assert row.low <= row.score <= row.high
        assert row.high - row.low < 0.1
    # The chance of a score above t to be right is (1 - t^3) / (3 (1 - t)): 0.6 at t = 0.525.
    own = found.threshold_for(precision=0.6)
    assert own.low <= 0.525 <= own.high  # type: ignore[operator]
    far = fit_scores(made(300), resamples=50).threshold_for(recall=0.99)
    assert (far.score, far.low, far.high) == (None, None, None)


@pytest.mark.parametrize("options", [{}, {"precision": 0.9, "recall": 0.5}])
def test_one_of_precision_and_recall(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="one of them"):
        fit_scores(made(200), resamples=0).threshold_for(**options)


@pytest.mark.parametrize("value", [0, 1, -1, math.nan, "high"])
def test_targets_out_of_range(value: Any) -> None:
    with pytest.raises(UsageError, match="precision must be"):
        fit_scores(made(200), resamples=0).threshold_for(precision=value)


def test_too_few_images_are_refused() -> None:
    none = np.zeros(0)
    with pytest.raises(UsageError, match="0 detections on 0 pictures"):
        fit_scores(ScoreSamples(none, none, none.astype(int), none.astype(int), np.array([3, 1])))
    with pytest.raises(UsageError, match="10 detections on 1 picture:"):
        fit_scores(made(20).of_images(np.array([True, False])))


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1])
def test_scores_that_are_none_are_refused(bad: float) -> None:
    own = made(20)
    scores = own.scores.copy()
    scores[4] = bad
    with pytest.raises(UsageError, match="scores must lie"):
        ScoreSamples(scores, own.ious, own.images, own.labels, own.objects)


def test_images_alone() -> None:
    samples = made(40)
    kept = samples.of_images(np.array([False, True, False, True]))
    assert kept.images.tolist() == [0] * 10 + [1] * 10
    assert np.array_equal(kept.scores, np.concatenate([samples.scores[10:20], samples.scores[30:]]))
    assert len(kept.objects) == 2

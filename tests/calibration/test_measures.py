"""Calibration errors, interval scores and shares, by hand and beside loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gfocal.calibration import d_ece, interval_score, la_ece, lrp, share_of
from gfocal.calibration.measures import inside
from oracles import calibration as oracle


def test_interval_score_by_hand() -> None:
    # Width 4; 1 below at 90 %: 4 + 2 / 0.1 x 1 = 24; 0.5 above at 50 %: 4 + 4 x 0.5 = 6.
    assert interval_score(np.array([2.0, 6.0]), np.array(1.0), 0.9) == pytest.approx(24)
    assert interval_score(np.array([2.0, 6.0]), np.array(6.5), 0.5) == pytest.approx(6)
    assert interval_score(np.array([2.0, 6.0]), np.array(6.0), 0.5) == 4


def test_the_interval_score_is_smallest_at_the_true_quantiles() -> None:
    truth = np.random.default_rng(0).normal(size=200000)
    cost = {
        half: float(interval_score(np.array([-half, half]), truth, 0.9).mean()) for half in np.arange(1.2, 2.2, 0.05)
    }
    assert min(cost, key=lambda half: cost[half]) == pytest.approx(1.645, abs=0.06)


def test_ends_are_inside() -> None:
    found = np.array([[0.0, 2], [0, 2], [0, 2], [np.float32(0.1), 2]])
    assert inside(found, np.array([0, 2, 2.1, 0.1])).tolist() == [True, True, False, True]


def test_d_ece_by_hand() -> None:
    # Two bins: (0.2 + 0.4) / 2 against 1 of 2 right: 0.2; 0.9 against 1: 0.1. (2 x 0.2 + 0.1) / 3.
    assert d_ece(np.array([0.2, 0.4, 0.9]), np.array([0.0, 1, 1]), 2) == pytest.approx(0.5 / 3)
    assert d_ece(np.array([1.0]), np.array([1.0])) == 0
    assert math.isnan(d_ece(np.zeros(0), np.zeros(0)))


@pytest.mark.parametrize("seed", range(3))
def test_d_ece_is_that_of_loops(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores, right = random.random(80), (random.random(80) < 0.4).astype(float)
    assert d_ece(scores, right, 10) == pytest.approx(oracle.d_ece(scores.tolist(), right.tolist(), 10))


def test_la_ece_is_the_mean_over_classes() -> None:
    # Class 0: a score of 0.8 and an IoU of 0.7; class 4: two of 0.5, one finds an object by 0.6: mean 0.3.
    scores, ious = np.array([0.8, 0.5, 0.5]), np.array([0.7, 0.6, 0])
    assert la_ece(scores, ious, np.array([0, 4, 4])) == pytest.approx((0.1 + 0.2) / 2)
    assert math.isnan(la_ece(np.zeros(0), np.zeros(0), np.zeros(0, int)))


def test_lrp_by_hand() -> None:
    # IoUs 1 and 0.75: 0 + 0.5; one wrong, two missed: (0.5 + 1 + 2) / 5.
    assert lrp(np.array([1.0, 0.75, 0]), 2) == pytest.approx(3.5 / 5)
    assert lrp(np.zeros(0), 3) == 1
    assert lrp(np.ones(4), 0) == 0
    assert math.isnan(lrp(np.zeros(0), 0))


def test_boxes_of_an_image_count_together() -> None:
    """40 images of 10 boxes that are all inside or all outside are worth 40, not 400."""
    hits = np.repeat(np.arange(40) % 4 > 0, 10)
    alike = share_of(hits, np.repeat(np.arange(40), 10))
    apart = share_of(hits, np.arange(400))
    assert alike.share == apart.share == 0.75
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * math.sqrt(0.75 * 0.25 / 400), rel=0.03)
    assert (alike.high - alike.low) / (apart.high - apart.low) == pytest.approx(math.sqrt(10), rel=0.1)


def test_shares_of_little() -> None:
    assert math.isnan(share_of(np.zeros(0, bool), np.zeros(0, int)).share)
    assert (share_of(np.zeros(0, bool), np.zeros(0, int)).low, share_of(np.zeros(0, bool), np.zeros(0, int)).high) == (
        0,
        1,
    )
    all_ = share_of(np.ones((10, 4), bool), np.arange(10) // 2)
    assert (all_.share, all_.high, all_.count) == (1, 1, 40)
    assert all_.low == pytest.approx(5 / (5 + 1.96**2), abs=0.01), "Wilson's, of five images"


def test_intervals_of_shares_hold_the_true_one() -> None:
    """Images with chances of their own, 1,000 times: about 95 % of the intervals hold the mean chance."""
    random, held = np.random.default_rng(0), 0
    for _ in range(1000):
        images = np.repeat(np.arange(60), random.integers(1, 12, 60))
        chance = random.beta(9, 1, 60)[images]
        found = share_of(random.random(len(images)) < chance, images)
        held += found.low <= 0.9 <= found.high
    assert 0.92 <= held / 1000 <= 0.98

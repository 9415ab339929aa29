"""Conformal quantiles: worked by hand, beside loops in fractions, and coverage where scores are exchangeable."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from gfocal.calibration import box_table, conformal_quantile, edge_table
from gfocal.calibration.quantiles import LEVELS, conformal_rank, level_index
from gfocal.errors import UsageError
from oracles import calibration as oracle


def test_by_hand() -> None:
    # 9 scores: the place of 0.9 is ceil(10 x 0.9) = 9, of 0.5 it is 5, of 0.91 it would be 10, which is not there.
    scores = np.arange(1.0, 10.0)[::-1]
    assert conformal_quantile(scores, 0.9) == 9
    assert conformal_quantile(scores, 0.5) == 5
    assert conformal_quantile(scores, 0.91) == math.inf
    assert conformal_quantile(scores, 0.01) == 1
    assert conformal_quantile(np.array([]), 0.5) == math.inf
    assert conformal_rank(1, 0.5) == 1
    assert conformal_rank(19, 0.95) == 19, "20 x 0.95 is 19, not 19.000000000000004"


@pytest.mark.parametrize("count", [1, 2, 5, 19, 20, 99, 100, pytest.param(200, marks=pytest.mark.slow)])
def test_tables_are_those_of_loops(count: int) -> None:
    random = np.random.default_rng(count)
    scores = np.round(random.exponential(size=(count, 4)), 1)  # ties, and zeros
    scores[:, 1] *= 100
    edges, boxes = edge_table(scores), box_table(scores)
    for i, level in enumerate(LEVELS):
        share = Fraction(str(level))
        assert edges[:, i].tolist() == [oracle.conformal_quantile(scores[:, k].tolist(), share) for k in range(4)]
        assert boxes[:, i].tolist() == oracle.box_quantiles(scores.tolist(), share)


def test_a_higher_level_holds_all_of_a_lower_one() -> None:
    scores = np.random.default_rng(0).exponential(size=(150, 4))
    for table in (edge_table(scores), box_table(scores)):
        assert (table[:, 1:] >= table[:, :-1]).all()
    assert (box_table(scores) >= edge_table(scores)).all()


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_new_scores_stay_below_as_often_as_promised(level: float) -> None:
    """29 scores and one more, 4,000 times: never less than promised, nor more than 1 / 30 above, beyond chance."""
    random, times, count = np.random.default_rng(1), 4000, 29
    hits = boxes = 0
    place = LEVELS.index(level)
    for _ in range(times):
        own = random.standard_cauchy((count + 1, 4)) ** 2 * random.exponential(size=(count + 1, 1))
        hits += own[-1, 0] <= conformal_quantile(own[:-1, 0], level)
        boxes += (own[-1] <= box_table(own[:-1])[:, place]).all()
    chance = 4 * math.sqrt(level * (1 - level) / times)
    assert level - chance <= hits / times <= level + 1 / (count + 1) + chance
    # The ranks of the max-rank rule are those among the 29 alone: with so few, a little is lost.
    assert level - chance - 2 / (count + 1) <= boxes / times <= level + 1 / (count + 1) + chance


@pytest.mark.parametrize("level", [0, 1, -0.1, 0.9995, float("nan"), "0.9", None, True])
def test_levels_out_of_range_are_refused(level: object) -> None:
    with pytest.raises(UsageError, match="level must be"):
        conformal_quantile(np.ones(3), level)  # type: ignore[arg-type]


def test_levels_between_two_are_the_higher_one() -> None:
    assert LEVELS[level_index(0.901)] == 0.91
    assert LEVELS[level_index(0.9)] == 0.9
    assert LEVELS[level_index(np.float32(0.9))] == 0.9
    assert LEVELS[level_index(1e-9)] == 0.01
    assert LEVELS[level_index(0.9991 - 0.0001)] == 0.999


@pytest.mark.parametrize("scores", [np.array([1.0, np.nan]), np.array([np.inf]), np.ones((2, 2))])
def test_scores_that_are_none_are_refused(scores: np.ndarray) -> None:
    with pytest.raises(UsageError, match="finite"):
        conformal_quantile(scores, 0.9)

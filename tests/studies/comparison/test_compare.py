"""Intervals of differences: the right variances, degrees of freedom and coverage; else nothing is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from gfocal.errors import GfocalError
from gfocal.evaluation import resampled_weights
from gfocal.studies.comparison.compare import (
    RunMeasure,
    Runs,
    SeedNoise,
    contrast,
    difference,
    seed_noise,
)
from gfocal.studies.comparison.findings import Difference


def flat(*values: float | None, sets: int = 20) -> Runs:
    """Runs of seeds 0, 1, ... whose value is the same on all images."""
    return {seed: RunMeasure(value, np.full(sets, value or 0.0)) for seed, value in enumerate(values)}


def steadily(*values: float) -> Runs:
    """Runs whose value hardly depends on the images."""
    return {s: RunMeasure(v, v + 1e-4 * np.sin(np.arange(20) + 7 * s + 100 * v)) for s, v in enumerate(values)}


def spread(value: float, noise: list[float], seed: int = 0) -> Runs:
    return {seed: RunMeasure(value, value + np.array(noise))}


NOISE = np.random.default_rng(5).normal(0, 0.01, (4, 2, 200))


def rows(means: list[list[float]]) -> list[Runs]:
    """Rows x seeds, with bootstrap spreads of their own."""
    return [
        {seed: RunMeasure(mean, mean + NOISE[row, seed]) for seed, mean in enumerate(seeds)}
        for row, seeds in enumerate(means)
    ]


def test_over_images_alone() -> None:
    a, b = spread(0.5, [0.01, -0.01, 0.02, 0.0]), spread(0.3, [0.02, -0.02, 0.0, 0.01])
    paired = np.std([-0.01, 0.01, 0.02, -0.01], ddof=1)
    half = stats.t.ppf(0.975, 3) * paired
    found = difference(a, b)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.2 - half, 0.2 + half))
    assert found.by == "pictures"
    wide = difference(a, b, level=0.99)
    assert wide is not None
    assert wide.high - 0.2 == pytest.approx(stats.t.ppf(0.995, 3) * paired)
    back = difference(b, a)
    assert back is not None
    assert (back.low, back.high) == pytest.approx((-0.2 - half, -0.2 + half))


def test_over_images_and_seeds() -> None:
    a, b = rows([[0.50, 0.54], [0.40, 0.41]])
    found = difference(a, b, SeedNoise(variance=0.0004, dof=3))
    assert found is not None
    images = np.var((NOISE[0] - NOISE[1]).mean(0), ddof=1)
    seeds = 2 * 0.0004 / 2
    dof = (images + seeds) ** 2 / (images**2 / 199 + seeds**2 / 3)
    half = stats.t.ppf(0.975, dof) * math.sqrt(images + seeds)
    assert 3 < dof < 10
    assert (found.value, found.low, found.high) == pytest.approx((0.115, 0.115 - half, 0.115 + half))
    assert found.by == "pictures and seeds"


def test_four_rows_have_twice_the_noise_of_seeds() -> None:
    many = rows([[0.5, 0.5], [0.4, 0.4], [0.4, 0.4], [0.3, 0.3]])
    signs = [1.0, -1.0, -1.0, 1.0]
    found = contrast(list(zip(signs, many, strict=True)), SeedNoise(100.0, 2))
    assert found is not None
    assert found.value == pytest.approx(0.0)
    assert found.high == pytest.approx(stats.t.ppf(0.975, 2) * math.sqrt(100 * 4 / 2), rel=1e-3)


def test_only_seeds_that_both_rows_have() -> None:
    a, b = rows([[0.5, 0.9], [0.4, 0.7]])
    for less in (
        {0: b[0]},
        {0: b[0], 1: RunMeasure(None, b[1].resampled)},
        {0: b[0], 1: RunMeasure(math.nan, NOISE[0, 0])},
    ):
        found = difference(a, less)
        assert found is not None
        assert found.value == pytest.approx(0.1)
        assert found == difference({0: a[0]}, {0: b[0]})
    assert difference(a, {}) is None
    assert difference({0: a[0]}, {1: b[1]}) is None
    assert difference(a, flat(None, None)) is None


def test_where_nothing_can_be_said() -> None:
    one_image = flat(0.5, 0.6), flat(0.4, 0.6)
    assert difference(*one_image, SeedNoise(0.01, 3)) is None
    assert difference(flat(0.5), flat(0.4)) is None
    undefined = {0: RunMeasure(0.5, np.array([0.5, np.nan, np.nan, np.nan, 0.4]))}
    assert difference(undefined, flat(0.4, sets=5)) is None
    assert difference({0: RunMeasure(0.5, np.array([0.4]))}, flat(0.4, sets=1)) is None


def test_sets_without_a_value_are_left_out() -> None:
    a = {0: RunMeasure(0.5, np.array([0.5, np.nan, 0.7, 0.4]))}
    found = difference(a, flat(0.4, sets=4))
    assert found is not None
    assert found.high - 0.1 == pytest.approx(stats.t.ppf(0.975, 2) * np.std([0.5, 0.7, 0.4], ddof=1))


def test_the_same_runs_twice() -> None:
    a, _ = rows([[0.5, 0.7], [0.4, 0.7]])
    assert difference(a, a, SeedNoise(0.01, 3)) == Difference(0.0, 0.0, 0.0, "pictures and seeds")
    assert difference(a, a) == Difference(0.0, 0.0, 0.0, "pictures")


def test_runs_resampled_otherwise() -> None:
    with pytest.raises(GfocalError, match="10 and 20 resampled sets"):
        difference(flat(0.5, sets=10), flat(0.4))


def test_noise_of_a_full_block_design() -> None:
    values = np.random.default_rng(1).normal(0, 1, (5, 3)) + np.arange(5)[:, None] * 7 + np.arange(3) * 11
    residuals = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    found = seed_noise(flat(*row) for row in values.tolist())
    assert found is not None
    assert found.dof == 4 * 2
    assert found.variance == pytest.approx((residuals**2).sum() / 8)


def test_noise_of_a_study_that_was_cut_off() -> None:
    # Rows with one seed say nothing, whatever their value; with the others the noise is that of their block.
    full = [flat(0.5, 0.6), flat(0.4, 0.46), flat(0.1, 0.22)]
    known = seed_noise(full)
    assert known is not None
    assert known.dof == 2
    again = seed_noise([*full, flat(0.9), flat(None, 0.2), {}, flat(math.nan, None)])
    assert again is not None
    assert (again.dof, again.variance) == (2, pytest.approx(known.variance))


@pytest.mark.parametrize("runs", [[], [{}], [flat(0.5, 0.7)], [flat(0.5), flat(0.4)], [flat(0.5), {1: flat(0.3)[0]}]])
def test_noise_that_is_not_known(runs: list[Runs]) -> None:
    assert seed_noise(runs) is None


def test_coverage() -> None:
    """Of studies with noise from images and seeds, 95 % of the intervals hold the true difference.

    400 studies of 4 rows and 2 seeds; a run's value is a mean over 60 images of what its row finds there, plus noise.
    """
    rng = np.random.default_rng(1)
    weights = resampled_weights(60, 100) / 60
    truth, studies = 0.02, 400
    inside = {"both": 0, "pictures": 0}
    for _ in range(studies):
        images = rng.normal(0.5, 0.2, 60) + rng.normal(0, 0.05, (4, 60))  # easy for all rows, easy for one
        images[0] += truth
        shared = rng.normal(0, 0.05, 2)  # what a seed does to all rows
        noise = shared + rng.normal(0, 0.015, (4, 2))
        study = [
            {seed: RunMeasure(row.mean() + own, weights @ row + own) for seed, own in enumerate(each)}
            for row, each in zip(images, noise, strict=True)
        ]
        for name, known in (("both", seed_noise(study)), ("pictures", None)):
            found = difference(study[0], study[1], known)
            assert found is not None
            inside[name] += found.low <= truth <= found.high
    # The standard error of a share of 0.95 in 400 is 0.011.
    assert 0.92 < inside["both"] / studies < 0.98
    assert inside["pictures"] / studies < 0.75, "seeds that are ignored make an interval too narrow"


def test_a_row_that_some_seeds_upset_does_not_blur_the_others() -> None:
    generator = np.random.default_rng(3)
    steady = [steadily(*(0.4 + 0.005 * generator.standard_normal(2))) for _ in range(12)]
    upset = steadily(0.45, 0.60)
    known = seed_noise(steady)
    assert known is not None
    again = seed_noise([*steady[:4], upset, *steady[4:]])
    assert again is not None
    assert (again.variance, again.dof) == pytest.approx((known.variance, known.dof))
    assert math.sqrt(known.variance) == pytest.approx(0.005, rel=0.6)
    # In its own differences it counts with its own spread, of one degree of freedom.
    found = difference(upset, steady[0], known)
    assert found is not None
    assert found.high - found.low > 0.9 * 2 * 12.7 * np.std([0.45, 0.60], ddof=1) / math.sqrt(2)
    # Two rows cannot tell which of them is upset.
    two = seed_noise([steady[0], upset])
    assert two is not None
    assert two.variance > 0.001


def test_rows_of_one_spread_are_all_kept() -> None:
    """The rule hardly ever takes a row out of a study whose rows are alike, however far a seed moves all of them."""
    generator = np.random.default_rng(4)
    out = 0
    for _ in range(200):
        seeds = 10 * generator.standard_normal(2)
        rows = [flat(*(seeds + generator.standard_normal(2))) for _ in range(16)]
        found = seed_noise(rows)
        assert found is not None
        out += found.dof < 15
    assert out <= 8

"""Quantiles of Student's t against scipy."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from gfocal.studies.comparison.t_distribution import t_quantile


@pytest.mark.parametrize("dof", [1, 1.01, 1.4, 2, 2.5, 7, 30, 299, 5000.5, 999_999, 1e6, math.inf])
def test_quantiles(dof: float) -> None:
    for level in (0.05, 0.5, 0.9, 0.95, 0.99, 1 - 0.05 / 15):
        assert t_quantile(level, dof) == pytest.approx(stats.t.ppf((1 + level) / 2, dof), rel=1e-5)


@pytest.mark.parametrize(("level", "dof"), [(0.95, 0.5), (0.0, 3), (1.0, 3), (95, 3), (0.95, math.nan)])
def test_what_has_no_quantile(level: float, dof: float) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        t_quantile(level, dof)

"""A study's numbers and verdicts as a reader sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gfocal.report.numbers import NONE, minus, points, signed, signed_share

VERDICTS = {"holds": "holds", "does not": "does not hold", "cannot tell": "cannot tell at this budget"}
SHORT = {"holds": "holds", "does not": "does not hold", "cannot tell": "cannot tell"}
MARKS = {"holds": "✓", "does not": "✗", "cannot tell": "?"}
"""Beside the words, so that colour is never all there is."""
SPREADS = {
    "pictures": "pictures",
    "pictures and seeds": "pictures and seeds",
    "timing": "repeated timing",
    "nothing": NONE,
}


def printed(value: float | None) -> str:
    """A figure of the paper, which is in percent already."""
    return NONE if value is None else f"{value:.1f}"


def with_spread(statistic: Mapping[str, Any] | None, measure: str = "AP") -> str:
    """Mean and spread over seeds: 61.2 ± 0.4; the mean alone of one seed."""
    if statistic is None:
        return NONE
    if measure == "correlation":
        mean, spread = _decimals(statistic["mean"]), _decimals(statistic["spread"])
    else:
        mean, spread = points(statistic["mean"]), points(statistic["spread"])
    return mean if statistic["spread"] is None else f"{mean} ± {spread}"


def _decimals(value: float | None) -> str:
    return NONE if value is None else minus(f"{value:.3f}")


def measured(value: float | None, measure: str) -> str:
    """A difference in the unit of its measure: points of AP, correlation as it is, time in percent."""
    if value is None:
        return NONE
    if measure == "correlation":
        return minus(f"{value:+.3f}")
    return signed_share(value) + (" %" if measure == "time" else "")


def interval(low: float | None, high: float | None, measure: str = "AP") -> str:
    """-0.3 to +2.7."""
    if low is None or high is None:
        return NONE
    return f"{measured(low, measure).removesuffix(' %')} to {measured(high, measure)}"


def published(value: float | None, measure: str) -> str:
    """The paper's difference, in the unit of :func:`measured`."""
    return NONE if value is None else signed(value) + (" %" if measure == "time" else "")

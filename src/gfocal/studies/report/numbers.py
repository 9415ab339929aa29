"""A study's numbers and verdicts as a reader sees them."""

from __future__ import annotations

from gfocal.report.numbers import NONE, minus, points, signed, signed_share
from gfocal.studies.comparison.content import Statistic
from gfocal.studies.comparison.findings import Basis, Verdict
from gfocal.studies.paper.claims import Measure

VERDICTS: dict[Verdict, str] = {
    "holds": "holds",
    "does not": "does not hold",
    "cannot tell": "cannot tell at this budget",
}
SHORT: dict[Verdict, str] = {"holds": "holds", "does not": "does not hold", "cannot tell": "cannot tell"}
MARKS: dict[Verdict, str] = {"holds": "✓", "does not": "✗", "cannot tell": "?"}
"""Beside the words, so that colour is never all there is."""
SPREADS: dict[Basis, str] = {
    "pictures": "pictures",
    "pictures and seeds": "pictures and seeds",
    "timing": "repeated timing",
    "nothing": NONE,
}


def printed(value: float | None) -> str:
    """A figure of the paper, which is in percent already."""
    return NONE if value is None else f"{value:.1f}"


def with_spread(statistic: Statistic | None, measure: Measure = "AP") -> str:
    """Mean and spread over seeds: 61.2 ± 0.4; the mean alone of one seed."""
    if statistic is None:
        return NONE
    shown = _decimals if measure == "correlation" else points
    mean = shown(statistic.mean)
    return mean if statistic.spread is None else f"{mean} ± {shown(statistic.spread)}"


def _decimals(value: float | None) -> str:
    return NONE if value is None else minus(f"{value:.3f}")


def measured(value: float | None, measure: Measure) -> str:
    """A difference in the unit of its measure: points of AP, correlation as it is, time in percent."""
    return NONE if value is None else _number(value, measure) + _unit(measure)


def interval(low: float | None, high: float | None, measure: Measure = "AP") -> str:
    """-0.3 to +2.7."""
    if low is None or high is None:
        return NONE
    return f"{_number(low, measure)} to {measured(high, measure)}"


def published(value: float | None, measure: Measure) -> str:
    """The paper's difference, in the unit of :func:`measured`."""
    return NONE if value is None else signed(value) + _unit(measure)


def _number(value: float, measure: Measure) -> str:
    return minus(f"{value:+.3f}") if measure == "correlation" else signed_share(value)


def _unit(measure: Measure) -> str:
    return " %" if measure == "time" else ""

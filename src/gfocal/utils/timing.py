"""Measured times as records; :mod:`gfocal.evaluation.speed` makes them, reports show them without loading torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call, over ``repeats`` of them."""

    median_ms: float
    mean_ms: float
    p90_ms: float
    min_ms: float
    max_ms: float
    repeats: int


@dataclass(frozen=True)
class Percentiles:
    """The 50th, 10th and 90th of times in milliseconds."""

    median_ms: float
    p10_ms: float
    p90_ms: float


@dataclass(frozen=True)
class Ratio:
    """A ratio of two times: the median of the rounds', and ``low`` to ``high``, its 95 % interval."""

    median: float
    low: float
    high: float

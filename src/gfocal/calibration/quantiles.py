"""Conformal quantiles: how far an error may be so that a given share of new ones is not farther."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfocal.errors import UsageError, require_number

FloatArray = NDArray[np.floating[Any]]

LEVELS = (*(round(0.01 * k, 2) for k in range(1, 100)), 0.995, 0.999)
"""Levels that a calibration keeps a quantile for; one between two of them is taken as the next higher one."""


def check_level(level: object) -> float:
    """A level as a number.

    Raises:
        UsageError: it is not above 0, or above the highest of :data:`LEVELS`.
    """
    require_number("level", level, least=0, most=LEVELS[-1])
    number = float(level)  # type: ignore[arg-type]
    if number <= 0:
        raise UsageError(f"level must be above 0 and at most {LEVELS[-1]:g}, a share such as 0.9, got {number:g}")
    return number


def level_index(level: object) -> int:
    """The place in :data:`LEVELS` of the level, or of the next higher one.

    Raises:
        UsageError: see :func:`check_level`.
    """
    return int(np.searchsorted(np.array(LEVELS) + 1e-9, check_level(level)))


def conformal_rank(count: int, level: float) -> int | None:
    """Which of ``count`` scores in ascending order, from 1, a new one stays below with probability ``level`` or more.

    ceil((count + 1) level), the finite-sample quantile of split conformal prediction: for exchangeable scores the
    promise holds at any number of them. None where that is beyond the last one: ``count`` is too small for the level.

    Source:
        V. Vovk, A. Gammerman and G. Shafer, "Algorithmic Learning in a Random World", 2005; J. Lei et al.,
        "Distribution-Free Predictive Inference for Regression", 2018.
    """
    rank = max(math.ceil((count + 1) * level - 1e-9), 1)
    return rank if rank <= count else None


def conformal_quantile(scores: FloatArray, level: float) -> float:
    """The score at :func:`conformal_rank`; infinite where there are too few for the level.

    Args:
        scores: (N,) how far each of N errors is, in any unit; finite.
        level: in (0, 0.999].

    Raises:
        UsageError: a score is not finite, or the level is out of range.

    Example:
        >>> conformal_quantile(np.array([3.0, 1.0, 2.0, 4.0]), 0.8)
        4.0
        >>> conformal_quantile(np.array([3.0, 1.0, 2.0]), 0.8)
        inf
    """
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise UsageError(f"scores must be finite numbers in one row, got shape {values.shape}")
    rank = conformal_rank(len(values), check_level(level))
    return math.inf if rank is None else float(np.partition(values, rank - 1)[rank - 1])


def edge_table(scores: FloatArray) -> FloatArray:
    """(4, L) conformal quantiles of each edge at :data:`LEVELS`, of (N, 4) scores."""
    ordered = np.sort(scores, axis=0)
    return _rows(ordered, [conformal_rank(len(scores), level) for level in LEVELS])


def box_table(scores: FloatArray) -> FloatArray:
    """(4, L) quantiles that all four edges of a box stay below together, of (N, 4) scores.

    The max-rank rule: each score is replaced by its rank among those of its edge, a box by the largest of its four
    ranks; the conformal quantile of these is one rank, which every edge is read at. So no edge is favoured for its
    larger errors, and edges that go wrong together cost less than by Bonferroni's rule.

    Source:
        A. Timans et al., "Adaptive Bounding Box Uncertainties via Two-Step Conformal Prediction", ECCV 2024,
        arXiv 2403.07263.
    """
    ordered = np.sort(scores, axis=0)
    # Of equal scores all have the rank of the first: whatever is at a rank holds them all.
    ranks = np.stack([np.searchsorted(ordered[:, k], scores[:, k], side="left") + 1 for k in range(4)], 1)
    largest = np.sort(ranks.max(1)) if len(scores) else np.zeros(0, np.int64)
    places = [conformal_rank(len(scores), level) for level in LEVELS]
    return _rows(ordered, [None if place is None else int(largest[place - 1]) for place in places])


def _rows(ordered: FloatArray, ranks: list[int | None]) -> FloatArray:
    table = np.full((4, len(ranks)), math.inf)
    for i, rank in enumerate(ranks):
        if rank is not None:
            table[:, i] = ordered[rank - 1]
    return table

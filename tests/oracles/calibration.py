"""Conformal quantiles, pooled violators and calibration errors in slow loops; nothing of gfocal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import product


def conformal_quantile(scores: Sequence[float], level: Fraction) -> float:
    """The smallest score of which, with the new one in the worst place, a share ``level`` of n + 1 is not above it."""
    for score in sorted(scores):
        if Fraction(sum(other <= score for other in scores), len(scores) + 1) >= level:
            return score
    return math.inf


def box_quantiles(scores: Sequence[Sequence[float]], level: Fraction) -> list[float]:
    """Max-rank: the smallest common rank such that enough boxes have no edge beyond it."""
    columns = [sorted(column) for column in zip(*scores, strict=True)]
    for rank in range(1, len(scores) + 1):
        limits = [column[rank - 1] for column in columns]
        held = sum(all(s <= limit for s, limit in zip(row, limits, strict=True)) for row in scores)
        if Fraction(held, len(scores) + 1) >= level:
            return limits
    return [math.inf] * 4


def isotonic(scores: Sequence[float], targets: Sequence[float]) -> dict[float, float]:
    """By the max-min formula: at x the largest over starts of the smallest over ends of the mean between them."""
    known = sorted(set(scores))
    found = {}
    for x in known:
        best = -math.inf
        for start in (k for k in known if k <= x):
            means = []
            for end in (k for k in known if k >= x):
                own = [t for s, t in zip(scores, targets, strict=True) if start <= s <= end]
                means.append(sum(own) / len(own))
            best = max(best, min(means))
        found[x] = best
    return found


def d_ece(scores: Sequence[float], right: Sequence[float], bins: int) -> float:
    total = 0.0
    for k in range(bins):
        own = [(s, r) for s, r in zip(scores, right, strict=True) if min(int(s * bins), bins - 1) == k]
        if own:
            mean_score = sum(s for s, _ in own) / len(own)
            precision = sum(r for _, r in own) / len(own)
            total += len(own) / len(scores) * abs(mean_score - precision)
    return total


def threshold(
    scores: Sequence[float], right: Sequence[bool], objects: int, *, precision: float | None, recall: float | None
) -> float | None:
    """Of 0.000, 0.001, ...: the lowest with the precision, or the highest with the recall."""
    good = []
    for k, _ in product(range(1000), [0]):
        kept = [r for s, r in zip(scores, right, strict=True) if int(s * 1000) >= k]
        if precision is not None and kept and sum(kept) / len(kept) >= precision:
            good.append(k / 1000)
        if recall is not None and sum(kept) / objects >= recall:
            good.append(k / 1000)
    if not good:
        return None
    return min(good) if precision is not None else max(good)

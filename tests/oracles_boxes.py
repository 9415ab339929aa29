"""Slow loops for box codes and their losses, written from the papers' formulas alone. Nothing here imports gfocal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from oracles import decode_distances, encode_distances


def encode_log_deltas(x: float, y: float, side: float, box: Sequence[float]) -> list[float]:
    """FoveaBox, arXiv 1904.03797, section 3.4: the logarithm of each distance over the level's basic length."""
    return [math.log(distance / side) for distance in encode_distances(x, y, box)]


def decode_log_deltas(x: float, y: float, side: float, code: Sequence[float]) -> list[float]:
    return decode_distances(x, y, [side * math.exp(value) for value in code])


def absolute(difference: float, beta: float | None) -> float:
    """|d|; with beta, arXiv 1504.08083, eq. 3, generalised: d^2 / (2 beta) for |d| < beta, |d| - beta / 2 beyond."""
    size = abs(difference)
    if beta is not None and size < beta:
        return size * size / (2 * beta)
    return size - (0 if beta is None else beta / 2)


def gaussian_nll(mean: float, log_std: float, y: float) -> float:
    """-log of the density of N(mean, std^2) at y, without log(2 pi) / 2."""
    std = math.exp(log_std)
    density = math.exp(-((y - mean) ** 2) / (2 * std**2)) / (math.sqrt(2 * math.pi) * std)
    return -math.log(density) - math.log(2 * math.pi) / 2


def bounded_log_std(s: float) -> float:
    """4 tanh(s / 4), from exponentials."""
    up, down = math.exp(s / 4), math.exp(-s / 4)
    return 4 * (up - down) / (up + down)

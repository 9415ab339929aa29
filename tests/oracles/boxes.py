"""Slow loops for box codes and their losses, written from the papers' formulas alone. Nothing here imports gfocal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Box = Sequence[float]


def plain(values: Any) -> Any:
    """Nested lists of a tensor or array; sequences stay."""
    return values.tolist() if hasattr(values, "tolist") else values


def box_area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _overlap_and_union(a: Box, b: Box) -> tuple[float, float]:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    overlap = width * height if width > 0 and height > 0 else 0.0
    return overlap, box_area(a) + box_area(b) - overlap


def iou(a: Box, b: Box) -> float:
    overlap, union = _overlap_and_union(a, b)
    return overlap / union if union > 0 else 0.0


def giou(a: Box, b: Box) -> float:
    """arXiv 1902.09630, algorithm 1."""
    _, union = _overlap_and_union(a, b)
    enclosing = box_area((min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])))
    return iou(a, b) - (enclosing - union) / enclosing if enclosing > 0 else 0.0


def encode_distances(x: float, y: float, box: Box) -> list[float]:
    return [x - box[0], y - box[1], box[2] - x, box[3] - y]


def decode_distances(x: float, y: float, distances: Sequence[float]) -> list[float]:
    left, top, right, bottom = distances
    return [x - left, y - top, x + right, y + bottom]


def centre_and_size(box: Box) -> tuple[float, float, float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]


def encode_deltas(anchor: Box, box: Box, stds: Sequence[float]) -> list[float]:
    """arXiv 1311.2524, appendix C, eq. 6-9, each divided by its std."""
    ax, ay, aw, ah = centre_and_size(anchor)
    gx, gy, gw, gh = centre_and_size(box)
    raw = ((gx - ax) / aw, (gy - ay) / ah, math.log(gw / aw), math.log(gh / ah))
    return [value / std for value, std in zip(raw, stds, strict=True)]


def decode_deltas(anchor: Box, deltas: Sequence[float], stds: Sequence[float]) -> list[float]:
    """arXiv 1311.2524, appendix C, eq. 1-4, without any limit on the sizes."""
    ax, ay, aw, ah = centre_and_size(anchor)
    dx, dy, dw, dh = (value * std for value, std in zip(deltas, stds, strict=True))
    x, y, w, h = ax + dx * aw, ay + dy * ah, aw * math.exp(dw), ah * math.exp(dh)
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


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

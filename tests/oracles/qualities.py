"""Slow loops for the qualities, written from the papers' formulas alone. Nothing here imports gfocal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import Any

from oracles.boxes import plain
from oracles.losses import focal, log_softmax


def centerness(x: float, y: float, box: Sequence[float]) -> float:
    """arXiv 1904.01355, eq. 3; 0 outside the box."""
    left, top, right, bottom = x - box[0], y - box[1], box[2] - x, box[3] - y
    if min(left, top, right, bottom) <= 0:
        return 0.0
    return math.sqrt(min(left, right) / max(left, right) * (min(top, bottom) / max(top, bottom)))


def guided(logits: Any, labels: Any, quality: Any, eta: float, alpha: float | None, gamma: float) -> float:
    """Focal loss summed over all places, the positives' rows weighted by q^eta S / S'.

    ``quality`` holds a number for each place whose label is not negative, in their order.
    """
    qualities = iter(plain(quality))
    negatives, losses, factors = 0.0, [], []
    for row, label in zip(plain(logits), plain(labels), strict=True):
        loss = sum(focal(x, int(c == label), alpha, gamma) for c, x in enumerate(row))
        if label >= 0:
            losses.append(loss)
            factors.append(next(qualities) ** eta)
        else:
            negatives += loss
    before = sum(losses)
    after = sum(f * loss for f, loss in zip(factors, losses, strict=True))
    weights = [f * before / after for f in factors] if after > 0 else [1.0] * len(factors)
    return negatives + sum(w * loss for w, loss in zip(weights, losses, strict=True))


def product_logit(x: float, z: float) -> float:
    """log(p q / (1 - p q)) with p = sigmoid(x), q = sigmoid(z), in 150 digits."""
    with localcontext() as context:
        context.prec = 150
        product = 1 / ((1 + (-Decimal(x)).exp()) * (1 + (-Decimal(z)).exp()))
        return float((product / (1 - product)).ln())


def geometric_mean_logit(x: float, z: float) -> float:
    """The same of the root of p q."""
    with localcontext() as context:
        context.prec = 150
        mean = (1 / ((1 + (-Decimal(x)).exp()) * (1 + (-Decimal(z)).exp()))).sqrt()
        return float((mean / (1 - mean)).ln())


def shape_statistics(code: Sequence[float], num_bins: int) -> list[float]:
    """arXiv 2011.12885, eq. 4: of each edge the four largest probabilities, then their mean."""
    found: list[float] = []
    for edge in range(4):
        bins = code[edge * num_bins : (edge + 1) * num_bins]
        top = sorted((math.exp(v) for v in log_softmax(bins)), reverse=True)[:4]
        found += [*top, sum(top) / len(top)]
    return found


def two_layers(values: Sequence[float], first: Any, first_bias: Any, last: Any, last_bias: Any) -> float:
    """last @ relu(first @ values + first_bias) + last_bias, with one output."""
    hidden = [
        max(sum(w * v for w, v in zip(row, values, strict=True)) + b, 0.0)
        for row, b in zip(plain(first), plain(first_bias), strict=True)
    ]
    return sum(w * h for w, h in zip(plain(last)[0], hidden, strict=True)) + plain(last_bias)[0]


def mined(logits: Any, labels: Any, image: Any, negatives: int) -> tuple[float, set[int]]:
    """arXiv 1512.02325, section 2.2: (sum of cross-entropies that count, indices of the negatives among them)."""
    logits, labels, image = plain(logits), plain(labels), plain(image)
    losses = [-log_softmax(row)[label if label >= 0 else -1] for row, label in zip(logits, labels, strict=True)]
    total = sum(loss for loss, label in zip(losses, labels, strict=True) if label >= 0)
    kept: set[int] = set()
    for one in set(image):
        mine = [i for i in range(len(labels)) if image[i] == one]
        positives = sum(labels[i] >= 0 for i in mine)
        ranked = sorted((i for i in mine if labels[i] < 0), key=lambda i: (-losses[i], i))
        kept |= set(ranked[: negatives * positives])
    return total + sum(losses[i] for i in kept), kept

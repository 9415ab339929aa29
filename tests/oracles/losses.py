"""Slow float64 loops for the losses, written from the papers' formulas alone: what the fast code must agree with.

Nothing here imports gfocal. Inputs are anything with ``tolist()`` or nested sequences; outputs are plain floats,
integers and lists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from oracles.boxes import giou, plain


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def log_sigmoid(x: float) -> float:
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


def binary_cross_entropy(x: float, y: float) -> float:
    return -y * log_sigmoid(x) - (1 - y) * log_sigmoid(-x)


def focal(x: float, y: int, alpha: float | None, gamma: float) -> float:
    """arXiv 1708.02002, eq. 5: -alpha_t (1 - p_t)^gamma log(p_t); p_t = sigmoid(x) or, for y = 0, sigmoid(-x)."""
    signed = x if y == 1 else -x
    alpha_t = 1.0 if alpha is None else alpha if y == 1 else 1 - alpha
    return -alpha_t * sigmoid(-signed) ** gamma * log_sigmoid(signed)


def quality_focal(x: float, y: float, beta: float) -> float:
    """arXiv 2006.04388, eq. 2."""
    return abs(y - sigmoid(x)) ** beta * binary_cross_entropy(x, y)


def varifocal(x: float, q: float, alpha: float, gamma: float) -> float:
    """arXiv 2008.13367, eq. 2."""
    if q > 0:
        return q * binary_cross_entropy(x, q)
    return alpha * sigmoid(x) ** gamma * binary_cross_entropy(x, 0.0)


def quality_focal_slope(x: float, y: float, beta: float) -> float:
    """d QFL / dx by the product rule, with the convention that it is 0 where sigma = y."""
    s = sigmoid(x)
    distance = abs(s - y)
    if distance == 0:
        return 0.0
    sign = 1.0 if s > y else -1.0
    slope_of_factor = beta * distance ** (beta - 1) * sign * s * sigmoid(-x)
    return slope_of_factor * binary_cross_entropy(x, y) + distance**beta * (s - y)


def log_softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    log_sum = top + math.log(sum(math.exp(v - top) for v in logits))
    return [v - log_sum for v in logits]


def distribution_focal(logits: Sequence[float], y: float, spacing: float = 1.0) -> float:
    """arXiv 2006.04388, eq. 6, on bins at i * spacing, weights divided by the spacing."""
    log_probs = log_softmax(plain(logits))
    last = len(log_probs) - 1
    y = min(max(y, 0.0), last * spacing)
    i = min(math.floor(y / spacing), last - 1)
    left, right = i * spacing, (i + 1) * spacing
    return -((right - y) * log_probs[i] + (y - left) * log_probs[i + 1]) / spacing


def expectation(logits: Sequence[float], spacing: float = 1.0) -> float:
    """Mean of the distribution over bins at i * spacing: arXiv 2006.04388, eq. 5."""
    return sum(math.exp(v) * i * spacing for i, v in enumerate(log_softmax(plain(logits))))


def deviation(logits: Sequence[float], spacing: float = 1.0) -> float:
    """Standard deviation of the same distribution."""
    mean = expectation(logits, spacing)
    return math.sqrt(sum(math.exp(v) * (i * spacing - mean) ** 2 for i, v in enumerate(log_softmax(plain(logits)))))


def generalized_focal(
    logits: Any,
    labels: Any,
    quality: Any,
    boxes: Any,
    target_boxes: Any,
    edge_logits: Any,
    target_edges: Any,
    *,
    beta: float = 2.0,
    spacing: float = 1.0,
    box_weight: Any = None,
) -> dict[str, float]:
    """arXiv 2006.04388, eq. 8, with lambda0 = 2 on GIoU, lambda1 = 1/4 on DFL; divisors are at least 1."""
    logits, labels, quality = plain(logits), plain(labels), plain(quality)
    boxes, target_boxes = plain(boxes), plain(target_boxes)
    edge_logits, target_edges = plain(edge_logits), plain(target_edges)
    qfl, positives = 0.0, 0
    for row, label, score in zip(logits, labels, quality, strict=True):
        positives += 0 <= label < len(row)
        for c, x in enumerate(row):
            qfl += quality_focal(x, score if c == label else 0.0, beta)
    weights = [1.0] * positives if box_weight is None else plain(box_weight)
    norm = max(positives if box_weight is None else sum(weights), 1)
    giou_sum = dfl_sum = 0.0
    for i, weight in enumerate(weights):
        giou_sum += weight * (1 - giou(boxes[i], target_boxes[i]))
        edges = [distribution_focal(bins, y, spacing) for bins, y in zip(edge_logits[i], target_edges[i], strict=True)]
        dfl_sum += weight * sum(edges) / 4
    terms = {"qfl": qfl / max(positives, 1), "giou": 2 * giou_sum / norm, "dfl": dfl_sum / 4 / norm}
    return {**terms, "total": sum(terms.values())}

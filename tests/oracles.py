"""Slow float64 loops, written from the papers' formulas alone: what the fast code must agree with.

Nothing here imports gfocal. Inputs are anything with ``tolist()`` or nested sequences; outputs are plain floats,
integers and lists.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

Box = Sequence[float]


def plain(values: Any) -> Any:
    """Nested lists of a tensor or array; sequences stay."""
    return values.tolist() if hasattr(values, "tolist") else values


# --- losses ---------------------------------------------------------------------------------------------------------


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


# --- boxes ----------------------------------------------------------------------------------------------------------


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


def _centre_and_size(box: Box) -> tuple[float, float, float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]


def encode_deltas(anchor: Box, box: Box, stds: Sequence[float]) -> list[float]:
    """arXiv 1311.2524, appendix C, eq. 6-9, each divided by its std."""
    ax, ay, aw, ah = _centre_and_size(anchor)
    gx, gy, gw, gh = _centre_and_size(box)
    raw = ((gx - ax) / aw, (gy - ay) / ah, math.log(gw / aw), math.log(gh / ah))
    return [value / std for value, std in zip(raw, stds, strict=True)]


def decode_deltas(anchor: Box, deltas: Sequence[float], stds: Sequence[float]) -> list[float]:
    """arXiv 1311.2524, appendix C, eq. 1-4, without any limit on the sizes."""
    ax, ay, aw, ah = _centre_and_size(anchor)
    dx, dy, dw, dh = (value * std for value, std in zip(deltas, stds, strict=True))
    x, y, w, h = ax + dx * aw, ay + dy * ah, aw * math.exp(dw), ah * math.exp(dh)
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


# --- assignment -----------------------------------------------------------------------------------------------------


def atss_candidates(anchors: Sequence[Box], levels: Sequence[int], gt: Box, nearest: int = 9) -> list[int]:
    """The ``nearest`` anchors of each level by centre distance; ties go to the lowest index."""
    gx, gy, _, _ = _centre_and_size(gt)
    found = []
    for level in sorted(set(levels)):
        ranked = []
        for index, anchor in enumerate(anchors):
            if levels[index] == level:
                ax, ay, _, _ = _centre_and_size(anchor)
                ranked.append(((ax - gx) ** 2 + (ay - gy) ** 2, index))
        found += [index for _, index in sorted(ranked)[:nearest]]
    return found


def atss_threshold(ious: Sequence[float]) -> float:
    """Mean plus unbiased standard deviation, that of one candidate being 0; exact, so that equal values pass."""
    return statistics.mean(ious) + (statistics.stdev(ious) if len(ious) > 1 else 0.0)


def atss(anchors: Any, levels: Any, gt_boxes: Any, nearest: int = 9) -> list[int]:
    """Adaptive Training Sample Selection, arXiv 1912.02424, algorithm 1.

    Args:
        anchors: (P, 4) xyxy, one a point; the point is the anchor's centre.
        levels: (P,) level of each.
        gt_boxes: (G, 4) xyxy.
        nearest: candidates a level.

    Returns:
        For each point the ground truth that it learns, or -1. A point claimed by several goes to the one of
        highest IoU, then of lowest index. Its centre must lie more than 0.01 pixels inside the box.
    """
    anchors, levels, gt_boxes = plain(anchors), plain(levels), plain(gt_boxes)
    chosen = [-1] * len(anchors)
    best = [-1.0] * len(anchors)
    for g, gt in enumerate(gt_boxes):
        candidates = atss_candidates(anchors, levels, gt, nearest)
        if not candidates:
            continue
        ious = [iou(anchors[index], gt) for index in candidates]
        threshold = atss_threshold(ious)
        for index, value in zip(candidates, ious, strict=True):
            x, y, _, _ = _centre_and_size(anchors[index])
            inside = min(encode_distances(x, y, gt)) > 0.01
            if value >= threshold and inside and value > best[index]:
                chosen[index], best[index] = g, value
    return chosen

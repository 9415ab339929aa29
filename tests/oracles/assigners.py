"""Slow float64 loops for the assigners, written from the papers: what the fast code must agree with.

Nothing here imports gfocal. Every function gives, for each point, the object that it learns, -1 (nothing is there)
or -2 (learns nothing).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from oracles.boxes import Box, box_area, centre_and_size, encode_distances, giou, iou, plain


def fcos(
    xy: Any, levels: Any, gt_boxes: Any, strides: Sequence[float], radius: float = 1.5, range_scale: float = 8.0
) -> list[int]:
    """arXiv 1904.01355, section 3.2, with the centre sampling of arXiv 2006.09214.

    Args:
        xy: (P, 2) points.
        levels: (P,) level of each.
        gt_boxes: (G, 4) xyxy.
        strides: of the levels.
        radius: in strides; 0 for the whole box.
        range_scale: ends of the levels' ranges in strides.
    """
    chosen = []
    ends = [0.0, *(range_scale * stride for stride in strides[:-1]), math.inf]
    for (x, y), level in zip(plain(xy), plain(levels), strict=True):
        claims = []
        for g, (x1, y1, x2, y2) in enumerate(plain(gt_boxes)):
            if not (x1 < x < x2 and y1 < y < y2):
                continue
            away = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
            if radius > 0 and away >= radius * strides[level]:
                continue
            if ends[level] <= max(x - x1, y - y1, x2 - x, y2 - y) <= ends[level + 1]:
                claims.append((box_area((x1, y1, x2, y2)), g))
        chosen.append(min(claims)[1] if claims else -1)
    return chosen


def fovea(
    grids: Sequence[tuple[int, int]],
    strides: Sequence[int],
    gt_boxes: Any,
    sigma: float = 0.4,
    base_scale: float = 4.0,
    offset: float = 0.5,
) -> list[int]:
    """arXiv 1904.03797, with the rounding of published code: larger objects first, smaller ones painted over them."""
    boxes = plain(gt_boxes)
    # Equal ones from the last to the first, so that the first stays.
    order = sorted(range(len(boxes)), key=lambda g: (-box_area(boxes[g]), -g))
    chosen: list[int] = []
    for level, ((height, width), stride) in enumerate(zip(grids, strides, strict=True)):
        least = 1.0 if level == 0 else base_scale * stride / 2
        most = 2048.0 if level == len(grids) - 1 else base_scale * stride * 2
        cells = [[-1] * width for _ in range(height)]
        for g in order:
            x1, y1, x2, y2 = boxes[g]
            if x2 <= 0 or y2 <= 0 or x1 >= width * stride or y1 >= height * stride:
                continue
            if not least <= math.sqrt(box_area(boxes[g])) <= most:
                continue
            first_column, last_column = _middle(x1 / stride, x2 / stride, sigma, offset, width)
            first_row, last_row = _middle(y1 / stride, y2 / stride, sigma, offset, height)
            for row in range(first_row, last_row + 1):
                for column in range(first_column, last_column + 1):
                    cells[row][column] = g
        chosen += [g for row in cells for g in row]
    return chosen


def _middle(start: float, end: float, sigma: float, offset: float, length: int) -> tuple[int, int]:
    half = (end - start) / 2
    first = math.ceil(start + (1 - sigma) * half - offset)
    last = math.floor(start + (1 + sigma) * half - offset)
    return min(max(first, 0), length - 1), min(max(last, 0), length - 1)


def max_iou(
    anchors: Any,
    gt_boxes: Any,
    positive_iou: float = 0.5,
    negative_iou: float = 0.4,
    low_quality: str = "all",
    table: Any = None,
) -> list[int]:
    """arXiv 1506.01497, section 3.1.2, with low-quality matches in the order of the objects.

    Args:
        anchors: (P, 4) xyxy.
        gt_boxes: (G, 4) xyxy.
        positive_iou: from here on an anchor learns its best object.
        negative_iou: below, it learns that nothing is there.
        low_quality: which anchors of an object's highest IoU it takes: "all", the "first", "none".
        table: (G, P) IoUs, where their rounding decides what is equal; by default they are computed here.
    """
    anchors, boxes = plain(anchors), plain(gt_boxes)
    table = [[iou(anchor, box) for anchor in anchors] for box in boxes] if table is None else plain(table)
    chosen = [-1] * len(anchors)
    for p in range(len(anchors)):
        column = [row[p] for row in table]
        best = max(column, default=-1.0)
        if best >= positive_iou:
            chosen[p] = column.index(best)
        elif best >= negative_iou and boxes:
            chosen[p] = -2
    for g, row in enumerate(table):
        best = max(row, default=0.0)
        if low_quality == "none" or best == 0:
            continue
        takers = [p for p, value in enumerate(row) if value == best]
        for p in takers if low_quality == "all" else takers[:1]:
            chosen[p] = g
    return chosen


def atss_candidates(anchors: Sequence[Box], levels: Sequence[int], gt: Box, nearest: int = 9) -> list[int]:
    """The ``nearest`` anchors of each level by centre distance; ties go to the lowest index."""
    gx, gy, _, _ = centre_and_size(gt)
    found = []
    for level in sorted(set(levels)):
        ranked = []
        for index, anchor in enumerate(anchors):
            if levels[index] == level:
                ax, ay, _, _ = centre_and_size(anchor)
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
            x, y, _, _ = centre_and_size(anchors[index])
            inside = min(encode_distances(x, y, gt)) > 0.01
            if value >= threshold and inside and value > best[index]:
                chosen[index], best[index] = g, value
    return chosen


def task_aligned(
    xy: Any,
    gt_boxes: Any,
    gt_labels: Any,
    scores: Any,
    boxes: Any,
    alpha: float = 1.0,
    beta: float = 6.0,
    positives: int = 13,
) -> tuple[list[int], list[float]]:
    """TOOD, arXiv 2108.07755, section 3.2: t = s^alpha * u^beta; the best points inside each object, by t, then index.

    Args:
        xy: (P, 2) points.
        gt_boxes: (G, 4) xyxy.
        gt_labels: (G,) class of each.
        scores: (P, C) in [0, 1].
        boxes: (P, 4) predicted.
        alpha: exponent of the score.
        beta: exponent of the IoU.
        positives: points of each object.

    Returns:
        For each point the object that it learns, or -1, and its t with that object (0 without one). A point chosen by
        several objects goes to the one of highest IoU, then of lowest index.
    """
    xy, scores, boxes = plain(xy), plain(scores), plain(boxes)
    chosen, best, alignment = [-1] * len(xy), [-1.0] * len(xy), [0.0] * len(xy)
    for g, (gt, label) in enumerate(zip(plain(gt_boxes), plain(gt_labels), strict=True)):
        inside = [p for p, (x, y) in enumerate(xy) if min(encode_distances(x, y, gt)) > 0.01]
        u = {p: iou(boxes[p], gt) for p in inside}
        t = {p: scores[p][label] ** alpha * u[p] ** beta for p in inside}
        for p in sorted(inside, key=lambda p: (-t[p], p))[:positives]:
            if u[p] > best[p]:
                chosen[p], best[p], alignment[p] = g, u[p], t[p]
    return chosen, alignment


def soft_targets(alignment: Any, ious: Any, owner: Any) -> list[float]:
    """The same section, "normalized t": of each object the largest becomes the object's largest IoU."""
    alignment, ious, owner = plain(alignment), plain(ious), plain(owner)
    found = []
    for t, g in zip(alignment, owner, strict=True):
        own = [i for i, other in enumerate(owner) if other == g]
        highest = max(alignment[i] for i in own)
        found.append(t / highest * max(ious[i] for i in own) if highest > 0 else 0.0)
    return found


def cross_entropy(score: float, target: float) -> float:
    """Binary, of a probability; each logarithm is at least -100."""
    logs = [max(math.log(p), -100.0) if p > 0 else -100.0 for p in (score, 1 - score)]
    return -(target * logs[0] + (1 - target) * logs[1])


def in_steps(costs: list[list[float]]) -> list[list[int]]:
    """Costs in steps of 2^-24, so that equal ones are equal in whatever order they were added up."""
    return [[round(cost * 2**24) for cost in row] for row in costs]


def cheapest(costs: list[list[int]], ious: list[list[float]], count: int, counted: int) -> list[int]:
    """The matching of DSLA and SimOTA.

    Args:
        costs: of each object, for each candidate, in whole steps.
        ious: likewise.
        count: number of candidates.
        counted: IoUs whose sum is k.

    Returns:
        For each candidate the object that it learns, or -1.
    """
    takers: list[list[int]] = [[] for _ in range(count)]
    for g, (row, iou_row) in enumerate(zip(costs, ious, strict=True)):
        k = max(1, int(sum(sorted(iou_row, reverse=True)[:counted])))
        for p in sorted(range(count), key=lambda p, row=row: (row[p], p))[:k]:
            takers[p].append(g)
    found = []
    for p, own in enumerate(takers):
        everyone = range(len(costs))
        found.append(own[0] if len(own) == 1 else min(everyone, key=lambda g, p=p: (costs[g][p], g)) if own else -1)
    return found


def dsla(
    xy: Any, gt_boxes: Any, gt_labels: Any, scores: Any, boxes: Any, iou_cost: float = 3.0, counted: int = 13
) -> tuple[list[int], list[list[float]]]:
    """NanoDet-Plus: sum over classes of BCE(s, y) |y - s|^2, less ``iou_cost`` times log(IoU + 1e-7).

    Returns:
        For each point the object that it learns, or -1; and the costs of each object, of the candidates.
    """
    xy, scores, boxes, gts = plain(xy), plain(scores), plain(boxes), plain(gt_boxes)
    inside = [p for p, (x, y) in enumerate(xy) if any(min(encode_distances(x, y, gt)) > 0.01 for gt in gts)]
    costs, ious = [], []
    for gt, label in zip(gts, plain(gt_labels), strict=True):
        ious.append([iou(boxes[p], gt) for p in inside])
        costs.append([])
        for p, u in zip(inside, ious[-1], strict=True):
            soft = [u if c == label else 0.0 for c in range(len(scores[p]))]
            parts = [cross_entropy(s, y) * (y - s) ** 2 for s, y in zip(scores[p], soft, strict=True)]
            costs[-1].append(sum(parts) - iou_cost * math.log(u + 1e-7))
    index = [-1] * len(xy)
    for p, g in zip(inside, cheapest(in_steps(costs), ious, len(inside), counted) if gts else [], strict=True):
        index[p] = g
    return index, costs


def sim_ota(
    xy: Any,
    strides: Any,
    gt_boxes: Any,
    gt_labels: Any,
    scores: Any,
    boxes: Any,
    radius: float = 2.5,
    iou_cost: float = 6.0,
    counted: int = 10,
) -> tuple[list[int], list[list[float]]]:
    """PicoDet of 2021: varifocal loss of all classes + ``iou_cost`` (1 - GIoU), and a fine unless inside and near.

    Returns:
        For each point the object that it learns, or -1; and each object's costs of the candidates, without the fine.
    """
    xy, strides, scores, boxes, gts = plain(xy), plain(strides), plain(scores), plain(boxes), plain(gt_boxes)

    def is_inside(p: int, gt: list[float]) -> bool:
        return min(encode_distances(*xy[p], gt)) > 0.01

    def is_near(p: int, gt: list[float]) -> bool:
        x, y, _, _ = centre_and_size(gt)
        return radius * strides[p] - max(abs(xy[p][0] - x), abs(xy[p][1] - y)) > 0.01

    some = [p for p in range(len(xy)) if any(is_inside(p, gt) or is_near(p, gt) for gt in gts)]
    costs, ious, fines = [], [], []
    for gt, label in zip(gts, plain(gt_labels), strict=True):
        ious.append([iou(boxes[p], gt) for p in some])
        costs.append([])
        for p, u in zip(some, ious[-1], strict=True):
            total = 0.0
            for c, s in enumerate(scores[p]):
                positive = c == label and u > 0
                total += u * cross_entropy(s, u) if positive else 0.75 * s**2 * cross_entropy(s, 0.0)
            total += iou_cost * (1 - giou(boxes[p], gt))
            costs[-1].append(total)
        fines.append([0 if is_inside(p, gt) and is_near(p, gt) else 2**50 for p in some])
    index = [-1] * len(xy)
    fined = [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(in_steps(costs), fines, strict=True)]
    for p, g in zip(some, cheapest(fined, ious, len(some), counted) if gts else [], strict=True):
        index[p] = g
    return index, costs

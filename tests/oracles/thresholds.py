"""Precision, recall, F1 and confusion the slow way: plain loops over images and classes, nothing of gfocal."""

from __future__ import annotations

from typing import Any

import numpy as np


def iou(a: np.ndarray, b: np.ndarray, crowd: bool) -> float:
    wide, high = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    if wide <= 0 or high <= 0:
        return 0.0
    common, own, other = wide * high, (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return float(common / (own if crowd else own + other - common))


def classwise(index: Any, found: tuple[np.ndarray, ...], score: float) -> tuple[dict[int, int], set[int], set[int]]:
    """{detection: the object it found}, ignored detections, and all that passed, of those that score higher."""
    rows, boxes, scores, labels = found
    right: dict[int, int] = {}
    ignored, passed = set[int](), set(np.flatnonzero(scores > score).tolist())
    for image in range(len(index.image_ids)):
        mine = [d for d in passed if rows[d] == image]
        for label in range(len(index.names)):
            things = [g for g in range(index.box_start[image], index.box_start[image + 1]) if index.labels[g] == label]
            free = {g for g in things if not (index.crowd[g] or index.ignore[g])}
            for d in sorted((d for d in mine if labels[d] == label), key=lambda d: (-scores[d], d)):
                near = [(iou(boxes[d], index.boxes[g], False), g) for g in free]
                near = [pair for pair in near if pair[0] >= 0.5]
                if near:
                    right[d] = max(near)[1]
                    free.remove(right[d])
                elif any(
                    (index.crowd[g] or index.ignore[g]) and iou(boxes[d], index.boxes[g], True) >= 0.5 for g in things
                ):
                    ignored.add(d)
    return right, ignored, passed


def precision_recall_f1(
    index: Any, found: tuple[np.ndarray, ...], score: float, label: int | None = None
) -> tuple[float | None, float | None, float | None]:
    """Of a class, or of all together."""
    right, ignored, passed = classwise(index, found, score)
    of = [label] if label is not None else list(range(len(index.names)))
    hits = sum(found[3][d] in of for d in right)
    boxes = sum(found[3][d] in of for d in passed - ignored)
    objects = sum(
        index.labels[g] in of and not index.crowd[g] and not index.ignore[g] for g in range(len(index.labels))
    )
    precision = hits / boxes if boxes else None
    if not objects:
        return precision, None, None
    return precision, hits / objects, 2 * hits / (boxes + objects)


def confusion(index: Any, found: tuple[np.ndarray, ...], score: float) -> np.ndarray:
    """(C + 1, C + 1): truth by prediction."""
    rows, boxes, scores, labels = found
    right, ignored, passed = classwise(index, found, score)
    count = len(index.names)
    matrix = np.zeros((count + 1, count + 1), int)
    objects = [g for g in range(len(index.labels)) if not index.crowd[g] and not index.ignore[g]]
    image_of = np.repeat(np.arange(len(index.image_ids)), np.diff(index.box_start))
    taken = set(right.values())
    for g in taken:
        matrix[index.labels[g], index.labels[g]] += 1
    for d in sorted(passed - right.keys() - ignored, key=lambda d: (-scores[d], d)):
        near = [(iou(boxes[d], index.boxes[g], False), g) for g in objects if g not in taken and image_of[g] == rows[d]]
        near = [pair for pair in near if pair[0] >= 0.5]
        if near:
            taken.add(max(near)[1])
            matrix[index.labels[max(near)[1]], labels[d]] += 1
        else:
            matrix[count, labels[d]] += 1
    for g in objects:
        if g not in taken:
            matrix[index.labels[g], count] += 1
    return matrix

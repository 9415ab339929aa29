"""Detections without a detector."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np


def data_set(seed: int, images: int = 12, classes: int = 3, *, tied: bool = False) -> tuple[Any, tuple[Any, ...]]:
    """Random ground truth with crowds and ignored boxes, and detections around it and elsewhere."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 7, images)
    total = int(counts.sum())
    corner = rng.uniform(0, 60, (total, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (total, 2))], 1)
    index = SimpleNamespace(
        image_ids=rng.permutation(100)[:images],
        box_start=np.cumsum([0, *counts]),
        boxes=boxes,
        labels=rng.integers(0, classes, total),
        crowd=rng.random(total) < 0.1,
        ignore=rng.random(total) < 0.1,
        area=(boxes[:, 2:] - boxes[:, :2]).prod(1),
        names=tuple("abcdefgh"[:classes]),
    )
    rows = np.repeat(np.arange(images), counts)
    rows = np.concatenate([rows, rows, rows, rng.integers(0, images, 30)])
    found = np.concatenate([boxes, boxes, boxes, rng.uniform(0, 40, (30, 4))])
    found = found + rng.normal(0, 4, found.shape)
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    labels = np.concatenate([index.labels, index.labels, rng.integers(0, classes, total + 30)])
    scores = rng.random(len(rows))
    return index, (rows, found, np.round(scores, 1) if tied else scores, labels)

"""Large images in overlapping tiles, in numpy: :mod:`gfocal.models.tiled_prediction` for machines without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np

from gfocal.detections import Detections
from gfocal.exported.suppression import suppress_arrays
from gfocal.images.tiling import HELD_INSIDE, HELD_SCORE, NEAR_BORDER, Tiling

_PAIRS = 1 << 22  # compared at once: some 100 MB however many boxes an image has
_OF_BOXES = ("boxes", "scores", "labels", "edge_std", "edge_probs", "levels")

Find = Callable[[Sequence[np.ndarray]], list[Detections]]
"""Images (h, w, 3) uint8 -> what is found on each, in its pixels."""


def find_in_tiles(
    image: np.ndarray, tiling: Tiling, find: Find, *, nms_iou: float, class_agnostic: bool, batch_size: int
) -> Detections:
    """What :func:`gfocal.models.tiled_prediction.find_in_tiles` gives, of an image (H, W, 3) in arrays."""
    height, width = image.shape[:2]
    windows = tiling.windows(height, width)
    if len(windows) == 1:
        return _by_tiles(find([image])[0], tiling)
    alone = int(tiling.whole)  # the whole image has another shape: padded to it, tiles would take more memory
    ends = [*range(alone, len(windows), batch_size), len(windows)]
    found = list[Detections]()
    for first, last in pairwise([0, *ends] if alone else ends):
        some = windows[first:last].tolist()
        parts = find([np.ascontiguousarray(image[y1:y2, x1:x2]) for x1, y1, x2, y2 in some])
        found += [_moved(part, x1, y1) for part, (x1, y1, _, _) in zip(parts, some, strict=True)]
    return _by_tiles(_merged(found, windows, tiling, (height, width), nms_iou, class_agnostic), tiling)


def _merged(
    found: Sequence[Detections],
    windows: np.ndarray,
    tiling: Tiling,
    size: tuple[int, int],
    nms_iou: float,
    class_agnostic: bool,
) -> Detections:
    doubtful = np.concatenate([_doubtful(f, w, size, tiling.shared) for f, w in zip(found, windows, strict=True)])
    every = _together(found)
    boxes, scores, labels = (np.asarray(values) for values in (every.boxes, every.scores, every.labels))
    labels = np.zeros_like(labels) if class_agnostic else labels
    kept = np.flatnonzero(~_held(every, labels, doubtful))
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    left = suppress_arrays(boxes[kept], labels[kept], iou=nms_iou, limit=len(kept))
    return replace(every[kept[left]], image_size=size)


def _moved(found: Detections, x: int, y: int) -> Detections:
    """From pixels of a tile to pixels of its image."""
    moved: dict[str, Any] = {"boxes": np.asarray(found.boxes) + np.array([x, y, x, y], np.float32)}
    return replace(found, **moved)


def _by_tiles(found: Detections, tiling: Tiling) -> Detections:
    """A calibration has to know: it holds for tiles or for whole images."""
    if found.calibration is None:
        return found
    return replace(found, calibration=found.calibration.used_with(tile=tiling.side))


def _doubtful(found: Detections, window: np.ndarray, size: tuple[int, int], shared: int) -> np.ndarray:
    (x1, y1, x2, y2), (height, width), boxes = window.tolist(), size, np.asarray(found.boxes)
    if (x1, y1, x2, y2) == (0, 0, width, height):
        return np.asarray((boxes[:, 2:] - boxes[:, :2] <= shared).all(1))
    near_x, near_y, never = NEAR_BORDER * (x2 - x1), NEAR_BORDER * (y2 - y1), math.inf
    least = np.array([x1 + near_x if x1 > 0 else -never, y1 + near_y if y1 > 0 else -never], np.float32)
    most = np.array([x2 - near_x if x2 < width else never, y2 - near_y if y2 < height else never], np.float32)
    return np.asarray((boxes[:, :2] <= least).any(1) | (boxes[:, 2:] >= most).any(1))


def _held(found: Detections, labels: np.ndarray, doubtful: np.ndarray) -> np.ndarray:
    """(N,) bool: doubtful boxes that a sound one of their class holds."""
    held, boxes, scores = np.zeros_like(doubtful), np.asarray(found.boxes), np.asarray(found.scores)
    sound, rows = np.flatnonzero(~doubtful), np.flatnonzero(doubtful)
    step = max(_PAIRS // max(len(sound), 1), 1)
    for some in (rows[first : first + step] for first in range(0, len(rows), step)):
        one, other = boxes[some, None], boxes[None, sound]
        sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
        inside = sides.clip(min=0).prod(-1) >= HELD_INSIDE * (one[..., 2:] - one[..., :2]).clip(min=0).prod(-1)
        inside &= labels[some, None] == labels[sound]
        inside &= scores[sound] >= HELD_SCORE * scores[some, None]
        held[some] = inside.any(1)
    return held


def _together(parts: Sequence[Detections]) -> Detections:
    """Detections one after the other, with what all of them have; at least one part."""
    joined: dict[str, Any] = {}
    for name in (each.name for each in fields(Detections) if each.name in _OF_BOXES):
        known = [getattr(part, name) for part in parts]
        joined[name] = None if any(value is None for value in known) else np.concatenate(known)
    return replace(parts[0], **joined)

"""Large images in overlapping tiles: looking into each tile, and one list of detections from all of them.

A detector that shrinks an image of 4000 pixels to 640 leaves nothing of an object of 12. Tiles keep it large; the
overlap lets every object that is no larger be whole in one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from gfocal.boxes import area
from gfocal.images.tiling import HELD_INSIDE, HELD_SCORE, NEAR_BORDER, Tiling, cut_out
from gfocal.models.postprocess import suppress
from gfocal.structures import Detections

_PAIRS = 1 << 22  # compared at once: some 100 MB however many boxes an image has

Find = Callable[[Sequence[Tensor]], list[Detections]]
"""Images (3, h, w) uint8 -> what is found on each, in its pixels, on the CPU."""


def find_in_tiles(
    image: Tensor,
    tiling: Tiling,
    find: Find,
    *,
    nms_iou: float,
    class_agnostic: bool = False,
    batch_size: int = 8,
) -> Detections:
    """What is found on an image tile by tile.

    Args:
        image: (3, H, W) uint8.
        tiling: the grid.
        find: looks at up to ``batch_size`` tiles at once.
        nms_iou, class_agnostic: see :func:`merge`.
        batch_size: tiles that are in memory beside the image.

    Returns:
        In pixels of the image; each tile adds what ``find`` gives for it, so there is no limit for the image.
    """
    height, width = image.shape[-2:]
    windows = tiling.windows(height, width)
    if len(windows) == 1:
        return _by_tiles(find([image])[0], tiling)
    alone = int(tiling.whole)  # the whole image has another shape: padded to it, tiles would take more memory
    ends = [*range(alone, len(windows), batch_size), len(windows)]
    found = []
    for first, last in pairwise([0, *ends] if alone else ends):
        some = windows[first:last]
        parts = find([cut_out(image, window) for window in some])
        found += [_moved(part, window) for part, window in zip(parts, some, strict=True)]
    size = height, width
    return merge(found, windows, tiling, size=size, nms_iou=nms_iou, class_agnostic=class_agnostic)


def merge(
    found: Sequence[Detections],
    windows: np.ndarray,
    tiling: Tiling,
    *,
    size: tuple[int, int],
    nms_iou: float,
    class_agnostic: bool = False,
) -> Detections:
    """One list from what was found in several windows of an image.

    Two kinds of boxes are doubtful: those that end at a border of their window inside the image, which cuts objects;
    and those of the whole image with both sides of at most ``tiling.shared`` pixels, since such an object is whole in
    a tile, which shows it larger. A doubtful box goes where a sound box of its class holds at least half of its area
    and has at least half of its score. Then the usual suppression within each class goes over all that are left.

    Args:
        found: in each of T windows, in pixels of the image.
        windows: (T, 4) xyxy, see :meth:`Tiling.windows`.
        tiling: whose ``windows`` they are.
        size: (height, width) of the image.
        nms_iou: boxes of more overlap with a better one of their class go.
        class_agnostic: all boxes count as of one class, here and above.
    """
    doubtful = torch.cat([_doubtful(f, w, size, tiling.shared) for f, w in zip(found, windows, strict=True)])
    every = together(found)
    labels = torch.zeros_like(every.labels) if class_agnostic else every.labels
    kept = _held(every, labels, doubtful).logical_not()
    every, labels = every[kept], labels[kept]
    left = every[suppress(every.boxes, every.scores, labels, iou=nms_iou)]
    return _by_tiles(replace(left, image_size=size), tiling)


def _by_tiles(found: Detections, tiling: Tiling) -> Detections:
    """A calibration has to know: it holds for tiles or for whole images."""
    if found.calibration is None:
        return found
    return replace(found, calibration=found.calibration.used_with(tile=tiling.side))


def _doubtful(found: Detections, window: np.ndarray, size: tuple[int, int], shared: int) -> Tensor:
    """(N,) bool, see :func:`merge`."""
    (x1, y1, x2, y2), (height, width) = window.tolist(), size
    if (x1, y1, x2, y2) == (0, 0, width, height):
        return ((found.boxes[:, 2:] - found.boxes[:, :2]) <= shared).all(1)
    near_x, near_y, never = NEAR_BORDER * (x2 - x1), NEAR_BORDER * (y2 - y1), math.inf
    least = found.boxes.new_tensor([x1 + near_x if x1 > 0 else -never, y1 + near_y if y1 > 0 else -never])
    most = found.boxes.new_tensor([x2 - near_x if x2 < width else never, y2 - near_y if y2 < height else never])
    return (found.boxes[:, :2] <= least).any(1) | (found.boxes[:, 2:] >= most).any(1)


def _held(found: Detections, labels: Tensor, doubtful: Tensor) -> Tensor:
    """(N,) bool: doubtful boxes that a sound one of their class holds."""
    held = torch.zeros_like(doubtful)
    sound = found[~doubtful]
    rows = doubtful.nonzero().squeeze(1)
    for some in rows.split(max(_PAIRS // max(len(sound), 1), 1)):
        boxes, others = found.boxes[some, None], sound.boxes[None]
        corners = torch.cat([boxes[..., :2].maximum(others[..., :2]), boxes[..., 2:].minimum(others[..., 2:])], -1)
        inside = area(corners) >= HELD_INSIDE * area(boxes)
        inside &= labels[some, None] == labels[~doubtful]
        inside &= sound.scores >= HELD_SCORE * found.scores[some, None]
        held[some] = inside.any(1)
    return held


def _moved(found: Detections, window: np.ndarray) -> Detections:
    """From pixels of a tile to pixels of its image."""
    return replace(found, boxes=found.boxes + found.boxes.new_tensor(window[[0, 1, 0, 1]]))


def together(parts: Sequence[Detections]) -> Detections:
    """Detections one after the other, with what all of them have; at least one part."""
    return Detections(
        torch.cat([part.boxes for part in parts]),
        torch.cat([part.scores for part in parts]),
        torch.cat([part.labels for part in parts]),
        parts[0].names,
        _joined([part.edge_std for part in parts]),
        _joined([part.edge_probs for part in parts]),
        _joined([part.levels for part in parts]),
        calibration=parts[0].calibration,
    )


def _joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
    known = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(known) if len(known) == len(tensors) else None

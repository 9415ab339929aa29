"""Large pictures in overlapping tiles: the grid, looking into each tile, and one list of detections from all of them.

A detector that shrinks a picture of 4000 pixels to 640 leaves nothing of an object of 12. Tiles keep it large; the
overlap lets every object that is no larger be whole in one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfocal.boxes import area
from gfocal.errors import UsageError
from gfocal.models.postprocess import suppress
from gfocal.structures import Detections

LEAST_SIDE = 32
MOST_OVERLAP = 0.9
_NEAR = 0.01
"""A box is cut where it ends this near to an inner border, as a share of the tile's side: no detector hits it exactly.
"""
_INSIDE = 0.5  # of a doubtful box, in a sound one
_SCORE = 0.5  # of the sound box, as a share of the doubtful one's
_PAIRS = 1 << 22  # compared at once: some 100 MB however many boxes a picture has

Find = Callable[[Sequence[Tensor]], list[Detections]]
"""Pictures (3, h, w) uint8 -> what is found on each, in its pixels, on the CPU."""


@dataclass(frozen=True)
class Tiling:
    """How pictures are cut into tiles.

    The first tile of a row lies at the border, each next one ``step`` pixels further, and the last is moved inwards to
    end at the other border. So an object whose sides are at most ``shared`` pixels is whole in at least one tile. A
    picture with no side longer than a tile is one tile; a side shorter than a tile is not filled up.

    Attributes:
        side: of a tile in pixels of the picture, >= 32.
        overlap: least share of its side that a tile has in common with the next one, in [0, 0.9].
        whole: look at the whole picture too, where large objects are found.

    Raises:
        UsageError: a value out of range.

    Example:
        >>> Tiling(64, 0.25).windows(64, 150).tolist()
        [[0, 0, 150, 64], [0, 0, 64, 64], [48, 0, 112, 64], [86, 0, 150, 64]]
    """

    side: int
    overlap: float = 0.2
    whole: bool = True

    def __post_init__(self) -> None:
        if not (isinstance(self.side, int) and self.side >= LEAST_SIDE):
            raise UsageError(f"the side of a tile must be at least {LEAST_SIDE} pixels, got {self.side}")
        if not 0 <= self.overlap <= MOST_OVERLAP:
            raise UsageError(f"the overlap of tiles must lie in [0, {MOST_OVERLAP}], got {self.overlap}")

    @property
    def shared(self) -> int:
        """Pixels that neighbours have in common, at least."""
        return math.ceil(self.side * self.overlap - 1e-9)

    @property
    def step(self) -> int:
        """Pixels from one tile to the next."""
        return max(1, self.side - self.shared)

    def counts(self, lengths: np.ndarray) -> np.ndarray:
        """Tiles along sides of pictures of so many pixels: int64, at least 1, in the shape given."""
        over = np.maximum(np.asarray(lengths, np.int64) - self.side, 0)
        return 1 + -(-over // self.step)

    def starts(self, numbers: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Where tiles begin, from their numbers along sides of so many pixels; int64."""
        return np.minimum(numbers * self.step, np.maximum(np.asarray(lengths, np.int64) - self.side, 0))

    def windows(self, height: int, width: int) -> np.ndarray:
        """(T, 4) int64 xyxy: what is looked at of a picture.

        First all of it, if ``whole`` and there are several tiles, then the tiles row by row.
        """
        sides = np.array([width, height])
        left, top = (self.starts(np.arange(n), side) for n, side in zip(self.counts(sides), sides, strict=True))
        y, x = (grid.ravel() for grid in np.meshgrid(top, left, indexing="ij"))
        tiles = np.stack([x, y, np.minimum(x + self.side, width), np.minimum(y + self.side, height)], 1)
        return np.concatenate([[[0, 0, width, height]], tiles]) if self.whole and len(tiles) > 1 else tiles


def cut_out(picture: Tensor, window: Sequence[int]) -> Tensor:
    """What a window (x1, y1, x2, y2) shows of a picture (3, H, W): a copy, in channels-last memory.

    All of it is handed back as it is. A part is copied since torchvision takes the strides of a view for the slow
    order, and since a view would keep the whole picture in memory.
    """
    x1, y1, x2, y2 = (int(v) for v in window)
    if (x1, y1, x2, y2) == (0, 0, picture.shape[-1], picture.shape[-2]):
        return picture
    part = picture[:, y1:y2, x1:x2].permute(1, 2, 0)
    return torch.empty(part.shape, dtype=part.dtype).copy_(part).permute(2, 0, 1)


def find_in_tiles(picture: Tensor, tiling: Tiling, find: Find, *, nms_iou: float, batch_size: int = 8) -> Detections:
    """What is found on a picture tile by tile.

    Args:
        picture: (3, H, W) uint8.
        tiling: the grid.
        find: looks at up to ``batch_size`` tiles at once.
        nms_iou: see :func:`merge`.
        batch_size: tiles that are in memory beside the picture.

    Returns:
        In pixels of the picture; each tile adds what ``find`` gives for it, so there is no limit for the picture.
    """
    height, width = picture.shape[-2:]
    windows = tiling.windows(height, width)
    if len(windows) == 1:
        return find([picture])[0]
    alone = int(tiling.whole)  # the whole picture has another shape: padded to it, tiles would take more memory
    ends = [*range(alone, len(windows), batch_size), len(windows)]
    found = []
    for first, last in pairwise([0, *ends] if alone else ends):
        some = windows[first:last]
        parts = find([cut_out(picture, window) for window in some])
        found += [_moved(part, window) for part, window in zip(parts, some, strict=True)]
    return merge(found, windows, tiling, size=(height, width), nms_iou=nms_iou)


def merge(
    found: Sequence[Detections], windows: np.ndarray, tiling: Tiling, *, size: tuple[int, int], nms_iou: float
) -> Detections:
    """One list from what was found in several windows of a picture.

    Two kinds of boxes are doubtful: those that end at a border of their window inside the picture, which cuts objects;
    and those of the whole picture with both sides of at most ``tiling.shared`` pixels, since such an object is whole in
    a tile, which shows it larger. A doubtful box goes where a sound box of its class holds at least half of its area
    and has at least half of its score. Then the usual suppression within each class goes over all that are left.

    Args:
        found: in each of T windows, in pixels of the picture.
        windows: (T, 4) xyxy, see :meth:`Tiling.windows`.
        tiling: whose ``windows`` they are.
        size: (height, width) of the picture.
        nms_iou: boxes of more overlap with a better one of their class go.
    """
    doubtful = torch.cat([_doubtful(f, w, size, tiling.shared) for f, w in zip(found, windows, strict=True)])
    every = together(found)
    every = every[_held(every, doubtful).logical_not()]
    return every[suppress(every.boxes, every.scores, every.labels, iou=nms_iou, limit=max(len(every), 1))]


def _doubtful(found: Detections, window: np.ndarray, size: tuple[int, int], shared: int) -> Tensor:
    """(N,) bool, see :func:`merge`."""
    (x1, y1, x2, y2), (height, width) = window.tolist(), size
    if (x1, y1, x2, y2) == (0, 0, width, height):
        return ((found.boxes[:, 2:] - found.boxes[:, :2]) <= shared).all(1)
    near_x, near_y, never = _NEAR * (x2 - x1), _NEAR * (y2 - y1), math.inf
    least = found.boxes.new_tensor([x1 + near_x if x1 > 0 else -never, y1 + near_y if y1 > 0 else -never])
    most = found.boxes.new_tensor([x2 - near_x if x2 < width else never, y2 - near_y if y2 < height else never])
    return (found.boxes[:, :2] <= least).any(1) | (found.boxes[:, 2:] >= most).any(1)


def _held(found: Detections, doubtful: Tensor) -> Tensor:
    """(N,) bool: doubtful boxes that a sound one of their class holds."""
    held = torch.zeros_like(doubtful)
    sound = found[~doubtful]
    rows = doubtful.nonzero().squeeze(1)
    for some in rows.split(max(_PAIRS // max(len(sound), 1), 1)):
        boxes, others = found.boxes[some, None], sound.boxes[None]
        corners = torch.cat([boxes[..., :2].maximum(others[..., :2]), boxes[..., 2:].minimum(others[..., 2:])], -1)
        inside = area(corners) >= _INSIDE * area(boxes)
        inside &= found.labels[some, None] == sound.labels
        inside &= sound.scores >= _SCORE * found.scores[some, None]
        held[some] = inside.any(1)
    return held


def _moved(found: Detections, window: np.ndarray) -> Detections:
    """From pixels of a tile to pixels of its picture."""
    return replace(found, boxes=found.boxes + found.boxes.new_tensor(window[[0, 1, 0, 1]]))


def together(parts: Sequence[Detections]) -> Detections:
    """Detections one after the other, with all that each of them has; at least one part."""
    names = [f.name for f in fields(Detections) if isinstance(getattr(parts[0], f.name), Tensor)]
    joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return replace(parts[0], **joined)

"""A data set whose images are the tiles of another one's: learning from large images without shrinking them.

The tiles are those that prediction looks at (:class:`gfocal.images.tiling.Tiling`), so objects are met at one size in
both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gfocal.data.index.columns import parts
from gfocal.data.index.data_index import DataIndex, Tiles
from gfocal.images.resizing import Resize
from gfocal.images.tiling import Tiling

if TYPE_CHECKING:
    from torch import Tensor

    from gfocal.structures import Targets

MIN_VISIBLE = 0.2
"""A tile that shows a smaller share of a box than this does not have it."""
MIN_SIDE = 1.0
"""Nor does one that shows less than this many pixels of a side."""


@dataclass(frozen=True)
class Unchanged:
    """A transform that leaves images as they are: tiles are cut out and resized later."""

    resize: Resize

    def at(self, side: int) -> Unchanged:
        return self

    def finish(self, image: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
        return image, targets

    __call__ = finish


@dataclass(frozen=True, eq=False)
class _Grid:
    """Of I images: (I + 1,) their first rows, (I,) tiles across and down, (I,) whether the whole comes first."""

    start: np.ndarray
    across: np.ndarray
    down: np.ndarray
    whole: np.ndarray


@dataclass(frozen=True, eq=False)
class _Shown:
    """M pairs of a box and a tile that has it: (M,) row of the box, (M,) row of the tile, (M, 4) what it has of it."""

    box: np.ndarray
    tile: np.ndarray
    boxes: np.ndarray


def cut_into_tiles(index: DataIndex, tiling: Tiling) -> DataIndex:
    """An index with one row per tile: :meth:`gfocal.images.tiling.Tiling.windows` of each image, in that order.

    A box is in all tiles that show at least :data:`MIN_VISIBLE` of its area (of what lies inside the image), cut off
    at their borders. Ids are those of the images, so several rows have the same.

    Args:
        index: images and boxes.
        tiling: the grid.

    Returns:
        The index; its ``tiles`` says where each lies.
    """
    across, down = tiling.counts(index.widths), tiling.counts(index.heights)
    whole = (across * down > 1) & tiling.whole
    grid = _Grid(np.cumsum(np.concatenate([[0], across * down + whole])), across, down, whole)
    image = np.repeat(np.arange(len(index)), np.diff(grid.start))
    number = np.arange(len(image)) - grid.start[image] - whole[image]  # -1 for the whole image
    row, column = np.divmod(number, across[image])
    left, top = (
        np.where(number < 0, 0, tiling.starts(place, sides[image]))
        for place, sides in ((column, index.widths), (row, index.heights))
    )
    width, height = (
        np.where(number < 0, sides[image], np.minimum(sides[image], tiling.side))
        for sides in (index.widths, index.heights)
    )
    shown, intact, seen = _shown(index, tiling, grid)
    ignored = index.crowd | index.ignore
    learnt = np.bincount(shown.tile[~ignored[shown.box]], minlength=len(image))
    objects = (seen >= 0) & ~ignored
    tiles = Tiles(
        index,
        tiling,
        image=image.astype(np.int32),
        left=left.astype(np.int32),
        top=top.astype(np.int32),
        empty=learnt == 0,
        objects=int(objects.sum()),
        cut=int((objects & ~intact).sum()),
        lost=int((objects & (seen == 0)).sum()),
    )
    ends = np.cumsum(np.concatenate([[0], np.array(index.parts, np.int64)]))
    return index.replace(
        image_ids=index.image_ids[image],
        file_names=[""] * len(image),  # looked up in ``tiles.of``
        widths=width,
        heights=height,
        box_start=np.cumsum(np.concatenate([[0], np.bincount(shown.tile, minlength=len(image))])),
        boxes=shown.boxes,
        labels=index.labels[shown.box],
        crowd=index.crowd[shown.box],
        ignore=index.ignore[shown.box],
        area=None,
        annotation_ids=None,
        edge_ambiguity=None,  # of an edge that a tile cuts off it says nothing
        parts=tuple(np.diff(grid.start[ends]).tolist()),
        tiles=tiles,
    )


def _shown(index: DataIndex, tiling: Tiling, grid: _Grid) -> tuple[_Shown, np.ndarray, np.ndarray]:
    """Which tile has which boxes, by tile; (N,) bool: a tile shows the box whole; (N,) how many rows have it, or -1.

    The whole image is such a row, but no tile; -1 says that the box has no area.
    """
    found: list[_Shown] = []
    intact, seen = np.zeros(len(index.boxes), bool), np.full(len(index.boxes), -1)
    owner = np.repeat(np.arange(len(index)), np.diff(index.box_start))
    for some in parts(len(index.boxes)):
        image, exact = owner[some], index.boxes[some]
        limits = np.stack([index.widths[image], index.heights[image]] * 2, 1)
        inside = np.clip(exact, 0, limits)
        box, row, column = _pairs(inside, image, index, tiling, grid)
        of = image[box]
        corner = np.stack([tiling.starts(column, index.widths[of]), tiling.starts(row, index.heights[of])] * 2, 1)
        shown = np.clip(inside[box] - corner, 0, np.minimum(limits[box], tiling.side))
        areas = _areas(inside)
        share = _areas(shown) / np.maximum(areas[box], 1e-300)
        complete = (share >= 1 - 1e-9) & (areas[box] > 0)
        # One of half a pixel that is whole stays what it was.
        kept = complete | ((share >= MIN_VISIBLE) & ((shown[:, 2:] - shown[:, :2]) >= MIN_SIDE).all(1))
        tile = grid.start[of] + grid.whole[of] + row * grid.across[of] + column
        again = np.flatnonzero(grid.whole[image])
        found.append(_Shown(box[kept] + some.start, tile[kept], shown[kept]))
        found.append(_Shown(again + some.start, grid.start[image[again]], exact[again]))
        intact[some] = np.bincount(box[complete], minlength=len(exact)) > 0
        times = np.bincount(box[kept], minlength=len(exact)) + grid.whole[image]
        seen[some] = np.where(areas > 0, times, -1)
    found.append(_Shown(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4))))
    box, tile, boxes = (np.concatenate([getattr(part, name) for part in found]) for name in ("box", "tile", "boxes"))
    order = np.lexsort((box, tile))
    return _Shown(box[order], tile[order], boxes[order]), intact, seen


def _pairs(
    boxes: np.ndarray, image: np.ndarray, index: DataIndex, tiling: Tiling, grid: _Grid
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(box, row, column) of every tile that a box reaches into, and perhaps of one beside them."""
    spans = []
    for axis, sides, counts in ((0, index.widths, grid.across), (1, index.heights, grid.down)):
        length, count, begin, end = sides[image], counts[image], boxes[:, axis], boxes[:, axis + 2]
        first = np.floor((begin - np.minimum(length, tiling.side)) / tiling.step).astype(np.int64) + 1
        last = np.ceil(end / tiling.step).astype(np.int64) - 1
        # The last tile was moved inwards: it begins before its turn.
        last = np.where(end > tiling.starts(count - 1, length), count - 1, last)
        first = np.clip(first, 0, count - 1)
        spans.append((first, np.clip(last, first, count - 1) - first + 1))
    (left, across), (top, down) = spans
    total = across * down
    box = np.repeat(np.arange(len(boxes)), total)
    number = np.arange(len(box)) - (np.cumsum(total) - total)[box]
    row, column = np.divmod(number, across[box])
    return box, top[box] + row, left[box] + column


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(1)

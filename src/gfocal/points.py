"""Points and anchors of every level, flat, in one fixed order: level by level, row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gfocal.errors import UsageError

__all__ = ["Points", "grid_sizes", "make_anchors", "make_points", "octave_shapes", "ssd_shapes"]

_SLACK = 0.01  # of a stride, that plain anchors may be off


@dataclass(frozen=True)
class Points:
    """The places that predict; every row is one place (one anchor, where a location has several).

    Attributes:
        xy: (P, 2) position in input pixels.
        anchors: (P, 4) xyxy box centred there.
        stride: (P,) float, input pixels per cell of the level.
        level: (P,) int64.
        grids: (height, width) of each level while the set is whole; () after indexing.
        strides: stride of each level.
        offset: position of the first point in cells: 0 (corner) or 0.5 (centre).
        per_location: anchors a location of each level while the set is whole; () means one everywhere.
    """

    xy: Tensor
    anchors: Tensor
    stride: Tensor
    level: Tensor
    grids: tuple[tuple[int, int], ...] = ()
    strides: tuple[int, ...] = ()
    offset: float = 0.0
    per_location: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.xy)

    def __getitem__(self, index: Any) -> Points:
        return Points(
            self.xy[index],
            self.anchors[index],
            self.stride[index],
            self.level[index],
            strides=self.strides,
            offset=self.offset,
        )

    @staticmethod
    def from_anchors(anchors: Sequence[Tensor], strides: Sequence[int]) -> Points:
        """The points of anchors that another library made, for the assigners and box representations here.

        The order must be that of :func:`make_anchors`: row by row, and the anchors of one location together. Every
        location has the same ones, one stride from its neighbours, and the first location of every level is equally
        many cells off the corner. A hundredth of a stride of deviation is allowed.

        Args:
            anchors: (N, 4) xyxy in input pixels of each level, finest first, at least one.
            strides: of the levels, in input pixels per cell.

        Raises:
            UsageError: the anchors are no such grid; the message says on which level and why.

        Example:
            >>> mine = make_points([(2, 3)], [8], anchor_scale=4, offset=0.5).anchors
            >>> points = Points.from_anchors([mine], [8])
            >>> points.grids, points.offset, points.per_location
            (((2, 3),), 0.5, (1,))
        """
        if isinstance(anchors, Tensor):
            raise UsageError(
                "anchors must be a list with an (N, 4) tensor of each level, such as [anchors], not a tensor"
            )
        if not 0 < len(anchors) == len(strides):
            raise UsageError(f"anchors and strides of as many levels are needed, got {len(anchors)} and {len(strides)}")
        levels = [_Level.of(*one) for one in zip(anchors, strides, range(len(strides)), strict=True)]
        grids, shapes = [level.grid for level in levels], [level.shapes for level in levels]
        offset = levels[0].offset
        made = make_anchors(grids, strides, shapes, offset=offset, device=anchors[0].device)
        expected = made.anchors.split([len(level) for level in anchors])
        for i, stride in enumerate(strides):
            if not (anchors[i].to(expected[i]) - expected[i]).abs().amax() <= _SLACK * stride:
                raise UsageError(
                    f"the anchors of level {i} are no grid: wanted are the same ones at every location, location by "
                    f"location and row by row, {stride} pixels apart, the first at {offset:g} strides as on level 0"
                )
        return replace(made, anchors=torch.cat([level.to(made.anchors) for level in anchors]))

    @property
    def level_counts(self) -> list[int]:
        """Points of each level."""
        levels = zip(self.grids, self._anchors_of_levels, strict=True)
        return [height * width * anchors for (height, width), anchors in levels]

    def within(self, height: float, width: float) -> tuple[Points, Tensor]:
        """The points that lie in an image at the top left of a padded one: a whole set again, and (N,) their indices.

        A point on the right or the bottom border lies outside, as a pixel with that coordinate would.

        Args:
            height, width: of the image in input pixels.

        Raises:
            ValueError: for a part of a set.

        Example:
            >>> points = make_points([(2, 3), (1, 2)], [8, 16], anchor_scale=4, offset=0.5)
            >>> inside, index = points.within(16, 12)
            >>> inside.grids, index.tolist()
            (((2, 1), (1, 1)), [0, 3, 6])
        """
        if sum(self.level_counts) != len(self):
            raise ValueError("the points within an image are taken of the whole set, not of a part of it")
        # Row i lies at (i + offset) * stride.
        grids = tuple(
            (self._cells(height, rows, stride), self._cells(width, columns, stride))
            for (rows, columns), stride in zip(self.grids, self.strides, strict=True)
        )
        index = torch.arange(len(self), device=self.xy.device)
        if grids == self.grids:
            return self, index
        rows = (self.xy, self.anchors, self.stride, self.level, index)
        xy, anchors, strides, level, index = (self._top_left(each, grids) for each in rows)
        return replace(self, xy=xy, anchors=anchors, stride=strides, level=level, grids=grids), index

    def _top_left(self, each: Tensor, grids: Sequence[tuple[int, int]]) -> Tensor:
        """(N, ...) of the (P, ...) rows of a whole set: those of so many (rows, columns) of each level."""
        # Slices: they take half the time of an index, and their sizes are known, so that nobody waits for a GPU.
        levels = zip(each.split(self.level_counts), self.grids, self._anchors_of_levels, grids, strict=True)
        return torch.cat(
            [
                level.unflatten(0, (*grid, anchors))[:rows, :columns].flatten(0, 2)
                for level, grid, anchors, (rows, columns) in levels
            ]
        )

    def _cells(self, side: float, cells: int, stride: int) -> int:
        """How many of the cells in a row or column of a level lie before ``side`` pixels."""
        return min(max(math.ceil(side / stride - self.offset), 0), cells)

    @property
    def _anchors_of_levels(self) -> tuple[int, ...]:
        return self.per_location or (1,) * len(self.grids)


@dataclass(frozen=True)
class _Level:
    """What plain anchors of a level say about it: (rows, columns), (width, height) of each anchor, first centre."""

    grid: tuple[int, int]
    shapes: list[tuple[float, float]]
    offset: float

    @staticmethod
    def of(anchors: Tensor, stride: int, level: int) -> _Level:
        if not (isinstance(anchors, Tensor) and anchors.ndim == 2 and anchors.shape[1] == 4 and len(anchors)):
            what = tuple(anchors.shape) if isinstance(anchors, Tensor) else type(anchors).__name__
            raise UsageError(f"the anchors of level {level} must be a tensor of shape (N, 4), N > 0, got {what}")
        if stride < 1:
            raise UsageError(f"the stride of level {level} must be at least 1, got {stride}")
        boxes = anchors.detach().cpu().double()
        centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        if not (boxes.isfinite().all() and (size > 0).all()):
            raise UsageError(f"the anchors of level {level} must be finite xyxy boxes with positive sides")
        same = (centre - centre[0]).abs() <= _SLACK * stride
        each = _leading(same.all(1))
        width = _leading(same[::each, 1])
        rows, left = divmod(len(boxes), each * width)
        if left:
            raise UsageError(
                f"the {len(boxes)} anchors of level {level} are no whole rows of {width} locations with {each} each"
            )
        # Rounded, since ties hang on it: the mean of two float32 edges may miss 1/2.
        return _Level((rows, width), [(w, h) for w, h in size[:each].tolist()], round(float(centre[0, 0]) / stride, 4))


def _leading(mask: Tensor) -> int:
    """How many truths stand before the first falsehood."""
    return int(mask.long().cumprod(0).sum())


def grid_sizes(height: int, width: int, strides: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """(height, width) of the maps of a padded image: sizes divided by the stride, rounded up."""
    # Not -(-height // stride): exported graphs divide whole numbers towards 0.
    return tuple(((height + stride - 1) // stride, (width + stride - 1) // stride) for stride in strides)


def make_points(
    grids: Sequence[tuple[int, int]],
    strides: Sequence[int],
    *,
    anchor_scale: float,
    offset: float,
    device: torch.device | str = "cpu",
) -> Points:
    """One square anchor a location, ``anchor_scale`` strides wide; the rest as in :func:`make_anchors`.

    Raises:
        ValueError: if grids and strides differ in number, or anchor_scale <= 0.

    Example:
        >>> points = make_points([(1, 2)], [8], anchor_scale=2, offset=0.5)
        >>> points.xy.tolist(), points.anchors[0].tolist()
        ([[4.0, 4.0], [12.0, 4.0]], [-4.0, -4.0, 12.0, 12.0])
    """
    if not anchor_scale > 0:
        raise ValueError(f"anchor_scale must be > 0, got {anchor_scale}")
    shapes = [[(stride * anchor_scale, stride * anchor_scale)] for stride in strides]
    return make_anchors(grids, strides, shapes, offset=offset, device=device)


Shapes = Sequence[Sequence[tuple[float, float]]]
"""(width, height) in pixels of the anchors of every level."""


def make_anchors(
    grids: Sequence[tuple[int, int]],
    strides: Sequence[int],
    shapes: Shapes,
    *,
    offset: float,
    device: torch.device | str = "cpu",
) -> Points:
    """Anchors of the given shapes at every location.

    Args:
        grids: (height, width) of each level's map.
        strides: stride of each level, in input pixels.
        shapes: of each level, in the order in which the head's outputs stand.
        offset: where location (0, 0) lies, in cells: (column + offset) * stride. It matters: weights trained
            with 0.5 and run with 0 lose half of their AP.
        device: where the tensors live.

    Raises:
        ValueError: if grids, strides and shapes differ in number, or a level has no anchor or one without area.
    """
    if not len(grids) == len(strides) == len(shapes):
        raise ValueError(
            f"as many grids as strides and shapes, got {len(grids)} grids, {len(strides)} strides and "
            f"shapes of {len(shapes)} levels"
        )
    if not all(level and all(w > 0 and h > 0 for w, h in level) for level in shapes):
        raise ValueError(f"every level needs anchors of positive size, got {shapes}")
    xy, anchors, stride_of, level_of = [], [], [], []
    for level, ((height, width), stride, sizes) in enumerate(zip(grids, strides, shapes, strict=True)):
        rows = (torch.arange(height, device=device, dtype=torch.float32) + offset) * stride
        columns = (torch.arange(width, device=device, dtype=torch.float32) + offset) * stride
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        half = torch.tensor([tuple(size) for size in sizes], device=device, dtype=torch.float32) / 2
        centre = torch.stack((x, y), -1).view(-1, 1, 2).expand(-1, len(sizes), -1)
        xy.append(centre.reshape(-1, 2))
        anchors.append(torch.cat((centre - half, centre + half), -1).view(-1, 4))
        count = height * width * len(sizes)
        stride_of.append(torch.full((count,), float(stride), device=device))
        level_of.append(torch.full((count,), level, device=device))
    return Points(
        xy=torch.cat(xy),
        anchors=torch.cat(anchors),
        stride=torch.cat(stride_of),
        level=torch.cat(level_of),
        grids=tuple((h, w) for h, w in grids),
        strides=tuple(int(s) for s in strides),
        offset=offset,
        per_location=tuple(len(level) for level in shapes),
    )


def octave_shapes(
    strides: Sequence[int],
    *,
    scale: float = 4.0,
    scales_per_octave: int = 3,
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
) -> list[list[tuple[float, float]]]:
    """RetinaNet's anchors: ratio by ratio, the scales of an octave of each.

    Args:
        strides: of the levels.
        scale: side of the smallest square in strides.
        scales_per_octave: sizes between one level and the next; each is 2^(1 / scales_per_octave) times the last.
        ratios: height over width; the area stays.

    Source:
        Focal Loss for Dense Object Detection, arXiv 1708.02002, section 4.
    """
    sides = [scale * 2 ** (i / scales_per_octave) for i in range(scales_per_octave)]
    return [
        [(stride * side / math.sqrt(ratio), stride * side * math.sqrt(ratio)) for ratio in ratios for side in sides]
        for stride in strides
    ]


def ssd_shapes(sizes: Sequence[float], aspects: Sequence[Sequence[float]]) -> list[list[tuple[float, float]]]:
    """SSD's anchors of each level: a square, a larger square, and for each aspect a wide and a tall one.

    Args:
        sizes: side in pixels of the square of each level, and one more: the larger square is the geometric mean of
            a level's size and the next.
        aspects: of each level, numbers > 1; r gives the shapes r : 1 and 1 : r of the smaller square's area.

    Raises:
        ValueError: unless there is one size more than levels.

    Source:
        SSD, arXiv 1512.02325, section 2.2.
    """
    if len(sizes) != len(aspects) + 1:
        raise ValueError(f"one size more than levels, got {len(sizes)} sizes for {len(aspects)} levels")
    shapes = []
    for side, following, level in zip(sizes, sizes[1:], aspects, strict=False):
        larger = math.sqrt(side * following)
        level_shapes = [(side, side), (larger, larger)]
        for aspect in level:
            root = math.sqrt(aspect)
            level_shapes += [(side * root, side / root), (side / root, side * root)]
        shapes.append(level_shapes)
    return shapes

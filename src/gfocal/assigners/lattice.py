"""The regular order of points: with it an assigner names the few that an object can claim instead of looking at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gfocal.errors import UsageError
from gfocal.points import Points

CLEARLY = 0.01
"""Pixels by which a point must lie within a box to be inside, as published code has it."""
_CHUNK = 1 << 18  # pairs of object and point that are looked at together, if one object has no more: up to 100 MB


def require_whole(points: Points, name: str) -> None:
    """Raise, in the name of an assigner, for what is no Points (UsageError) or a part of a set (ValueError)."""
    if not isinstance(points, Points):
        given = (
            f"a tensor of shape {tuple(points.shape)}" if isinstance(points, Tensor) else f"a {type(points).__name__}"
        )
        raise UsageError(
            f"{name} needs Points, which know their levels and strides, not {given}: make them of anchors by "
            "gfocal.Points.from_anchors([anchors of each level], strides), or by gfocal.points.make_anchors"
        )
    if sum(points.level_counts) != len(points):
        raise ValueError(f"{name} needs the whole set of points, not a part of it")


def require_single(points: Points, name: str) -> None:
    """Raise ValueError, in the name of an assigner, for a part of a set or for several anchors a location."""
    require_whole(points, name)
    if any(anchors != 1 for anchors in points.per_location):
        raise ValueError(f"{name} needs one anchor a location, got {points.per_location} anchors on the levels")


@dataclass(frozen=True)
class Lattice:
    """The K kinds of anchors, level by level: those of one kind stand one stride apart, in rows and columns.

    With one anchor a location there is one kind a level. A level without points has its kinds, too, with no cells.

    Attributes:
        first: (K,) int64 flat index of the anchor of row 0, column 0; some valid index where there are no cells.
        step: (K,) int64 distance of the flat indices of neighbours in a row.
        cells: (K, 2) int64 (columns, rows).
        stride: (K,) float input pixels per cell.
    """

    first: Tensor
    step: Tensor
    cells: Tensor
    stride: Tensor

    @staticmethod
    def of(points: Points) -> Lattice:
        """The lattice of a whole set of at least one point."""
        rows, start = [], 0
        per_location = points.per_location or (1,) * len(points.grids)
        for (height, width), stride, anchors in zip(points.grids, points.strides, per_location, strict=True):
            rows += [(min(start + i, len(points) - 1), anchors, width, height, stride) for i in range(anchors)]
            start += height * width * anchors
        table = torch.tensor(rows, device=points.xy.device)
        return Lattice(table[:, 0], table[:, 1], table[:, 2:4], table[:, 4].to(points.xy.dtype))

    def flat(self, column: Tensor, row: Tensor) -> Tensor:
        """(..., K) flat indices of the anchors at integer (..., K) cells."""
        return self.first + self.step * (row * self.cells[:, 0] + column)

    def rectangles(self, low: Tensor, high: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Name every pair of an object and an anchor whose cell lies in the object's rectangle.

        Costs time and memory for the pairs that come out, not for all objects times all anchors.

        Args:
            low: (G, K, 2) whole numbers as float: least (column, row) of object g among the anchors of kind k. May
                lie outside the lattice or be infinite.
            high: (G, K, 2) the greatest, itself inside the rectangle.

        Yields:
            (N,) object and (N,) flat index, int64, by object, kind, row, column; all pairs in one go or, where they
            are very many, in several, but those of one object together. At least once, without pairs if there are none.
        """
        low = low.clamp(min=0).minimum(self.cells).long()
        high = high.clamp(min=-1).minimum(self.cells - 1).long()
        size = (high - low + 1).clamp(min=0)
        count = size.prod(-1).flatten()
        end = count.cumsum(0)
        base = self.flat(low[..., 0], low[..., 1])
        row_step = (self.step * self.cells[:, 0]).expand_as(base)
        table = torch.stack((end - count, size[..., 0].flatten(), base.flatten(), row_step.flatten()), 1)
        for begin, stop in _spans(end[len(self.first) - 1 :: len(self.first)].tolist()):
            number = torch.arange(begin, stop, device=end.device)
            which = torch.searchsorted(end, number, right=True)
            before, columns, corner, down = table[which].unbind(1)
            inner = number - before
            row = inner.div(columns, rounding_mode="floor")
            kind = which.remainder(len(self.first))
            flat = corner + row * down + (inner - row * columns) * self.step[kind]
            yield which.div(len(self.first), rounding_mode="floor"), flat


def _spans(ends: list[int]) -> Iterator[tuple[int, int]]:
    """Cut 0 ... ``ends[-1]`` at some of the ends, as few as keep a span within a chunk or at a single object's."""
    begin = last = 0
    for end in ends:
        if end - begin > _CHUNK and last > begin:
            yield begin, last
            begin = last
        last = end
    yield begin, last


def least_of(count: int, index: Tensor, value: Tensor, none: int) -> Tensor:
    """(count,) int64: the least of the values (N,) that stand at each index (N,); ``none``, above all, without any."""
    return torch.full((count,), none, device=value.device).scatter_reduce_(0, index, value, "amin")


def by_area(areas: Tensor, none: int) -> tuple[Tensor, Tensor]:
    """Order of (G,) areas, smallest first, equal ones by index.

    Returns:
        rank (G,) of each, and object (G + 1,) of each rank, with ``none`` as the object of rank G.
    """
    order = areas.argsort(stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return rank, torch.cat((order, order.new_tensor([none])))


def inside_chunks(points: Points, boxes: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what :func:`inside_pairs` gives in as many parts as :meth:`Lattice.rectangles`: no object is split."""
    if not (len(points) and len(boxes)):
        none = torch.zeros(0, dtype=torch.int64, device=points.xy.device)
        yield none, none
        return
    lattice = Lattice.of(points)
    low, high = (boxes[:, None] / lattice.stride[:, None] - points.offset).split(2, -1)
    for gt, point in lattice.rectangles(low.floor(), high.ceil()):
        xy = points.xy[point]
        keep = torch.minimum(xy - boxes[gt, :2], boxes[gt, 2:] - xy).amin(-1) > CLEARLY
        yield gt[keep], point[keep]


def inside_pairs(points: Points, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) object and (N,) flat index of each point that lies inside it by more than :data:`CLEARLY`, by object.

    Args:
        points: a whole set.
        boxes: (G, 4) float xyxy.
    """
    gt, point = zip(*inside_chunks(points, boxes), strict=True)
    return torch.cat(gt), torch.cat(point)


def power(base: Tensor, exponent: float) -> Tensor:
    """(N,) powers, the same of the same base: vectorised code rounds the last few of a tensor otherwise."""
    if exponent == 1:
        return base
    values, of = base.unique(return_inverse=True)
    return values.pow(exponent)[of]


def to_highest_iou(gt_index: Tensor, point: Tensor, gt: Tensor, iou: Tensor) -> Tensor:
    """``gt_index`` (P,) with the pairs (N,) of point and object: each point takes the object of highest IoU.

    Among equal ones the first. Points without a pair keep what they have.
    """
    best = iou.new_full(gt_index.shape, -1.0).scatter_reduce_(0, point, iou, "amax")
    winner = iou == best[point]
    none = torch.iinfo(torch.int64).max
    first = least_of(len(gt_index), point[winner], gt[winner], none)
    return torch.where(first == none, gt_index, first)

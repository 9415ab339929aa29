"""FoveaBox: the middle of every object, on each level that its size belongs to."""

from __future__ import annotations

import torch
from torch import Tensor

from gfocal.assigners.lattice import Lattice, by_area, require_single
from gfocal.boxes import area
from gfocal.points import Points
from gfocal.structures import NEGATIVE, Assignment

_SMALLEST, _LARGEST = 1.0, 2048.0  # pixels, as published


class FoveaAssigner:
    """FoveaBox: the cells in the middle of an object, on up to several levels.

    An object of area A belongs to the levels with base / 2 <= sqrt(A) <= 2 base, base = ``base_scale`` strides; the
    first level takes from 1 pixel on, the last one up to 2048. With scale 4, strides 8..128 give the published
    (1, 64), (32, 128), (64, 256), (128, 512), (256, 2048). Objects beyond get no point.

    On such a level the cells are positive whose index lies from ceil(x1 + (1 - sigma) w / 2 - o) to
    floor(x1 + (1 + sigma) w / 2 - o), box in strides and o the offset of the points (published with 0.5), likewise in
    y: those whose point lies in the box shrunk to ``sigma`` times its sides. Both ends are limited to the map, so an
    object whose middle lies beyond the border keeps the cells at the border; one wholly beyond the map gets none.

    A cell that several objects claim goes to the one of least area, among equals to the lowest index.

    Args:
        sigma: share of the box's sides, in (0, 1].
        base_scale: in strides, > 0.

    Source:
        FoveaBox, arXiv 1904.03797, "Scale Assignment" and "Object Fovea". The text names a range of scales and a
        shrunk box; the rounding to cells and the limit at the border are those of published code.

    Example:
        What it equals, where the middle of every object lies on the map: the matrix (P, G) of all points and all boxes.

        >>> from gfocal.points import grid_sizes, make_points
        >>> points = make_points(grid_sizes(256, 256, (8, 16, 32)), (8, 16, 32), anchor_scale=8, offset=0.5)
        >>> boxes = torch.tensor([[20.0, 31, 92, 121], [101, 99, 249, 242], [39, 52, 83, 91]])
        >>> centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        >>> middle = ((points.xy[:, None] - centre).abs() <= 0.4 * half).all(-1)
        >>> least, most = torch.tensor([[1, 32, 64], [64, 128, 2048]])[:, points.level, None]
        >>> side = area(boxes).sqrt()
        >>> smallest, owner = area(boxes).where(middle & (side >= least) & (side <= most), torch.inf).min(1)
        >>> matrix = owner.where(smallest < torch.inf, NEGATIVE)
        >>> torch.equal(FoveaAssigner(sigma=0.4)(points, boxes).gt_index, matrix), (matrix != NEGATIVE).sum()
        (True, tensor(9))
    """

    def __init__(self, sigma: float = 0.4, base_scale: float = 4.0) -> None:
        if not 0 < sigma <= 1:
            raise ValueError(f"sigma must lie in (0, 1], got {sigma}")
        if not base_scale > 0:
            raise ValueError(f"base_scale must be > 0, got {base_scale}")
        self.sigma = sigma
        self.base_scale = base_scale

    @torch.no_grad()
    def __call__(self, points: Points, boxes: Tensor) -> Assignment:
        """Assign (G, 4) xyxy boxes to the points of all levels.

        Raises:
            ValueError: for a set of points that is not whole, or has several anchors a location.
        """
        require_single(points, "FoveaBox")
        if len(boxes) == 0 or len(points) == 0:
            return Assignment(torch.full((len(points),), NEGATIVE, device=points.xy.device))
        boxes = boxes.float()
        lattice = Lattice.of(points)
        last_cell = (lattice.cells - 1).to(boxes.dtype)
        start, end = (boxes[:, None] / lattice.stride[:, None]).split(2, -1)  # (G, L, 2), in strides
        half = 0.5 * (end - start)
        low = (start + (1 - self.sigma) * half - points.offset).ceil().clamp(min=0).minimum(last_cell)
        high = (start + (1 + self.sigma) * half - points.offset).floor().clamp(min=0).minimum(last_cell)
        touches = ((end > 0) & (start < lattice.cells)).all(-1)
        side = area(boxes).sqrt()[:, None]
        least, most = self._ranges(points)
        taken = touches & (side >= least) & (side <= most)
        rank, object_of = by_area(area(boxes), NEGATIVE)
        best = torch.full((len(points),), len(boxes), device=boxes.device)
        for gt, point in lattice.rectangles(low, high.where(taken[..., None], -1)):
            best.scatter_reduce_(0, point, rank[gt], "amin")
        return Assignment(object_of[best])

    def _ranges(self, points: Points) -> tuple[Tensor, Tensor]:
        """(L,) least and (L,) largest square root of the area in pixels that the levels take."""
        bases = [self.base_scale * stride for stride in points.strides]
        least = [_SMALLEST, *(base / 2 for base in bases[1:])]
        most = [*(base * 2 for base in bases[:-1]), _LARGEST]
        return points.xy.new_tensor(least), points.xy.new_tensor(most)

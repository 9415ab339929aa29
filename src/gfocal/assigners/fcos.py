"""FCOS: points near the centre of an object, on the level that its size belongs to."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gfocal.assigners.lattice import Lattice, by_area, require_single
from gfocal.boxes import area
from gfocal.points import Points
from gfocal.structures import NEGATIVE, Assignment


class FcosAssigner:
    """FCOS with centre sampling.

    A point is positive for an object if

    - it lies strictly inside the square of +- ``radius`` strides around the object's centre, cut to the box, and
    - its largest distance to an edge of the box lies in its level's range: from ``range_scale`` times the stride of
      the level below to ``range_scale`` times its own, both inclusive; from 0 on the first level, without end on the
      last. Scale 8 on strides 8..128 gives the published 0, 64, 128, 256, 512, infinity.

    A point that several objects claim goes to the one of least area, among equals to the lowest index.

    Args:
        radius: in strides, >= 0; 0 means anywhere strictly inside the box.
        range_scale: in strides, > 0.

    Source:
        FCOS, arXiv 1904.01355, section 3.2 (ranges, least area); centre sampling: its journal form, arXiv 2006.09214,
        section 3.1.

    Example:
        What it equals: the matrix (P, G) of all points and all boxes.

        >>> from gfocal.points import grid_sizes, make_points
        >>> points = make_points(grid_sizes(256, 256, (8, 16, 32)), (8, 16, 32), anchor_scale=8, offset=0.5)
        >>> boxes = torch.tensor([[20.0, 31, 92, 121], [101, 99, 249, 242], [39, 52, 83, 91]])
        >>> xy, near, far = points.xy[:, None], boxes[:, :2], boxes[:, 2:]
        >>> centre, reach = (near + far) / 2, 1.5 * points.stride[:, None, None]
        >>> least, most = torch.tensor([[0, 64, 128], [64, 128, math.inf]])[:, points.level, None]
        >>> inside = ((xy > (centre - reach).maximum(near)) & (xy < (centre + reach).minimum(far))).all(-1)
        >>> longest = torch.maximum(xy - near, far - xy).amax(-1)
        >>> smallest, owner = area(boxes).where(inside & (longest >= least) & (longest <= most), math.inf).min(1)
        >>> matrix = owner.where(smallest < math.inf, NEGATIVE)
        >>> torch.equal(FcosAssigner(radius=1.5)(points, boxes).gt_index, matrix), (matrix != NEGATIVE).sum()
        (True, tensor(23))
    """

    def __init__(self, radius: float = 1.5, range_scale: float = 8.0) -> None:
        if not radius >= 0:
            raise ValueError(f"radius must be >= 0, got {radius}")
        if not range_scale > 0:
            raise ValueError(f"range_scale must be > 0, got {range_scale}")
        self.radius = radius
        self.range_scale = range_scale

    @torch.no_grad()
    def __call__(self, points: Points, boxes: Tensor) -> Assignment:
        """Assign (G, 4) xyxy boxes to the points of all levels.

        Raises:
            ValueError: for a set of points that is not whole, or has several anchors a location.
        """
        require_single(points, "FCOS")
        if len(boxes) == 0 or len(points) == 0:
            return Assignment(torch.full((len(points),), NEGATIVE, device=points.xy.device))
        boxes = boxes.float()
        lattice = Lattice.of(points)
        stride = lattice.stride[:, None]
        near, far = boxes[:, None, :2], boxes[:, None, 2:]
        centre = (near + far) / 2
        reach = stride * (self.radius or math.inf)
        low, high = torch.maximum(centre - reach, near), torch.minimum(centre + reach, far)  # (G, L, 2)
        least, most = self._ranges(points)
        # Cells that may hold positives. It is only to save work: whatever lies in them is looked at again.
        origin = points.xy[lattice.first]
        first = (torch.maximum(low, far - most[:, None]) - origin) / stride
        last = (torch.minimum(high, near + most[:, None]) - origin) / stride
        rank, object_of = by_area(area(boxes), NEGATIVE)
        best = torch.full((len(points),), len(boxes), device=boxes.device)
        for gt, point in lattice.rectangles(first.floor(), last.ceil()):
            xy, level = points.xy[point], points.level[point]
            inside = ((xy > low[gt, level]) & (xy < high[gt, level])).all(-1)
            longest = torch.maximum(xy - boxes[gt, :2], boxes[gt, 2:] - xy).amax(-1)
            positive = inside & (longest >= least[level]) & (longest <= most[level])
            best.scatter_reduce_(0, point, rank[gt].where(positive, len(boxes)), "amin")
        return Assignment(object_of[best])

    def _ranges(self, points: Points) -> tuple[Tensor, Tensor]:
        """(L,) least and (L,) largest distance in pixels that the levels take."""
        between = [self.range_scale * stride for stride in points.strides[:-1]]
        return points.xy.new_tensor([0.0, *between]), points.xy.new_tensor([*between, math.inf])

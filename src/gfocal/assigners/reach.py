"""Positives whose boxes no code can hold learn nothing: another point of the object does."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gfocal.assigners.protocols import Assigner, DynamicAssigner, Keep
from gfocal.points import Points
from gfocal.structures import NEGATIVE, Assignment, Targets

Truncated = Callable[[Points, Tensor], Tensor]
"""(points, (N, 4) boxes) -> (N, 4) bool, the edges that no code can reach; a box representation has it."""


def reached_pairs(gt: Tensor, point: Tensor, points: Points, boxes: Tensor, truncated: Truncated) -> Tensor:
    """(N,) bool: the pairs of object and point whose box a code can hold, or all of an object that has no such pair.

    Args:
        gt: (N,) int64 index into ``boxes``.
        point: (N,) int64 index into ``points``.
        points: all of an image.
        boxes: (G, 4) of the image.
        truncated: which edges no code can reach.
    """
    cut = truncated(points[point], boxes[gt].float()).any(1)
    reached = torch.zeros(len(boxes), dtype=torch.bool, device=gt.device)
    reached[gt[~cut]] = True
    return ~(cut & reached[gt])


class WithinReach:
    """Another assigner without the positives that the box representation cannot reach.

    General boxes reach ``reg_max * delta`` strides from the point. A large object that is assigned on a fine level, or
    off its centre, asks for more, and learns an edge that is cut off. Here such a point becomes negative, unless all
    positives of its object are such points: a box that is too small is better than none. Ours, not the papers'.

    Args:
        assigner: decides first.
        truncated: (points, (N, 4) boxes) -> (N, 4) bool, the edges that no code can reach; a box representation has it.
    """

    def __init__(self, assigner: Assigner, truncated: Truncated) -> None:
        self.assigner, self.truncated = assigner, truncated

    def __call__(self, points: Points, boxes: Tensor) -> Assignment:
        """Assign the (G, 4) boxes of one image to the whole set of points."""
        assigned = self.assigner(points, boxes)
        point = (assigned.gt_index >= 0).nonzero().squeeze(1)
        keep = reached_pairs(assigned.gt_index[point], point, points, boxes, self.truncated)
        return Assignment(assigned.gt_index.index_fill(0, point[~keep], NEGATIVE), assigned.alignment)


class DynamicWithinReach:
    """Another assigner that looks at predictions, and chooses from what the box representation can reach.

    An object that has a candidate within reach has no other; one without keeps all that it has.

    Args:
        assigner: chooses among the candidates that are left.
        truncated: as of :class:`WithinReach`.
    """

    def __init__(self, assigner: DynamicAssigner, truncated: Truncated) -> None:
        self.assigner, self.truncated = assigner, truncated

    def candidates(self, points: Points, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """As of :class:`DynamicAssigner`."""
        gt, point = self.assigner.candidates(points, boxes)
        keep = reached_pairs(gt, point, points, boxes, self.truncated)
        return gt[keep], point[keep]

    def assign(
        self, points: Points, targets: Targets, scores: Tensor, boxes: Tensor, keep: Keep | None = None
    ) -> Assignment:
        """As of :class:`DynamicAssigner`."""

        def both(gt: Tensor, point: Tensor) -> Tensor:
            kept = torch.ones_like(gt, dtype=torch.bool) if keep is None else keep(gt, point)
            reached = reached_pairs(gt[kept], point[kept], points, targets.boxes, self.truncated)
            return kept.masked_scatter(kept, reached)

        return self.assigner.assign(points, targets, scores, boxes, both)

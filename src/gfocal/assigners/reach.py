"""Positives whose boxes no code can hold learn nothing: another point of the object does."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gfocal.points import Points
from gfocal.structures import NEGATIVE, Assignment


class WithinReach:
    """Another assigner without the positives that the box representation cannot reach.

    General boxes reach ``reg_max * delta`` strides from the point. A large object that is assigned on a fine level, or
    off its centre, asks for more, and learns an edge that is cut off. Here such a point becomes negative, unless all
    positives of its object are such points: a box that is too small is better than none. Ours, not the paper's.

    Args:
        assigner: decides first.
        truncated: (points, (N, 4) boxes) -> (N, 4) bool, the edges that no code can reach; a box representation has it.
    """

    def __init__(
        self, assigner: Callable[[Points, Tensor], Assignment], truncated: Callable[[Points, Tensor], Tensor]
    ) -> None:
        self.assigner, self.truncated = assigner, truncated

    def __call__(self, points: Points, boxes: Tensor) -> Assignment:
        """Assign the (G, 4) boxes of one image to the whole set of points."""
        index = self.assigner(points, boxes).gt_index
        positive = (index >= 0).nonzero().squeeze(1)
        owner = index[positive]
        cut = self.truncated(points[positive], boxes[owner].float()).any(1)
        reached = torch.zeros(len(boxes), dtype=torch.bool, device=index.device)
        reached[owner[~cut]] = True
        index = index.clone()
        index[positive[cut & reached[owner]]] = NEGATIVE
        return Assignment(index)

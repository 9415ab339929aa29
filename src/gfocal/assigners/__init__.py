"""Which point learns which ground truth: (points, boxes) -> Assignment, without gradients and labels."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from gfocal.assigners.atss import AtssAssigner
from gfocal.assigners.fcos import FcosAssigner
from gfocal.assigners.fovea import FoveaAssigner
from gfocal.assigners.max_iou import MaxIouAssigner
from gfocal.assigners.reach import WithinReach
from gfocal.points import Points
from gfocal.structures import Assignment


class Assigner(Protocol):
    """What every assigner is: a callable whose settings came through its constructor."""

    def __call__(self, points: Points, boxes: Tensor) -> Assignment:
        """Assign the (G, 4) boxes of one image to the whole set of points."""
        ...


__all__ = ["Assigner", "AtssAssigner", "FcosAssigner", "FoveaAssigner", "MaxIouAssigner", "WithinReach"]

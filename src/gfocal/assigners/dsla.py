"""Dynamic soft label assignment, NanoDet-Plus's: the cheapest points of an object, by what the network says."""

from __future__ import annotations

import torch
from torch import Tensor

from gfocal.assigners.dynamic_k import assign_cheapest, in_ticks, of_others, surprise
from gfocal.assigners.lattice import inside_pairs, require_whole
from gfocal.assigners.protocols import Keep
from gfocal.points import Points
from gfocal.structures import Assignment, Targets

_NAME = "Dynamic soft label assignment"


class DynamicSoftLabelAssigner:
    r"""The points for which an object costs least, as many as their boxes are good.

    Points that lie inside any object are candidates of all objects. With u the IoU of a point's decoded box and an
    object, and y the label that has u at the object's class and 0 elsewhere, the cost is
    :math:`\sum_c BCE(s_c, y_c) |y_c - s_c|^2 - w \log(u + 10^{-7})`. An object takes its k cheapest candidates, k the
    whole part of the sum of its ``counted`` largest IoUs, at least 1. A point that several take goes to the object for
    which it is cheapest of all. Inside means by more than 0.01 pixels.

    Ties are decided, costs within 6e-8 among them: the lowest flat index, the lowest object. Everything is computed in
    float64 (float32 on Apple's GPUs), so that the choice depends on rounding nowhere but in the network.

    Args:
        iou_cost: w >= 0.
        counted: IoUs of which k is the sum, >= 1.

    Source:
        NanoDet-Plus, published code; dynamic k is OTA's, arXiv 2103.14259, section 3.3, in YOLOX's short form, arXiv
        2107.08430. No candidate is fined for lying outside of an object, as long as it is inside some object.
    """

    def __init__(self, iou_cost: float = 3.0, counted: int = 13) -> None:
        if not iou_cost >= 0:
            raise ValueError(f"iou_cost must be >= 0, got {iou_cost}")
        if counted < 1:
            raise ValueError(f"counted must be >= 1, got {counted}")
        self.iou_cost, self.counted = iou_cost, counted

    def candidates(self, points: Points, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) index of a box and (N,) flat index of a point inside it; a point inside another may be chosen too.

        Raises:
            ValueError: for a set of points that is not whole.
        """
        require_whole(points, _NAME)
        return inside_pairs(points, boxes.float())

    @torch.no_grad()
    def assign(
        self, points: Points, targets: Targets, scores: Tensor, boxes: Tensor, keep: Keep | None = None
    ) -> Assignment:
        """Assign the objects of one image, see :meth:`gfocal.assigners.DynamicAssigner.assign`; any number of anchors.

        Raises:
            ValueError: for a set of points that is not whole.
        """
        candidate = self.candidates(points, targets.boxes)[1].unique()
        probability = scores[candidate].to(torch.float32 if scores.device.type == "mps" else torch.float64)
        others = of_others(surprise(probability, 0) * probability.square())

        def cost(_: Tensor, objects: Tensor, iou: Tensor) -> Tensor:
            label = targets.labels[objects]
            own = probability[:, label]
            here = surprise(own, iou) * (iou - own).square()
            return in_ticks(others[:, label] + here - self.iou_cost * (iou + 1e-7).log())

        return assign_cheapest(points, targets, boxes, candidate, cost, counted=self.counted, keep=keep)

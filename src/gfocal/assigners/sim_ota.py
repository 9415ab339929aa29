"""SimOTA in PicoDet's form: the cheapest points of an object, near its centre first."""

from __future__ import annotations

import torch
from torch import Tensor

from gfocal.assigners.dynamic_k import assign_cheapest, in_ticks, of_others, surprise
from gfocal.assigners.lattice import CLEARLY, require_whole
from gfocal.assigners.protocols import Keep
from gfocal.boxes import aligned_iou
from gfocal.points import Points
from gfocal.structures import Assignment, Targets

_NAME = "SimOTA"
_FAR = 2.0**50  # in ticks, more than any loss costs; published code has 1e8 (before they are ticks)
_ALPHA = 0.75  # of varifocal loss, whose gamma is 2


class SimOtaAssigner:
    r"""The points for which an object costs least, as many as their boxes are good.

    Points that lie inside any object, or within ``radius`` strides of any object's centre (on both axes), are
    candidates of all objects. With u the IoU of a point's decoded box and an object, the cost is varifocal loss of the
    point's scores, with u as the label of the object's class and 0 of the others, plus ``iou_cost`` times 1 - GIoU,
    plus more than all that unless the point is inside this object and near its centre. An object takes its k cheapest
    candidates, k the whole part of the sum of its ``counted`` largest IoUs, at least 1. A point that several take goes
    to the object for which it is cheapest of all. Inside and near mean by more than 0.01 pixels.

    Ties are decided, costs within 6e-8 among them: the lowest flat index, the lowest object. Everything is computed in
    float64 (float32 on Apple's GPUs), so that the choice depends on rounding nowhere but in the network.

    Args:
        radius: in strides, > 0.
        iou_cost: weight of 1 - GIoU, >= 0.
        counted: IoUs of which k is the sum, >= 1.

    Source:
        YOLOX, arXiv 2107.08430, section 2.1; its costs as in PicoDet, arXiv 2111.00902, section 3.3, and its published
        configuration (6 times 1 - GIoU). Varifocal loss: arXiv 2008.13367.
    """

    def __init__(self, radius: float = 2.5, iou_cost: float = 6.0, counted: int = 10) -> None:
        if not radius > 0:
            raise ValueError(f"radius must be > 0, got {radius}")
        if not iou_cost >= 0:
            raise ValueError(f"iou_cost must be >= 0, got {iou_cost}")
        if counted < 1:
            raise ValueError(f"counted must be >= 1, got {counted}")
        self.radius, self.iou_cost, self.counted = radius, iou_cost, counted

    def candidates(self, points: Points, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) index of a box and (N,) flat index of a point inside it or near its centre.

        Raises:
            ValueError: for a set of points that is not whole.
        """
        require_whole(points, _NAME)
        pairs = [
            (torch.full_like(found, i), found)
            for i, box in enumerate(boxes.float())
            for found in ((_inside(points, box) | self._near(points, box)).nonzero().squeeze(1),)
        ]
        none = torch.zeros(0, dtype=torch.int64, device=points.xy.device)
        return torch.cat([none, *(gt for gt, _ in pairs)]), torch.cat([none, *(point for _, point in pairs)])

    @torch.no_grad()
    def assign(
        self, points: Points, targets: Targets, scores: Tensor, boxes: Tensor, keep: Keep | None = None
    ) -> Assignment:
        """Assign the objects of one image, see :meth:`gfocal.assigners.DynamicAssigner.assign`; any number of anchors.

        Raises:
            ValueError: for a set of points that is not whole.
        """
        exact = torch.float32 if scores.device.type == "mps" else torch.float64
        candidate = self.candidates(points, targets.boxes)[1].unique()
        at, probability = points[candidate], scores[candidate].to(exact)
        nowhere = _ALPHA * surprise(probability, 0) * probability.square()  # (N, C)
        others = of_others(nowhere)
        predicted, true = boxes[candidate].to(exact), targets.boxes.float()

        def cost(_: Tensor, objects: Tensor, iou: Tensor) -> Tensor:
            label = targets.labels[objects]
            here = (iou * surprise(probability[:, label], iou)).where(iou > 0, nowhere[:, label])
            giou = aligned_iou(predicted[:, None], true[objects].to(exact), generalized=True)
            far = torch.stack([~(_inside(at, box) & self._near(at, box)) for box in true[objects]], 1)
            return in_ticks(others[:, label] + here + self.iou_cost * (1 - giou)) + _FAR * far

        return assign_cheapest(points, targets, boxes, candidate, cost, counted=self.counted, keep=keep)

    def _near(self, points: Points, box: Tensor) -> Tensor:
        """(N,) bool: within the radius of the centre of one box."""
        centre = (box[:2] + box[2:]) / 2
        return self.radius * points.stride - (points.xy - centre).abs().amax(-1) > CLEARLY


def _inside(points: Points, box: Tensor) -> Tensor:
    """(N,) bool: inside one box."""
    return torch.minimum(points.xy - box[:2], box[2:] - points.xy).amin(-1) > CLEARLY

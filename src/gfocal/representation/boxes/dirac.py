"""Dirac boxes: one number an edge, no uncertainty."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from gfocal.boxes import (
    boxes_to_deltas,
    boxes_to_distances,
    deltas_to_boxes,
    distances_to_boxes,
    giou_loss,
)
from gfocal.losses import smooth_l1_loss
from gfocal.losses.reduction import at_least_float32
from gfocal.points import Points
from gfocal.representation.protocols import BoxRepresentation, BoxRows

DiracCode = Literal["distances", "deltas", "log_deltas"]
DiracLoss = Literal["giou", "l1", "smooth_l1"]

MAX_SIDES = 16.0
"""An edge learnt as a log delta lies 1/16 to 16 anchor sides from the point: published code's limits of the target."""
# What decode takes at most is wider, that of the log ratios of deltas: a distance beyond it is a divergence.
_MAX_LOG_SIDES = math.log(1000.0 / 16)


class DiracBoxes(BoxRepresentation):
    """Each edge is a single value: {"box"}.

    Args:
        code: "distances" of the four edges from the point, in strides and not negative; "deltas" of the anchor's
            centre and size; or "log_deltas", the logarithm of each distance over the width of the point's anchor.
        stds: divisors of the deltas (ATSS: .1 .1 .2 .2, RetinaNet: 1); unused by the other codes.
        loss: "giou" of the decoded box; or "l1" or "smooth_l1" of the code, summed over its four numbers.
        smooth_beta: where "smooth_l1" turns from a square to a straight line, in units of the code, > 0.

    Raises:
        ValueError: for an unknown code or loss, stds or smooth_beta not above 0.

    Source:
        Generalized Focal Loss, arXiv 2006.04388, section 3 (what the paper calls Dirac delta); R-CNN, arXiv 1311.2524
        (deltas); FoveaBox, arXiv 1904.03797, section 3.4 (log deltas); Fast R-CNN, arXiv 1504.08083, eq. 3 (smooth L1).
    """

    channels = 4

    def __init__(
        self,
        code: DiracCode = "distances",
        stds: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2),
        loss: DiracLoss = "giou",
        smooth_beta: float = 1.0,
    ) -> None:
        if code not in get_args(DiracCode):
            raise ValueError(f"code must be one of {', '.join(get_args(DiracCode))}, got {code!r}")
        if loss not in get_args(DiracLoss):
            raise ValueError(f"loss must be one of {', '.join(get_args(DiracLoss))}, got {loss!r}")
        if len(stds) != 4 or not all(std > 0 for std in stds):
            raise ValueError(f"stds must be four numbers > 0, got {stds}")
        if not smooth_beta > 0:
            raise ValueError(f"smooth_beta must be > 0, got {smooth_beta}")
        self.code = code
        self.stds = stds
        self.loss = loss
        self.smooth_beta = smooth_beta
        self.reads_anchors = code != "distances"
        self.meaning = (code, tuple(stds)) if code == "deltas" else (code,)
        # Distances at 0 make a box without area: GIoU has no slope there, and half of the edges lie below the clamp.
        self.initial_code: tuple[float, ...] = (1.0,) * 4 if code == "distances" else (0.0,) * 4

    def encode(self, points: Points, boxes: Tensor) -> Tensor:
        """The code of the boxes; log deltas lie between those of 16 / 1000 and 1000 / 16 sides."""
        if self.code == "deltas":
            return boxes_to_deltas(points.anchors, boxes, self.stds)
        distances = boxes_to_distances(points.xy, boxes)
        if self.code == "log_deltas":
            least = math.exp(-_MAX_LOG_SIDES)
            return (distances / _side(points)).clamp(least, 1 / least).log()
        return distances / points.stride[:, None]

    def decode(self, points: Points, code: Tensor) -> Tensor:
        code = at_least_float32(code)
        if self.code == "deltas":
            return deltas_to_boxes(points.anchors, code, self.stds)
        if self.code == "log_deltas":
            return distances_to_boxes(points.xy, code.clamp(-_MAX_LOG_SIDES, _MAX_LOG_SIDES).exp() * _side(points))
        return distances_to_boxes(points.xy, code.clamp(min=0) * points.stride[:, None])

    def losses(self, rows: BoxRows) -> dict[str, Tensor]:
        if self.loss == "giou":
            loss = giou_loss(rows.boxes, rows.target_boxes)
        else:
            loss = self._code_loss(at_least_float32(rows.code), self.encode(rows.points, rows.target_boxes))
        return {"box": rows.total(loss)}

    def truncated(self, points: Points, target_boxes: Tensor) -> Tensor:
        """Distances reach every box that holds the point, log deltas those within 16 sides; deltas every box."""
        if self.code == "deltas":
            return torch.zeros_like(target_boxes, dtype=torch.bool)
        distances = boxes_to_distances(points.xy, target_boxes)
        if self.code == "log_deltas":
            return (distances <= 0) | (distances > MAX_SIDES * _side(points))
        return distances < 0

    def reach(self, side: float) -> float | None:
        return MAX_SIDES * side if self.code == "log_deltas" else None

    def _code_loss(self, code: Tensor, target: Tensor) -> Tensor:
        """(N,) distance of two codes, summed over their four numbers."""
        target = target.detach().to(code.dtype)
        if self.code == "log_deltas":
            target = target.clamp(-math.log(MAX_SIDES), math.log(MAX_SIDES))
        if self.loss == "l1":
            return (code - target).abs().sum(-1)
        return smooth_l1_loss(code, target, beta=self.smooth_beta).sum(-1)


def _side(points: Points) -> Tensor:
    """(N, 1) width of the points' anchors, in pixels."""
    return points.anchors[:, 2:3] - points.anchors[:, 0:1]

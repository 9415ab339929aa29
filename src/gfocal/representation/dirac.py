"""Dirac boxes: one number an edge, no uncertainty."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gfocal.boxes import (
    boxes_to_deltas,
    boxes_to_distances,
    deltas_to_boxes,
    distances_to_boxes,
    giou_loss,
)
from gfocal.losses import reduce_loss
from gfocal.points import Points

DiracCode = Literal["distances", "deltas"]


class DiracBoxes:
    """Each edge is a single value, learnt by GIoU loss: {"box"}.

    Args:
        code: "distances" of the four edges from the point, in strides and not negative; or "deltas" of the
            anchor's centre and size.
        stds: divisors of the deltas (ATSS: .1 .1 .2 .2); unused by distances.

    Source:
        Generalized Focal Loss, arXiv 2006.04388, section 3 (what the paper calls Dirac delta).
    """

    channels = 4

    def __init__(
        self, code: DiracCode = "distances", stds: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    ) -> None:
        if code not in ("distances", "deltas"):
            raise ValueError(f"code must be 'distances' or 'deltas', got {code!r}")
        self.code = code
        self.stds = stds

    def encode(self, points: Points, boxes: Tensor) -> Tensor:
        if self.code == "deltas":
            return boxes_to_deltas(points.anchors, boxes, self.stds)
        return boxes_to_distances(points.xy, boxes) / points.stride[:, None]

    def decode(self, points: Points, code: Tensor) -> Tensor:
        code = code.float() if code.dtype != torch.float64 else code
        if self.code == "deltas":
            return deltas_to_boxes(points.anchors, code, self.stds)
        return distances_to_boxes(points.xy, code.clamp(min=0) * points.stride[:, None])

    def losses(
        self,
        points: Points,
        code: Tensor,
        boxes: Tensor,
        target_boxes: Tensor,
        *,
        weight: Tensor | None,
        norm: Tensor | float,
    ) -> dict[str, Tensor]:
        return {"box": reduce_loss(giou_loss(boxes, target_boxes), weight=weight, reduction="sum", norm=norm)}

    def edge_std(self, points: Points, code: Tensor) -> Tensor | None:
        return None

    def edge_probs(self, code: Tensor) -> Tensor | None:
        return None

    def truncated(self, points: Points, target_boxes: Tensor) -> Tensor:
        """Distances reach every box that holds the point; deltas every box."""
        if self.code == "deltas":
            return torch.zeros_like(target_boxes, dtype=torch.bool)
        return boxes_to_distances(points.xy, target_boxes) < 0

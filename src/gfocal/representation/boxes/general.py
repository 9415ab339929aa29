"""General boxes: a learnt distribution for every edge, with or without Distribution Focal Loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gfocal.boxes import boxes_to_distances, distances_to_boxes, giou_loss
from gfocal.losses import distribution_focal_loss, outside_bins
from gfocal.points import Points
from gfocal.representation.protocols import BoxRepresentation, BoxRows, RowFrom

TARGET_MARGIN = 0.1
"""DFL's target ends this many bins before the last one, so that it always lies between two bins."""

NEW_BIN_LOWER = 10.0
"""How much lower than the last trained bin's a new one's logit starts; several have e^-10 = 0.00005 of it together."""


class GeneralBoxes(BoxRepresentation):
    """Each edge is a softmax over n + 1 bins; the edge lies at its expectation.

    Bins sit at i * delta strides from the point, i = 0..n, so an edge can be at most n * delta strides away:
    :meth:`truncated` tells which ground truths lie farther. Losses: GIoU on the expectation {"box"}, and with
    ``dfl`` the mean of DFL over the four edges {"dfl"}.

    Args:
        reg_max: n, the largest bin index, >= 1.
        delta: distance of two bins in strides, > 0.
        dfl: whether DFL shapes the distribution ("General + DFL"), or the box loss alone ("General").

    Source:
        Generalized Focal Loss, arXiv 2006.04388, section 3, eq. 3-6.
    """

    def __init__(self, reg_max: int = 16, delta: float = 1.0, *, dfl: bool = True) -> None:
        if reg_max < 1:
            raise ValueError(f"reg_max must be >= 1, got {reg_max}")
        if not delta > 0:
            raise ValueError(f"delta must be > 0, got {delta}")
        self.reg_max = reg_max
        self.delta = delta
        self.dfl = dfl
        self.num_bins = reg_max + 1
        self.channels = 4 * self.num_bins
        self.initial_code = (0.0,) * self.channels
        self.meaning = (reg_max, delta)

    def encode(self, points: Points, boxes: Tensor) -> Tensor:
        """Log-probabilities of the two bins next to each edge: their expectation is the edge."""
        position = (self._edges(points, boxes) / self.delta).clamp(0, self.reg_max)
        bins = torch.arange(self.num_bins, device=boxes.device, dtype=position.dtype)
        triangle = (1 - (position[..., None] - bins).abs()).clamp(min=0)
        return triangle.clamp(min=torch.finfo(position.dtype).tiny).log().flatten(1)

    def decode(self, points: Points, code: Tensor) -> Tensor:
        distances = self._expectation(self.edge_probs(code))
        return distances_to_boxes(points.xy, distances * points.stride[:, None])

    def losses(self, rows: BoxRows) -> dict[str, Tensor]:
        box = rows.total(giou_loss(rows.boxes, rows.target_boxes))
        if not self.dfl:
            return {"box": box}
        # The margin belongs to DFL's target alone: the box loss sees the ground truth as it is.
        target = self._edges(rows.points, rows.target_boxes).clamp(0, (self.reg_max - TARGET_MARGIN) * self.delta)
        edges = distribution_focal_loss(rows.code.unflatten(-1, (4, self.num_bins)), target, spacing=self.delta)
        return {"box": box, "dfl": rows.total(edges.mean(-1))}

    def edge_probs(self, code: Tensor) -> Tensor:
        code = code.float() if code.dtype != torch.float64 else code
        if torch.compiler.is_exporting():  # WebGPU and others know a softmax over the last axis alone
            return code.unflatten(-1, (4, self.num_bins)).softmax(-1)
        # Bins first in memory: over a last dimension of less than 16 numbers torch's softmax takes ten times as long.
        bins_first = code.unflatten(-1, (4, self.num_bins)).movedim(-1, 0).contiguous()
        return bins_first.softmax(0).movedim(0, -1)

    def rows_from(self, other: BoxRepresentation) -> list[RowFrom]:
        """With equal spacing the bins that both have; new ones start as the last old one, with next to no probability.

        So before the first step an edge lies where it lay, and one that the old bins could not reach begins to move
        from the last of them.
        """
        if not isinstance(other, GeneralBoxes) or self.delta != other.delta:
            return []
        last = other.reg_max
        lower = NEW_BIN_LOWER + math.log(max(self.reg_max - last, 1))
        return [
            RowFrom(edge * self.num_bins + i, edge * other.num_bins + min(i, last), 0.0 if i <= last else lower)
            for edge in range(4)
            for i in range(self.num_bins)
        ]

    def edge_std(self, points: Points, code: Tensor) -> Tensor:
        probs = self.edge_probs(code)
        centred = self._bins(probs) - self._expectation(probs)[..., None]
        return (probs * centred.square()).sum(-1).sqrt() * points.stride[:, None]

    def truncated(self, points: Points, target_boxes: Tensor) -> Tensor:
        return outside_bins(self._edges(points, target_boxes), self.num_bins, spacing=self.delta)

    def reach(self, side: float) -> float:
        return self.reg_max * self.delta

    def _bins(self, like: Tensor) -> Tensor:
        return torch.arange(self.num_bins, device=like.device, dtype=like.dtype) * self.delta

    def _expectation(self, probs: Tensor) -> Tensor:
        """(N, 4, n + 1) -> (N, 4) distances in strides."""
        return probs @ self._bins(probs)

    def _edges(self, points: Points, boxes: Tensor) -> Tensor:
        """(N, 4) distances in strides."""
        return boxes_to_distances(points.xy, boxes) / points.stride[:, None]

"""Gaussian boxes: a mean and a standard deviation for every edge."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gfocal.boxes import boxes_to_distances
from gfocal.losses import gaussian_nll_loss
from gfocal.losses.reduction import at_least_float32
from gfocal.points import Points
from gfocal.representation.boxes.dirac import DiracBoxes
from gfocal.representation.protocols import BoxRepresentation, BoxRows

MAX_LOG_STD = 4.0
"""Standard deviations lie between e^-4 and e^4 strides: 0.018 to 55."""
# tanh(-40 / 4) is -1 to the last digit of float32: encode gives the least standard deviation exactly.
_LEAST_STD_CODE = -40.0


class GaussianBoxes(BoxRepresentation):
    """Each edge is a normal distribution: its distance from the point in strides, and how sure that is.

    Code: four means as the distances of :class:`~gfocal.representation.DiracBoxes`, then four raw numbers s with
    log std = 4 tanh(s / 4) in strides. Near 0 that is s; at the ends it is bounded, smoothly, since a clamp would have
    no gradient there. Losses: GIoU of the box of the means {"box"}, and the mean over the four edges of the negative
    log-likelihood of the true distance {"nll"}, under the mean before it is clamped at 0.

    Source:
        Generalized Focal Loss, arXiv 2006.04388, Table 2a, "Gaussian"; Gaussian YOLOv3, arXiv 1904.04620; Bounding
        Box Regression with Uncertainty, arXiv 1809.08545. What is theirs and what is our reading: docs/mathematics.md.
    """

    channels = 8

    def __init__(self) -> None:
        self._mean = DiracBoxes("distances")
        self.initial_code: tuple[float, ...] = (*self._mean.initial_code, 0.0, 0.0, 0.0, 0.0)

    def encode(self, points: Points, boxes: Tensor) -> Tensor:
        """The distances, with the least standard deviation."""
        mean = self._mean.encode(points, boxes)
        return torch.cat((mean, torch.full_like(mean, _LEAST_STD_CODE)), -1)

    def decode(self, points: Points, code: Tensor) -> Tensor:
        return self._mean.decode(points, code[:, :4])

    def losses(self, rows: BoxRows) -> dict[str, Tensor]:
        mean = rows.code[:, :4]
        edges = gaussian_nll_loss(mean, _log_std(rows.code), self._mean.encode(rows.points, rows.target_boxes))
        return {**self._mean.losses(replace(rows, code=mean)), "nll": rows.total(edges.mean(-1))}

    def edge_std(self, points: Points, code: Tensor) -> Tensor:
        return _log_std(code).exp() * points.stride[:, None]

    def truncated(self, points: Points, target_boxes: Tensor) -> Tensor:
        return boxes_to_distances(points.xy, target_boxes) < 0


def _log_std(code: Tensor) -> Tensor:
    """(N, 4) in strides."""
    return MAX_LOG_STD * torch.tanh(at_least_float32(code[:, 4:]) / MAX_LOG_STD)

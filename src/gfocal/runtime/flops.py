"""What a network computes and how much it holds, counted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gfocal.detector import DenseDetector


@dataclass(frozen=True)
class NetworkCost:
    """Of backbone, neck and head.

    Attributes:
        flops: of a batch: two for each multiply-add of convolutions and matrix products.
        parameters: how many there are.
    """

    flops: int
    parameters: int


@torch.no_grad()
def network_cost(detector: DenseDetector, images: Tensor) -> NetworkCost:
    """The cost of :meth:`DenseDetector.raw` on (B, 3, H, W) uint8 images; the network runs once."""
    with FlopCounterMode(display=False) as counter:
        detector.raw(images)
    return NetworkCost(counter.get_total_flops(), sum(p.numel() for p in detector.parameters()))

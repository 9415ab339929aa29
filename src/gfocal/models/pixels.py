"""What a network takes of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn


class PixelNorm(nn.Module):
    """uint8 RGB images -> what the backbone was trained with.

    Args:
        mean, std: of each channel in the backbone's own order, on the scale 0..255.
        order: "rgb" or "bgr".
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], order: Literal["rgb", "bgr"] = "rgb") -> None:
        super().__init__()
        self.order = order
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if self.order == "bgr":
            images = images.flip(1)
        return (images.float() - self.mean) * self.scale

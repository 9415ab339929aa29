"""The light PAN of NanoDet."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from gfocal.models.necks.first_values import initialise


class LightPan(nn.Module):
    """Path aggregation without convolutions but the lateral ones: bilinear resizing and sums, down and up.

    Args:
        in_channels: of the backbone's maps, finest first.
        levels: of the pyramid, as many as maps.
        channels: of every level.

    Raises:
        ValueError: another number of levels.

    Source:
        PANet, arXiv 1803.01534, in the light form of NanoDet.
    """

    def __init__(self, in_channels: Sequence[int], *, levels: int, channels: int = 96) -> None:
        super().__init__()
        if levels != len(in_channels):
            raise ValueError(f"levels must be the {len(in_channels)} maps of the backbone, got {levels}")
        self.channels = channels
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        initialise(self)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        levels = [conv(x) for conv, x in zip(self.lateral, maps, strict=True)]
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] = levels[i - 1] + _resize(levels[i], levels[i - 1])
        for i in range(len(levels) - 1):
            levels[i + 1] = levels[i + 1] + _resize(levels[i], levels[i + 1])
        return levels


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)

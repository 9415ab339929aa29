"""Necks: they make every level of the pyramid equally wide and let levels see each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn


class FeaturePyramid(nn.Module):
    """FPN over the backbone's maps, with extra levels from strided convolutions.

    Args:
        in_channels: of the backbone's maps, finest first.
        channels: of every level.
        extra_levels: levels beyond the backbone's, each half the size of the one before.
        extra_from: "output" takes the first extra level from the last output (P5), "input" from the last map
            of the backbone (C5).
        relu_before_extra: a ReLU before each extra level but the first.

    Source:
        Feature Pyramid Networks, arXiv 1612.03144; extra levels as in RetinaNet, arXiv 1708.02002.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        *,
        extra_levels: int = 2,
        extra_from: Literal["output", "input"] = "output",
        relu_before_extra: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.extra_from = extra_from
        self.relu_before_extra = relu_before_extra
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        first = channels if extra_from == "output" else in_channels[-1]
        self.extra = nn.ModuleList(
            nn.Conv2d(first if i == 0 else channels, channels, 3, stride=2, padding=1) for i in range(extra_levels)
        )
        _initialise(self)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        laterals = [conv(x) for conv, x in zip(self.lateral, maps, strict=True)]
        for i in range(len(laterals) - 1, 0, -1):
            laterals[i - 1] = laterals[i - 1] + F.interpolate(laterals[i], size=laterals[i - 1].shape[-2:])
        levels = [conv(x) for conv, x in zip(self.output, laterals, strict=True)]
        source = levels[-1] if self.extra_from == "output" else maps[-1]
        for i, conv in enumerate(self.extra):
            source = conv(F.relu(source) if self.relu_before_extra and i > 0 else source)
            levels.append(source)
        return levels


class LightPan(nn.Module):
    """Path aggregation without convolutions but the lateral ones: bilinear resizing and sums, down and up.

    Args:
        in_channels: of the backbone's maps, finest first.
        channels: of every level.

    Source:
        PANet, arXiv 1803.01534, in the light form of NanoDet.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 96) -> None:
        super().__init__()
        self.channels = channels
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        _initialise(self)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        levels = [conv(x) for conv, x in zip(self.lateral, maps, strict=True)]
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] = levels[i - 1] + _resize(levels[i], levels[i - 1])
        for i in range(len(levels) - 1):
            levels[i + 1] = levels[i + 1] + _resize(levels[i], levels[i + 1])
        return levels


def _initialise(neck: nn.Module) -> None:
    for module in neck.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)

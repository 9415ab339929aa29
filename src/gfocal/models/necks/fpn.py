"""The Feature Pyramid Network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from gfocal.models.necks.first_values import initialise


class FeaturePyramid(nn.Module):
    """FPN over the backbone's maps, with extra levels from strided convolutions.

    Args:
        in_channels: of the backbone's maps, finest first.
        levels: of the pyramid, those of the backbone's maps among them; each more is half the size of the one before.
        channels: of every level.
        extra_from: "output" takes the first extra level from the last output (P5), "input" from the last map
            of the backbone (C5).
        relu_before_extra: a ReLU before each extra level but the first.

    Raises:
        ValueError: fewer levels than maps.

    Source:
        Feature Pyramid Networks, arXiv 1612.03144; extra levels as in RetinaNet, arXiv 1708.02002.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        levels: int,
        channels: int = 256,
        extra_from: Literal["output", "input"] = "output",
        relu_before_extra: bool = False,
    ) -> None:
        super().__init__()
        extra_levels = levels - len(in_channels)
        if extra_levels < 0:
            raise ValueError(f"levels must be at least the {len(in_channels)} maps of the backbone, got {levels}")
        self.channels = channels
        self.extra_from = extra_from
        self.relu_before_extra = relu_before_extra
        self.level_lists = {"lateral": 0, "output": 0, "extra": len(in_channels)}
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        first = channels if extra_from == "output" else in_channels[-1]
        self.extra = nn.ModuleList(
            nn.Conv2d(first if i == 0 else channels, channels, 3, stride=2, padding=1) for i in range(extra_levels)
        )
        initialise(self)

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

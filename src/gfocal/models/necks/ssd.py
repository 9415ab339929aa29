"""The levels of SSD."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfocal.errors import UsageError
from gfocal.losses.reduction import at_least_float32
from gfocal.models.necks.first_values import initialise


class SsdNeck(nn.Module):
    """The backbone's maps, the first one normalised, and extra levels of half the size each.

    An extra level is a 1x1 convolution and a 3x3 of stride 2 after it, each with a ReLU; the last one has a 4x4 of
    stride 1 instead, which takes a map of 2 or 3 cells a side to one of 1 or 2.

    Args:
        in_channels: of the backbone's maps, finest first.
        levels: of the pyramid, the backbone's among them. With maps of strides 8 and 16, seven levels are those of
            images of 512 pixels (sides of 257 to 768 work).

    Attributes:
        channels: of each level: those of the maps, then 512, then 256.

    Raises:
        ValueError: there would be no extra level.

    Source:
        SSD, arXiv 1512.02325, section 2.1 and its published SSD512; the normalisation is ParseNet's, arXiv 1506.04579.
    """

    def __init__(self, in_channels: Sequence[int] = (512, 1024), *, levels: int = 7) -> None:
        super().__init__()
        extra = levels - len(in_channels)
        if extra < 1:
            raise ValueError(f"levels must be more than the {len(in_channels)} maps of the backbone, got {levels}")
        self.channels = (*in_channels, 512, *[256] * (extra - 1))
        self.norm = _ChannelNorm(in_channels[0])
        self.extra = nn.ModuleList()
        for i, (before, after) in enumerate(pairwise(self.channels[len(in_channels) - 1 :]), start=1):
            inside = after // 2
            second = nn.Conv2d(inside, after, 3, 2, 1) if i < extra else nn.Conv2d(inside, after, 4, 1, 1)
            self.extra.append(nn.Sequential(nn.Conv2d(before, inside, 1), nn.ReLU(True), second, nn.ReLU(True)))
        initialise(self)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Levels of the maps.

        Raises:
            UsageError: the image is too small or too large for the last level.
        """
        levels = [self.norm(maps[0]), *maps[1:]]
        for i, layers in enumerate(self.extra, start=1):
            height, width = levels[-1].shape[-2:]
            # From n cells a side to n - 1, where every other level halves: for other n the level has not its stride.
            if i == len(self.extra) and not {height, width} <= {2, 3}:
                raise UsageError(
                    f"a picture of this size does not fit the {len(levels) + 1} levels of SSD: its last level needs a "
                    f"map of 2 or 3 cells a side and gets {height} x {width}; with seven levels resize pictures to "
                    "sides of 257 to 768 pixels (published: 512 x 512)"
                )
            levels.append(layers(levels[-1]))
        return levels


class _ChannelNorm(nn.Module):
    """Every cell's channels divided by their L2 norm, times a learnt factor a channel that starts at 20."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 20.0))

    def forward(self, x: Tensor) -> Tensor:
        # The norm of 512 values of a VGG may exceed half precision. A cell of zeros stays one, with a finite gradient.
        unit = F.normalize(at_least_float32(x), dim=1, eps=1e-10)
        return (unit * self.weight[:, None, None]).to(x.dtype)

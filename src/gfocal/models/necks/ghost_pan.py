"""GhostPAN, the neck of NanoDet-Plus."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gfocal.models.blocks import Activation, conv_norm
from gfocal.models.necks.concat_pan import ConcatPan


def ghost_pan(in_channels: Sequence[int], *, levels: int, channels: int = 96) -> ConcatPan:
    """A :class:`ConcatPan` of ghost blocks, with leaky ReLUs and bilinear enlarging.

    Args:
        in_channels: of the backbone's maps, finest first.
        levels: of the pyramid: as many as maps, or one more.
        channels: of every level, even.

    Raises:
        ValueError: odd channels, or another number of levels.

    Source:
        NanoDet-Plus; its blocks are GhostNet's, arXiv 1911.11907.
    """
    if channels % 2:
        raise ValueError(f"channels must be even: half of them are made from the other half; got {channels}")
    return ConcatPan(
        in_channels, levels=levels, channels=channels, block=_GhostBlock, activation="leaky_relu", enlarge="bilinear"
    )


class _Ghost(nn.Module):
    """Half of the channels by a 1x1 convolution, the other half from these by a depthwise 3x3 one."""

    def __init__(self, in_channels: int, channels: int, activation: Activation | None) -> None:
        super().__init__()
        half = channels // 2
        self.primary = conv_norm(in_channels, half, activation=activation)
        self.cheap = conv_norm(half, half, 3, groups=half, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        primary = self.primary(x)
        return torch.cat((primary, self.cheap(primary)), 1)


class _GhostBlock(nn.Module):
    """Two ghosts, and beside them a depthwise 5x5 and a 1x1 convolution; the sum is not activated."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.first = _Ghost(in_channels, channels, "leaky_relu")
        self.second = _Ghost(channels, channels, None)
        self.shortcut = nn.Sequential(
            *conv_norm(in_channels, in_channels, 5, groups=in_channels), *conv_norm(in_channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) + self.shortcut(x)

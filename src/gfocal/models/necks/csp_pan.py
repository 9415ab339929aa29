"""CSP-PAN, the neck of PicoDet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gfocal.models.blocks import conv_norm, separable
from gfocal.models.necks.concat_pan import ConcatPan


def csp_pan(in_channels: Sequence[int], *, levels: int, channels: int = 96) -> ConcatPan:
    """A :class:`ConcatPan` of cross-stage partial blocks, with hard swish and enlarging to the nearest cell.

    Args:
        in_channels: of the backbone's maps, finest first.
        levels: of the pyramid: as many as maps, or one more.
        channels: of every level, even.

    Raises:
        ValueError: odd channels, or another number of levels.

    Source:
        PicoDet, arXiv 2111.00902, section 3.2; its blocks are CSPNet's, arXiv 1911.11929.
    """
    if channels % 2:
        raise ValueError(f"channels must be even: a block works on half of them; got {channels}")
    return ConcatPan(
        in_channels, levels=levels, channels=channels, block=_CspBlock, activation="hard_swish", enlarge="nearest"
    )


class _CspBlock(nn.Module):
    """Half of the channels pass a 1x1 and a separable 5x5 convolution, the others none; a 1x1 one joins them."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.main = nn.Sequential(
            conv_norm(in_channels, half, activation="hard_swish"),
            conv_norm(half, half, activation="hard_swish"),
            separable(half, half, 5, activation="hard_swish"),
        )
        self.short = conv_norm(in_channels, half, activation="hard_swish")
        self.join = conv_norm(channels, channels, activation="hard_swish")

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat((self.main(x), self.short(x)), 1))

"""Path aggregation by concatenation: the wiring that GhostPAN and CSP-PAN share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfocal.models.blocks import Activation, conv_norm, separable


class ConcatPan(nn.Module):
    """Lateral 1x1 convolutions, blocks on the way down, blocks on the way up, and at most one extra level.

    Down: the coarser map, enlarged, beside the finer lateral one. Up: the finer map, made smaller by a separable 5x5
    convolution of stride 2, beside that of the way down. A block brings each pair back to ``channels``. The extra level
    is the sum of two such convolutions, of the coarsest lateral map and of the coarsest level.

    Args:
        in_channels: of the backbone's maps, finest first.
        levels: of the pyramid: as many as maps, or one more of half the size of the last.
        channels: of every level.
        block: from the channels of a pair and of a level to the block.
        activation: after every normalisation outside the blocks.
        enlarge: how a map is made larger.

    Raises:
        ValueError: another number of levels.

    Source:
        PANet, arXiv 1803.01534, as in NanoDet-Plus and PicoDet (arXiv 2111.00902, section 3.2).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        levels: int,
        channels: int,
        block: Callable[[int, int], nn.Module],
        activation: Activation,
        enlarge: Literal["bilinear", "nearest"],
    ) -> None:
        super().__init__()
        maps = len(in_channels)
        if levels not in (maps, maps + 1):
            raise ValueError(f"levels must be the {maps} maps of the backbone or one more, got {levels}")

        def halving() -> nn.Module:
            return separable(channels, channels, 5, stride=2, activation=activation)

        self.channels = channels
        self.enlarge = enlarge
        self.lateral = nn.ModuleList(conv_norm(c, channels, activation=activation) for c in in_channels)
        self.down_blocks = nn.ModuleList(block(2 * channels, channels) for _ in range(maps - 1))
        self.halvings = nn.ModuleList(halving() for _ in range(maps - 1))
        self.up_blocks = nn.ModuleList(block(2 * channels, channels) for _ in range(maps - 1))
        self.extra = nn.ModuleDict({"lateral": halving(), "level": halving()} if levels > maps else {})

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        laterals = [conv(x) for conv, x in zip(self.lateral, maps, strict=True)]
        levels = [laterals[-1]]
        for finer, block in zip(laterals[-2::-1], self.down_blocks, strict=True):
            levels.insert(0, block(torch.cat((self._enlarged(levels[0], finer), finer), 1)))
        for i, (halving, block) in enumerate(zip(self.halvings, self.up_blocks, strict=True), start=1):
            levels[i] = block(torch.cat((halving(levels[i - 1]), levels[i]), 1))
        if self.extra:
            levels.append(self.extra["lateral"](laterals[-1]) + self.extra["level"](levels[-1]))
        return levels

    def _enlarged(self, x: Tensor, like: Tensor) -> Tensor:
        corners = False if self.enlarge == "bilinear" else None
        return F.interpolate(x, size=like.shape[-2:], mode=self.enlarge, align_corners=corners)

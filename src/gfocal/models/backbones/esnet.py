"""ESNet, the backbone of PicoDet of 2021."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from gfocal.errors import UsageError
from gfocal.models.backbones.loading import load_file
from gfocal.models.backbones.staged import StagedBackbone
from gfocal.models.blocks import conv_norm, rounded_channels, squeeze_excite

_BLOCKS = (3, 7, 3)
_WIDE = (0.875, 0.5, 1.0, 0.625, 0.5, 0.75, 0.625, 0.625, 0.5, 0.625, 1.0, 0.625, 0.75)
SIZES: dict[str, tuple[float, tuple[float, ...]]] = {
    "esnet_x0_75": (0.75, (0.875, 0.5, 0.5, 0.5, 0.625, 0.5, 0.625, *[0.5] * 6)),
    "esnet_x1_0": (1.0, _WIDE),
    "esnet_x1_25": (1.25, _WIDE),
}
"""Width, and the share of its channels that each block works on: found by search, PicoDet's S, M and L."""


def es_net(
    name: str, *, pretrained: bool | str = False, norm_eval: bool = False, frozen_stages: int = 0
) -> StagedBackbone:
    """Blocks of ShuffleNetV2's kind with squeeze and excitation: maps of strides 8, 16, 32.

    Args:
        name: of :data:`SIZES`.
        pretrained: path of a file with this module's names of its tensors, or False.
        norm_eval: batch normalisation keeps its running statistics while training.
        frozen_stages: parameters up to the map of stride 2 * 2^frozen_stages keep their values (0: none; 1: the first
            convolution; 4: all).

    Raises:
        UsageError: there is no such size, or there are no such weights.

    Source:
        PicoDet, arXiv 2111.00902, section 3.1 and its published configurations.
    """
    if name not in SIZES:
        raise UsageError(f"model.backbone: there is no ESNet {name!r}, but {', '.join(SIZES)}")
    scale, shares = SIZES[name]
    widths = tuple(rounded_channels(width * scale, 16) for width in (128, 256, 512))
    stem = nn.Sequential(conv_norm(3, 24, 3, stride=2, activation="hard_swish"), nn.MaxPool2d(3, 2, 1))
    stages, before = [], 24
    for channels, blocks in zip(widths, _BLOCKS, strict=True):
        inner = [rounded_channels(int(channels * share), 8) for share in shares[:blocks]]
        shares = shares[blocks:]
        stages.append(_stage(before, channels, inner))
        before = channels
    net = StagedBackbone(stem, stages, widths, norm_eval=norm_eval, frozen_stages=frozen_stages)
    if pretrained:
        load_file(net, name, pretrained)
    return net


def _stage(before: int, channels: int, inner: Sequence[int]) -> nn.Sequential:
    """A block that halves the map, and blocks that keep its size."""
    return nn.Sequential(_Halving(before, channels, inner[0]), *(_Block(channels, width) for width in inner[1:]))


class _Halving(nn.Module):
    """Two branches of stride 2 side by side, and a separable convolution after them."""

    def __init__(self, in_channels: int, channels: int, inner: int) -> None:
        super().__init__()
        half, inside = channels // 2, inner // 2
        act = partial(conv_norm, activation="hard_swish")
        self.short = nn.Sequential(
            conv_norm(in_channels, in_channels, 3, stride=2, groups=in_channels), act(in_channels, half)
        )
        self.main = nn.Sequential(
            act(in_channels, inside),
            conv_norm(inside, inside, 3, stride=2, groups=inside),
            squeeze_excite(inside),
            act(inside, half),
        )
        self.join = nn.Sequential(act(channels, channels, 3, groups=channels), act(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat((self.short(x), self.main(x)), 1))


class _Block(nn.Module):
    """Half of the channels pass by; the others are seen before and after a depthwise convolution."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        half, inside = channels // 2, inner // 2
        self.first = conv_norm(half, inside, activation="hard_swish")
        self.depthwise = conv_norm(inside, inside, 3, groups=inside)
        self.attention = squeeze_excite(inner)
        self.last = conv_norm(inner, half, activation="hard_swish")
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        aside, x = x.chunk(2, 1)
        x = self.first(x)
        x = self.attention(torch.cat((x, self.depthwise(x)), 1))
        return self.shuffle(torch.cat((aside, self.last(x)), 1))

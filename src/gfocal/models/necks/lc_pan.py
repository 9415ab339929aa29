"""LC-PAN, the neck of PicoDet of 2022."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from gfocal.models.blocks import separable
from gfocal.models.necks.concat_pan import ConcatPan


def lc_pan(in_channels: Sequence[int], *, levels: int, channels: int = 96) -> ConcatPan:
    """A :class:`ConcatPan` of blocks of LCNet's kind, with hard swish and enlarging to the nearest cell.

    A block is two separable 5x5 convolutions; the first keeps the channels of the pair.

    Args:
        in_channels: of the backbone's maps, finest first.
        levels: of the pyramid: as many as maps, or one more.
        channels: of every level.

    Raises:
        ValueError: another number of levels.

    Source:
        PaddleDetection's ``necks/lc_pan.py`` (no paper describes it); its blocks are those of arXiv 2109.15099.
    """
    return ConcatPan(
        in_channels, levels=levels, channels=channels, block=_block, activation="hard_swish", enlarge="nearest"
    )


def _block(in_channels: int, channels: int) -> nn.Module:
    return nn.Sequential(
        separable(in_channels, in_channels, 5, activation="hard_swish"),
        separable(in_channels, channels, 5, activation="hard_swish"),
    )

"""PP-LCNet, the backbone of PicoDet of 2022."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from gfocal.errors import UsageError
from gfocal.models.backbones.loading import load_file
from gfocal.models.backbones.staged import StagedBackbone
from gfocal.models.blocks import conv_norm, rounded_channels, separable, squeeze_excite

SIZES: dict[str, float] = {
    "lcnet_x0_35": 0.35,
    "lcnet_x0_75": 0.75,
    "lcnet_x1_0": 1.0,
    "lcnet_x1_5": 1.5,
    "lcnet_x2_0": 2.0,
    "lcnet_x2_5": 2.5,
}
"""Width of each: x0_35, x0_75, x1_5 and x2_0 are PicoDet's XS, S, M and L."""
_TWINS = {"lcnet_x0_35": "lcnet_035", "lcnet_x0_75": "lcnet_075", "lcnet_x1_0": "lcnet_100", "lcnet_x1_5": "lcnet_150"}
# Kernel and channels of each block; the first of a stage halves the map.
_STAGES = (
    ((3, 64), (3, 64)),
    ((3, 128), (3, 128)),
    ((3, 256), (5, 256), (5, 256), (5, 256), (5, 256), (5, 256)),
    ((5, 512), (5, 512)),
)


def lc_net(
    name: str, *, pretrained: bool | str = False, norm_eval: bool = False, frozen_stages: int = 0
) -> StagedBackbone:
    """Depthwise-separable blocks with hard swish, the last two with squeeze and excitation: strides 8, 16, 32.

    Args:
        name: of :data:`SIZES`.
        pretrained: path of a file with this module's names of its tensors, or False.
        norm_eval: batch normalisation keeps its running statistics while training.
        frozen_stages: parameters up to the map of stride 2 * 2^frozen_stages keep their values (0: none; 1: to the map
            of stride 4; 4: all).

    Raises:
        UsageError: there is no such size, or there are no such weights.

    Source:
        PP-LCNet, arXiv 2109.15099, section 3, and PaddleDetection's ``backbones/lcnet.py``.
    """
    if name not in SIZES:
        raise UsageError(f"model.backbone: there is no LCNet {name!r}, but {', '.join(SIZES)}")

    def width(channels: int) -> int:
        return rounded_channels(channels * SIZES[name], 8)

    stages, before = [], width(32)
    for blocks in _STAGES:
        attention = blocks is _STAGES[-1]
        stages.append(_stage(before, [(kernel, width(c)) for kernel, c in blocks], attention=attention))
        before = width(blocks[-1][1])
    stem = nn.Sequential(
        conv_norm(3, width(16), 3, stride=2, activation="hard_swish"), _block(width(16), width(32), 3), stages[0]
    )
    channels = [width(blocks[-1][1]) for blocks in _STAGES[1:]]
    net = StagedBackbone(stem, stages[1:], channels, norm_eval=norm_eval, frozen_stages=frozen_stages)
    if pretrained:
        load_file(net, name, pretrained, elsewhere=_elsewhere(name))
    return net


def _stage(before: int, blocks: Sequence[tuple[int, int]], *, attention: bool) -> nn.Sequential:
    """Blocks of these kernels and channels, of which the first halves the map."""
    layers = []
    for i, (kernel, channels) in enumerate(blocks):
        layers.append(_block(before, channels, kernel, stride=1 if i else 2, attention=attention))
        before = channels
    return nn.Sequential(*layers)


def _block(in_channels: int, channels: int, kernel: int, *, stride: int = 1, attention: bool = False) -> nn.Sequential:
    if not attention:
        return separable(in_channels, channels, kernel, stride=stride, activation="hard_swish")
    return nn.Sequential(
        *conv_norm(in_channels, in_channels, kernel, stride=stride, groups=in_channels, activation="hard_swish"),
        squeeze_excite(in_channels),
        *conv_norm(in_channels, channels, activation="hard_swish"),
    )


def _elsewhere(name: str) -> str:
    """Why these weights cannot be downloaded; timm's network of the same layers has some."""
    if name not in _TWINS:
        return "nobody offers them for PyTorch"
    return f"nobody offers them under these names; timm's {_TWINS[name]} is the same network and may have some"

"""Small blocks that backbones, necks and heads are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import nn

from gfocal.models.depthwise import NARROW, WideDepthwise

Activation = Literal["relu", "leaky_relu", "hard_swish"]

ACTIVATIONS: dict[Activation, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": partial(nn.LeakyReLU, 0.1),
    "hard_swish": nn.Hardswish,
}


def rounded_channels(value: float, multiple: int) -> int:
    """To the nearest multiple, which is at least one and no tenth below ``value``."""
    rounded = max(multiple, int(value + multiple / 2) // multiple * multiple)
    return rounded + multiple if rounded < 0.9 * value else rounded


def squeeze_excite(channels: int) -> nn.Module:
    """Channels weighted by what all places together say of them, through a quarter of them and a hard sigmoid.

    Source:
        Squeeze-and-Excitation Networks, arXiv 1709.01507, with the hard sigmoid of MobileNetV3, arXiv 1905.02244.
    """
    from torchvision.ops import SqueezeExcitation  # here, not above: it takes as long to import as torch

    return SqueezeExcitation(channels, channels // 4, scale_activation=nn.Hardsigmoid)


def conv_norm(
    in_channels: int,
    channels: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: Activation | None = None,
) -> nn.Sequential:
    """A convolution without bias, batch normalisation, and an activation where one is asked for."""
    if groups == in_channels == channels and kernel > NARROW:
        convolution: nn.Conv2d = WideDepthwise(channels, kernel, stride)
    else:
        convolution = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    after = [ACTIVATIONS[activation](inplace=True)] if activation else []
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), *after)


def separable(
    in_channels: int, channels: int, kernel: int = 3, *, stride: int = 1, activation: Activation
) -> nn.Sequential:
    """A depthwise and a pointwise convolution, each with :func:`conv_norm`'s normalisation and the activation."""
    return nn.Sequential(
        *conv_norm(in_channels, in_channels, kernel, stride=stride, groups=in_channels, activation=activation),
        *conv_norm(in_channels, channels, activation=activation),
    )

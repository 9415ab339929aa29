"""Small blocks that backbones, necks and heads are made of."""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import nn
from torchvision.ops import Conv2dNormActivation

Activation = Literal["leaky_relu", "hard_swish"]

_ACTIVATIONS = {"leaky_relu": partial(nn.LeakyReLU, 0.1), "hard_swish": nn.Hardswish}


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
    return Conv2dNormActivation(
        in_channels,
        channels,
        kernel,
        stride,
        groups=groups,
        activation_layer=_ACTIVATIONS[activation] if activation else None,
    )


def separable(
    in_channels: int, channels: int, kernel: int = 3, *, stride: int = 1, activation: Activation
) -> nn.Sequential:
    """A depthwise and a pointwise convolution, each with :func:`conv_norm`'s normalisation and the activation."""
    return nn.Sequential(
        *conv_norm(in_channels, in_channels, kernel, stride=stride, groups=in_channels, activation=activation),
        *conv_norm(in_channels, channels, activation=activation),
    )

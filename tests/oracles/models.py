"""Networks written a second time, one operation a line, from their papers; no import of the package."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]


def bottleneck_resnet(state: State, x: Tensor, blocks: Sequence[int], *, stride_on: int) -> list[Tensor]:
    """Maps of strides 8, 16, 32 of a ResNet of bottlenecks (arXiv 1512.03385) in evaluation mode.

    ``stride_on`` is the number of the bottleneck's convolution that strides: 1 in Caffe's models, 2 in torchvision's.
    """

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return ((x.movedim(1, -1) - mean) / (var + 1e-5).sqrt() * weight + bias).movedim(-1, 1)

    x = norm(F.conv2d(x, state["conv1.weight"], stride=2, padding=3), "bn1").clamp(min=0)
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    maps = []
    for stage, count in enumerate(blocks, start=1):
        for i in range(count):
            name = f"layer{stage}.{i}"
            strides = [1, 1]
            if stage > 1 and i == 0:
                strides[stride_on - 1] = 2
            y = norm(F.conv2d(x, state[f"{name}.conv1.weight"], stride=strides[0]), f"{name}.bn1").clamp(min=0)
            y = F.conv2d(y, state[f"{name}.conv2.weight"], stride=strides[1], padding=1)
            y = norm(y, f"{name}.bn2").clamp(min=0)
            y = norm(F.conv2d(y, state[f"{name}.conv3.weight"]), f"{name}.bn3")
            if i == 0:
                shortcut = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=max(strides))
                x = norm(shortcut, f"{name}.downsample.1")
            x = (x + y).clamp(min=0)
        maps.append(x)
    return maps[1:]


def ssd_vgg(state: State, x: Tensor) -> list[Tensor]:
    """conv4_3 and conv7 of SSD's VGG-16 (arXiv 1512.02325, section 3), with numbers counted as VGG's layers are."""

    def conv(x: Tensor, number: int, **options: int) -> Tensor:
        weight, bias = state[f"features.{number}.weight"], state[f"features.{number}.bias"]
        return F.conv2d(x, weight, bias, **options).clamp(min=0)

    def halve(x: Tensor) -> Tensor:
        # A row or column that is left over is a pool of its own.
        height, width = x.shape[-2:]
        x = F.pad(x, (0, width % 2, 0, height % 2), value=-torch.inf)
        return torch.stack([x[..., a::2, b::2] for a in (0, 1) for b in (0, 1)]).amax(0)

    for numbers in ((0, 2), (5, 7), (10, 12, 14)):
        for number in numbers:
            x = conv(x, number, padding=1)
        x = halve(x)
    for number in (17, 19, 21):
        x = conv(x, number, padding=1)
    first = x
    x = halve(x)
    for number in (24, 26, 28):
        x = conv(x, number, padding=1)
    padded = F.pad(x, (1, 1, 1, 1), value=-torch.inf)
    height, width = x.shape[-2:]
    x = torch.stack([padded[..., a : a + height, b : b + width] for a in range(3) for b in range(3)]).amax(0)
    return [first, conv(conv(x, 31, padding=6, dilation=6), 33)]


def ssd_levels(norm: Tensor, extra: Sequence[Sequence[Tensor]], first: Tensor, last: Tensor) -> list[Tensor]:
    """Levels of SSD512: (1x1 kernel, its bias, second kernel, its bias) of each extra level; the last kernel is 4x4."""
    levels = [first / first.pow(2).sum(1, keepdim=True).sqrt() * norm[:, None, None], last]
    for weight1, bias1, weight2, bias2 in extra:
        x = F.conv2d(levels[-1], weight1, bias1).clamp(min=0)
        stride = 1 if weight2.shape[-1] == 4 else 2
        levels.append(F.conv2d(x, weight2, bias2, stride=stride, padding=1).clamp(min=0))
    return levels


def deformable_convolution(
    x: Any,
    offsets: Any,
    weights: Any,
    kernel: Any,
    bias: Sequence[float],
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> list[list[list[float]]]:
    """arXiv 1811.11168, eq. 1, of one image of lists: (C, H, W) -> (O, h, w).

    Args:
        x: (C, H, W).
        offsets: (2 k, h, w): (y, x) for each of the k numbers of the kernel.
        weights: (k, h, w) of the samples.
        kernel: (O, C / groups, kh, kw); outputs and inputs fall into as many groups.
        bias: (O,).
        stride, padding, dilation: (vertical, horizontal).
    """
    inputs, outputs, columns = len(kernel[0]), len(kernel), len(kernel[0][0][0])
    groups = len(x) // inputs
    taps = [(i, j) for i in range(len(kernel[0][0])) for j in range(columns)]

    def sample(channel: int, y: float, x_: float) -> float:
        """Bilinear, with zeros around the map."""
        top, left = math.floor(y), math.floor(x_)
        total = 0.0
        for row, down in ((top, 1 - (y - top)), (top + 1, y - top)):
            for column, right in ((left, 1 - (x_ - left)), (left + 1, x_ - left)):
                if 0 <= row < len(x[0]) and 0 <= column < len(x[0][0]):
                    total += down * right * x[channel][row][column]
        return total

    def value(o: int, v: int, u: int) -> float:
        first, total = o // (outputs // groups) * inputs, bias[o]
        for k, (i, j) in enumerate(taps):
            y = v * stride[0] - padding[0] + i * dilation[0] + offsets[2 * k][v][u]
            x_ = u * stride[1] - padding[1] + j * dilation[1] + offsets[2 * k + 1][v][u]
            for c in range(inputs):
                total += kernel[o][c][i][j] * weights[k][v][u] * sample(first + c, y, x_)
        return total

    height, width = len(offsets[0]), len(offsets[0][0])
    return [[[value(o, v, u) for u in range(width)] for v in range(height)] for o in range(outputs)]

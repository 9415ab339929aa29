"""Depthwise convolutions with wide kernels, whose training takes a CPU hardly longer than that of narrow ones."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NARROW = 3
"""Columns of a kernel up to which oneDNN has a depthwise form of the weights' gradient, with AVX2 and with AVX-512. For
more it takes that of a whole convolution, block by block of channels: for 5 x 5 six times as long as for 5 x 3."""


class WideDepthwise(nn.Conv2d):
    """A depthwise convolution without bias, whose weights' gradient a CPU computes :data:`NARROW` columns at a time.

    Values and names are torch's; so is the gradient, up to rounding. On maps of a few pixels it takes tenths of a
    millisecond longer than torch, on those of 40 x 40 half the time.

    Args:
        channels: of the maps.
        kernel: height and width.
        stride: 1, or more for smaller maps.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        by_columns = (
            self.training
            and self.bias is None  # of a batch norm that was folded into it
            and input.dim() == 4
            and torch.is_grad_enabled()
            and self.weight.requires_grad
            and input.device.type == "cpu"
            and input.dtype == self.weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
        )
        if not by_columns:
            return super().forward(input)
        return cast(Tensor, _Columnwise.apply(input, self.weight, self.stride, self.padding))


class _Columnwise(torch.autograd.Function):
    """The convolution, and its gradients."""

    @staticmethod
    def forward(maps: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        return F.conv2d(maps, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        maps, weight, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(maps, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        maps, weight = ctx.saved_tensors
        of_maps = of_weight = None
        if ctx.needs_input_grad[0]:
            of_maps = _gradients(grad, maps, weight, ctx.stride, ctx.padding, (True, False))[0]
        if ctx.needs_input_grad[1]:
            of_weight = torch.cat(
                [
                    _columns(grad, maps, weight[..., first : first + NARROW], first, ctx.stride, ctx.padding)
                    for first in range(0, weight.shape[3], NARROW)
                ],
                3,
            )
        return of_maps, of_weight, None, None


def _columns(
    grad: Tensor, maps: Tensor, weight: Tensor, first: int, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Gradient of the columns of a kernel from ``first`` on: that of a kernel of these alone, on maps moved as far."""
    left = padding[1] - first
    right = (grad.shape[3] - 1) * stride[1] + weight.shape[3] - maps.shape[3] - left
    return _gradients(grad, F.pad(maps, (left, right)), weight, stride, (padding[0], 0), (False, True))[1]


def _gradients(
    grad: Tensor,
    maps: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    wanted: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    found = torch.ops.aten.convolution_backward(
        grad, maps, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight), (*wanted, False)
    )
    return cast(tuple[Tensor, Tensor], found[:2])

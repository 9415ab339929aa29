"""Deformable convolutions: where a kernel samples its input is learnt, and depends on the input."""

from __future__ import annotations

from torch import Tensor, nn

from gfocal.losses.reduction import at_least_float32, without_autocast


class DeformableConv(nn.Module):
    """In the place of a convolution, whose output it gives until it has learnt offsets.

    Each number of the kernel sees the input where the convolution would, and an offset away from there, interpolated
    bilinearly; outside of the map there is 0. Another convolution of the same kernel, without groups, gives the offsets
    at each place: (y, x) for each number of the kernel, row by row. Modulated ones also weigh each sample, by 2 sigmoid
    of one more output. All of it is computed in float32 at least: rounding offsets to half precision moves the
    samples.

    Args:
        conv: its kernel, stride, padding, dilation, groups, weight and bias are taken over.
        modulated: samples have weights.

    Attributes:
        weight, bias: those of ``conv``. Published code weighs by sigmoid, not by twice that: its weight is twice this.
        conv_offset: gives (B, 2 k, H, W) offsets and then (B, k, H, W) logits of weights, for a kernel of k numbers; it
            starts at 0.

    Raises:
        ValueError: a convolution that pads by something else than zeros, or by a size that depends on the input.

    Source:
        Deformable Convolutional Networks, arXiv 1703.06211, section 2.1; modulated: arXiv 1811.11168, section 2.2. The
        order of the outputs is published code's (mmcv, DCNv2).
    """

    def __init__(self, conv: nn.Conv2d, *, modulated: bool = True) -> None:
        super().__init__()
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise ValueError(f"only convolutions padded by a number of zeros can be deformed, got {conv}")
        self.stride, self.padding, self.dilation = (_pair(v) for v in (conv.stride, conv.padding, conv.dilation))
        self.weight, self.bias = conv.weight, conv.bias
        self.modulated = modulated
        self.taps = conv.kernel_size[0] * conv.kernel_size[1]
        self.conv_offset = nn.Conv2d(
            conv.in_channels,
            (3 if modulated else 2) * self.taps,
            _pair(conv.kernel_size),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        from torchvision.ops import deform_conv2d  # here, not above: it takes as long to import as torch

        with without_autocast(x):
            learnt = at_least_float32(self.conv_offset(x.to(self.conv_offset.weight.dtype)))
            out = deform_conv2d(
                at_least_float32(x).to(learnt.dtype),
                learnt[:, : 2 * self.taps],
                at_least_float32(self.weight),
                None if self.bias is None else at_least_float32(self.bias),
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
                mask=2 * learnt[:, 2 * self.taps :].sigmoid() if self.modulated else None,
            )
        return out.to(x.dtype)


def _pair(value: tuple[int, ...]) -> tuple[int, int]:
    """(vertical, horizontal)."""
    return value[0], value[1]

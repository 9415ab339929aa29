"""Heads: pyramid levels in, raw outputs of every point out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gfocal.models.blocks import ACTIVATIONS, Activation, separable
from gfocal.models.deformable import DeformableConv
from gfocal.models.protocols import KINDS, HeadShape, OutputKind, OutputLayer
from gfocal.structures import HeadOutput

CLASS_BIAS = -math.log((1 - 0.01) / 0.01)
"""Every class starts at a probability of 0.01, or the many negatives make the first steps explode."""


def flatten_level(x: Tensor, outputs: int) -> Tensor:
    """(B, A * outputs, H, W) -> (B, H * W * A, outputs): the order of the points, row by row."""
    batch, channels, height, width = x.shape
    anchors = channels // outputs
    return (
        x.view(batch, anchors, outputs, height, width)
        .permute(0, 3, 4, 1, 2)
        .reshape(batch, height * width * anchors, outputs)
    )


def flatten_levels(maps: Sequence[Tensor], outputs: int) -> Tensor:
    """:func:`flatten_level` of maps of as many channels each, one level after the other: (B, P, outputs)."""
    # One copy, not one a level and one of all: the classes of nine anchors are 64 MB for an image of 800 x 1333.
    rows = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], 1)
    return rows.unflatten(-1, (-1, outputs)).flatten(1, 2)  # reshape cannot tell -1 without images


class _Scale(nn.Module):
    """One learnt factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class ConvHead(nn.Module):
    """Two towers of 3x3 convolutions with GroupNorm, shared by all levels.

    Args:
        shape: of levels that have the same channels and anchors.
        channels: of the towers.
        head_depth: convolutions of a tower.
        head_norm: "group" has GroupNorm after each convolution, "none" has biases instead.
        groups: of GroupNorm. By default 32, but two channels each at least: a group of one channel on a map of one
            cell is a single number, which nothing can normalise.
        tower_bias: biases beside the normalisation (FCOS).
        deformable_tower: the last convolution of each tower is deformable, its samples weighed.
        level_scales: every level has its own learnt factor on the box code.
        quality_on: the tower that the quality branch stands on.
        activation: after every convolution of a tower.

    Raises:
        ValueError: levels of different channels or anchors.

    Source:
        RetinaNet, arXiv 1708.02002, section 4; FCOS, arXiv 1904.01355; Generalized Focal Loss, arXiv 2006.04388.
    """

    def __init__(
        self,
        shape: HeadShape,
        *,
        channels: int = 256,
        head_depth: int = 4,
        head_norm: Literal["group", "none"] = "group",
        groups: int | None = None,
        tower_bias: bool = False,
        deformable_tower: bool = False,
        level_scales: bool = True,
        quality_on: Literal["box", "class"] = "box",
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.outputs = shape.outputs
        self.quality_on = quality_on
        width, count = shape.width, shape.count
        groups = 0 if head_norm == "none" else groups or min(32, channels // 2)
        bias = tower_bias or not groups
        self.class_tower = _tower(width, channels, head_depth, groups, bias, activation)
        self.box_tower = _tower(width, channels, head_depth, groups, bias, activation)
        self.class_out = nn.Conv2d(channels, count * shape.class_outputs, 3, padding=1)
        self.box_out = nn.Conv2d(channels, count * shape.box_outputs, 3, padding=1)
        quality = count * shape.quality_outputs
        self.quality_out = nn.Conv2d(channels, quality, 3, padding=1) if quality else None
        self.level_lists = {"scales": 0}
        self.scales = nn.ModuleList(_Scale() if level_scales else nn.Identity() for _ in range(shape.levels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.constant_(self.class_out.bias, CLASS_BIAS)  # type: ignore[arg-type]
        _start(self.box_out, shape.box_bias)
        for tower in (self.class_tower, self.box_tower) if deformable_tower else ():
            _deform_last(tower)

    def forward(self, levels: Sequence[Tensor]) -> HeadOutput:
        classes, boxes, qualities = [], [], []
        for level, scale in zip(levels, self.scales, strict=True):
            class_features, box_features = self.class_tower(level), self.box_tower(level)
            classes.append(self.class_out(class_features))
            boxes.append(scale(self.box_out(box_features)))
            if self.quality_out is not None:
                qualities.append(self.quality_out(box_features if self.quality_on == "box" else class_features))
        class_outputs, box_outputs, quality_outputs = self.outputs
        quality = flatten_levels(qualities, quality_outputs) if qualities else None
        return HeadOutput(flatten_levels(classes, class_outputs), flatten_levels(boxes, box_outputs), quality)

    def output_layers(self, kind: OutputKind) -> list[OutputLayer]:
        conv = {"class": self.class_out, "box": self.box_out, "quality": self.quality_out}[kind]
        factors = [scale.scale.data for scale in self.scales if isinstance(scale, _Scale)] if kind == "box" else []
        outputs = self.outputs[KINDS.index(kind)]
        return [] if conv is None else [OutputLayer.of(conv, outputs, factors=tuple(factors))]


def start_together(conv: nn.Module, shape: HeadShape) -> None:
    """First values of a convolution that gives all outputs of every anchor, classes before boxes."""
    classes, boxes, quality = shape.outputs
    start_outputs(conv, [CLASS_BIAS] * classes + list(shape.box_bias or [0.0] * boxes) + [0.0] * quality)


def start_outputs(conv: nn.Module, bias: Sequence[float]) -> None:
    """First values of a convolution whose outputs start at ``bias``, the same for every anchor."""
    nn.init.normal_(conv.weight, std=0.01)  # type: ignore[arg-type]
    _start(conv, bias)


def _start(conv: nn.Module, bias: Sequence[float] | None) -> None:
    """Outputs start at ``bias``, the same for every anchor."""
    if bias is not None:
        with torch.no_grad():
            conv.bias.view(-1, len(bias)).copy_(torch.tensor(bias))  # type: ignore[operator]


def _tower(
    in_channels: int, channels: int, depth: int, groups: int, bias: bool, activation: Activation
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(depth):
        layers.append(nn.Conv2d(in_channels if i == 0 else channels, channels, 3, padding=1, bias=bias))
        if groups:
            layers.append(nn.GroupNorm(groups, channels))
        layers.append(ACTIVATIONS[activation](inplace=True))
    return nn.Sequential(*layers)


def _deform_last(tower: nn.Sequential) -> None:
    """Make its last convolution deformable; what it gives stays."""
    convolutions = [(i, layer) for i, layer in enumerate(tower) if isinstance(layer, nn.Conv2d)]
    for i, layer in convolutions[-1:]:
        tower[i] = DeformableConv(layer)


class DepthwiseHead(nn.Module):
    """A small head of depthwise-separable blocks; every level has its own weights.

    Args:
        shape: of levels that have the same channels. One 1x1 convolution a level gives all outputs, those of each
            anchor in the order classes, box, quality.
        channels: of the blocks.
        head_depth: blocks a level.
        kernel: side of the depthwise kernels, odd.
        activation: after every normalisation.

    Source:
        NanoDet's head, with a kernel of 5 NanoDet-Plus's, and with hard swish PicoDet's; there with one anchor.

    Raises:
        ValueError: levels of different channels, or anchors of another number of levels.
    """

    def __init__(
        self,
        shape: HeadShape,
        *,
        channels: int = 96,
        head_depth: int = 2,
        kernel: int = 3,
        activation: Activation = "leaky_relu",
    ) -> None:
        super().__init__()
        self.outputs = shape.outputs
        self.level_lists = {"blocks": 0}
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(
                    separable(shape.width if i == 0 else channels, channels, kernel, activation=activation)
                    for i in range(head_depth)
                )
            )
            for _ in range(shape.levels)
        )
        self.out = nn.ModuleList(nn.Conv2d(channels, count * sum(self.outputs), 1) for count in shape.counts)
        for conv in self.out:
            start_together(conv, shape)

    def forward(self, levels: Sequence[Tensor]) -> HeadOutput:
        rows = []
        for level, blocks, out in zip(levels, self.blocks, self.out, strict=True):
            rows.append(flatten_level(out(blocks(level)), sum(self.outputs)))
        classes, boxes, quality = torch.cat(rows, 1).split(self.outputs, -1)
        return HeadOutput(classes, boxes, quality if self.outputs[2] else None)

    def output_layers(self, kind: OutputKind) -> list[OutputLayer]:
        which = KINDS.index(kind)
        outputs, start, together = self.outputs[which], sum(self.outputs[:which]), sum(self.outputs)
        return [OutputLayer.of(conv, outputs, start, together) for conv in self.out] if outputs else []


class PlainHead(nn.Module):
    """One 3x3 convolution for the classes and one for the boxes on every level, without towers.

    Args:
        shape: channels and anchors may differ from level to level.

    Raises:
        ValueError: channels or anchors are those of another number of levels.

    Source:
        SSD, arXiv 1512.02325, section 2.1.
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.outputs = shape.outputs

        def convolutions(outputs: int) -> nn.ModuleList:
            each = zip(shape.widths, shape.counts, strict=True)
            return nn.ModuleList(nn.Conv2d(c, count * outputs, 3, padding=1) for c, count in each)

        self.class_out = convolutions(shape.class_outputs)
        self.box_out = convolutions(shape.box_outputs)
        self.quality_out = convolutions(shape.quality_outputs) if shape.quality_outputs else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        # For a softmax over these outputs it is as good as 0: adding one number to all of them changes nothing.
        for conv in self.class_out:
            nn.init.constant_(conv.bias, CLASS_BIAS)  # type: ignore[arg-type]
        for conv in self.box_out:
            _start(conv, shape.box_bias)

    def forward(self, levels: Sequence[Tensor]) -> HeadOutput:
        def rows(convs: nn.ModuleList, outputs: int) -> Tensor:
            maps = [conv(x) for conv, x in zip(convs, levels, strict=True)]
            return torch.cat([flatten_level(x, outputs) for x in maps], 1)

        class_outputs, box_outputs, quality_outputs = self.outputs
        quality = None if self.quality_out is None else rows(self.quality_out, quality_outputs)
        return HeadOutput(rows(self.class_out, class_outputs), rows(self.box_out, box_outputs), quality)

    def output_layers(self, kind: OutputKind) -> list[OutputLayer]:
        convolutions = {"class": self.class_out, "box": self.box_out, "quality": self.quality_out}[kind]
        return [OutputLayer.of(conv, self.outputs[KINDS.index(kind)]) for conv in convolutions or ()]

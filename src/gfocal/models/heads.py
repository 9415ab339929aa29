"""Heads: pyramid levels in, raw outputs of every point out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gfocal.structures import HeadOutput

CLASS_BIAS = -math.log((1 - 0.01) / 0.01)
"""Every class starts at a probability of 0.01, or the many negatives make the first steps explode."""


def flatten_level(x: Tensor, outputs: int) -> Tensor:
    """(B, A * outputs, H, W) -> (B, H * W * A, outputs): the order of the points, row by row."""
    batch, channels, height, width = x.shape
    anchors = channels // outputs
    return x.view(batch, anchors, outputs, height, width).permute(0, 3, 4, 1, 2).reshape(batch, -1, outputs)


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
        in_channels: of the levels.
        levels: number of levels; each has its own learnt factor on the box code.
        class_outputs, box_outputs, quality_outputs: numbers a point (0: no quality branch).
        channels: of the towers.
        num_convs: depth of the towers.
        groups: of GroupNorm; 0 for no normalisation. By default 32, but two channels each at least: a group of one
            channel on a map of one cell is a single number, which nothing can normalise.
        quality_on: the tower that the quality branch stands on.

    Source:
        FCOS, arXiv 1904.01355; Generalized Focal Loss, arXiv 2006.04388.
    """

    def __init__(
        self,
        in_channels: int,
        levels: int,
        *,
        class_outputs: int,
        box_outputs: int,
        quality_outputs: int = 0,
        channels: int = 256,
        num_convs: int = 4,
        groups: int | None = None,
        quality_on: Literal["box", "class"] = "box",
    ) -> None:
        super().__init__()
        self.outputs = (class_outputs, box_outputs, quality_outputs)
        self.quality_on = quality_on
        groups = min(32, channels // 2) if groups is None else groups
        self.class_tower = _tower(in_channels, channels, num_convs, groups)
        self.box_tower = _tower(in_channels, channels, num_convs, groups)
        self.class_out = nn.Conv2d(channels, class_outputs, 3, padding=1)
        self.box_out = nn.Conv2d(channels, box_outputs, 3, padding=1)
        self.quality_out = nn.Conv2d(channels, quality_outputs, 3, padding=1) if quality_outputs else None
        self.scales = nn.ModuleList(_Scale() for _ in range(levels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.constant_(self.class_out.bias, CLASS_BIAS)  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> HeadOutput:
        classes, boxes, qualities = [], [], []
        class_outputs, box_outputs, quality_outputs = self.outputs
        for level, scale in zip(levels, self.scales, strict=True):
            class_features, box_features = self.class_tower(level), self.box_tower(level)
            classes.append(flatten_level(self.class_out(class_features), class_outputs))
            boxes.append(flatten_level(scale(self.box_out(box_features)), box_outputs))
            if self.quality_out is not None:
                features = box_features if self.quality_on == "box" else class_features
                qualities.append(flatten_level(self.quality_out(features), quality_outputs))
        return HeadOutput(torch.cat(classes, 1), torch.cat(boxes, 1), torch.cat(qualities, 1) if qualities else None)


def _tower(in_channels: int, channels: int, num_convs: int, groups: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(num_convs):
        layers.append(nn.Conv2d(in_channels if i == 0 else channels, channels, 3, padding=1, bias=not groups))
        if groups:
            layers.append(nn.GroupNorm(groups, channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class DepthwiseHead(nn.Module):
    """A small head of depthwise-separable blocks; every level has its own weights.

    Args:
        in_channels: of the levels.
        levels: number of levels.
        class_outputs, box_outputs, quality_outputs: numbers a point; one 1x1 convolution gives them all.
        channels: of the blocks.
        num_blocks: blocks a level.

    Source:
        NanoDet's head.
    """

    def __init__(
        self,
        in_channels: int,
        levels: int,
        *,
        class_outputs: int,
        box_outputs: int,
        quality_outputs: int = 0,
        channels: int = 96,
        num_blocks: int = 2,
    ) -> None:
        super().__init__()
        self.outputs = (class_outputs, box_outputs, quality_outputs)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(_separable(in_channels if i == 0 else channels, channels) for i in range(num_blocks)))
            for _ in range(levels)
        )
        convs = [nn.Conv2d(channels, sum(self.outputs), 1) for _ in range(levels)]
        for conv in convs:
            bias = torch.zeros(sum(self.outputs))
            bias[:class_outputs] = CLASS_BIAS
            nn.init.normal_(conv.weight, std=0.01)
            conv.bias = nn.Parameter(bias)
        self.out = nn.ModuleList(convs)

    def forward(self, levels: Sequence[Tensor]) -> HeadOutput:
        rows = []
        for level, blocks, out in zip(levels, self.blocks, self.out, strict=True):
            rows.append(flatten_level(out(blocks(level)), sum(self.outputs)))
        classes, boxes, quality = torch.cat(rows, 1).split(self.outputs, -1)
        return HeadOutput(classes, boxes, quality if self.outputs[2] else None)


def _separable(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Conv2d(in_channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(0.1, inplace=True),
    )

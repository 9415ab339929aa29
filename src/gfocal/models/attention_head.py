"""The head of PicoDet of 2022: outputs that see channels weighted by what all places together say of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gfocal.models.blocks import conv_norm, separable
from gfocal.models.heads import CLASS_BIAS, flatten_level, start_outputs
from gfocal.models.protocols import KINDS, HeadShape, OutputKind, OutputLayer
from gfocal.structures import HeadOutput


class AttentionHead(nn.Module):
    """Separable 5x5 blocks, attention over channels, and outputs of their own for classes, boxes and quality.

    Every level has its own weights. Classes and boxes come from the features after the attention by a 1x1 convolution
    each; the quality, where one is asked for, from the features before it, by a 5x5 and a 1x1 convolution with batch
    normalisation after each.

    Args:
        shape: of levels that have the same channels.
        channels: of the blocks.
        head_depth: blocks a level.

    Raises:
        ValueError: levels of different channels, or anchors of another number of levels.

    Source:
        PaddleDetection's ``heads/pico_head.py`` (PicoHeadV2; no paper describes it), there with one anchor. Features of
        their own for the two tasks, and an output that aligns them, are TOOD's thought, arXiv 2108.07755.
    """

    def __init__(self, shape: HeadShape, *, channels: int = 96, head_depth: int = 2) -> None:
        super().__init__()
        self.outputs = shape.outputs
        self.level_lists = {"blocks": 0, "attention": 0, "quality_out": 0}
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(
                    separable(shape.width if i == 0 else channels, channels, 5, activation="hard_swish")
                    for i in range(head_depth)
                )
            )
            for _ in range(shape.levels)
        )
        self.attention = nn.ModuleList(_ChannelAttention(channels) for _ in range(shape.levels))

        def convolutions(outputs: int, bias: Sequence[float]) -> nn.ModuleList:
            each = nn.ModuleList(nn.Conv2d(channels, count * outputs, 1) for count in shape.counts)
            for conv in each:
                start_outputs(conv, bias)
            return each

        self.class_out = convolutions(shape.class_outputs, [CLASS_BIAS] * shape.class_outputs)
        self.box_out = convolutions(shape.box_outputs, shape.box_bias or [0.0] * shape.box_outputs)
        quality = [count * shape.quality_outputs for count in shape.counts if shape.quality_outputs]
        self.quality_out = nn.ModuleList(
            nn.Sequential(*conv_norm(channels, outputs, 5, activation="hard_swish"), *conv_norm(outputs, outputs))
            for outputs in quality
        )

    def forward(self, levels: Sequence[Tensor]) -> HeadOutput:
        features = [blocks(level) for blocks, level in zip(self.blocks, levels, strict=True)]
        attended = [attention(x) for attention, x in zip(self.attention, features, strict=True)]

        def rows(layers: nn.ModuleList, maps: Sequence[Tensor], outputs: int) -> Tensor:
            return torch.cat([flatten_level(out(x), outputs) for out, x in zip(layers, maps, strict=True)], 1)

        class_outputs, box_outputs, quality_outputs = self.outputs
        return HeadOutput(
            rows(self.class_out, attended, class_outputs),
            rows(self.box_out, attended, box_outputs),
            rows(self.quality_out, features, quality_outputs) if quality_outputs else None,
        )

    def output_layers(self, kind: OutputKind) -> list[OutputLayer]:
        # The last layer of the quality is a norm; like a convolution's its weight and bias are a row for each output.
        quality: list[nn.Module] = [layers[-1] for layers in self.quality_out]  # type: ignore[index]
        layers = {"class": list(self.class_out), "box": list(self.box_out), "quality": quality}[kind]
        return [OutputLayer.of(layer, self.outputs[KINDS.index(kind)]) for layer in layers]


class _ChannelAttention(nn.Module):
    """Channels weighted by the sigmoid of a linear function of their means; a 1x1 convolution mixes them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 1)
        self.mix = conv_norm(channels, channels, activation="hard_swish")
        nn.init.normal_(self.gate.weight, std=0.001)  # all channels start with the same weight, a half
        nn.init.zeros_(self.gate.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid())

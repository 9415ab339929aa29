"""Outputs and objects that the criterion is worked on with."""

from __future__ import annotations

import math

import torch

from gfocal.points import make_points
from gfocal.representation import (
    BoxWeight,
    CenternessWeight,
    DiracBoxes,
    GeneralBoxes,
    ScoreWeight,
    TargetWeight,
)
from gfocal.structures import HeadOutput, Targets

WEIGHTS = {"cls": 1.0, "box": 2.0, "dfl": 0.25}
ONES = dict.fromkeys(WEIGHTS, 1.0)
BOX_WEIGHTS: dict[str, BoxWeight | None] = {
    "score": ScoreWeight(),
    "centerness": CenternessWeight(),
    "target": TargetWeight(),
    "none": None,
}


def targets(*rows: tuple[list[float], int]) -> Targets:
    return Targets(torch.tensor([box for box, _ in rows]).view(-1, 4), torch.tensor([c for _, c in rows]).long())


# Points (4, 4) and (12, 4) of stride 8; anchors [-4, -4, 12, 12] and [4, -4, 20, 12].
TWO = make_points([(1, 2)], [8], anchor_scale=2, offset=0.5)
BOXES = GeneralBoxes(2)
OBJECT = targets(([-4.0, -4, 12, 12], 1))


def two_points() -> HeadOutput:
    box = torch.zeros(1, 2, 12)
    box[0, 0, 2] = math.log(2)  # the left edge of point 0: probabilities 1/4, 1/4, 1/2
    return HeadOutput(torch.tensor([[[0.0, math.log(3)], [0.0, -math.log(3)]]]), box)


POINTS = make_points([(4, 4), (2, 2)], [8, 16], anchor_scale=4, offset=0)
CLASSES = 3
IMAGES = (
    targets(([0.0, 0, 30, 30], 0), ([9.0, 2, 31, 22], 2)),
    targets(),
    targets(([3.0, 3, 13, 29], 1)),
    targets(([-5.0, -5, 26, 20], 2), ([0.0, 0, 16, 16], 1)),
)


def random_output(images: int, boxes: GeneralBoxes | DiracBoxes, seed: int = 0) -> HeadOutput:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, len(POINTS), CLASSES, generator=generator)
    code = torch.randn(images, len(POINTS), boxes.channels, generator=generator) + 1
    return HeadOutput(logits.requires_grad_(), code.requires_grad_())

"""Random problems for assigners that look at predictions."""

from __future__ import annotations

import random

import torch

from gfocal.points import make_anchors
from gfocal.structures import Targets


class Problem:
    """One to three levels, one to three anchors a location, objects that overlap, predictions; half with ties."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        self.ties = draw.random() < 0.5
        strides = [4, 8, 16][: draw.randint(1, 3)]
        grids = [(draw.randint(0, 40 // s), 40 // s) for s in strides]
        sides = [[(2.0 * s, 2.0 * s)] * draw.randint(1, 3) for s in strides]
        self.points = make_anchors(grids, strides, sides, offset=draw.choice([0.0, 0.5]))
        count, classes = draw.choice([0, 1, 2, 5, 9]), draw.randint(1, 3)
        # Eighths of pixels are exact in float32, so that points are inside or not in any precision.
        unit = 1 if self.ties else 8
        near = [[draw.randint(-4, 28), draw.randint(-4, 20)] for _ in range(2)]  # so that objects overlap

        def box(jitter: int) -> list[float]:
            x, y = (v + draw.randint(-jitter * unit, jitter * unit) / unit for v in draw.choice(near))
            return [x, y, x + draw.randint(unit, 24 * unit) / unit, y + draw.randint(unit, 24 * unit) / unit]

        rows = [box(6) for _ in range(count)]
        if self.ties and count > 2:
            rows[-1] = rows[0]
        labels = [draw.randrange(classes) for _ in rows]
        self.targets = Targets(torch.tensor(rows).view(-1, 4), torch.tensor(labels).long())
        generator = torch.Generator().manual_seed(seed)
        self.scores = torch.rand(len(self.points), classes, generator=generator)
        boxes = self.points.anchors + 4 * torch.randn(len(self.points), 4, generator=generator)
        if self.ties:  # a few values, 0 and 1 among them, and a few boxes of whole pixels
            self.scores = (self.scores * 4).round() / 4
            few = torch.tensor([*rows[:3], *(box(6) for _ in range(4))])
            boxes = few[torch.randint(0, len(few), (len(self.points),), generator=generator)]
        self.boxes = boxes
        self.draw = draw

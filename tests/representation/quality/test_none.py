from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gfocal.points import make_points
from gfocal.representation import LearningRows, NoQuality
from gfocal.structures import HeadOutput
from helpers.rows import positive_rows
from oracles.losses import binary_cross_entropy, focal

POINT = make_points([(1, 1)], [8], anchor_scale=5, offset=0.5)  # neither form looks at it


def output(logits: Tensor) -> HeadOutput:
    return HeadOutput(logits, torch.zeros(len(logits), 4))


def loss_of(quality: NoQuality, logits: Tensor, labels: Tensor, norm: float = 1.0) -> Tensor:
    positive = (labels >= 0).nonzero().squeeze(1)
    target = quality.target(positive_rows(POINT, torch.zeros(0, 4), torch.zeros(0, 4)))
    losses = quality.losses(LearningRows(output(logits), labels, positive, target, norm=norm))
    assert losses.keys() == {"cls"}
    return losses["cls"]


def random_case() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(12, 4, generator=generator, dtype=torch.float64), torch.randint(
        -1, 4, (12,), generator=generator
    )


def test_by_hand() -> None:
    # sigma = 1/2 everywhere: a positive costs 0.25 * (1/2)^2 * log 2, a negative 0.75 * (1/2)^2 * log 2.
    loss = loss_of(NoQuality(), torch.zeros(2, 2), torch.tensor([1, -1]), norm=2.0)
    assert loss.item() == pytest.approx((0.25 + 3 * 0.75) * 0.25 * math.log(2) / 2, rel=1e-6)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (None, 2.0), (0.5, 1.5)])
def test_agrees_with_the_slow_loop(alpha: float | None, gamma: float) -> None:
    logits, labels = random_case()
    slow = sum(
        focal(x, int(c == labels[i]), alpha, gamma) for i, row in enumerate(logits.tolist()) for c, x in enumerate(row)
    )
    assert loss_of(NoQuality(alpha, gamma), logits, labels, norm=3.0).item() == pytest.approx(slow / 3, rel=1e-6)


def test_without_focus_it_is_binary_cross_entropy() -> None:
    logits, labels = random_case()
    slow = sum(
        binary_cross_entropy(x, int(c == labels[i])) for i, row in enumerate(logits.tolist()) for c, x in enumerate(row)
    )
    assert loss_of(NoQuality(None, 0.0), logits, labels).item() == pytest.approx(slow, rel=1e-6)


def test_gradients() -> None:
    logits, labels = random_case()
    assert torch.autograd.gradcheck(lambda x: loss_of(NoQuality(), x, labels), (logits.requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_extremes(dtype: torch.dtype) -> None:
    logits = torch.tensor([[100.0, -100], [-100, 100]], dtype=dtype, requires_grad=True)
    loss = loss_of(NoQuality(), logits, torch.tensor([0, 0]))
    loss.backward()
    # Point 0 is right; point 1 misses its class by 100 and sees another by 100.
    assert loss.item() == pytest.approx(25 + 75, rel=1e-4)
    assert torch.isfinite(logits.grad).all()


def test_no_points_at_all() -> None:
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = loss_of(NoQuality(), logits, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0


def test_no_quality_is_asked_for_and_none_enters_the_score() -> None:
    quality = NoQuality()
    assert quality.target(positive_rows(POINT, torch.zeros(2, 4), torch.ones(2, 4))) is None
    assert (quality.num_logits(7), quality.quality_channels) == (7, 0)
    out, scores = output(torch.randn(3, 2)), torch.rand(3)
    assert quality.class_logits(out) is out.class_logits
    assert torch.equal(quality.scores(scores, out), scores)

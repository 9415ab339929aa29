from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gfocal.points import make_points
from gfocal.representation import JointQuality, LearningRows, VarifocalQuality
from gfocal.structures import HeadOutput
from helpers.rows import positive_rows
from oracles.losses import varifocal

POINT = make_points([(1, 1)], [8], anchor_scale=5, offset=0.5)  # the form does not look at it


def random_case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(12, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(-1, 4, (12,), generator=generator)
    positive = (labels >= 0).nonzero().squeeze(1)
    return logits, labels, positive, torch.rand(len(positive), generator=generator, dtype=torch.float64)


def output(logits: Tensor) -> HeadOutput:
    return HeadOutput(logits, torch.zeros(len(logits), 4))


def test_one_positive_and_one_negative_by_hand() -> None:
    # p = 1/2 everywhere, q = 1/2: log 2 / 2, and three times 3/4 (1/2)^2 log 2; divided by 2.
    rows = LearningRows(
        output(torch.zeros(2, 2)), torch.tensor([1, -1]), torch.tensor([0]), torch.tensor([0.5]), norm=2.0
    )
    losses = VarifocalQuality().losses(rows)
    assert losses.keys() == {"cls"}
    assert losses["cls"].item() == pytest.approx((1 / 2 + 3 * 3 / 16) * math.log(2) / 2, rel=1e-6)


def test_target_and_score_are_those_of_the_joint_form() -> None:
    boxes, truth = torch.tensor([[0.0, 0, 10, 10], [0, 0, 1, 1]]), torch.tensor([[5.0, 0, 15, 10], [2, 2, 3, 3]])
    positives = positive_rows(POINT, boxes, truth)
    form, joint = VarifocalQuality(), JointQuality()
    assert torch.equal(form.target(positives), joint.target(positives))
    out = output(torch.randn(5, 3))
    assert torch.equal(form.class_logits(out), joint.class_logits(out))
    assert (form.quality_channels, form.num_logits(3), form.sums) == (0, 3, None)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.75, 2.0), (0.25, 1.5)])
def test_losses_agree_with_the_slow_loop(alpha: float, gamma: float) -> None:
    logits, labels, positive, quality = random_case()
    slow, of = 0.0, dict(zip(positive.tolist(), quality.tolist(), strict=True))
    for i, row in enumerate(logits.tolist()):
        slow += sum(varifocal(x, of[i] if c == labels[i] else 0.0, alpha, gamma) for c, x in enumerate(row))
    rows = LearningRows(output(logits), labels, positive, quality, norm=5.0)
    assert VarifocalQuality(alpha, gamma).losses(rows)["cls"].item() == pytest.approx(slow / 5, rel=1e-10)


def test_gradcheck_in_float64() -> None:
    logits, labels, positive, quality = random_case()
    logits.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: VarifocalQuality().losses(LearningRows(output(x), labels, positive, quality))["cls"], (logits,)
    )


def test_no_positives_and_no_places() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    for places in (0, 3):
        logits = torch.zeros(places, 2, requires_grad=True)
        rows = LearningRows(output(logits), torch.full((places,), -1), none, torch.zeros(0))
        loss = VarifocalQuality().losses(rows)["cls"]
        loss.backward()
        assert loss.item() == pytest.approx(places * 2 * 0.75 / 4 * math.log(2), rel=1e-6)
        assert logits.grad is not None


def test_what_it_refuses() -> None:
    for alpha, gamma in ((-1, 2), (0.5, math.nan)):
        with pytest.raises(ValueError, match="alpha and gamma must be >= 0"):
            VarifocalQuality(alpha, gamma)
    with pytest.raises(ValueError, match="target is None"):
        VarifocalQuality().losses(LearningRows(output(torch.zeros(1, 2)), torch.tensor([0]), torch.tensor([0])))

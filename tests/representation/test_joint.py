from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gfocal.points import make_points
from gfocal.representation import JointQuality, LearningRows
from gfocal.structures import HeadOutput
from oracles.boxes import iou
from oracles.losses import focal, quality_focal

POINT = make_points([(1, 1)], [8], anchor_scale=5, offset=0.5)  # neither form looks at it


def output(logits: Tensor) -> HeadOutput:
    return HeadOutput(logits, torch.zeros(len(logits), 4))


def random_case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(12, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(-1, 4, (12,), generator=generator)
    positive = (labels >= 0).nonzero().squeeze(1)
    return logits, labels, positive, torch.rand(len(positive), generator=generator, dtype=torch.float64)


def test_the_target_is_the_iou_and_carries_no_gradient() -> None:
    # Overlap 5 x 10 of two boxes of 100: 50 / 150.
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 1, 1]], requires_grad=True)
    target = JointQuality().target(POINT, boxes, torch.tensor([[5.0, 0, 15, 10], [2, 2, 3, 3]]))
    assert target.tolist() == pytest.approx([1 / 3, 0])
    assert not target.requires_grad
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, 20, 2, generator=generator) * 10
    a, b = torch.cat((corner, corner + 8), -1)
    slow = [iou(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert JointQuality().target(POINT, a, b).tolist() == pytest.approx(slow, abs=1e-6)


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_losses_agree_with_the_slow_loop(beta: float) -> None:
    logits, labels, positive, quality = random_case()
    by_point = dict(zip(positive.tolist(), quality.tolist(), strict=True))
    slow = sum(
        quality_focal(x, by_point[i] if c == labels[i] else 0.0, beta)
        for i, row in enumerate(logits.tolist())
        for c, x in enumerate(row)
    )
    losses = JointQuality(beta).losses(LearningRows(output(logits), labels, positive, quality, norm=5.0))
    assert losses.keys() == {"cls"}
    assert losses["cls"].item() == pytest.approx(slow / 5, rel=1e-6)


def test_a_perfect_box_makes_it_focal_loss_without_alpha() -> None:
    logits, labels, positive, _ = random_case()
    loss = JointQuality(2.0).losses(
        LearningRows(output(logits), labels, positive, torch.ones(len(positive)), norm=1.0)
    )["cls"]
    slow = sum(
        focal(x, int(c == labels[i]), None, 2.0) for i, row in enumerate(logits.tolist()) for c, x in enumerate(row)
    )
    assert loss.item() == pytest.approx(slow, rel=1e-6)


def test_gradients() -> None:
    logits, labels, positive, quality = random_case()
    assert torch.autograd.gradcheck(
        lambda x: JointQuality().losses(LearningRows(output(x), labels, positive, quality, norm=2.0))["cls"],
        (logits.requires_grad_(),),
    )


def test_without_positives_the_negatives_learn() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    JointQuality().losses(LearningRows(output(logits), torch.tensor([-1, -1]), none, torch.zeros(0), norm=1.0))[
        "cls"
    ].backward()
    # At sigma = 1/2: d/dx sigma^2 softplus(x) = 2 sigma^2 (1 - sigma) log 2 + sigma^3 = log 2 / 4 + 1 / 8.
    torch.testing.assert_close(logits.grad, torch.full((2, 3), 0.25 * 0.6931472 + 0.125))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_extreme_logits_stay_finite(dtype: torch.dtype) -> None:
    logits = torch.tensor([[100.0, -100], [-100, 100], [0, 100]], dtype=dtype, requires_grad=True)
    loss = JointQuality().losses(
        LearningRows(output(logits), torch.tensor([0, 0, -1]), torch.tensor([0, 1]), torch.tensor([0.0, 1.0]), norm=1.0)
    )["cls"]
    loss.backward()
    # Each wrong by 100: y = 0 at x = 100, y = 1 at x = -100 (its other class is at 100 too), a negative at 100.
    assert loss.item() == pytest.approx(400 + 0.25 * 0.6931472, rel=1e-4)
    assert torch.isfinite(logits.grad).all()


def test_no_points_at_all() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = JointQuality().losses(LearningRows(output(logits), none, none, torch.zeros(0), norm=1.0))["cls"]
    loss.backward()
    assert loss.item() == 0


def test_the_score_is_the_class_score() -> None:
    quality = JointQuality()
    out = output(torch.randn(3, 5))
    assert quality.num_logits(5) == 5
    assert quality.quality_channels == 0
    assert quality.class_logits(out) is out.class_logits
    scores = torch.rand(3)
    assert torch.equal(quality.scores(scores, out), scores)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="beta"):
        JointQuality(-1)
    with pytest.raises(ValueError, match="target of every positive"):
        JointQuality().losses(
            LearningRows(output(torch.zeros(1, 2)), torch.tensor([0]), torch.tensor([0]), None, norm=1.0)
        )

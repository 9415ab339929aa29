from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gfocal.points import make_points
from gfocal.representation import JointQuality, LearningRows, soft_target
from gfocal.structures import HeadOutput
from helpers.rows import positive_rows
from oracles.assigners import soft_targets
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
    target = JointQuality().target(positive_rows(POINT, boxes, torch.tensor([[5.0, 0, 15, 10], [2, 2, 3, 3]])))
    assert target.tolist() == pytest.approx([1 / 3, 0])
    assert not target.requires_grad
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, 20, 2, generator=generator) * 10
    a, b = torch.cat((corner, corner + 8), -1)
    slow = [iou(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert JointQuality().target(positive_rows(POINT, a, b)).tolist() == pytest.approx(slow, abs=1e-6)


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


# --- the soft target of an assigner that measures alignment ---------------------------------------------------------


def test_the_soft_target_by_hand() -> None:
    # Object 3: t = 1/2, 1/8, 1/4 and IoU 1/2, 3/4, 1/4. The largest t learns 3/4, the others a quarter and half of it.
    # Object 0: one positive learns its IoU, whatever its t. Object 7 is not aligned anywhere: 0. Others do not occur.
    t = torch.tensor([0.5, 1e-30, 0.125, 0.0, 0.25], dtype=torch.float64)
    u = torch.tensor([0.5, 0.9, 0.75, 0.6, 0.25])
    owner = torch.tensor([3, 0, 3, 7, 3])
    target = soft_target(t, u, owner)
    assert target.dtype == torch.float32
    assert target.tolist() == pytest.approx([0.75, 0.9, 0.1875, 0, 0.375], rel=1e-6)


def test_the_target_of_measured_positives_and_of_others() -> None:
    # Overlaps 5 x 10 of 150, and all: IoU 1/3 and 1. One object: t = 1/4 and 1/8 make 1 and 1/2; two: 1/3 and 1.
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10]], requires_grad=True)
    truth = torch.tensor([[5.0, 0, 15, 10], [5, 0, 15, 10]])
    measured = torch.tensor([0.25, 0.125], dtype=torch.float64)
    for owner, alignment, expected in (
        ([4, 4], measured, [1, 0.5]),
        ([4, 5], measured, [1 / 3, 1]),
        ([4, 4], None, [1 / 3, 1]),
    ):
        rows = positive_rows(POINT, boxes, truth, gt_index=torch.tensor(owner), alignment=alignment)
        target = JointQuality().target(rows)
        assert target.tolist() == pytest.approx(expected, rel=1e-6)
        assert not target.requires_grad


def test_limits_of_the_soft_target() -> None:
    generator = torch.Generator().manual_seed(1)
    u, owner = torch.rand(30, generator=generator), torch.randint(0, 6, (30,), generator=generator)
    best = torch.tensor([max(u[owner == g].tolist()) for g in owner.tolist()])
    # Equal alignment: each learns its object's best IoU. Aligned by the IoU alone: its own.
    assert torch.equal(soft_target(torch.full((30,), 0.3), u, owner), best)
    torch.testing.assert_close(soft_target(u.double(), u, owner), u)
    # The scale of t does not matter, down to the least numbers that there are.
    t = torch.rand(30, generator=generator, dtype=torch.float64)
    for scale in (1e-300, 1.0, 1e300):
        torch.testing.assert_close(soft_target(t * scale, u, owner), soft_target(t, u, owner), rtol=1e-6, atol=0)
    # The largest of an object is exactly its best IoU: t / t is 1 in any precision.
    target = soft_target(t, u, owner)
    for g in range(6):
        assert target[owner == g].max() == u[owner == g].max()


def test_the_soft_target_agrees_with_the_slow_loop() -> None:
    generator = torch.Generator().manual_seed(2)
    for count in (1, 2, 7, 40):
        for _ in range(25):
            t, u = torch.rand(2, count, generator=generator, dtype=torch.float64).pow(7)
            owner = 3 * torch.randint(0, 9, (count,), generator=generator)
            t[torch.rand(count, generator=generator) < 0.2] = 0
            assert soft_target(t, u, owner).tolist() == pytest.approx(soft_targets(t, u, owner), rel=1e-14, abs=0)


def test_soft_targets_of_nothing_and_of_extremes() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    empty = soft_target(torch.zeros(0, dtype=torch.float64), torch.zeros(0), none)
    assert (empty.shape, empty.dtype) == ((0,), torch.float32)
    # t far below float32's least number, and 0 beside it; IoUs of 0: no box overlaps.
    t = torch.tensor([1e-300, 5e-301, 0.0], dtype=torch.float64)
    zero = torch.zeros(3, dtype=torch.int64)
    assert soft_target(t, torch.tensor([0.5, 0.8, 0.1]), zero).tolist() == pytest.approx([0.8, 0.4, 0], rel=1e-6)
    assert soft_target(t, torch.zeros(3), zero).tolist() == [0, 0, 0]
    assert soft_target(torch.ones(3), torch.ones(3), torch.tensor([0, 10**6, 10**6])).tolist() == [1, 1, 1]
    t.requires_grad_()
    assert not soft_target(t, torch.ones(3, requires_grad=True), zero).requires_grad

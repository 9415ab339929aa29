"""The centerness loss: hand-worked values, limits, oracle, gradients, extremes; the same as the branch learns with."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gfocal.losses import centerness_loss, focal_loss
from gfocal.representation import BranchQuality, LearningRows
from gfocal.structures import HeadOutput
from oracles.losses import binary_cross_entropy


def random_case(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(40, generator=generator, dtype=torch.float64)
    return logits, torch.rand(40, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("logit", "target", "expected", "slope"),
    [
        # p = 1/2: log 2 whatever the target; the slope is p - c.
        (0.0, 1.0, math.log(2), -0.5),
        (0.0, 0.25, math.log(2), 0.25),
        # p = 3/4 against 1/4: -(1/4 log 3/4 + 3/4 log 1/4).
        (math.log(3), 0.25, 1.1116409, 0.5),
        # p = c = 3/4: the entropy, -(3/4 log 3/4 + 1/4 log 1/4), and nothing to learn.
        (math.log(3), 0.75, 0.5623351, 0.0),
    ],
)
def test_values_and_slopes_worked_by_hand(logit: float, target: float, expected: float, slope: float) -> None:
    x = torch.tensor([logit], requires_grad=True)
    loss = centerness_loss(x, torch.tensor([target]))
    loss.backward()
    assert (loss.item(), x.grad.item()) == pytest.approx((expected, slope), abs=1e-6)


def test_at_zero_and_one_it_is_focal_loss_without_alpha_and_gamma() -> None:
    logits, target = random_case(1)
    hard = target.round()
    torch.testing.assert_close(centerness_loss(logits, hard), focal_loss(logits, hard, alpha=None, gamma=0))


def test_agrees_with_the_slow_loop() -> None:
    logits, target = random_case(2)
    slow = [binary_cross_entropy(x, y) for x, y in zip(logits.tolist(), target.tolist(), strict=True)]
    assert centerness_loss(logits, target).tolist() == pytest.approx(slow, rel=1e-12)
    weight = torch.arange(40.0, dtype=torch.float64)
    total = centerness_loss(logits, target, weight=weight, reduction="sum", norm=3.0)
    assert total.item() == pytest.approx(sum(i * value for i, value in enumerate(slow)) / 3)
    assert centerness_loss(logits, target, reduction="mean").item() == pytest.approx(sum(slow) / 40)


@pytest.mark.parametrize("kind", ["centerness", "iou"])
def test_the_branch_learns_with_it(kind: str) -> None:
    logits, target = (x.float() for x in random_case(3))
    out = HeadOutput(torch.zeros(40, 2), torch.zeros(40, 4), logits[:, None])
    positive = torch.arange(0, 40, 3)
    labels = torch.full((40,), -1).index_fill(0, positive, 1)
    loss = BranchQuality(kind).losses(LearningRows(out, labels, positive, target[positive], norm=5.0))["quality"]
    assert torch.equal(loss, centerness_loss(logits[positive], target[positive], reduction="sum", norm=5.0))


def test_gradcheck_in_float64() -> None:
    logits, target = (x[:8] for x in random_case(4))
    logits.requires_grad_()
    for extra in ({}, {"reduction": "mean"}, {"weight": torch.rand(8).double(), "reduction": "sum", "norm": 2.0}):
        assert torch.autograd.gradcheck(lambda x, extra=extra: centerness_loss(x, target, **extra), (logits,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_extremes_are_right_finite_and_float32(dtype: torch.dtype) -> None:
    # Wrong by 200 both ways, right, and half right.
    logits = torch.tensor([200.0, -200, 200, -200], dtype=dtype, requires_grad=True)
    loss = centerness_loss(logits, torch.tensor([0.0, 1, 1, 0.5], dtype=dtype))
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert loss.tolist() == [200, 200, 0, 100]
    assert logits.grad.tolist() == [1, -1, 0, -0.5]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(centerness_loss(logits, torch.tensor([0.0, 1, 1, 0.5])), loss)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_empty_inputs_stay_in_the_graph(reduction: str) -> None:
    logits = torch.zeros(0, requires_grad=True)
    loss = centerness_loss(logits, torch.zeros(0), reduction=reduction)
    loss.sum().backward()
    assert loss.sum().item() == 0
    assert logits.grad is not None


def test_no_gradient_flows_to_the_target() -> None:
    logits, target = torch.zeros(2, requires_grad=True), torch.ones(2, requires_grad=True)
    centerness_loss(logits, target, reduction="sum").backward()
    assert target.grad is None


@pytest.mark.parametrize(("target", "extra", "message"), [
    (torch.zeros(2, 1), {}, r"one shape, got \(2,\) and \(2, 1\)"),
    (torch.zeros(2), {"reduction": "avg"}, "none, sum, mean"),
])  # fmt: skip
def test_wrong_use_is_refused(target: Tensor, extra: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        centerness_loss(torch.zeros(2), target, **extra)

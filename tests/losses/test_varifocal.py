"""Varifocal loss: hand-worked values, limits, oracle, gradients, extremes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gfocal.losses import focal_loss, varifocal_loss
from oracles.losses import sigmoid, varifocal


def random_case(seed: int = 0) -> tuple[Tensor, Tensor]:
    """(30, 4) logits and a soft target, half of it 0."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(30, 4, generator=generator, dtype=torch.float64)
    target = torch.rand(30, 4, generator=generator, dtype=torch.float64)
    return logits, target.where(torch.rand(30, 4, generator=generator) > 0.5, 0)


@pytest.mark.parametrize(
    ("x", "q", "alpha", "gamma", "expected"),
    [
        # p = 1/2: cross-entropy is log 2 whatever q is, times q; or times alpha (1/2)^gamma.
        (0.0, 0.5, 0.75, 2.0, 0.5 * math.log(2)),
        (0.0, 1.0, 0.75, 2.0, math.log(2)),
        (0.0, 0.0, 0.75, 2.0, 0.75 / 4 * math.log(2)),
        (0.0, 0.0, 1.0, 1.0, math.log(2) / 2),
        # p = 3/4: -(q log 3/4 + (1 - q) log 1/4), q = 1/4.
        (math.log(3), 0.25, 0.75, 2.0, 0.25 * (0.25 * math.log(4 / 3) + 0.75 * math.log(4))),
        (math.log(3), 0.0, 0.5, 3.0, 0.5 * 27 / 64 * math.log(4)),
    ],
)
def test_values_worked_by_hand(x: float, q: float, alpha: float, gamma: float, expected: float) -> None:
    loss = varifocal_loss(torch.tensor([[x]]), torch.tensor([[q]]), alpha=alpha, gamma=gamma)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_limits() -> None:
    logits, target = random_case(1)
    hard = (target > 0).double()
    # Hard labels: cross-entropy of the positives; negatives are those of focal loss, without its 1 - alpha.
    loss, cross = varifocal_loss(logits, hard, alpha=1.0), focal_loss(logits, hard, alpha=None, gamma=0.0)
    torch.testing.assert_close(loss[hard > 0], cross[hard > 0])
    torch.testing.assert_close(loss[hard == 0], focal_loss(logits, hard, alpha=None, gamma=2.0)[hard == 0])
    # alpha 0: negatives teach nothing; gamma 0: they count alike.
    assert varifocal_loss(logits, target, alpha=0.0)[target == 0].abs().max() == 0
    flat = varifocal_loss(logits, target, alpha=1.0, gamma=0.0)
    torch.testing.assert_close(flat[target == 0], cross[target == 0])
    # A pair is the dense target that it describes; a positive of quality 0 is a negative.
    labels = torch.tensor([2, -1, 0, 4] + [-1] * 26)
    quality = torch.tensor([0.5, 0.9, 0.0, 0.7] + [0.3] * 26, dtype=torch.float64)
    dense = torch.zeros(30, 4, dtype=torch.float64)
    dense[0, 2] = 0.5
    assert torch.equal(varifocal_loss(logits, (labels, quality)), varifocal_loss(logits, dense))


@pytest.mark.parametrize(("alpha", "gamma"), [(0.75, 2.0), (1.0, 0.5), (0.25, 3.5), (0.5, 0.0)])
def test_agrees_with_the_slow_loop(alpha: float, gamma: float) -> None:
    logits, target = random_case(2)
    pairs = zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True)
    slow = [varifocal(x, q, alpha, gamma) for x, q in pairs]
    loss = varifocal_loss(logits, target, alpha=alpha, gamma=gamma)
    assert loss.flatten().tolist() == pytest.approx(slow, rel=1e-10)
    weight = torch.arange(30.0, dtype=torch.float64)[:, None]
    total = varifocal_loss(logits, target, alpha=alpha, gamma=gamma, weight=weight, reduction="sum", norm=7.0)
    assert total.item() == pytest.approx(sum(value * (i // 4) for i, value in enumerate(slow)) / 7)


def test_gradcheck_in_float64() -> None:
    logits, target = (x[:5] for x in random_case(3))
    logits.requires_grad_()
    for options in ({}, {"alpha": 0.3, "gamma": 1.5}, {"gamma": 0.0}, {"reduction": "mean"}):
        assert torch.autograd.gradcheck(lambda x, o=options: varifocal_loss(x, target, **o), (logits,))


def test_the_slope_by_hand() -> None:
    # Of a positive: q (p - q). Of a negative: alpha p^2 (p - 2 (1 - p) log(1 - p)), since the factor is not detached.
    x = torch.tensor([0.7, -1.2], dtype=torch.float64, requires_grad=True)
    varifocal_loss(x, torch.tensor([0.4, 0.0]).double(), reduction="sum").backward()
    p, n = sigmoid(0.7), sigmoid(-1.2)
    expected = [0.4 * (p - 0.4), 0.75 * n * n * (n - 2 * (1 - n) * math.log(1 - n))]
    assert x.grad.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_compute_in_float32(dtype: torch.dtype) -> None:
    logits, target = (x.to(dtype) for x in random_case(4))
    logits.requires_grad_()
    loss = varifocal_loss(logits, target)
    assert torch.equal(loss, varifocal_loss(logits.float(), target.float()))
    assert loss.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(varifocal_loss(logits, target), loss)
    loss.sum().backward()
    assert logits.grad.dtype == dtype


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_extremes_are_right_and_finite(gamma: float) -> None:
    x = torch.tensor([-200.0, 200.0, -200.0, 200.0], requires_grad=True)
    loss = varifocal_loss(x, torch.tensor([0.0, 0.0, 1.0, 1.0]), gamma=gamma)
    assert loss.tolist() == pytest.approx([0, 150, 200, 0], abs=1e-6)
    loss.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_empty_inputs_stay_in_the_graph(reduction: str) -> None:
    for shape, target in (((0, 4), torch.zeros(0, 4)), ((0, 4), (torch.zeros(0).long(), torch.zeros(0)))):
        logits = torch.zeros(shape, requires_grad=True)
        loss = varifocal_loss(logits, target, reduction=reduction)
        loss.sum().backward()
        assert loss.sum().item() == 0
        assert logits.grad is not None


def test_no_gradient_flows_to_the_target() -> None:
    logits, target = torch.zeros(2, requires_grad=True), torch.full((2,), 0.5, requires_grad=True)
    varifocal_loss(logits, target, reduction="sum").backward()
    assert target.grad is None


@pytest.mark.parametrize(("target", "options", "message"), [
    (torch.zeros(2, 1), {}, "shape of the logits"),
    ((torch.zeros(2).long(), torch.tensor([0.0, 2.0])), {}, r"quality must lie in \[0, 1\]"),
    (torch.zeros(2, 4), {"alpha": -1.0}, "alpha must be >= 0, got -1.0"),
    (torch.zeros(2, 4), {"gamma": math.nan}, "gamma must be >= 0, got nan"),
    (torch.zeros(2, 4), {"reduction": "avg"}, "none, sum, mean"),
])  # fmt: skip
def test_wrong_use_is_refused(target: object, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        varifocal_loss(torch.zeros(2, 4), target, **options)

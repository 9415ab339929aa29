"""Smooth L1: hand-worked values, limits, oracle, gradients, extremes; the same as Dirac boxes learn with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gfocal.losses import smooth_l1_loss
from gfocal.points import make_points
from gfocal.representation import BoxRows, DiracBoxes
from oracles.boxes import absolute


def random_case(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    code, target = torch.randn(2, 50, 4, generator=generator, dtype=torch.float64)
    return code, target


@pytest.mark.parametrize(
    ("code", "target", "beta", "expected", "slope"),
    [
        # 1/2 away, beta 1: (1/2)^2 / 2; the slope is d / beta.
        (0.5, 0.0, 1.0, 0.125, 0.5),
        (0.0, 0.5, 1.0, 0.125, -0.5),
        # 3 away, beta 1: 3 - 1/2, a straight line.
        (3.0, 0.0, 1.0, 2.5, 1.0),
        # 3 away, beta 4: 9 / 8; beta 1/2: 3 - 1/4.
        (-1.0, 2.0, 4.0, 1.125, -0.75),
        (-1.0, 2.0, 0.5, 2.75, -1.0),
        # Where the two meet, d = beta = 2: 4 / 4 = 2 - 1.
        (2.0, 0.0, 2.0, 1.0, 1.0),
    ],
)
def test_values_and_slopes_worked_by_hand(
    code: float, target: float, beta: float, expected: float, slope: float
) -> None:
    x = torch.tensor([code], requires_grad=True)
    loss = smooth_l1_loss(x, torch.tensor([target]), beta=beta)
    loss.backward()
    assert (loss.item(), x.grad.item()) == pytest.approx((expected, slope))


def test_limits() -> None:
    code, target = random_case(1)
    # A small beta is L1; a large one is half the squared error over beta.
    torch.testing.assert_close(smooth_l1_loss(code, target, beta=1e-9), (code - target).abs())
    torch.testing.assert_close(smooth_l1_loss(code, target, beta=100.0), (code - target).square() / 200)


@pytest.mark.parametrize("beta", [0.11, 1.0, 2.5])
def test_agrees_with_the_slow_loop(beta: float) -> None:
    code, target = random_case(2)
    slow = [absolute(x - y, beta) for x, y in zip(code.flatten().tolist(), target.flatten().tolist(), strict=True)]
    loss = smooth_l1_loss(code, target, beta=beta)
    assert loss.shape == code.shape
    assert loss.flatten().tolist() == pytest.approx(slow, rel=1e-12)
    # Weights of rows, and the divisor.
    weight = torch.arange(50.0, dtype=torch.float64)[:, None]
    total = smooth_l1_loss(code, target, beta=beta, weight=weight, reduction="sum", norm=7.0)
    assert total.item() == pytest.approx(sum(value * (i // 4) for i, value in enumerate(slow)) / 7)


def test_dirac_boxes_learn_with_it() -> None:
    points = make_points([(4, 4)], [8], anchor_scale=4, offset=0.5)
    code, target = torch.randn(2, 16, 4, generator=torch.Generator().manual_seed(3))
    form = DiracBoxes("deltas", loss="smooth_l1", smooth_beta=0.3)
    boxes = form.decode(points, target)
    loss = form.losses(BoxRows(points, code, form.decode(points, code), boxes, weight=None, norm=2.0))["box"]
    own = smooth_l1_loss(code, form.encode(points, boxes), beta=0.3, reduction="none").sum(-1).sum() / 2
    assert torch.equal(loss, own)


def test_gradcheck_in_float64() -> None:
    code, target = (x[:6] for x in random_case(4))
    code.requires_grad_()
    for extra in ({}, {"reduction": "mean"}, {"weight": torch.rand(6, 1).double(), "reduction": "sum", "norm": 3.0}):
        assert torch.autograd.gradcheck(lambda x, extra=extra: smooth_l1_loss(x, target, beta=0.5, **extra), (code,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_compute_in_float32(dtype: torch.dtype) -> None:
    code, target = (x.to(dtype) for x in random_case(5))
    code.requires_grad_()
    loss = smooth_l1_loss(code, target)
    assert torch.equal(loss, smooth_l1_loss(code.float(), target.float()))
    assert loss.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(smooth_l1_loss(code, target), loss)
    loss.sum().backward()
    assert code.grad.dtype == dtype


@pytest.mark.parametrize("size", [200.0, 6e4])
def test_extremes_are_right_and_finite(size: float) -> None:
    # 6e4 squared is beyond half precision: the sum of both sides is computed in float32.
    code = torch.tensor([size, -size], dtype=torch.float16, requires_grad=True)
    loss = smooth_l1_loss(code, torch.zeros(2), reduction="sum")
    loss.backward()
    assert loss.item() == 2 * (code[0].item() - 0.5)
    assert code.grad.tolist() == [1, -1]


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_empty_inputs_stay_in_the_graph(reduction: str) -> None:
    code = torch.zeros(0, 4, requires_grad=True)
    loss = smooth_l1_loss(code, torch.zeros(0, 4), reduction=reduction)
    loss.sum().backward()
    assert loss.sum().item() == 0
    assert code.grad is not None


def test_no_gradient_flows_to_the_target() -> None:
    code, target = torch.zeros(2, requires_grad=True), torch.ones(2, requires_grad=True)
    smooth_l1_loss(code, target, reduction="sum").backward()
    assert target.grad is None


@pytest.mark.parametrize(("target", "extra", "message"), [
    (torch.zeros(2, 1), {}, r"one shape, got \(2, 4\) and \(2, 1\)"),
    (torch.zeros(2, 4), {"beta": 0.0}, "beta must be > 0, got 0.0"),
    (torch.zeros(2, 4), {"beta": float("nan")}, "beta must be > 0"),
    (torch.zeros(2, 4), {"reduction": "avg"}, "none, sum, mean"),
    (torch.zeros(2, 4), {"weight": torch.ones(2)}, "weight of shape"),
])  # fmt: skip
def test_wrong_use_is_refused(target: Tensor, extra: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        smooth_l1_loss(torch.zeros(2, 4), target, **extra)

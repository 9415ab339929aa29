"""Gaussian negative log-likelihood: hand-worked values, limits, oracle, gradients, extremes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gfocal.losses import gaussian_nll_loss
from oracles.boxes import gaussian_nll


def random_case(count: int = 60, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean, target = torch.randn(2, count, 4, generator=generator) * 3
    return mean, torch.randn(count, 4, generator=generator), target


def slopes(loss: Tensor, *inputs: Tensor) -> list[float]:
    return [value.item() for value in torch.autograd.grad(loss.sum(), inputs)]


@pytest.mark.parametrize(
    ("mean", "log_std", "target", "expected"),
    [
        # Right mean, std 1: log 1 + 0.
        (2.0, 0.0, 2.0, 0.0),
        # 2 away, std 1: 0 + 4 / 2.
        (1.0, 0.0, 3.0, 2.0),
        # 2 away, std 2: log 2 + (2 / 2)^2 / 2 = 0.6931472 + 0.5; below the mean or above it.
        (1.0, math.log(2), 3.0, 1.1931472),
        (3.0, math.log(2), 1.0, 1.1931472),
        # 1 away, std 1/2: -log 2 + 2^2 / 2.
        (0.0, -math.log(2), -1.0, 1.3068528),
        # Right mean, small std: below 0, since the constant log(2 pi) / 2 is left out and densities exceed 1.
        (0.0, -2.0, 0.0, -2.0),
    ],
)
def test_values_worked_by_hand(mean: float, log_std: float, target: float, expected: float) -> None:
    loss = gaussian_nll_loss(torch.tensor([mean]), torch.tensor([log_std]), torch.tensor([target]))
    assert loss.shape == (1,)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_slopes_worked_by_hand() -> None:
    # d / d mean = (mean - y) / std^2 = (1 - 3) / 4; d / d log std = 1 - (y - mean)^2 / std^2 = 1 - 4/4 = 0.
    mean, log_std = torch.tensor([1.0], requires_grad=True), torch.tensor([math.log(2)], requires_grad=True)
    loss = gaussian_nll_loss(mean, log_std, torch.tensor([3.0]))
    assert slopes(loss, mean, log_std) == pytest.approx([-0.5, 0.0], abs=1e-6)
    # std 1: -2 and 1 - 4 = -3: surer than it is right, so the std must grow.
    log_std = torch.zeros(1, requires_grad=True)
    assert slopes(gaussian_nll_loss(mean, log_std, torch.tensor([3.0])), mean, log_std) == pytest.approx([-2.0, -3.0])


def test_the_best_std_is_the_deviation() -> None:
    # Grid of stds 0.02 .. 4 in steps of 0.02; the mean is 1.3 off.
    std = torch.arange(1, 201) * 0.02
    loss = gaussian_nll_loss(torch.full_like(std, 5.0), std.log(), torch.full_like(std, 6.3))
    assert std[loss.argmin()].item() == pytest.approx(1.3, abs=1e-6)


def test_std_one_is_half_the_squared_error() -> None:
    mean, _, target = random_case(seed=1)
    torch.testing.assert_close(gaussian_nll_loss(mean, torch.zeros_like(mean), target), (mean - target).square() / 2)


def test_agrees_with_torch_and_with_the_oracle() -> None:
    mean, log_std, target = random_case(seed=2)
    loss = gaussian_nll_loss(mean, log_std, target)
    # torch takes the variance.
    theirs = torch.nn.functional.gaussian_nll_loss(mean, target, (2 * log_std).exp(), reduction="none", eps=1e-12)
    torch.testing.assert_close(loss, theirs, rtol=1e-4, atol=1e-5)
    for i in range(10):
        for edge in range(4):
            # Within 20 deviations, where the oracle's density has not become 0.
            if abs(float(mean[i, edge] - target[i, edge])) < 20 * math.exp(float(log_std[i, edge])):
                slow = gaussian_nll(mean[i, edge].item(), log_std[i, edge].item(), target[i, edge].item())
                assert loss[i, edge].item() == pytest.approx(slow, rel=1e-5, abs=1e-5)


def test_gradcheck_in_float64() -> None:
    mean, log_std, target = (x[:5].double() for x in random_case(seed=3))
    weight = torch.rand(5, 1, generator=torch.Generator().manual_seed(0)).double()
    inputs = (mean.requires_grad_(), log_std.requires_grad_())
    for extra in ({}, {"reduction": "mean"}, {"weight": weight, "reduction": "sum", "norm": 2.0}):
        assert torch.autograd.gradcheck(lambda m, s, extra=extra: gaussian_nll_loss(m, s, target, **extra), inputs)


@pytest.mark.parametrize("log_std", [-100.0, -15.0, 0.0, 15.0, 100.0])
@pytest.mark.parametrize("distance", [0.0, 1e-3, 1e4])
def test_extremes_stay_finite(log_std: float, distance: float) -> None:
    mean, raw = torch.zeros(3, requires_grad=True), torch.full((3,), log_std, requires_grad=True)
    loss = gaussian_nll_loss(mean, raw, torch.full((3,), distance))
    limit = min(max(log_std, -15.0), 15.0)
    assert loss[0].item() == pytest.approx(limit + (distance * math.exp(-limit)) ** 2 / 2, rel=1e-5)
    loss.sum().backward()
    for value in (loss, mean.grad, raw.grad):
        assert torch.isfinite(value).all()


def test_half_precision_and_autocast_compute_in_float32() -> None:
    mean, log_std, target = random_case(seed=4)
    mean, log_std = mean.bfloat16().requires_grad_(), log_std.bfloat16().requires_grad_()
    loss = gaussian_nll_loss(mean, log_std, target)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, gaussian_nll_loss(mean.float(), log_std.float(), target))
    loss.sum().backward()
    assert mean.grad is not None
    assert mean.grad.dtype == log_std.grad.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gaussian_nll_loss(mean, log_std, target), loss)
    assert gaussian_nll_loss(*(x.double() for x in (mean, log_std, target))).dtype == torch.float64


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_empty_inputs_stay_in_the_graph(reduction: str) -> None:
    mean, log_std = torch.zeros(0, 4, requires_grad=True), torch.zeros(0, 4, requires_grad=True)
    loss = gaussian_nll_loss(mean, log_std, torch.zeros(0, 4), reduction=reduction)
    loss.sum().backward()
    assert loss.sum().item() == 0
    assert mean.grad is not None
    assert log_std.grad is not None


def test_no_gradient_flows_to_the_target() -> None:
    mean, target = torch.zeros(2, requires_grad=True), torch.ones(2, requires_grad=True)
    gaussian_nll_loss(mean, torch.zeros(2), target, reduction="sum").backward()
    assert target.grad is None


def test_weight_and_norm() -> None:
    # 2 for each of two numbers (2 away, std 1): (1 * 2 + 3 * 2) / 4.
    loss = gaussian_nll_loss(
        torch.zeros(2),
        torch.zeros(2),
        torch.full((2,), 2.0),
        weight=torch.tensor([1.0, 3.0]),
        reduction="sum",
        norm=4.0,
    )
    assert loss.item() == pytest.approx(2.0)


@pytest.mark.parametrize(("shapes", "kwargs", "message"), [
    (((2, 4), (2,), (2, 4)), {}, "one shape"),
    (((2, 4), (2, 4), (2, 1)), {}, "one shape"),
    (((2,), (2,), (2,)), {"reduction": "avg"}, "none, sum, mean"),
])  # fmt: skip
def test_wrong_use_is_refused(shapes: tuple[tuple[int, ...], ...], kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gaussian_nll_loss(*(torch.zeros(shape) for shape in shapes), **kwargs)

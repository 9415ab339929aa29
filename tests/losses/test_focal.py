"""Focal loss: hand-worked values, limits, oracle, gradients, extremes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gfocal.losses import focal_loss
from oracles import losses as oracle

GAMMAS = [0.0, 0.5, 1.0, 1.5, 2.0, 4.0]


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)
    return found


def random_case(seed: int, rows: int = 30, classes: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(rows, classes, generator=generator) * 4).requires_grad_()
    labels = torch.randint(-1, classes + 1, (rows,), generator=generator)
    dense = torch.tensor([[float(c == label) for c in range(classes)] for label in labels.tolist()])
    return logits, labels, dense


@pytest.mark.parametrize(
    ("x", "y", "alpha", "gamma", "expected"),
    [
        # p = 1/2, y = 1: 0.25 * (1/2)^2 * ln 2
        (0.0, 1.0, 0.25, 2.0, 0.0433217),
        # p = 1/2, y = 0: 0.75 * (1/2)^2 * ln 2
        (0.0, 0.0, 0.25, 2.0, 0.1299651),
        # p = 3/4, y = 1, no alpha: (1/4)^2 ln(4/3) = 0.0625 * 0.2876821
        (math.log(3), 1.0, None, 2.0, 0.0179801),
        # p = 3/4, y = 0: 0.6 * (3/4)^1.5 * ln 4 = 0.6 * 0.6495191 * 1.3862944
        (math.log(3), 0.0, 0.4, 1.5, 0.5402547),
        # alpha = 1 silences the negatives
        (1.3, 0.0, 1.0, 2.0, 0.0),
    ],
)
def test_values_worked_by_hand(x: float, y: float, alpha: float | None, gamma: float, expected: float) -> None:
    loss = focal_loss(torch.tensor([x]), torch.tensor([y]), alpha=alpha, gamma=gamma)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_defaults_are_the_published_ones() -> None:
    logits, labels, _ = random_case(0)
    torch.testing.assert_close(focal_loss(logits, labels), focal_loss(logits, labels, alpha=0.25, gamma=2.0))


def test_gamma_zero_without_alpha_is_binary_cross_entropy() -> None:
    logits, labels, dense = random_case(1)
    expected = F.binary_cross_entropy_with_logits(logits, dense, reduction="none")
    for target in (labels, dense, dense.long(), labels.int()):
        ours = focal_loss(logits, target, alpha=None, gamma=0.0)
        torch.testing.assert_close(ours, expected)
        torch.testing.assert_close(gradient(ours, logits), gradient(expected, logits))


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("alpha", [None, 0.0, 0.25, 1.0])
def test_agrees_with_the_oracle(alpha: float | None, gamma: float) -> None:
    logits, labels, dense = random_case(2)
    expected = [
        [oracle.focal(x, int(c == label), alpha, gamma) for c, x in enumerate(row)]
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    for target in (labels, dense):
        loss = focal_loss(logits, target, alpha=alpha, gamma=gamma)
        torch.testing.assert_close(loss, torch.tensor(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_gradcheck_in_float64(gamma: float) -> None:
    logits, labels, _ = random_case(3, rows=6)
    x = logits.detach().double().requires_grad_()
    weight = torch.rand(6, 1, generator=torch.Generator().manual_seed(0)).double()
    for extra in ({}, {"reduction": "mean"}, {"weight": weight, "reduction": "sum", "norm": 3.0}):
        assert torch.autograd.gradcheck(lambda v, extra=extra: focal_loss(v, labels, gamma=gamma, **extra), (x,))


def test_labels_outside_the_classes_mean_nothing_there() -> None:
    # p = 1/2, y = 0, two classes: 2 * 0.75 * 0.25 * ln 2 for each row
    loss = focal_loss(torch.zeros(4, 2), torch.tensor([-1, -2, 2, 70]))
    assert loss.sum(1).tolist() == pytest.approx([0.2599302] * 4, abs=1e-6)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_are_finite_and_right(gamma: float, dtype: torch.dtype) -> None:
    # Certain and right: 0. Certain and wrong: |x|, slope +-1. With alpha = 1/2 half of that.
    logits = torch.tensor([200.0, -200.0, 200.0, -200.0], dtype=dtype, requires_grad=True)
    loss = focal_loss(logits, torch.tensor([1.0, 0.0, 0.0, 1.0]), alpha=0.5, gamma=gamma)
    assert loss.tolist() == pytest.approx([0.0, 0.0, 100.0, 100.0])
    assert gradient(loss, logits).tolist() == pytest.approx([0.0, 0.0, 0.5, -0.5])


@pytest.mark.parametrize("gamma", GAMMAS)
def test_every_logit_from_minus_to_plus_200_has_a_finite_gradient(gamma: float) -> None:
    logits = torch.linspace(-200, 200, 4001).requires_grad_()
    for y in (0.0, 1.0):
        loss = focal_loss(logits, torch.full((4001,), y), gamma=gamma)
        assert loss.isfinite().all()
        assert gradient(loss, logits).isfinite().all()


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_empty_inputs_stay_in_the_graph(reduction: str) -> None:
    for target in (torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64)):
        logits = torch.zeros(0, 5, requires_grad=True)
        loss = focal_loss(logits, target, reduction=reduction)
        loss.sum().backward()
        assert loss.sum().item() == 0
        assert logits.grad is not None


def test_half_precision_and_autocast_compute_in_float32() -> None:
    logits, labels, _ = random_case(4)
    half = logits.detach().bfloat16().requires_grad_()
    loss, reference = focal_loss(half, labels), focal_loss(half.float(), labels)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, reference)
    assert gradient(loss, half).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        under = focal_loss(half, labels)
    assert under.dtype == torch.float32
    torch.testing.assert_close(under, reference)


@pytest.mark.parametrize(
    ("target", "kwargs", "message"),
    [
        (torch.zeros(2), {}, "int64 labels"),
        (torch.zeros(3).long(), {}, "int64 labels"),
        (torch.zeros(2).long(), {"gamma": -1.0}, "gamma must be >= 0"),
        (torch.zeros(2).long(), {"alpha": 1.5}, "alpha must lie in"),
        (torch.zeros(2).long(), {"reduction": "batchmean"}, "none, sum, mean"),
    ],
)
def test_wrong_use_is_refused(target: Tensor, kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        focal_loss(torch.zeros(2, 3), target, **kwargs)

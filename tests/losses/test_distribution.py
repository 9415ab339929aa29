"""Distribution Focal Loss: hand-worked values, limits, oracle, gradients, extremes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gfocal.losses import distribution_focal_loss, outside_bins
from oracles import losses as oracle


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)
    return found


@pytest.mark.parametrize(
    ("probs", "y", "spacing", "expected"),
    [
        # y = 1.25 between bins 1 and 2: -(0.75 ln 0.5 + 0.25 ln 0.3) = 0.5198604 + 0.3009932
        ([0.1, 0.5, 0.3, 0.1], 1.25, 1.0, 0.8208536),
        # y = 2, on bin 2: -ln 0.3
        ([0.1, 0.5, 0.3, 0.1], 2.0, 1.0, 1.2039728),
        # spacing 1/2: bins 0 .5 1 1.5; y = 0.6 lies 1/5 of the way from bin 1 to bin 2: -(0.8 ln 0.5 + 0.2 ln 0.3)
        ([0.1, 0.5, 0.3, 0.1], 0.6, 0.5, 0.7953123),
        # spacing 4: bins 0 4 8 12; y = 3 lies 3/4 of the way from bin 0 to bin 1: -(0.25 ln 0.1 + 0.75 ln 0.5)
        ([0.1, 0.5, 0.3, 0.1], 3.0, 4.0, 1.0955066),
        # the ends: -ln 0.1 and -ln 0.2, also for targets beyond them
        ([0.1, 0.7, 0.2], 0.0, 1.0, 2.3025851),
        ([0.1, 0.7, 0.2], 2.0, 1.0, 1.6094379),
        ([0.1, 0.7, 0.2], -5.0, 1.0, 2.3025851),
        ([0.1, 0.7, 0.2], 77.0, 1.0, 1.6094379),
    ],
)
def test_values_worked_by_hand(probs: list[float], y: float, spacing: float, expected: float) -> None:
    loss = distribution_focal_loss(torch.tensor(probs).log(), torch.tensor(y), spacing=spacing)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_slope_worked_by_hand() -> None:
    # Cross-entropy against weights (0, .75, .25, 0): slope is softmax minus weights, here 1/4 each minus them.
    logits = torch.zeros(1, 4, requires_grad=True)
    loss = distribution_focal_loss(logits, torch.tensor([1.25]))
    assert gradient(loss, logits)[0].tolist() == pytest.approx([0.25, -0.5, 0.0, 0.25], abs=1e-7)


def test_at_an_integer_it_is_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(40, 9, generator=generator) * 3).requires_grad_()
    bins = torch.randint(0, 9, (40,), generator=generator)
    expected = F.cross_entropy(logits, bins, reduction="none")
    for spacing in (0.25, 1.0, 2.0):
        loss = distribution_focal_loss(logits, bins * spacing, spacing=spacing)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(gradient(loss, logits), gradient(expected, logits))


def test_the_minimum_is_the_paper_s_optimum() -> None:
    # Section 3.2: S_i = (y_{i+1} - y) / delta, S_{i+1} = (y - y_i) / delta. Its expectation is y, its slope zero.
    y, spacing = 1.3, 0.5  # bins 0 .5 1 1.5 2; 1.3 = 0.4 * 1.0 + 0.6 * 1.5
    probs = torch.tensor([1e-9, 1e-9, 0.4, 0.6, 1e-9]).double()
    logits = probs.log().requires_grad_()
    loss = distribution_focal_loss(logits, torch.tensor(y).double(), spacing=spacing)
    # entropy of (.4, .6): -(0.4 ln 0.4 + 0.6 ln 0.6)
    assert loss.item() == pytest.approx(0.6730117, abs=1e-6)
    assert gradient(loss, logits).abs().max() < 1e-6
    assert oracle.expectation(logits.detach(), spacing) == pytest.approx(y, abs=1e-6)


@pytest.mark.parametrize("spacing", [0.3, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("bins", [2, 8, 17])
def test_agrees_with_the_oracle(spacing: float, bins: int) -> None:
    generator = torch.Generator().manual_seed(bins)
    logits = torch.randn(20, 4, bins, generator=generator) * 3
    # A tenth of the targets lies beyond either end.
    y = (torch.rand(20, 4, generator=generator) * 1.2 - 0.1) * (bins - 1) * spacing
    expected = [
        [oracle.distribution_focal(edge, t, spacing) for edge, t in zip(edges, targets, strict=True)]
        for edges, targets in zip(logits.tolist(), y.tolist(), strict=True)
    ]
    loss = distribution_focal_loss(logits, y, spacing=spacing)
    torch.testing.assert_close(loss, torch.tensor(expected), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("spacing", [0.5, 1.0])
def test_gradcheck_in_float64(spacing: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 4, 6, generator=generator).double().requires_grad_()
    y = torch.rand(3, 4, generator=generator).double() * 5 * spacing
    weight = torch.rand(3, 1, generator=generator).double()
    for extra in ({}, {"reduction": "mean"}, {"weight": weight, "reduction": "sum", "norm": 2.0}):
        assert torch.autograd.gradcheck(
            lambda x, extra=extra: distribution_focal_loss(x, y, spacing=spacing, **extra), (logits,)
        )


def test_only_the_ratio_to_the_spacing_counts() -> None:
    generator = torch.Generator().manual_seed(2)
    logits, y = torch.randn(10, 8, generator=generator), torch.rand(10, generator=generator) * 7
    one = distribution_focal_loss(logits, y)
    torch.testing.assert_close(distribution_focal_loss(logits, y * 0.5, spacing=0.5), one)
    torch.testing.assert_close(distribution_focal_loss(logits, y * 3, spacing=3.0), one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_are_finite_and_right(dtype: torch.dtype) -> None:
    # Softmax is (1, 0, 0). Target on bin 0: 0. On bin 2: 400. Half way from 0 to 1: 200, slope (.5, -.5, 0).
    logits = torch.tensor([[200.0, -200.0, -200.0]] * 3, dtype=dtype, requires_grad=True)
    loss = distribution_focal_loss(logits, torch.tensor([0.0, 2.0, 0.5]))
    assert loss.tolist() == pytest.approx([0.0, 400.0, 200.0])
    expected = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, -1.0], [0.5, -0.5, 0.0]], dtype=dtype)
    torch.testing.assert_close(gradient(loss, logits), expected, rtol=0, atol=1e-30)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_empty_inputs_stay_in_the_graph(reduction: str) -> None:
    logits = torch.zeros(0, 4, 17, requires_grad=True)
    loss = distribution_focal_loss(logits, torch.zeros(0, 4), reduction=reduction)
    loss.sum().backward()
    assert loss.sum().item() == 0
    assert logits.grad is not None


def test_no_gradient_flows_to_the_target() -> None:
    logits = torch.zeros(2, 5, requires_grad=True)
    y = torch.tensor([1.5, 2.5], requires_grad=True)
    distribution_focal_loss(logits, y, reduction="sum").backward()
    assert y.grad is None


def test_half_precision_and_autocast_compute_in_float32() -> None:
    generator = torch.Generator().manual_seed(3)
    half = (torch.randn(6, 4, 17, generator=generator) * 3).bfloat16().requires_grad_()
    y = torch.rand(6, 4, generator=generator) * 16
    loss, reference = distribution_focal_loss(half, y), distribution_focal_loss(half.float(), y)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, reference)
    assert gradient(loss, half).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        under = distribution_focal_loss(half, y)
    assert under.dtype == torch.float32
    torch.testing.assert_close(under, reference)


def test_weight_and_norm() -> None:
    # Uniform over 4 bins: ln 4 whatever the target; (1 + 3) ln 4 / 8 = ln 2.
    loss = distribution_focal_loss(
        torch.zeros(2, 4), torch.tensor([0.2, 2.9]), weight=torch.tensor([1.0, 3.0]), reduction="sum", norm=8.0
    )
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "target", "kwargs", "message"),
    [
        ((2, 4, 5), (2, 5), {}, r"target must have shape \(2, 4\)"),
        ((2, 1), (2,), {}, "at least two bins"),
        ((2, 5), (2,), {"spacing": 0.0}, "spacing must be > 0"),
        ((2, 5), (2,), {"spacing": math.nan}, "spacing must be > 0"),
        ((2, 5), (2,), {"reduction": "avg"}, "none, sum, mean"),
        ((2, 5), (2,), {"weight": torch.ones(2, 1)}, "weight of shape"),
    ],
)
def test_wrong_use_is_refused(shape: tuple[int, ...], target: tuple[int, ...], kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distribution_focal_loss(torch.zeros(shape), torch.zeros(target), **kwargs)


@pytest.mark.parametrize(
    ("bins", "spacing", "expected"),
    [
        (4, 1.0, [True, False, False, True, True, True]),  # up to 3
        (7, 0.5, [True, False, False, True, True, True]),  # the same, by halves
        (2, 8.0, [True, False, False, False, True, True]),  # up to 8
    ],
)
def test_targets_outside_the_bins_can_be_counted(bins: int, spacing: float, expected: list[bool]) -> None:
    target = torch.tensor([-1e-6, 0.0, 3.0, 3.0001, 8.1, math.nan])
    found = outside_bins(target, bins, spacing=spacing)
    assert found.tolist() == expected
    # They are those that the loss takes as the nearest end.
    ends = target[:-1].clamp(0, (bins - 1) * spacing)
    assert found[:-1].tolist() == (ends != target[:-1]).tolist()
    assert outside_bins(torch.zeros(0, 4), bins, spacing=spacing).sum() == 0


@pytest.mark.parametrize(
    ("bins", "spacing", "message"), [(1, 1.0, "bins must be >= 2"), (4, 0.0, "spacing must be > 0")]
)
def test_no_bins_are_refused(bins: int, spacing: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        outside_bins(torch.zeros(3), bins, spacing=spacing)

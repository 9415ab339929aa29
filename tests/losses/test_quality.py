"""Quality Focal Loss: hand-worked values, limits, oracle, gradients, extremes; the formula and its fused form alike."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gfocal.losses import focal_loss, quality, quality_focal_loss
from helpers.loss_cases import gradient, random_case
from oracles import losses as oracle

BETAS = [0.0, 0.5, 1.0, 1.5, 2.0, 4.0]


@pytest.fixture(autouse=True, params=[1 << 40, 1], ids=["formula", "fused"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is run with either form, however few its logits."""
    monkeypatch.setattr(quality, "_MANY", request.param)


def formula(logits: Tensor, y: Tensor, beta: float) -> Tensor:
    """The paper's eq. 2 in plain float64 operations, for autograd to differentiate."""
    x = logits.double()
    y = y.double()
    cross_entropy = -y * F.logsigmoid(x) - (1 - y) * F.logsigmoid(-x)
    return (y - x.sigmoid()).abs().pow(beta) * cross_entropy


@pytest.mark.parametrize(
    ("x", "y", "beta", "expected"),
    [
        # sigma = 1/2, cross-entropy ln 2 whatever y is: |0.8 - 0.5|^2 ln 2 = 0.09 * 0.693147
        (0.0, 0.8, 2.0, 0.0623832),
        # y = 0: 0.5^2 ln 2
        (0.0, 0.0, 2.0, 0.1732868),
        # sigma = 3/4, y = 1: (1/4)^2 ln(4/3) = 0.0625 * 0.2876821
        (math.log(3), 1.0, 2.0, 0.0179801),
        # sigma = 3/4, y = 1/4: 1/2 (1/4 ln(4/3) + 3/4 ln 4) = 0.5 (0.0719205 + 1.0397208)
        (math.log(3), 0.25, 1.0, 0.5558206),
        # sigma = 1/4, y = 3/4: by symmetry the same cross-entropy 1.1116413, times sqrt(1/2)
        (-math.log(3), 0.75, 0.5, 0.7860491),
        # sigma = 1/2, y = 0, beta = 4: ln 2 / 16
        (0.0, 0.0, 4.0, 0.0433217),
    ],
)
def test_values_worked_by_hand(x: float, y: float, beta: float, expected: float) -> None:
    dense = quality_focal_loss(torch.tensor([[x]]), torch.tensor([[y]]), beta=beta)
    sparse = quality_focal_loss(torch.tensor([[x]]), (torch.tensor([0]), torch.tensor([y])), beta=beta)
    assert dense.item() == pytest.approx(expected, abs=1e-6)
    assert sparse.item() == pytest.approx(expected, abs=1e-6)


def test_slopes_worked_by_hand() -> None:
    # y = 1, sigma = 1/2, beta = 2: L = (1 - s)^2 (-ln s), ds/dx = s (1 - s) = 1/4;
    # dL/ds = -2 (1 - s)(-ln s) - (1 - s)^2 / s = -ln 2 - 1/2; times 1/4: -0.1732868 - 0.125 = -0.2982868.
    # y = 0, sigma = 1/2: L = s^2 (-ln(1 - s)); by symmetry +0.2982868.
    # y = 0.8, sigma = 1/2: 2 (s - y) s (1 - s) ln 2 + (s - y)^2 (s - y)
    #     = 2 (-0.3) 0.25 0.6931472 + 0.09 (-0.3) = -0.1309721
    logits = torch.zeros(1, 3, requires_grad=True)
    loss = quality_focal_loss(logits, torch.tensor([[1.0, 0.0, 0.8]]))
    assert gradient(loss, logits)[0].tolist() == pytest.approx([-0.2982868, 0.2982868, -0.1309721], abs=1e-6)


@pytest.mark.parametrize("beta", BETAS)
def test_hard_targets_give_focal_loss_without_alpha(beta: float) -> None:
    logits, labels, _, _ = random_case(1)
    logits.requires_grad_()
    ours = quality_focal_loss(logits, (labels, torch.ones(len(labels))), beta=beta)
    focal = focal_loss(logits, labels, alpha=None, gamma=beta)
    torch.testing.assert_close(ours, focal, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient(ours, logits), gradient(focal, logits), rtol=1e-4, atol=1e-6)
    for row, label in enumerate(labels.tolist()):
        for c, x in enumerate(logits[row].tolist()):
            assert ours[row, c].item() == pytest.approx(
                oracle.focal(x, int(c == label), None, beta), abs=2e-6, rel=1e-5
            )


def test_beta_zero_is_soft_binary_cross_entropy() -> None:
    logits, labels, score, dense = random_case(2)
    logits.requires_grad_()
    expected = F.binary_cross_entropy_with_logits(logits, dense, reduction="none")
    for target in (dense, (labels, score)):
        ours = quality_focal_loss(logits, target, beta=0.0)
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradient(ours, logits), gradient(expected, logits), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("beta", BETAS)
def test_no_loss_and_no_gradient_where_sigma_is_y(beta: float) -> None:
    # The target is the sigmoid of the logit, bit for bit; at 0 it is exactly 1/2, at +-200 exactly 1 and 0.
    logits = torch.tensor([[0.0, 1.5, -3.0, 200.0, -200.0]], requires_grad=True)
    y = logits.detach().sigmoid()
    loss = quality_focal_loss(logits, y, beta=beta)
    assert gradient(loss, logits).tolist() == [[0.0] * 5]
    if beta > 0:
        assert loss.tolist() == [[0.0] * 5]
    for c in range(5):
        sparse = quality_focal_loss(logits[:, c : c + 1], (torch.tensor([0]), y[:, c]), beta=beta, reduction="sum")
        assert gradient(sparse, logits).tolist() == [[0.0] * 5]


def test_sigma_equal_to_y_is_the_minimum_for_a_quality() -> None:
    # A grid of 201 logits in [-5, 5], step 0.05: the smallest loss lies where sigmoid(x) is nearest to 0.8, at
    # x = ln 4 = 1.386; the nearest grid point is 1.40.
    logits = torch.linspace(-5, 5, 201)
    loss = quality_focal_loss(logits, torch.full((201,), 0.8))
    assert logits[loss.argmin()].item() == pytest.approx(1.40, abs=1e-5)


@pytest.mark.parametrize("beta", BETAS)
def test_float32_agrees_with_the_oracle(beta: float) -> None:
    logits, labels, score, dense = random_case(3)
    logits.requires_grad_()
    value = [[oracle.quality_focal(x, y, beta) for x, y in zip(*r, strict=True)] for r in rows(logits, dense)]
    slope = [[oracle.quality_focal_slope(x, y, beta) for x, y in zip(*r, strict=True)] for r in rows(logits, dense)]
    for target in (dense, (labels, score)):
        loss = quality_focal_loss(logits, target, beta=beta)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss.double(), torch.tensor(value).double(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradient(loss, logits), torch.tensor(slope), rtol=1e-4, atol=1e-6)
        total = quality_focal_loss(logits, target, beta=beta, reduction="sum")
        assert total.item() == pytest.approx(sum(map(sum, value)), rel=1e-5)
        torch.testing.assert_close(gradient(total, logits), torch.tensor(slope), rtol=1e-4, atol=1e-6)


def rows(logits: Tensor, dense: Tensor) -> list[tuple[list[float], list[float]]]:
    return list(zip(logits.tolist(), dense.tolist(), strict=True))


@pytest.mark.parametrize("beta", BETAS)
def test_float32_gradient_is_autograd_of_the_float64_formula(beta: float) -> None:
    generator = torch.Generator().manual_seed(4)
    logits = (torch.randn(3000, generator=generator) * 3).requires_grad_()
    y = torch.rand(3000, generator=generator)
    away = (y - logits.detach().sigmoid()).abs() > 1e-2  # at beta < 1 the slope has a pole at sigma = y
    ours = gradient(quality_focal_loss(logits, y, beta=beta), logits)
    reference = gradient(formula(logits, y, beta), logits)
    torch.testing.assert_close(ours[away], reference[away], rtol=2e-4, atol=1e-6)
    if beta >= 1.5:
        torch.testing.assert_close(ours, reference, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("beta", BETAS)
def test_gradcheck_in_float64(beta: float) -> None:
    generator = torch.Generator().manual_seed(5)
    logits = (torch.randn(6, 4, generator=generator).double() * 2).requires_grad_()
    labels = torch.tensor([0, 3, -1, 2, 4, 1])
    score = torch.tensor([0.05, 0.95, 0.5, 1.0, 0.3, 0.0]).double()
    dense = torch.rand(6, 4, generator=generator).double()
    weight = torch.rand(6, 1, generator=generator).double()
    for target in (dense, (labels, score)):
        for extra in ({}, {"reduction": "sum"}, {"reduction": "mean", "weight": weight, "norm": 3.0}):
            assert torch.autograd.gradcheck(
                lambda x, target=target, extra=extra: quality_focal_loss(x, target, beta=beta, **extra), (logits,)
            )


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_sparse_form_is_the_dense_form(beta: float, reduction: str) -> None:
    logits, labels, score, dense = random_case(6)
    logits.requires_grad_()
    weight = torch.rand(len(logits), 1, generator=torch.Generator().manual_seed(0))
    for extra in ({}, {"weight": weight}, {"norm": 7.0}):
        one = quality_focal_loss(logits, dense, beta=beta, reduction=reduction, **extra)
        two = quality_focal_loss(logits, (labels, score), beta=beta, reduction=reduction, **extra)
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradient(one, logits), gradient(two, logits), rtol=1e-5, atol=1e-6)


def test_labels_outside_the_classes_mean_nothing_there() -> None:
    # sigma = 1/2 on 3 classes, y = 0: 3 * ln 2 / 4 for each row, whatever the quality says.
    logits = torch.zeros(4, 3)
    loss = quality_focal_loss(logits, (torch.tensor([-1, -2, 3, 99]), torch.full((4,), 0.7)))
    assert loss.sum(1).tolist() == pytest.approx([0.5198604] * 4, abs=1e-6)


def test_a_list_is_a_pair_too() -> None:
    logits, labels, score, _ = random_case(5)
    assert torch.equal(quality_focal_loss(logits, [labels, score]), quality_focal_loss(logits, (labels, score)))


def test_quality_of_what_is_not_there_may_be_anything_and_nan_is_seen_in_the_loss() -> None:
    logits = torch.zeros(3, 2)
    labels = torch.tensor([-1, 2, 1])
    loss = quality_focal_loss(logits, (labels, torch.tensor([7.0, -7.0, 1 + 1e-6])))
    assert loss.isfinite().all()
    assert quality_focal_loss(logits, (labels, torch.tensor([0.0, 0.0, math.nan])), reduction="sum").isnan()


def test_weight_and_norm() -> None:
    logits, labels, score, dense = random_case(7)
    plain = quality_focal_loss(logits, dense)
    weight = torch.rand(logits.shape, generator=torch.Generator().manual_seed(1))
    weighted = quality_focal_loss(logits, (labels, score), weight=weight, reduction="sum", norm=torch.tensor(5.0))
    torch.testing.assert_close(weighted, (plain * weight).sum() / 5)
    mean = quality_focal_loss(logits, dense, reduction="mean")
    torch.testing.assert_close(mean, plain.sum() / plain.numel())


def test_logits_of_any_memory_order() -> None:
    logits, labels, score, dense = random_case(9, rows=24, classes=6)
    base = logits.clone().requires_grad_()
    expected = quality_focal_loss(base, dense)
    expected_slope = gradient(expected, base)
    transposed = logits.t().contiguous().requires_grad_()
    for target in (dense, dense.t().contiguous().t(), (labels, score)):
        for reduction in ("none", "sum"):
            loss = quality_focal_loss(transposed.t(), target, reduction=reduction)
            torch.testing.assert_close(loss.sum(), expected.sum())
            torch.testing.assert_close(gradient(loss, transposed).t(), expected_slope)
    # A head's channels-last map (B, C, H, W) of 2 x 6 x 3 x 4, seen as (B, H, W, C) without a copy.
    image = logits.view(2, 3, 4, 6).permute(0, 3, 1, 2).contiguous().requires_grad_()
    loss = quality_focal_loss(image.permute(0, 2, 3, 1), dense.view(2, 3, 4, 6))
    torch.testing.assert_close(loss.reshape(24, 6), expected)
    torch.testing.assert_close(gradient(loss, image).permute(0, 2, 3, 1).reshape(24, 6), expected_slope)
    # One row for all: gradients of the copies add up.
    row = logits[:1].clone().requires_grad_()
    loss = quality_focal_loss(row.expand(24, 6), dense)
    torch.testing.assert_close(
        gradient(loss, row), gradient(formula(row.expand(24, 6), dense, 2.0), row), rtol=1e-4, atol=1e-5
    )


def test_uneven_gradients_from_above() -> None:
    logits, _, _, dense = random_case(10)
    logits.requires_grad_()
    above = torch.rand(logits.shape, generator=torch.Generator().manual_seed(2)).t().contiguous().t()
    (ours,) = torch.autograd.grad(quality_focal_loss(logits, dense), logits, above)
    (reference,) = torch.autograd.grad(formula(logits, dense, 2.0), logits, above.double())
    torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-6)


def test_without_gradients() -> None:
    logits, labels, score, dense = random_case(11)
    expected = quality_focal_loss(logits, dense)
    assert not expected.requires_grad
    with torch.no_grad():
        leaf = logits.clone().requires_grad_()
        for target in (dense, (labels, score)):
            loss = quality_focal_loss(leaf, target)
            assert not loss.requires_grad
            torch.testing.assert_close(loss, expected)
            torch.testing.assert_close(quality_focal_loss(leaf, target, reduction="sum"), expected.sum())
    with torch.inference_mode():
        torch.testing.assert_close(quality_focal_loss(logits, (labels, score)), expected)


@pytest.mark.parametrize("beta", BETAS)
def test_second_derivatives_in_float64(beta: float) -> None:
    generator = torch.Generator().manual_seed(19)
    logits = (torch.randn(4, 3, generator=generator).double() * 2).requires_grad_()
    pair = torch.tensor([0, 2, -1, 3]), torch.tensor([0.9, 0.1, 0.5, 0.5]).double()
    dense = torch.rand(4, 3, generator=generator).double()
    for target in (dense, pair):
        for extra in ({}, {"reduction": "sum", "norm": 3.0}, {"reduction": "mean", "weight": dense}):
            assert torch.autograd.gradgradcheck(
                lambda x, target=target, extra=extra: quality_focal_loss(x, target, beta=beta, **extra), (logits,)
            )


def test_a_second_derivative_worked_by_hand() -> None:
    # y = 0, beta = 2: L = s^2 c with c = -ln(1 - s), ds = s (1 - s), dc = s; so L' = 2 s^2 (1 - s) c + s^3 and
    # L'' = s (1 - s) ((4 s - 6 s^2) c + 3 s^2) + 2 s^3 (1 - s). At s = 1/2, c = ln 2:
    # 1/4 ((2 - 3/2) ln 2 + 3/4) + 1/8 = ln 2 / 8 + 5/16 = 0.3991434.
    logits = torch.zeros(2, 3, requires_grad=True)
    loss = quality_focal_loss(logits, (torch.tensor([-1, -1]), torch.zeros(2)), reduction="sum")
    (slope,) = torch.autograd.grad(loss, logits, create_graph=True)
    assert gradient(slope, logits).flatten().tolist() == pytest.approx([0.3991434] * 6, abs=1e-6)


def test_torch_func() -> None:
    generator = torch.Generator().manual_seed(20)
    images, points, classes = 3, 5, 4
    logits = torch.randn(images, points, classes, generator=generator).double()
    labels = torch.randint(-1, classes + 1, (images, points), generator=generator)
    score = torch.rand(images, points, generator=generator).double()

    def total(x: Tensor, labels: Tensor, score: Tensor) -> Tensor:
        return quality_focal_loss(x, (labels, score), reduction="sum")

    leaf = logits.clone().requires_grad_()
    losses = [total(*of_one) for of_one in zip(leaf, labels, score, strict=True)]
    slopes = gradient(torch.stack(losses), leaf)
    torch.testing.assert_close(torch.func.vmap(total)(logits, labels, score), torch.stack(losses))
    torch.testing.assert_close(torch.func.grad(total)(logits[0], labels[0], score[0]), slopes[0])
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(total))(logits, labels, score), slopes)
    # One image's logits with the labels of all: each output has its own.
    of_labels = torch.func.vmap(total, in_dims=(None, 0, None))(logits[0], labels, score[0])
    torch.testing.assert_close(of_labels, torch.stack([total(logits[0], own, score[0]) for own in labels]))
    # Element by element the Jacobian is a diagonal of slopes.
    jacobian = torch.func.jacrev(lambda x: quality_focal_loss(x, (labels[0], score[0])).flatten())(logits[0])
    torch.testing.assert_close(jacobian.flatten(1), torch.diag(slopes[0].flatten()))


def test_no_gradient_flows_to_the_target() -> None:
    logits, labels, score, dense = random_case(13)
    logits.requires_grad_()
    score.requires_grad_()
    dense.requires_grad_()
    quality_focal_loss(logits, (labels, score), reduction="sum").backward()
    quality_focal_loss(logits, dense, reduction="sum").backward()
    assert score.grad is None
    assert dense.grad is None


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_empty_inputs_stay_in_the_graph(reduction: str) -> None:
    empty = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    for target in (torch.zeros(0, 5), empty):
        logits = torch.zeros(0, 5, requires_grad=True)
        loss = quality_focal_loss(logits, target, reduction=reduction)
        loss.sum().backward()
        assert loss.sum().item() == 0
        assert logits.grad is not None
        assert logits.grad.shape == (0, 5)


@pytest.mark.parametrize("beta", BETAS)
def test_without_positives_the_negatives_still_learn(beta: float) -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    loss = quality_focal_loss(logits, (torch.tensor([-1, -1]), torch.zeros(2)), beta=beta, reduction="sum")
    # y = 0, sigma = 1/2: loss 2^-beta ln 2; slope s^beta (s + beta (1 - s) ln 2) = 2^-beta (1 + beta ln 2) / 2
    assert loss.item() == pytest.approx(6 * 2**-beta * math.log(2), rel=1e-6)
    slope = 2**-beta * (1 + beta * math.log(2)) / 2
    assert gradient(loss, logits).flatten().tolist() == pytest.approx([slope] * 6, rel=1e-6)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_are_finite_and_right(beta: float, dtype: torch.dtype) -> None:
    # sigma is 1 or 0: the loss is |y - sigma|^beta times |x| |y - sigma|, so 0.7 -> .7 * 200 * .7^beta at -200
    # and .3 * 200 * .3^beta at +200; the slope is sign * |y - sigma|^(1 + beta).
    y = torch.tensor([[0.0, 1.0, 0.7]] * 2)
    logits = torch.tensor([[200.0] * 3, [-200.0] * 3], dtype=dtype, requires_grad=True)
    expected = [[200.0, 0.0, 60 * 0.3**beta], [0.0, 200.0, 140 * 0.7**beta]]
    expected_slope = [[1.0, 0.0, 0.3 ** (1 + beta)], [0.0, -1.0, -(0.7 ** (1 + beta))]]
    sparse = [quality_focal_loss(logits[:, c : c + 1], (torch.zeros(2).long(), y[:, c]), beta=beta) for c in range(3)]
    for loss in (quality_focal_loss(logits, y, beta=beta), torch.cat(sparse, 1)):
        torch.testing.assert_close(loss, torch.tensor(expected), rtol=1e-5, atol=1e-5, check_dtype=False)
        found = gradient(loss, logits)
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), torch.tensor(expected_slope), rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("beta", BETAS)
def test_every_logit_from_minus_to_plus_200_has_a_finite_gradient(beta: float) -> None:
    logits = torch.linspace(-200, 200, 4001).repeat(3, 1).requires_grad_()
    y = torch.tensor([[0.0], [1.0], [0.37]]).expand(3, 4001)
    loss = quality_focal_loss(logits, y, beta=beta)
    assert loss.isfinite().all()
    assert (loss >= 0).all()
    assert gradient(loss, logits).isfinite().all()
    negatives = quality_focal_loss(logits, (torch.full((3,), -1), torch.zeros(3)), beta=beta)
    torch.testing.assert_close(negatives, formula(logits, torch.zeros(()), beta).float(), rtol=1e-5, atol=1e-6)
    assert gradient(negatives, logits).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    logits, labels, score, dense = random_case(14)
    half = logits.to(dtype).requires_grad_()
    exact = half.detach().float().requires_grad_()
    for target in (dense, (labels, score)):
        loss, reference = quality_focal_loss(half, target), quality_focal_loss(exact, target)
        assert loss.dtype == torch.float32
        assert torch.equal(loss, reference)
        assert torch.equal(gradient(loss, half), gradient(reference, exact).to(dtype))
    assert quality_focal_loss(logits, (labels, score.to(dtype))).dtype == torch.float32


def test_under_autocast() -> None:
    features = torch.randn(8, 16, generator=torch.Generator().manual_seed(15))
    weight = torch.randn(7, 16, generator=torch.Generator().manual_seed(16), requires_grad=True)
    labels, score = torch.tensor([0, 1, 2, 3, 4, 5, 6, -1]), torch.linspace(0.1, 0.9, 8)
    with torch.autocast("cpu", torch.bfloat16):
        logits = F.linear(features, weight)
        loss = quality_focal_loss(logits, (labels, score), reduction="sum")
        assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert torch.equal(loss, quality_focal_loss(logits.float(), (labels, score), reduction="sum"))
    slope = gradient(loss, weight)
    assert slope.isfinite().all()
    assert slope.abs().sum() > 1


@pytest.mark.parametrize(
    ("logits", "target", "kwargs", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2), {}, r"shape of the logits \(2, 3\)"),
        (torch.zeros(2, 3), (torch.zeros(3).long(), torch.zeros(3)), {}, r"logits must be \(N, C\)"),
        (torch.zeros(2, 3), (torch.zeros(2).long(), torch.zeros(2, 3)), {}, r"logits must be \(N, C\)"),
        (torch.zeros(2, 3, 1), (torch.zeros(2).long(), torch.zeros(2)), {}, r"logits must be \(N, C\)"),
        (torch.zeros(2, 3), (torch.zeros(2), torch.zeros(2).long()), {}, "labels must be integers"),
        (torch.zeros(2, 3), (torch.zeros(2).long(),), {}, "pair"),
        (torch.zeros(2, 3), (torch.tensor([-1, 2]), torch.tensor([0.0, 1.5])), {}, r"in \[0, 1\], got .* to 1\.5"),
        (torch.zeros(2, 3), (torch.tensor([0, 2]), torch.tensor([-0.1, 0.5])), {}, r"in \[0, 1\], got .* from -0\.1"),
        (torch.zeros(2, 3), torch.zeros(2, 3), {"beta": -0.5}, "beta must be >= 0"),
        (torch.zeros(2, 3), torch.zeros(2, 3), {"beta": math.nan}, "beta must be >= 0"),
        (torch.zeros(2, 3), torch.zeros(2, 3), {"reduction": "max"}, "none, sum, mean"),
        (torch.zeros(2, 3), torch.zeros(2, 3), {"weight": torch.ones(2)}, "weight of shape"),
    ],
)
def test_wrong_use_is_refused(logits: Tensor, target: Tensor, kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quality_focal_loss(logits, target, **kwargs)


def test_integer_logits_are_refused() -> None:
    with pytest.raises(TypeError, match="floating point"):
        quality_focal_loss(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3))

"""The one reduction helper."""

from __future__ import annotations

import pytest
import torch

from gfocal import losses
from gfocal.losses import reduce_loss
from gfocal.losses.reduction import at_least_float32

LOSS = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
        ({"reduction": "sum"}, 21.0),
        ({"reduction": "mean"}, 3.5),
        ({"norm": 2.0}, [[0.5, 1.0, 1.5], [2.0, 2.5, 3.0]]),
        ({"reduction": "sum", "norm": 7}, 3.0),
        ({"reduction": "sum", "norm": torch.tensor(7.0)}, 3.0),
        # rows weighted 1 and 0.2: 6 + 0.2 * 15 = 9
        ({"reduction": "sum", "weight": torch.tensor([[1.0], [0.2]])}, 9.0),
        # the mean divides by the 6 elements, not by the weights
        ({"reduction": "mean", "weight": torch.tensor([[1.0], [0.2]])}, 1.5),
        ({"reduction": "mean", "weight": torch.tensor([[1.0], [0.2]]), "norm": 3.0}, 0.5),
        # columns weighted 0, 1, 10: 2 + 30 + 5 + 60 = 97
        ({"reduction": "sum", "weight": torch.tensor([[0.0, 1.0, 10.0]])}, 97.0),
        ({"reduction": "sum", "weight": torch.tensor(2.0)}, 42.0),
        # a mask: 1 + 5
        ({"reduction": "sum", "weight": torch.tensor([[True, False, False], [False, True, False]])}, 6.0),
    ],
)
def test_values_worked_by_hand(kwargs: dict, expected: float | list) -> None:
    torch.testing.assert_close(reduce_loss(LOSS, **kwargs), torch.tensor(expected))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_no_elements_give_zero_in_the_graph(reduction: str) -> None:
    loss = torch.zeros(0, 3, requires_grad=True)
    reduced = reduce_loss(loss, weight=torch.ones(0, 1), reduction=reduction, norm=1.0)
    reduced.sum().backward()
    assert reduced.sum().item() == 0
    assert loss.grad is not None


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_gradcheck(reduction: str) -> None:
    loss = LOSS.double().requires_grad_()
    weight = torch.tensor([[1.0], [0.2]]).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, w: reduce_loss(x, weight=w, reduction=reduction, norm=3.0), (loss, weight)
    )


@pytest.mark.parametrize("shape", [(2,), (3,), (1,), (3, 1), (2, 2), (2, 3, 1), (1, 2, 3), (4,)])
def test_a_weight_that_does_not_fit_or_would_enlarge_the_loss_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="weight of shape"):
        reduce_loss(LOSS, weight=torch.ones(shape), reduction="sum")


# Each element-wise loss with arguments of N rows and C columns.
EACH = {
    "centerness_loss": lambda n, c: (torch.zeros(n, c), torch.ones(n, c)),
    "distribution_focal_loss": lambda n, c: (torch.zeros(n, c, 5), torch.ones(n, c)),
    "focal_loss": lambda n, c: (torch.zeros(n, c), torch.zeros(n).long()),
    "gaussian_nll_loss": lambda n, c: (torch.zeros(n, c), torch.zeros(n, c), torch.ones(n, c)),
    "quality_focal_loss": lambda n, c: (torch.zeros(n, c), (torch.zeros(n).long(), torch.ones(n))),
    "smooth_l1_loss": lambda n, c: (torch.zeros(n, c), torch.ones(n, c)),
    "varifocal_loss": lambda n, c: (torch.zeros(n, c), (torch.zeros(n).long(), torch.ones(n))),
}


def test_each_elementwise_loss_is_here() -> None:
    others = {"generalized_focal_loss", "reduce_loss"}
    assert EACH.keys() == {name for name in losses.__all__ if name.endswith("_loss")} - others


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("columns", [3, 4])  # N = C, and N != C
def test_a_weight_for_each_row_says_so_or_is_refused(name: str, columns: int) -> None:
    loss, arguments = getattr(losses, name), EACH[name](3, columns)
    weight = torch.tensor([1.0, 10.0, 100.0])
    message = rf"weight of shape \(3,\) .* \(3, {columns}\).* row .* \(N, 1\), .* \(1, C\)"
    with pytest.raises(ValueError, match=message):
        loss(*arguments, weight=weight, reduction="sum")
    each = loss(*arguments)
    rows = loss(*arguments, weight=weight[:, None])
    torch.testing.assert_close(rows, torch.stack([each[0], 10 * each[1], 100 * each[2]]))
    assert each[0].sum() > 0.3  # no loss of zeros


def test_unknown_reductions_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="one of none, sum, mean, got 'average'"):
        reduce_loss(LOSS, reduction="average")


def test_precision_rises_to_float32_and_never_falls() -> None:
    for dtype, expected in (
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        assert at_least_float32(torch.zeros(2, dtype=dtype)).dtype == expected
    with pytest.raises(TypeError, match="floating point"):
        at_least_float32(torch.zeros(2, dtype=torch.int64))

"""The paper's total loss: hand-worked total, oracle, gradients, normalisers, empties."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gfocal.losses import distribution_focal_loss, generalized_focal_loss, quality_focal_loss
from oracles import losses as oracle


def random_case(seed: int, points: int = 12, classes: int = 3, bins: int = 6) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-2, classes, (points,), generator=generator)
    positives = int((labels >= 0).sum())
    corner = torch.rand(positives, 2, generator=generator) * 40
    boxes = torch.cat((corner, corner + 5 + torch.rand(positives, 2, generator=generator) * 20), 1)
    return {
        "logits": torch.randn(points, classes, generator=generator) * 2,
        "labels": labels,
        "quality": torch.rand(points, generator=generator),
        "boxes": boxes,
        "target_boxes": boxes + torch.randn(positives, 4, generator=generator) * 2,
        "edge_logits": torch.randn(positives, 4, bins, generator=generator),
        "target_edges": torch.rand(positives, 4, generator=generator) * (bins - 1),
    }


def call(case: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
    rest = {k: v for k, v in case.items() if k not in ("labels", "quality")}
    return generalized_focal_loss(target=(case["labels"], case["quality"]), **rest, **kwargs)


def test_total_worked_by_hand() -> None:
    # Two positives of four points, one class, all logits 0, so sigma = 1/2 and N = 2.
    # QFL: y = 1, 1/2, 0, 0 -> |y - 1/2|^2 ln 2 = ln 2 (1/4 + 0 + 1/4 + 1/4) = 0.5198604, over 2: 0.2599302.
    # GIoU: box 0 is its target: loss 0. Box 1 is (0,0,2,2) against (2,0,4,2): IoU 0, enclosing 8, union 8: loss 1.
    #   2 * (0 + 1) / 2 = 1.
    # DFL: uniform over 5 bins: ln 5 on every edge; 1/4 * (ln 5 + ln 5) / 2 = 0.4023595.
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
    targets = torch.tensor([[0.0, 0.0, 2.0, 2.0], [2.0, 0.0, 4.0, 2.0]])
    found = generalized_focal_loss(
        torch.zeros(4, 1),
        (torch.tensor([0, 0, -1, -1]), torch.tensor([1.0, 0.5, 0.9, 0.0])),
        boxes,
        targets,
        torch.zeros(2, 4, 5),
        torch.tensor([[0.0, 1.5, 2.0, 4.0]] * 2),
    )
    expected = {"qfl": 0.2599302, "giou": 1.0, "dfl": 0.4023595, "total": 1.6622897}
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, abs=1e-6)


def test_box_weights_worked_by_hand() -> None:
    # As above with weights 1 and 3, over their sum 4: GIoU 2 * (0 + 3 * 1) / 4 = 1.5; DFL is the same everywhere.
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
    targets = torch.tensor([[0.0, 0.0, 2.0, 2.0], [2.0, 0.0, 4.0, 2.0]])
    arguments = (torch.zeros(2, 1), (torch.tensor([0, 0]), torch.ones(2)), boxes, targets)
    edges = (torch.zeros(2, 4, 5), torch.ones(2, 4))
    found = generalized_focal_loss(*arguments, *edges, box_weight=torch.tensor([1.0, 3.0]))
    assert found["giou"].item() == pytest.approx(1.5, abs=1e-6)
    assert found["dfl"].item() == pytest.approx(math.log(5) / 4, abs=1e-6)
    # A sum below 1 divides by 1: weights .1 and .3 give 2 * .3 = 0.6.
    found = generalized_focal_loss(*arguments, *edges, box_weight=torch.tensor([0.1, 0.3]))
    assert found["giou"].item() == pytest.approx(0.6, abs=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("beta", "spacing"), [(2.0, 1.0), (1.0, 0.5)])
def test_agrees_with_the_oracle(weighted: bool, beta: float, spacing: float) -> None:
    case = random_case(1)
    weight = torch.linspace(0.2, 0.9, len(case["boxes"])) if weighted else None
    found = call(case, beta=beta, spacing=spacing, box_weight=weight)
    expected = oracle.generalized_focal(**case, beta=beta, spacing=spacing, box_weight=weight)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


def test_lambdas_and_normalisers() -> None:
    case = random_case(2)
    one = call(case, cls_norm=1.0, box_norm=1.0, box_loss_weight=1.0, dfl_weight=1.0)
    other = call(case, cls_norm=torch.tensor(4.0), box_norm=torch.tensor(8.0), box_loss_weight=3.0, dfl_weight=0.5)
    torch.testing.assert_close(other["qfl"], one["qfl"] / 4)
    torch.testing.assert_close(other["giou"], one["giou"] * 3 / 8)
    torch.testing.assert_close(other["dfl"], one["dfl"] / 16)
    torch.testing.assert_close(other["total"], other["qfl"] + other["giou"] + other["dfl"])


def test_gradcheck_in_float64() -> None:
    case = {k: v.double() if v.is_floating_point() else v for k, v in random_case(3, points=6).items()}
    names = ("logits", "boxes", "edge_logits")
    weight = torch.linspace(0.5, 2.0, len(case["boxes"])).double()

    def total(*values: Tensor) -> Tensor:
        return call({**case, **dict(zip(names, values, strict=True))}, box_weight=weight)["total"]

    assert torch.autograd.gradcheck(total, tuple(case[name].requires_grad_() for name in names))


def test_gradients_reach_what_is_learnt_and_nothing_else() -> None:
    case = random_case(4)
    weight = torch.linspace(0.5, 2.0, len(case["boxes"])).requires_grad_()
    floats = {k: v.requires_grad_() for k, v in case.items() if v.is_floating_point()}
    call(case, box_weight=weight)["total"].backward()
    for name in ("logits", "boxes", "edge_logits"):
        assert (floats[name].grad != 0).any(-1).all(), name
    assert floats["quality"].grad is None
    assert floats["target_edges"].grad is None
    assert weight.grad is None


@pytest.mark.parametrize("points", [0, 5])
def test_without_positives_it_is_finite_and_in_the_graph(points: int) -> None:
    logits = torch.zeros(points, 2, requires_grad=True)
    boxes = torch.zeros(0, 4, requires_grad=True)
    edges = torch.zeros(0, 4, 9, requires_grad=True)
    found = generalized_focal_loss(
        logits, (torch.full((points,), -1), torch.zeros(points)), boxes, torch.zeros(0, 4), edges, torch.zeros(0, 4)
    )
    # 5 points of 2 classes, y = 0, sigma = 1/2: ln 2 / 4 each, divided by 1.
    expected = {"qfl": points * 2 * math.log(2) / 4, "giou": 0.0, "dfl": 0.0}
    expected["total"] = expected["qfl"]
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, abs=1e-6)
    found["total"].backward()
    assert logits.grad is not None
    assert boxes.grad is not None
    assert edges.grad is not None
    # The slope of a negative at sigma = 1/2: 0.2982868 (see test_quality).
    assert logits.grad.flatten().tolist() == pytest.approx([0.2982868] * points * 2, abs=1e-6)


def test_half_precision_and_extremes_are_finite() -> None:
    case = random_case(5)
    case["logits"] = (case["logits"].sign() * 200).bfloat16().requires_grad_()
    case["edge_logits"] = (case["edge_logits"].sign() * 200).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = call(case)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in found.values())
    found["total"].backward()
    assert case["logits"].grad.isfinite().all()
    assert case["edge_logits"].grad.isfinite().all()


def test_it_is_the_sum_of_the_public_parts() -> None:
    case = random_case(6)
    count = len(case["boxes"])
    found = call(case)
    qfl = quality_focal_loss(case["logits"], (case["labels"], case["quality"]), reduction="sum", norm=count)
    dfl = distribution_focal_loss(case["edge_logits"], case["target_edges"], reduction="mean")
    torch.testing.assert_close(found["qfl"], qfl)
    torch.testing.assert_close(found["dfl"], dfl / 4)


@pytest.mark.parametrize("name", ["boxes", "target_boxes", "edge_logits", "target_edges"])
def test_rows_that_are_not_the_positives_are_refused(name: str) -> None:
    case = random_case(7)
    case[name] = case[name][1:]
    with pytest.raises(ValueError, match="labels are positive"):
        call(case)


def test_box_weight_of_another_shape_is_refused() -> None:
    case = random_case(8)
    with pytest.raises(ValueError, match="weight of shape"):
        call(case, box_weight=torch.ones(len(case["boxes"]), 1))

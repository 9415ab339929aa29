"""Box geometry: hand-drawn configurations, oracle, gradients, round trips, degenerate boxes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gfocal.boxes import (
    aligned_iou,
    area,
    boxes_to_deltas,
    boxes_to_distances,
    clip_boxes,
    deltas_to_boxes,
    distances_to_boxes,
    giou_loss,
)
from oracles import boxes as oracle

STDS = (0.1, 0.1, 0.2, 0.2)


def random_boxes(count: int, seed: int, size: float = 30.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 50
    return torch.cat((corner, corner + 1 + torch.rand(count, 2, generator=generator) * size), 1)


@pytest.mark.parametrize(
    ("a", "b", "iou", "giou"),
    [
        # the same box
        ((0, 0, 4, 2), (0, 0, 4, 2), 1.0, 1.0),
        # half of it shifted: overlap 2 x 4 = 8, union 16 + 16 - 8 = 24, enclosing 6 x 4 = 24
        ((0, 0, 4, 4), (2, 0, 6, 4), 1 / 3, 1 / 3),
        # corner on corner: overlap 4, union 28, enclosing 36: 1/7 - 8/36
        ((0, 0, 4, 4), (2, 2, 6, 6), 1 / 7, 1 / 7 - 2 / 9),
        # one inside the other: 4 / 16, enclosing is the larger
        ((0, 0, 4, 4), (1, 1, 3, 3), 1 / 4, 1 / 4),
        # side by side, touching: enclosing 8 = union
        ((0, 0, 2, 2), (2, 0, 4, 2), 0.0, 0.0),
        # apart: union 2, enclosing 4 x 1: -(4 - 2) / 4
        ((0, 0, 1, 1), (3, 0, 4, 1), 0.0, -0.5),
        # diagonal: union 2, enclosing 16: -14 / 16
        ((0, 0, 1, 1), (3, 3, 4, 4), 0.0, -0.875),
        # a line and a box that it crosses: overlap 0, union 4, enclosing 4
        ((1, 0, 1, 2), (0, 0, 2, 2), 0.0, 0.0),
        # inverted, so without area: union 4, enclosing from (0, 0) to (2, 2)
        ((2, 2, 1, 1), (0, 0, 2, 2), 0.0, 0.0),
        # two points in one place: nothing to divide by
        ((3, 3, 3, 3), (3, 3, 3, 3), 0.0, 0.0),
    ],
)
def test_iou_worked_by_hand(a: tuple, b: tuple, iou: float, giou: float) -> None:
    one, other = torch.tensor([a]).float(), torch.tensor([b]).float()
    for x, y in ((one, other), (other, one)):
        assert aligned_iou(x, y).item() == pytest.approx(iou, abs=1e-6)
        assert aligned_iou(x, y, generalized=True).item() == pytest.approx(giou, abs=1e-6)
        assert giou_loss(x, y).item() == pytest.approx(1 - giou, abs=1e-6)


def test_the_pairwise_matrix_agrees_with_the_oracle() -> None:
    a, b = random_boxes(15, 0), random_boxes(11, 1)
    for generalized, slow in ((False, oracle.iou), (True, oracle.giou)):
        expected = [[slow(x, y) for y in b.tolist()] for x in a.tolist()]
        found = aligned_iou(a[:, None], b[None], generalized=generalized)
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_agrees_with_the_oracle_on_degenerate_boxes() -> None:
    # Small integers: many boxes touch, coincide, have no area or are inverted.
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randint(0, 4, (500, 4), generator=generator).float() for _ in range(2))
    for generalized, slow in ((False, oracle.iou), (True, oracle.giou)):
        expected = [slow(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
        found = aligned_iou(a, b, generalized=generalized)
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("generalized", [False, True])
def test_iou_gradcheck_in_float64(generalized: bool) -> None:
    # One pair of boxes apart is among them: there only the generalized IoU has a slope.
    a = torch.cat((random_boxes(8, 3), torch.tensor([[0.0, 0.0, 3.0, 5.0]]))).double().requires_grad_()
    b = torch.cat((random_boxes(8, 4), torch.tensor([[70.0, 80.0, 93.0, 95.0]]))).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: aligned_iou(x, y, generalized=generalized), (a, b))
    (slope,) = torch.autograd.grad(aligned_iou(a, b, generalized=generalized)[-1], a)
    assert bool((slope[-1] != 0).any()) is generalized


def test_giou_loss_has_finite_gradients_on_degenerate_boxes() -> None:
    boxes = torch.tensor([[3.0, 3, 3, 3], [2, 2, 1, 1], [0, 0, 1e4, 1e4], [5, 5, 5, 9]], requires_grad=True)
    targets = torch.tensor([[3.0, 3, 3, 3], [0, 0, 2, 2], [0, 0, 1e-3, 1e-3], [5, 5, 5, 9]])
    loss = giou_loss(boxes, targets)
    loss.sum().backward()
    assert ((loss >= 0) & (loss <= 2)).all()
    assert boxes.grad is not None
    assert boxes.grad.isfinite().all()


def test_giou_loss_refuses_boxes_that_are_not_aligned() -> None:
    with pytest.raises(ValueError, match="aligned"):
        giou_loss(torch.zeros(3, 4), torch.zeros(1, 4))


def test_empty_boxes_stay_in_the_graph() -> None:
    boxes = torch.zeros(0, 4, requires_grad=True)
    total = giou_loss(boxes, torch.zeros(0, 4)).sum() + area(boxes).sum() + clip_boxes(boxes, 5, 5).sum()
    total = total + boxes_to_distances(torch.zeros(0, 2), boxes).sum() + deltas_to_boxes(boxes, boxes, STDS).sum()
    total.backward()
    assert total.item() == 0
    assert boxes.grad is not None
    assert aligned_iou(torch.zeros(0, 1, 4), torch.zeros(1, 7, 4)).shape == (0, 7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    # 1024 x 1024 has 2^20 square pixels: beyond float16. All of these coordinates are exact in both types.
    one = torch.tensor([[0.0, 0.0, 1024.0, 1024.0]], dtype=dtype)
    other = torch.tensor([[512.0, 0.0, 1536.0, 1024.0]], dtype=dtype)
    xy = torch.tensor([[1023.0 if dtype == torch.float16 else 1020.0, 4.0]], dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        assert area(one).item() == 2**20
        assert aligned_iou(one, other).item() == pytest.approx(1 / 3, abs=1e-6)
        distances = boxes_to_distances(xy, other)
        assert distances.dtype == torch.float32
        assert torch.equal(distances_to_boxes(xy, distances), other.float())
        deltas = boxes_to_deltas(one, other, STDS)
        assert deltas.dtype == torch.float32
        assert torch.equal(deltas, torch.tensor([[5.0, 0.0, 0.0, 0.0]]))
        assert torch.equal(deltas_to_boxes(one, deltas.to(dtype), STDS), other.float())


def test_area_worked_by_hand() -> None:
    # 3 x 4; inverted in x; inverted in both; a line
    boxes = torch.tensor([[1.0, 2, 4, 6], [4, 2, 1, 6], [4, 6, 1, 2], [0, 0, 0, 9]])
    assert area(boxes).tolist() == [12, 0, 0, 0]


def test_clip_worked_by_hand() -> None:
    # An image 10 high and 20 wide.
    boxes = torch.tensor([[-3.0, -4, 30, 30], [2, 3, 4, 5], [25, 12, 30, 14], [-9, -9, -1, -1]])
    expected = torch.tensor([[0.0, 0, 20, 10], [2, 3, 4, 5], [20, 10, 20, 10], [0, 0, 0, 0]])
    assert torch.equal(clip_boxes(boxes, 10, 20), expected)
    assert torch.equal(clip_boxes(boxes, torch.tensor(10), torch.tensor(20)), expected)
    stacked = clip_boxes(torch.stack((boxes, boxes)), 10, 20)
    assert torch.equal(stacked, torch.stack((expected, expected)))


def test_distances_worked_by_hand() -> None:
    # The point (5, 6) in the box (1, 2, 11, 8): 4 left, 4 up, 6 right, 2 down. Outside (7, 2, 11, 8): left is -2.
    xy = torch.tensor([[5.0, 6.0], [5.0, 6.0]])
    boxes = torch.tensor([[1.0, 2, 11, 8], [7.0, 2, 11, 8]])
    distances = boxes_to_distances(xy, boxes)
    assert distances.tolist() == [[4, 4, 6, 2], [-2, 4, 6, 2]]
    assert torch.equal(distances_to_boxes(xy, distances), boxes)


def test_distances_agree_with_the_oracle_and_come_back() -> None:
    boxes = random_boxes(20, 5).double()
    xy = torch.rand(20, 2, generator=torch.Generator().manual_seed(6)).double() * 60
    expected = [oracle.encode_distances(*p, b) for p, b in zip(xy.tolist(), boxes.tolist(), strict=True)]
    distances = boxes_to_distances(xy, boxes)
    assert distances.tolist() == expected
    back = distances_to_boxes(xy, distances)
    assert back.tolist() == [oracle.decode_distances(*p, d) for p, d in zip(xy.tolist(), expected, strict=True)]
    torch.testing.assert_close(back, boxes, rtol=0, atol=1e-12)


def test_deltas_worked_by_hand() -> None:
    # Anchor centre (4, 4), 8 x 8; box centre (6, 2), 16 x 4:
    # 2 / 8 = .25, -2 / 8 = -.25, ln 2, ln 1/2, each over its std.
    anchor, box = torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([[-2.0, 0, 14, 4]])
    deltas = boxes_to_deltas(anchor, box, STDS)
    assert deltas[0].tolist() == pytest.approx([2.5, -2.5, 5 * math.log(2), -5 * math.log(2)], rel=1e-6)
    assert torch.equal(boxes_to_deltas(anchor, anchor, STDS), torch.zeros(1, 4))
    assert torch.equal(deltas_to_boxes(anchor, torch.zeros(1, 4), STDS), anchor)


@pytest.mark.parametrize("stds", [STDS, (1.0, 1.0, 1.0, 1.0), (0.1, 0.3, 0.2, 0.5)])
def test_deltas_agree_with_the_oracle_and_come_back(stds: tuple[float, float, float, float]) -> None:
    anchors, boxes = random_boxes(20, 7).double(), random_boxes(20, 8).double()
    pairs = list(zip(anchors.tolist(), boxes.tolist(), strict=True))
    deltas = boxes_to_deltas(anchors, boxes, stds)
    expected = torch.tensor([oracle.encode_deltas(a, b, stds) for a, b in pairs]).double()
    torch.testing.assert_close(deltas, expected, rtol=1e-6, atol=1e-6)
    back = deltas_to_boxes(anchors, deltas, stds)
    decoded = [oracle.decode_deltas(a, d, stds) for a, d in zip(anchors.tolist(), deltas.tolist(), strict=True)]
    torch.testing.assert_close(back, torch.tensor(decoded).double(), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(back, boxes, rtol=0, atol=1e-10)


def test_wild_deltas_are_limited() -> None:
    # exp(ln(1000 / 16)) = 62.5 times the anchor's 8 pixels, or 8 / 62.5, about the centre (4, 4).
    anchor = torch.tensor([[0.0, 0, 8, 8]])
    deltas = torch.tensor([[0.0, 0.0, 1e4, -1e4]], requires_grad=True)
    box = deltas_to_boxes(anchor, deltas, (1.0, 1.0, 1.0, 1.0))
    assert box[0].tolist() == pytest.approx([4 - 250, 4 - 0.064, 4 + 250, 4 + 0.064], rel=1e-5)
    box.sum().backward()
    assert deltas.grad is not None
    assert deltas.grad.isfinite().all()


def test_codes_gradcheck_in_float64() -> None:
    anchors, boxes = random_boxes(4, 9).double(), random_boxes(4, 10).double().requires_grad_()
    xy = anchors[:, :2]
    assert torch.autograd.gradcheck(lambda b: boxes_to_distances(xy, b), (boxes,))
    assert torch.autograd.gradcheck(lambda d: distances_to_boxes(xy, d), (boxes,))
    assert torch.autograd.gradcheck(lambda b: boxes_to_deltas(anchors, b, STDS), (boxes,))
    deltas = (boxes.detach() / 50).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: deltas_to_boxes(anchors, d, STDS), (deltas,))

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gfocal.points import make_points
from gfocal.representation import DiracBoxes
from oracles import decode_deltas, decode_distances, encode_deltas, encode_distances, giou

POINTS = make_points([(4, 6), (2, 3)], [8, 16], anchor_scale=8, offset=0)
STDS = (0.1, 0.1, 0.2, 0.2)


def random_boxes(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = 40 * torch.rand(count, 2, generator=generator, dtype=torch.float64) - 20
    return torch.cat((corner, corner + 1 + 60 * torch.rand(count, 2, generator=generator, dtype=torch.float64)), 1)


def test_distances_by_hand() -> None:
    # Point 9 is at row 1, column 3: (24, 8), stride 8. Edges 2, 1, 0.5, 3 strides away.
    boxes, point = DiracBoxes(), POINTS[torch.tensor([9])]
    decoded = boxes.decode(point, torch.tensor([[2.0, 1, 0.5, 3]]))
    assert decoded.tolist() == [[24 - 16, 8 - 8, 24 + 4, 8 + 24]]
    assert boxes.encode(point, decoded).tolist() == [[2, 1, 0.5, 3]]
    # A raw output below 0 means no distance: the box never turns inside out.
    assert boxes.decode(point, torch.tensor([[-1.0, -2, -3, -4]])).tolist() == [[24, 8, 24, 8]]


def test_deltas_by_hand() -> None:
    # Anchor of point 0: 64 x 64 around (0, 0). dx = 1 * 0.1 * 64 = 6.4; width 64 * exp(0.2 log 2 / 0.2) = 128.
    boxes, point = DiracBoxes("deltas"), POINTS[torch.tensor([0])]
    decoded = boxes.decode(point, torch.tensor([[1.0, 0, math.log(2) / 0.2, 0]]))
    torch.testing.assert_close(decoded, torch.tensor([[6.4 - 64, -32, 6.4 + 64, 32]]))


@pytest.mark.parametrize("code", ["distances", "deltas"])
def test_agrees_with_the_slow_formulas(code: str) -> None:
    boxes = DiracBoxes(code)  # type: ignore[arg-type]
    target = random_boxes(len(POINTS))
    encoded = boxes.encode(POINTS, target)
    weight = torch.rand(len(POINTS), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    raw = encoded + 0.3 * torch.randn(encoded.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    decoded = boxes.decode(POINTS, raw)
    loss = 0.0
    for i, ((x, y), stride, anchor) in enumerate(
        zip(POINTS.xy.tolist(), POINTS.stride.tolist(), POINTS.anchors.tolist(), strict=True)
    ):
        box = target[i].tolist()
        if code == "deltas":
            slow, back = encode_deltas(anchor, box, STDS), decode_deltas(anchor, raw[i].tolist(), STDS)
        else:
            slow = [d / stride for d in encode_distances(x, y, box)]
            back = decode_distances(x, y, [max(d, 0.0) * stride for d in raw[i].tolist()])
        assert encoded[i].tolist() == pytest.approx(slow, abs=1e-6)
        assert decoded[i].tolist() == pytest.approx(back, abs=1e-4)
        loss += weight[i].item() * (1 - giou(back, box))
    losses = boxes.losses(POINTS, raw, decoded, target, weight=weight, norm=4.0)
    assert losses.keys() == {"box"}
    assert losses["box"].item() == pytest.approx(loss / 4, rel=1e-5)


@pytest.mark.parametrize("code", ["distances", "deltas"])
def test_decode_inverts_encode(code: str) -> None:
    boxes = DiracBoxes(code)  # type: ignore[arg-type]
    reach = torch.rand(len(POINTS), 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 90
    around = torch.cat((POINTS.xy - reach[:, :2], POINTS.xy + reach[:, 2:]), 1)
    torch.testing.assert_close(boxes.decode(POINTS, boxes.encode(POINTS, around)), around, rtol=0, atol=1e-5)
    assert not boxes.truncated(POINTS, around).any()


def test_truncated_edges() -> None:
    point = POINTS[torch.tensor([9])]  # (24, 8)
    outside = torch.tensor([[25.0, 0, 30, 7]])  # begins right of the point, ends above it
    assert DiracBoxes().truncated(point, outside).tolist() == [[True, False, False, True]]
    assert not DiracBoxes("deltas").truncated(point, outside).any()


@pytest.mark.parametrize("code", ["distances", "deltas"])
def test_gradients(code: str) -> None:
    boxes = DiracBoxes(code)  # type: ignore[arg-type]
    some = POINTS[torch.tensor([0, 9, 25])]
    target = torch.cat((some.xy - 20.5, some.xy + 30.5), 1).double()
    raw = (boxes.encode(some, target) + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda c: boxes.losses(some, c, boxes.decode(some, c), target, weight=None, norm=1.0)["box"], (raw,)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("code", ["distances", "deltas"])
@pytest.mark.parametrize("size", [-10000.0, 10000.0])
def test_extreme_outputs_stay_finite(size: float, code: str, dtype: torch.dtype) -> None:
    boxes = DiracBoxes(code)  # type: ignore[arg-type]
    raw = torch.full((len(POINTS), 4), size, dtype=dtype, requires_grad=True)
    decoded = boxes.decode(POINTS, raw)
    loss = boxes.losses(POINTS, raw, decoded, random_boxes(len(POINTS)).float(), weight=None, norm=1.0)["box"]
    loss.backward()
    assert decoded.dtype == torch.float32
    for value in (decoded, loss, raw.grad):
        assert torch.isfinite(value).all()


def test_half_precision_loses_no_pixels() -> None:
    # 255.125 strides of 8 are 2041 pixels, from (24, 8); above 2048 half precision knows only even numbers.
    raw = torch.full((1, 4), 255.125).half()
    decoded = DiracBoxes().decode(POINTS[torch.tensor([9])], raw)
    assert decoded.tolist() == [[24 - 2041, 8 - 2041, 24 + 2041, 8 + 2041]]


def test_no_positives_give_zero_that_can_be_differentiated() -> None:
    boxes, none = DiracBoxes(), POINTS[torch.zeros(0, dtype=torch.int64)]
    code = torch.zeros(0, 4, requires_grad=True)
    loss = boxes.losses(none, code, boxes.decode(none, code), torch.zeros(0, 4), weight=None, norm=1.0)["box"]
    assert loss.item() == 0
    loss.backward()
    assert code.grad is not None


def test_there_is_no_uncertainty_and_no_other_code() -> None:
    code = torch.zeros(len(POINTS), 4)
    assert DiracBoxes().edge_std(POINTS, code) is None
    assert DiracBoxes().edge_probs(code) is None
    with pytest.raises(ValueError, match="code must be"):
        DiracBoxes("corners")  # type: ignore[arg-type]

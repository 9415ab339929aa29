from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gfocal.points import Points, make_points
from gfocal.representation import BoxRows, DiracBoxes
from oracles.boxes import (
    absolute,
    decode_deltas,
    decode_distances,
    decode_log_deltas,
    encode_deltas,
    encode_distances,
    encode_log_deltas,
    giou,
)

POINTS = make_points([(4, 6), (2, 3)], [8, 16], anchor_scale=8, offset=0)
STDS = (0.1, 0.1, 0.2, 0.2)
CODES = ["distances", "deltas", "log_deltas"]


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


def test_log_deltas_by_hand() -> None:
    # Anchor of point 9: 64 wide, around (24, 8). Distances 64 * (1, 2, 1/2, 1/4).
    boxes, point = DiracBoxes("log_deltas"), POINTS[torch.tensor([9])]
    code = torch.tensor([[1.0, 2, 0.5, 0.25]]).log()
    decoded = boxes.decode(point, code)
    torch.testing.assert_close(decoded, torch.tensor([[24 - 64, 8 - 128, 24 + 32.0, 8 + 16]]))
    torch.testing.assert_close(boxes.encode(point, decoded), code)


@pytest.mark.parametrize("loss", ["giou", "l1", "smooth_l1"])
@pytest.mark.parametrize("code", CODES)
def test_agrees_with_the_slow_formulas(code: str, loss: str) -> None:
    boxes = DiracBoxes(code, loss=loss, smooth_beta=0.11)  # type: ignore[arg-type]
    target = random_boxes(len(POINTS)) if code != "log_deltas" else around(POINTS, 0.02, 20)
    encoded = boxes.encode(POINTS, target)
    weight = torch.rand(len(POINTS), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    raw = encoded + 0.3 * torch.randn(encoded.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    decoded = boxes.decode(POINTS, raw)
    total = 0.0
    for i, ((x, y), stride, anchor) in enumerate(
        zip(POINTS.xy.tolist(), POINTS.stride.tolist(), POINTS.anchors.tolist(), strict=True)
    ):
        box = target[i].tolist()
        if code == "deltas":
            slow, back = encode_deltas(anchor, box, STDS), decode_deltas(anchor, raw[i].tolist(), STDS)
        elif code == "log_deltas":
            side = anchor[2] - anchor[0]
            slow, back = encode_log_deltas(x, y, side, box), decode_log_deltas(x, y, side, raw[i].tolist())
        else:
            slow = [d / stride for d in encode_distances(x, y, box)]
            back = decode_distances(x, y, [max(d, 0.0) * stride for d in raw[i].tolist()])
        assert encoded[i].tolist() == pytest.approx(slow, abs=1e-6)
        assert decoded[i].tolist() == pytest.approx(back, abs=1e-4)
        if loss == "giou":
            value = 1 - giou(back, box)
        else:
            if code == "log_deltas":
                slow = [min(max(v, math.log(1 / 16)), math.log(16)) for v in slow]
            beta = 0.11 if loss == "smooth_l1" else None
            value = sum(absolute(a - b, beta) for a, b in zip(raw[i].tolist(), slow, strict=True))
        total += weight[i].item() * value
    losses = boxes.losses(BoxRows(POINTS, raw, decoded, target, weight=weight, norm=4.0))
    assert losses.keys() == {"box"}
    assert losses["box"].item() == pytest.approx(total / 4, rel=1e-5)


def around(points: Points, low: float, high: float) -> Tensor:
    """Boxes whose edges lie ``low`` to ``high`` anchor sides from their point, evenly in the logarithm."""
    share = torch.rand(len(points), 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reach = low * (high / low) ** share * (points.anchors[:, 2:3] - points.anchors[:, :1])
    return torch.cat((points.xy - reach[:, :2], points.xy + reach[:, 2:]), 1)


@pytest.mark.parametrize("code", CODES)
def test_decode_inverts_encode(code: str) -> None:
    boxes = DiracBoxes(code)  # type: ignore[arg-type]
    # For log deltas also nearer than the least target and as far as decode goes, 1/62.5 to 62.5 sides.
    target = around(POINTS, 1 / 62, 62) if code == "log_deltas" else around(POINTS, 0.01, 1.4)
    torch.testing.assert_close(boxes.decode(POINTS, boxes.encode(POINTS, target)), target, rtol=1e-6, atol=1e-5)
    assert not boxes.truncated(POINTS, around(POINTS, 0.01, 1.4)).any()


def test_l1_losses_by_hand() -> None:
    # Point (24, 8), stride 8, anchor 64 wide; ground truth 2, 1, 3, 4 strides from the point.
    point = POINTS[torch.tensor([9])]
    target = torch.tensor([[24.0 - 16, 8 - 8, 24 + 24, 8 + 32]])

    def loss(boxes: DiracBoxes, raw: Tensor) -> float:
        return boxes.losses(
            BoxRows(point, raw, boxes.decode(point, raw), target, weight=torch.tensor([3.0]), norm=2.0)
        )["box"].item()

    # |2.5 - 2| + |0.9 - 1| + |3 - 3| + |-1 - 4| = 5.6: below 0 the code counts as it is, not as it is decoded.
    raw = torch.tensor([[2.5, 0.9, 3.0, -1.0]])
    assert loss(DiracBoxes(loss="l1"), raw) == pytest.approx(5.6 * 3 / 2)
    # beta 1/2: 0.5 - 0.25; 0.01 / (2 * 0.5) = 0.01; 0; 5 - 0.25: together 5.01.
    assert loss(DiracBoxes(loss="smooth_l1", smooth_beta=0.5), raw) == pytest.approx(5.01 * 3 / 2)
    # Deltas: the box is 40 x 40 around (28, 20): 4/64/0.1, 12/64/0.1, log(40/64)/0.2 twice; the code is 0.
    expected = 0.625 + 1.875 + 2 * abs(math.log(40 / 64)) / 0.2
    assert loss(DiracBoxes("deltas", loss="l1"), torch.zeros(1, 4)) == pytest.approx(expected * 3 / 2, rel=1e-5)
    # With stds of 1 the same without the divisors.
    expected = 0.0625 + 0.1875 + 2 * abs(math.log(40 / 64))
    boxes = DiracBoxes("deltas", (1, 1, 1, 1), loss="l1")
    assert loss(boxes, torch.zeros(1, 4)) == pytest.approx(expected * 3 / 2, rel=1e-5)
    # Log deltas: log of 16/64, 8/64, 24/64, 32/64 against 0.
    expected = sum(abs(math.log(d / 64)) for d in (16, 8, 24, 32))
    assert loss(DiracBoxes("log_deltas", loss="l1"), torch.zeros(1, 4)) == pytest.approx(expected * 3 / 2, rel=1e-5)


def test_the_target_of_log_deltas_ends_at_sixteen_sides() -> None:
    # Anchor 64 wide: edges 20 sides and 1/20 side away are learnt as 16 and 1/16; those at 1 side as they are.
    boxes, point = DiracBoxes("log_deltas", loss="l1"), POINTS[torch.tensor([9])]
    target = torch.tensor([[24.0 - 1280, 8 - 3.2, 24 + 64, 8 + 64]])
    raw = torch.tensor([[16.0, 1 / 16, 1, 1]]).log().requires_grad_()
    loss = boxes.losses(BoxRows(point, raw, boxes.decode(point, raw), target))["box"]
    assert loss.item() == pytest.approx(0, abs=1e-5)
    # encode tells the truth: the clamp is the loss's alone.
    torch.testing.assert_close(boxes.encode(point, target)[0, :2], torch.tensor([20, 1 / 20]).log())


def test_smooth_l1_tends_to_l1() -> None:
    raw, target = random_boxes(len(POINTS), 1) / 8, random_boxes(len(POINTS))
    values = [
        boxes.losses(BoxRows(POINTS, raw, raw, target))["box"].item()
        for boxes in (DiracBoxes(loss="smooth_l1", smooth_beta=1e-6), DiracBoxes(loss="l1"))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_a_new_head_starts_where_giou_has_a_slope() -> None:
    target = around(POINTS, 0.05, 1).float()
    for code in CODES:
        boxes = DiracBoxes(code)  # type: ignore[arg-type]
        raw = torch.tensor(boxes.initial_code).repeat(len(POINTS), 1).requires_grad_()
        loss = boxes.losses(BoxRows(POINTS, raw, boxes.decode(POINTS, raw), target))["box"]
        (slope,) = torch.autograd.grad(loss, raw)
        assert slope.abs().amax(1).amin() > 1e-3, code
    # At 0 distances make a box without area: no slope at all. This is why they start at 1.
    raw = torch.zeros(len(POINTS), 4, requires_grad=True)
    loss = DiracBoxes().losses(BoxRows(POINTS, raw, DiracBoxes().decode(POINTS, raw), target))["box"]
    assert torch.autograd.grad(loss, raw)[0].abs().amax() == 0


def test_truncated_edges() -> None:
    point = POINTS[torch.tensor([9])]  # (24, 8)
    outside = torch.tensor([[25.0, 0, 30, 7]])  # begins right of the point, ends above it
    assert DiracBoxes().truncated(point, outside).tolist() == [[True, False, False, True]]
    assert not DiracBoxes("deltas").truncated(point, outside).any()
    # Log deltas reach from above 0 to 16 sides of 64 pixels: an edge through the point has no logarithm.
    log_deltas = DiracBoxes("log_deltas")
    assert log_deltas.truncated(point, outside).tolist() == [[True, False, False, True]]
    edges = torch.tensor([[24.0, 7, 24 + 1024, 8 + 1025]])
    assert log_deltas.truncated(point, edges).tolist() == [[True, False, False, True]]
    assert DiracBoxes().truncated(point, edges).sum() == 0


@pytest.mark.parametrize("loss", ["giou", "l1", "smooth_l1"])
@pytest.mark.parametrize("code", CODES)
def test_gradients(code: str, loss: str) -> None:
    boxes = DiracBoxes(code, loss=loss, smooth_beta=0.5)  # type: ignore[arg-type]
    some = POINTS[torch.tensor([0, 9, 25])]
    target = torch.cat((some.xy - 20.5, some.xy + 30.5), 1).double()
    raw = (boxes.encode(some, target) + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda c: boxes.losses(BoxRows(some, c, boxes.decode(some, c), target))["box"], (raw,)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("loss", ["giou", "l1", "smooth_l1"])
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("size", [-10000.0, -100.0, 100.0, 10000.0])
def test_extreme_outputs_stay_finite(size: float, code: str, loss: str, dtype: torch.dtype) -> None:
    boxes = DiracBoxes(code, loss=loss)  # type: ignore[arg-type]
    raw = torch.full((len(POINTS), 4), size, dtype=dtype, requires_grad=True)
    decoded = boxes.decode(POINTS, raw)
    # Also boxes of one pixel; most of them do not hold their point, so they have no log deltas.
    for target in (random_boxes(len(POINTS)).float(), torch.tensor([[5.0, 5, 6, 6]]).expand(len(POINTS), 4)):
        value = boxes.losses(BoxRows(POINTS, raw, decoded, target))["box"]
        (slope,) = torch.autograd.grad(value, raw, retain_graph=True)
        assert decoded.dtype == value.dtype == torch.float32
        for result in (decoded, value, slope):
            assert torch.isfinite(result).all()


def test_half_precision_loses_no_pixels() -> None:
    # 255.125 strides of 8 are 2041 pixels, from (24, 8); above 2048 half precision knows only even numbers.
    raw = torch.full((1, 4), 255.125).half()
    decoded = DiracBoxes().decode(POINTS[torch.tensor([9])], raw)
    assert decoded.tolist() == [[24 - 2041, 8 - 2041, 24 + 2041, 8 + 2041]]


@pytest.mark.parametrize("loss", ["giou", "l1", "smooth_l1"])
@pytest.mark.parametrize("code_name", CODES)
def test_no_positives_give_zero_that_can_be_differentiated(code_name: str, loss: str) -> None:
    boxes = DiracBoxes(code_name, loss=loss)  # type: ignore[arg-type]
    none = POINTS[torch.zeros(0, dtype=torch.int64)]
    code = torch.zeros(0, 4, requires_grad=True)
    value = boxes.losses(BoxRows(none, code, boxes.decode(none, code), torch.zeros(0, 4)))["box"]
    assert value.item() == 0
    value.backward()
    assert code.grad is not None
    assert boxes.encode(none, torch.zeros(0, 4)).shape == boxes.truncated(none, torch.zeros(0, 4)).shape == (0, 4)


def test_there_is_no_uncertainty() -> None:
    code = torch.zeros(len(POINTS), 4)
    assert DiracBoxes().edge_std(POINTS, code) is None
    assert DiracBoxes().edge_probs(code) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"code": "corners"}, "code must be one of distances, deltas, log_deltas"),
        ({"loss": "l2"}, "loss must be one of giou, l1, smooth_l1"),
        ({"smooth_beta": 0.0}, "smooth_beta must be > 0"),
        ({"smooth_beta": math.nan}, "smooth_beta must be > 0"),
        ({"stds": (0.1, 0.1, 0.2, 0.0)}, "stds must be four numbers > 0"),
        ({"stds": (0.1, 0.1)}, "stds must be four numbers > 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiracBoxes(**settings)

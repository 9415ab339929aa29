from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gfocal.points import Points, make_points
from gfocal.representation import BoxRows, DiracBoxes, GeneralBoxes
from oracles.boxes import decode_distances, encode_distances, giou
from oracles.losses import deviation, distribution_focal, expectation

GRIDS, STRIDES = [(4, 6), (2, 3)], [8, 16]
POINTS = make_points(GRIDS, STRIDES, anchor_scale=8, offset=0.5)
ONE = POINTS[torch.tensor([0])]  # at (4, 4), stride 8


def random_code(boxes: GeneralBoxes, count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, boxes.channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


def boxes_around(points: Points, low: float, high: float, seed: int = 0) -> Tensor:
    """Boxes whose edges lie ``low`` to ``high`` strides from their point."""
    generator = torch.Generator().manual_seed(seed)
    edges = (low + (high - low) * torch.rand(len(points), 4, generator=generator)) * points.stride[:, None]
    return torch.cat((points.xy - edges[:, :2], points.xy + edges[:, 2:]), 1)


def test_by_hand() -> None:
    # Bins 0, 1, 2; the left edge has probabilities 1/4, 1/4, 1/2 (logits log 1, log 1, log 2): expectation 1.25;
    # the others are uniform: expectation 1. In pixels of stride 8 from (4, 4): 10 left, 8 elsewhere.
    boxes = GeneralBoxes(2)
    code = torch.zeros(1, 12)
    code[0, 2] = math.log(2)
    decoded = boxes.decode(ONE, code)
    torch.testing.assert_close(decoded, torch.tensor([[-6.0, -4, 12, 12]]))
    # Variances: left E[x^2] = 0.25 + 4 * 0.5 = 2.25, minus 1.25^2 = 0.6875; uniform (0 + 1 + 4) / 3 - 1 = 2/3.
    expected = 8 * torch.tensor([[0.6875, 2 / 3, 2 / 3, 2 / 3]]).sqrt()
    torch.testing.assert_close(boxes.edge_std(ONE, code), expected)
    # Ground truth [-4, -4, 12, 12], every edge at 1 stride. GIoU: union = enclosing = 18 * 16, IoU = 16/18: loss 1/9.
    # DFL at bin 1: -log 1/4 once, -log 1/3 three times, mean over the edges; weight 3, norm 2.
    losses = boxes.losses(
        BoxRows(ONE, code, decoded, torch.tensor([[-4.0, -4, 12, 12]]), weight=torch.tensor([3.0]), norm=2.0)
    )
    assert losses["box"].item() == pytest.approx(3 / 9 / 2, rel=1e-5)
    assert losses["dfl"].item() == pytest.approx(3 * (math.log(4) + 3 * math.log(3)) / 4 / 2, rel=1e-5)


def test_a_peaked_distribution_is_dirac() -> None:
    boxes = GeneralBoxes(16)
    bins = torch.randint(0, 17, (len(POINTS), 4), generator=torch.Generator().manual_seed(0))
    code = 1000.0 * torch.nn.functional.one_hot(bins, 17).flatten(1)
    assert torch.equal(boxes.decode(POINTS, code), DiracBoxes().decode(POINTS, bins.float()))
    assert torch.equal(boxes.edge_std(POINTS, code), torch.zeros(len(POINTS), 4))


@pytest.mark.parametrize("delta", [0.5, 1.0, 2.0])
def test_decode_inverts_encode(delta: float) -> None:
    boxes = GeneralBoxes(16, delta)
    target = boxes_around(POINTS, 0, 16 * delta)
    assert not boxes.truncated(POINTS, target).any()
    torch.testing.assert_close(boxes.decode(POINTS, boxes.encode(POINTS, target)), target, rtol=0, atol=2e-4)


def test_edges_out_of_reach_end_at_the_last_bin_and_are_told() -> None:
    boxes = GeneralBoxes(2)
    target = torch.tensor([[4 - 16.5, 4 - 16.0, 4 - 1.0, 4 + 3.0]])  # 2.06, 2, -0.125 and 0.375 strides
    assert boxes.truncated(ONE, target).tolist() == [[True, False, True, False]]
    expected = torch.tensor([[4 - 16.0, 4 - 16.0, 4.0, 4 + 3.0]])
    torch.testing.assert_close(boxes.decode(ONE, boxes.encode(ONE, target)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("reg_max", "delta"), [(16, 1.0), (7, 0.5), (1, 4.0)])
def test_agrees_with_the_slow_formulas(reg_max: int, delta: float) -> None:
    boxes = GeneralBoxes(reg_max, delta)
    code = random_code(boxes, len(POINTS))
    decoded, std, probs = boxes.decode(POINTS, code), boxes.edge_std(POINTS, code), boxes.edge_probs(code)
    target = boxes_around(POINTS, 0, 1.2 * reg_max * delta).double()  # some edges out of reach
    weight = torch.rand(len(POINTS), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    losses = boxes.losses(BoxRows(POINTS, code, decoded, target, weight=weight, norm=3.0))
    box_sum = dfl_sum = 0.0
    for i, ((x, y), stride) in enumerate(zip(POINTS.xy.tolist(), POINTS.stride.tolist(), strict=True)):
        edges = code[i].view(4, reg_max + 1).tolist()
        slow = decode_distances(x, y, [stride * expectation(bins, delta) for bins in edges])
        assert decoded[i].tolist() == pytest.approx(slow, abs=1e-9)
        assert std[i].tolist() == pytest.approx([stride * deviation(bins, delta) for bins in edges], rel=1e-9)
        distances = [d / stride for d in encode_distances(x, y, target[i].tolist())]
        # The published margin: the target of DFL ends 0.1 bins before the last.
        clamped = [min(max(d, 0.0), (reg_max - 0.1) * delta) for d in distances]
        dfl = [distribution_focal(bins, d, delta) for bins, d in zip(edges, clamped, strict=True)]
        dfl_sum += weight[i].item() * sum(dfl) / 4
        box_sum += weight[i].item() * (1 - giou(slow, target[i].tolist()))
    assert probs.sum(-1).sub(1).abs().max() < 1e-12
    assert losses["box"].item() == pytest.approx(box_sum / 3, rel=1e-6)
    assert losses["dfl"].item() == pytest.approx(dfl_sum / 3, rel=1e-9)


def test_without_dfl_only_the_box_loss_is_left() -> None:
    with_dfl, without = GeneralBoxes(4), GeneralBoxes(4, dfl=False)
    code = random_code(without, len(POINTS))
    target = boxes_around(POINTS, 0, 4).double()
    decoded = without.decode(POINTS, code)
    rows = BoxRows(POINTS, code, decoded, target)
    losses = without.losses(rows)
    assert losses.keys() == {"box"}
    assert losses["box"] == with_dfl.losses(rows)["box"]


def test_gradients() -> None:
    boxes = GeneralBoxes(3, 2.0)
    some = POINTS[torch.tensor([0, 7, 25])]
    target = boxes_around(some, 1, 5).double()

    def both(code: Tensor) -> Tensor:
        losses = boxes.losses(BoxRows(some, code, boxes.decode(some, code), target))
        return torch.stack((losses["box"], losses["dfl"]))

    code = random_code(boxes, 3).requires_grad_()
    assert torch.autograd.gradcheck(both, (code,))
    assert torch.autograd.gradcheck(lambda c: boxes.edge_std(some, c), (code,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [100.0, 10000.0])
def test_extreme_logits_stay_finite(size: float, dtype: torch.dtype) -> None:
    boxes = GeneralBoxes(16)
    sign = torch.randn(len(POINTS), boxes.channels, generator=torch.Generator().manual_seed(0)).sign()
    code = (size * sign).to(dtype).requires_grad_()
    decoded = boxes.decode(POINTS, code)
    losses = boxes.losses(BoxRows(POINTS, code, decoded, boxes_around(POINTS, 0, 40)))
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert decoded.dtype == total.dtype == torch.float32
    for value in (decoded, total, code.grad, boxes.edge_std(POINTS, code)):
        assert torch.isfinite(value).all()


def test_half_precision_loses_no_pixels() -> None:
    boxes = GeneralBoxes(16)
    code = random_code(boxes, len(POINTS)).half()
    assert torch.equal(boxes.decode(POINTS, code), boxes.decode(POINTS, code.float()))


def test_no_positives_give_zero_that_can_be_differentiated() -> None:
    boxes = GeneralBoxes(16)
    none = POINTS[torch.zeros(0, dtype=torch.int64)]
    code = torch.zeros(0, boxes.channels, requires_grad=True)
    losses = boxes.losses(BoxRows(none, code, boxes.decode(none, code), torch.zeros(0, 4), torch.zeros(0)))
    assert {name: value.item() for name, value in losses.items()} == {"box": 0.0, "dfl": 0.0}
    torch.stack(list(losses.values())).sum().backward()
    assert code.grad is not None
    assert boxes.edge_std(none, code).shape == (0, 4)
    assert boxes.edge_probs(code).shape == (0, 4, 17)
    assert boxes.encode(none, torch.zeros(0, 4)).shape == code.shape
    assert boxes.truncated(none, torch.zeros(0, 4)).shape == (0, 4)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="reg_max"):
        GeneralBoxes(0)
    for delta in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="delta"):
            GeneralBoxes(16, delta)

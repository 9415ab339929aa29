from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gfocal.points import Points, make_points
from gfocal.representation import BoxRows, DiracBoxes, GaussianBoxes
from oracles.boxes import bounded_log_std, decode_distances, encode_distances, gaussian_nll, giou

POINTS = make_points([(4, 6), (2, 3)], [8, 16], anchor_scale=8, offset=0.5)
ONE = POINTS[torch.tensor([0])]  # at (4, 4), stride 8


def boxes_around(points: Points, low: float, high: float, seed: int = 0) -> Tensor:
    """Boxes whose edges lie ``low`` to ``high`` strides from their point."""
    generator = torch.Generator().manual_seed(seed)
    edges = (low + (high - low) * torch.rand(len(points), 4, generator=generator)) * points.stride[:, None]
    return torch.cat((points.xy - edges[:, :2], points.xy + edges[:, 2:]), 1)


def random_code(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.rand(count, 4, generator=generator, dtype=torch.float64) * 6 - 0.5  # some below 0
    return torch.cat((mean, torch.randn(count, 4, generator=generator, dtype=torch.float64) * 3), 1)


def test_by_hand() -> None:
    boxes = GaussianBoxes()
    # Means 1, 2, 3, -1 strides of 8 pixels from (4, 4); the last counts as 0. s = 0 for three edges: std 1 stride.
    # s = 4 atanh(1/4) = 1.0216512: log std = 1, std e strides.
    code = torch.tensor([[1.0, 2, 3, -1, 0, 0, 0, 4 * math.atanh(0.25)]])
    decoded = boxes.decode(ONE, code)
    assert decoded.tolist() == [[-4, -12, 28, 4]]
    torch.testing.assert_close(boxes.edge_std(ONE, code), torch.tensor([[8, 8, 8, 8 * math.e]]))
    # Ground truth [-12, -12, 28, 12]: distances 2, 2, 3, 1. NLL: 1/2; 0; 0; log std = 1 and the unclamped mean is
    # 2 away: 1 + 4 / (2 e^2) = 1.2706706. Mean of the four 0.4426676; weight 3, norm 2.
    # GIoU: the decoded 32 x 16 box lies in the true one of 40 x 24: IoU = 512 / 960, the enclosing box is the true one.
    losses = boxes.losses(
        BoxRows(ONE, code, decoded, torch.tensor([[-12.0, -12, 28, 12]]), weight=torch.tensor([3.0]), norm=2.0)
    )
    assert losses.keys() == {"box", "nll"}
    assert losses["nll"].item() == pytest.approx(3 * 0.4426676 / 2, rel=1e-5)
    assert losses["box"].item() == pytest.approx(3 * (1 - 512 / 960) / 2, rel=1e-5)


def test_the_std_is_bounded_and_smooth() -> None:
    boxes = GaussianBoxes()
    s = torch.tensor([-1e4, -1e-3, 1e-3, 1e4])
    std = boxes.edge_std(ONE, torch.cat((torch.zeros(4), s))[None])
    torch.testing.assert_close(std / 8, torch.tensor([[-4.0, -1e-3, 1e-3, 4.0]]).exp())


def test_mean_and_code_are_those_of_dirac_distances() -> None:
    boxes, dirac = GaussianBoxes(), DiracBoxes("distances")
    code = random_code(len(POINTS))
    target = boxes_around(POINTS, 0.5, 5).double()
    decoded = boxes.decode(POINTS, code)
    assert torch.equal(decoded, dirac.decode(POINTS, code[:, :4]))
    ours = boxes.losses(BoxRows(POINTS, code, decoded, target, norm=3.0))["box"]
    assert ours == dirac.losses(BoxRows(POINTS, code[:, :4], decoded, target, norm=3.0))["box"]
    outside = torch.tensor([[5.0, 0, 30, 3]])  # begins right of the point (4, 4), ends above it
    assert boxes.truncated(ONE, outside).tolist() == [[True, False, False, True]]


def test_decode_inverts_encode_with_the_least_std() -> None:
    boxes = GaussianBoxes()
    target = boxes_around(POINTS, 0, 20)
    code = boxes.encode(POINTS, target)
    assert code.shape == (len(POINTS), boxes.channels)
    torch.testing.assert_close(boxes.decode(POINTS, code), target, rtol=0, atol=2e-5)
    expected = math.exp(-4) * POINTS.stride[:, None].expand(-1, 4)
    torch.testing.assert_close(boxes.edge_std(POINTS, code), expected)
    assert not boxes.truncated(POINTS, target).any()


def test_agrees_with_the_slow_formulas() -> None:
    boxes = GaussianBoxes()
    code = random_code(len(POINTS))
    target = boxes_around(POINTS, 0.5, 5).double()
    weight = torch.rand(len(POINTS), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    decoded, std = boxes.decode(POINTS, code), boxes.edge_std(POINTS, code)
    losses = boxes.losses(BoxRows(POINTS, code, decoded, target, weight=weight, norm=3.0))
    box_sum = nll_sum = 0.0
    for i, ((x, y), stride) in enumerate(zip(POINTS.xy.tolist(), POINTS.stride.tolist(), strict=True)):
        mean, raw = code[i, :4].tolist(), code[i, 4:].tolist()
        slow = decode_distances(x, y, [stride * max(value, 0.0) for value in mean])
        assert decoded[i].tolist() == pytest.approx(slow, abs=1e-9)
        log_stds = [bounded_log_std(s) for s in raw]
        assert std[i].tolist() == pytest.approx([stride * math.exp(value) for value in log_stds], rel=1e-9)
        distances = [d / stride for d in encode_distances(x, y, target[i].tolist())]
        edges = [
            # The oracle's density is 0 beyond 38 deviations.
            gaussian_nll(m, s, d) if abs(m - d) < 30 * math.exp(s) else s + (m - d) ** 2 / (2 * math.exp(2 * s))
            for m, s, d in zip(mean, log_stds, distances, strict=True)
        ]
        nll_sum += weight[i].item() * sum(edges) / 4
        box_sum += weight[i].item() * (1 - giou(slow, target[i].tolist()))
    assert losses["box"].item() == pytest.approx(box_sum / 3, rel=1e-6)
    assert losses["nll"].item() == pytest.approx(nll_sum / 3, rel=1e-6)


def test_gradients() -> None:
    boxes = GaussianBoxes()
    some = POINTS[torch.tensor([0, 7, 25])]
    target = boxes_around(some, 1, 5).double()

    def both(code: Tensor) -> Tensor:
        losses = boxes.losses(BoxRows(some, code, boxes.decode(some, code), target))
        return torch.stack((losses["box"], losses["nll"]))

    code = random_code(3)
    code[:, :4] += 0.7  # away from the clamp
    assert torch.autograd.gradcheck(both, (code.requires_grad_(),))
    assert torch.autograd.gradcheck(lambda c: boxes.edge_std(some, c), (code,))


def test_a_mean_below_zero_still_learns() -> None:
    # GIoU of a box without area has no slope; the likelihood pulls each mean up to its distance.
    boxes = GaussianBoxes()
    code = torch.cat((torch.full((1, 4), -1.0), torch.zeros(1, 4)), 1).requires_grad_()
    target = torch.tensor([[-4.0, -4, 12, 12]])  # 1 stride each
    losses = boxes.losses(BoxRows(ONE, code, boxes.decode(ONE, code), target))
    (losses["box"] + losses["nll"]).backward()
    assert code.grad is not None
    # (mean - y) / std^2 over four edges: (-1 - 1) / 4; GIoU gives nothing.
    torch.testing.assert_close(code.grad[:, :4], torch.full((1, 4), -0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [100.0, 10000.0])
def test_extreme_outputs_stay_finite(size: float, dtype: torch.dtype) -> None:
    boxes = GaussianBoxes()
    sign = torch.randn(len(POINTS), 8, generator=torch.Generator().manual_seed(0)).sign()
    code = (size * sign).to(dtype).requires_grad_()
    decoded = boxes.decode(POINTS, code)
    losses = boxes.losses(BoxRows(POINTS, code, decoded, boxes_around(POINTS, 0, 0.1)))
    # The gradient of so sure and so wrong an edge is beyond half precision; in float32 it is a number.
    total = torch.stack(list(losses.values())).sum() * 1e-6
    total.backward()
    assert decoded.dtype == total.dtype == boxes.edge_std(POINTS, code).dtype == torch.float32
    for value in (decoded, total, code.grad, boxes.edge_std(POINTS, code)):
        assert torch.isfinite(value).all()


def test_half_precision_loses_no_pixels() -> None:
    boxes, code = GaussianBoxes(), random_code(len(POINTS)).half()
    assert torch.equal(boxes.decode(POINTS, code), boxes.decode(POINTS, code.float()))
    assert torch.equal(boxes.edge_std(POINTS, code), boxes.edge_std(POINTS, code.float()))


def test_no_positives_give_zero_that_can_be_differentiated() -> None:
    boxes, none = GaussianBoxes(), POINTS[torch.zeros(0, dtype=torch.int64)]
    code = torch.zeros(0, 8, requires_grad=True)
    losses = boxes.losses(BoxRows(none, code, boxes.decode(none, code), torch.zeros(0, 4), torch.zeros(0)))
    assert {name: value.item() for name, value in losses.items()} == {"box": 0.0, "nll": 0.0}
    torch.stack(list(losses.values())).sum().backward()
    assert code.grad is not None
    assert boxes.edge_std(none, code).shape == boxes.truncated(none, torch.zeros(0, 4)).shape == (0, 4)
    assert boxes.encode(none, torch.zeros(0, 4)).shape == code.shape


def test_there_are_no_bins() -> None:
    assert GaussianBoxes().edge_probs(torch.zeros(1, 8)) is None
    assert len(GaussianBoxes().initial_code) == GaussianBoxes().channels

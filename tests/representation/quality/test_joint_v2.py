from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gfocal.points import make_points
from gfocal.representation import GeneralBoxes, JointQuality, JointV2, LearningRows
from gfocal.representation.quality.joint_v2 import product_logits
from gfocal.structures import HeadOutput
from helpers.rows import positive_rows
from oracles.losses import quality_focal
from oracles.qualities import product_logit, shape_statistics, two_layers

BINS = 6


def made(num_bins: int = BINS, beta: float = 2.0, scale: float = 1.0) -> JointV2:
    """With weights that matter: the initial ones are close to 0."""
    quality = JointV2(num_bins, beta).double()
    generator = torch.Generator().manual_seed(3)
    for parameter in quality.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return quality


def random_case(places: int = 9, classes: int = 3) -> tuple[HeadOutput, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    labels = torch.randint(-1, classes, (places,), generator=generator)
    positive = (labels >= 0).nonzero().squeeze(1)
    quality = torch.rand(len(positive), generator=generator, dtype=torch.float64)
    return HeadOutput(normal(places, classes), normal(places, 4 * BINS)), labels, positive, quality


def slow_quality(quality: JointV2, code: list[float]) -> float:
    first, last = quality.stack[0], quality.stack[2]
    return two_layers(shape_statistics(code, quality.num_bins), first.weight, first.bias, last.weight, last.bias)


def test_product_by_hand() -> None:
    # 1/2 * 1/2 = 1/4, whose logit is log(1/3); 3/4 * 2/3 = 1/2: 0; a certain quality leaves the class as it is.
    logits = product_logits(torch.tensor([[0.0], [math.log(3)], [1.5]]), torch.tensor([[0.0], [math.log(2)], [200]]))
    assert logits.flatten().tolist() == pytest.approx([-math.log(3), 0, 1.5], abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_product_is_exact_for_logits_up_to_100(dtype: torch.dtype) -> None:
    values = [0.0, 1e-3, 0.7, 3, 12, 19.9, 20.1, 40, 88, 99.5, 100]
    grid = torch.tensor([-v for v in values] + values, dtype=dtype)
    logits = product_logits(grid.expand(len(grid), -1), grid[:, None])
    assert logits.dtype == dtype
    slow = [[product_logit(x, z) for x in grid.tolist()] for z in grid.tolist()]
    eps = torch.finfo(dtype).eps
    for row, expected in zip(logits.tolist(), slow, strict=True):
        assert row == pytest.approx(expected, rel=4 * eps, abs=4 * eps)
    # And as a probability: sigmoid of the logit is the product of the sigmoids in float64.
    product = grid.double().sigmoid() * grid.double().sigmoid()[:, None]
    torch.testing.assert_close(logits.double().sigmoid(), product, rtol=300 * eps, atol=0)


def test_the_slopes_of_the_product_are_finite_and_right() -> None:
    # d logit / dx = (1 - p) / (1 - p q), d logit / dz = (1 - q) / (1 - p q).
    values = torch.tensor([-100.0, -30, -2, 0, 2, 30, 100], dtype=torch.float64)
    x, z = torch.meshgrid(values, values, indexing="ij")
    x, z = x.reshape(-1, 1).requires_grad_(), z.reshape(-1, 1).requires_grad_()
    product_logits(x, z).sum().backward()
    a, b = (-x.detach()).exp(), (-z.detach()).exp()
    torch.testing.assert_close(x.grad, a * (1 + b) / (a + b + a * b))
    torch.testing.assert_close(z.grad, b * (1 + a) / (a + b + a * b))
    small = torch.linspace(-3, 3, 6, dtype=torch.float64).view(3, 2).requires_grad_()
    other = torch.tensor([[0.3], [-1], [2]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(product_logits, (small, other))


def test_quality_by_hand() -> None:
    # Five bins. Left: probabilities 1/2, 1/4, 1/8, 1/16, 1/16, shuffled; the others are uniform. A first layer that
    # copies numbers 0 to 4 (left: four largest in descending order, then their mean 15/64) and 6 (top's second).
    code = torch.zeros(1, 20, dtype=torch.float64)
    code[0, :5] = torch.tensor([1 / 16, 1 / 4, 1 / 2, 1 / 16, 1 / 8], dtype=torch.float64).log()
    quality = JointV2(5).double()
    first, last = quality.stack[0], quality.stack[2]
    for parameter in quality.parameters():
        parameter.data.zero_()
    for hidden, statistic in enumerate([0, 1, 2, 3, 4, 6]):
        first.weight.data[hidden, statistic] = 1
    first.bias.data[5] = -1  # 1/5 - 1 is cut off by the ReLU
    last.weight.data[0, :6] = torch.tensor([1.0, 10, 100, 1000, 64, 7])
    last.bias.data[0] = -0.5
    by_hand = 1 / 2 + 10 / 4 + 100 / 8 + 1000 / 16 + 15 - 0.5
    assert quality.quality_logits(code).item() == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("num_bins", [2, 3, 4, 6, 17])
def test_class_logits_agree_with_the_slow_loop(num_bins: int) -> None:
    generator = torch.Generator().manual_seed(1)
    code = 2 * torch.randn(5, 4 * num_bins, generator=generator, dtype=torch.float64)
    logits = 2 * torch.randn(5, 3, generator=generator, dtype=torch.float64)
    quality = made(num_bins)
    slow = [
        [product_logit(x, slow_quality(quality, bins)) for x in row]
        for row, bins in zip(logits.tolist(), code.tolist(), strict=True)
    ]
    for row, expected in zip(quality.class_logits(HeadOutput(logits, code)).tolist(), slow, strict=True):
        assert row == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_losses_agree_with_the_slow_loop(beta: float) -> None:
    out, labels, positive, q = random_case()
    quality = made(beta=beta, scale=0.5)
    by_place = dict(zip(positive.tolist(), q.tolist(), strict=True))
    slow = sum(
        quality_focal(product_logit(x, slow_quality(quality, bins)), by_place[i] if c == labels[i] else 0.0, beta)
        for i, (row, bins) in enumerate(zip(out.class_logits.tolist(), out.box.tolist(), strict=True))
        for c, x in enumerate(row)
    )
    losses = quality.losses(LearningRows(out, labels, positive, q, norm=5.0))
    assert losses.keys() == {"cls"}
    assert losses["cls"].item() == pytest.approx(slow / 5, rel=1e-6)


def test_a_certain_quality_is_the_joint_form() -> None:
    out, labels, positive, q = random_case()
    quality = made(scale=0.0)
    quality.stack[2].bias.data.fill_(200.0)
    loss = quality.losses(LearningRows(out, labels, positive, q, norm=1.0))["cls"]
    torch.testing.assert_close(loss, JointQuality().losses(LearningRows(out, labels, positive, q, norm=1.0))["cls"])


def test_gradients() -> None:
    out, labels, positive, q = random_case(4)
    quality = made(scale=0.5)

    def loss(classes: Tensor, box: Tensor, weight: Tensor) -> Tensor:
        full = HeadOutput(classes, box)
        given = {"quality.stack.0.weight": weight}
        return torch.func.functional_call(Losses(quality), given, (full, labels, positive, q))

    inputs = out.class_logits, out.box, quality.stack[0].weight.detach().clone()
    assert torch.autograd.gradcheck(loss, tuple(t.requires_grad_() for t in inputs), fast_mode=True)


class Losses(torch.nn.Module):
    """The loss as a forward pass, so that its parameters can be given from outside."""

    def __init__(self, quality: JointV2) -> None:
        super().__init__()
        self.quality = quality

    def forward(self, out: HeadOutput, labels: Tensor, positive: Tensor, q: Tensor) -> Tensor:
        return self.quality.losses(LearningRows(out, labels, positive, q, norm=2.0))["cls"]


def test_every_place_teaches_its_classes_its_box_and_the_network() -> None:
    out, labels, positive, q = random_case()
    out.class_logits.requires_grad_()
    out.box.requires_grad_()
    quality = made(scale=0.5)
    quality.losses(LearningRows(out, labels, positive, q, norm=1.0))["cls"].backward()
    assert (labels < 0).any()
    assert (out.class_logits.grad != 0).all(1).all()
    assert (out.box.grad.abs().sum(1) > 1e-6).all()  # negatives too: nothing is detached
    assert all(parameter.grad.any() for parameter in quality.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_extremes(dtype: torch.dtype) -> None:
    quality = made().float()
    classes = torch.tensor([[100.0, -100], [-100, 100], [0, 100]], dtype=dtype, requires_grad=True)
    box = torch.cat((torch.full((1, 4 * BINS), -100.0), torch.full((1, 4 * BINS), 100.0), torch.zeros(1, 4 * BINS)))
    box[0, ::BINS] = 100.0  # peaks
    box = box.to(dtype).requires_grad_()
    out = HeadOutput(classes, box)
    assert quality.class_logits(out).dtype == torch.float32
    loss = quality.losses(
        LearningRows(out, torch.tensor([0, 0, -1]), torch.tensor([0, 1]), torch.tensor([0.0, 1.0]), norm=1.0)
    )
    loss["cls"].backward()
    for tensor in (loss["cls"], classes.grad, box.grad, *(p.grad for p in quality.parameters())):
        assert torch.isfinite(tensor).all()
    assert classes.grad.abs().max() > 0.1


def test_autocast_and_half_networks_change_nothing_that_matters() -> None:
    out, _, _, _ = random_case()
    quality = made(scale=0.5).float()
    single = out.map(lambda tensor: tensor.float())
    expected = quality.class_logits(single)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quality.class_logits(single), expected)
    low = single.map(lambda tensor: tensor.half())
    assert torch.equal(quality.class_logits(low), quality.class_logits(low.map(lambda tensor: tensor.float())))
    half = quality.bfloat16().class_logits(single)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, rtol=0.05, atol=0.05)


def test_no_positives_and_no_places() -> None:
    quality, none = made(), torch.zeros(0, dtype=torch.int64)
    out, _, _, _ = random_case()
    nothing = torch.zeros(0, dtype=torch.float64)
    out.box.requires_grad_()
    quality.losses(LearningRows(out, torch.full((9,), -1), none, nothing, norm=1.0))["cls"].backward()
    assert out.box.grad.any()  # background teaches too
    empty = HeadOutput(torch.zeros(0, 3, requires_grad=True), torch.zeros(0, 4 * BINS, requires_grad=True))
    loss = made().losses(LearningRows(empty, none, none, nothing, norm=1.0))["cls"]
    loss.backward()
    assert loss.item() == 0
    assert empty.box.grad is not None


def test_target_and_score() -> None:
    quality = made()
    points = make_points([(1, 1)], [8], anchor_scale=5, offset=0.5)
    boxes = torch.tensor([[0.0, 0, 10, 10]], requires_grad=True)
    target = quality.target(positive_rows(points, boxes, torch.tensor([[5.0, 0, 15, 10]])))
    assert target.tolist() == pytest.approx([1 / 3])
    assert not target.requires_grad
    out, _, _, _ = random_case()
    scores = torch.rand(9)
    assert torch.equal(quality.scores(scores, out), scores)
    assert (quality.num_logits(5), quality.quality_channels, quality.sums) == (5, 0, None)


def test_weights_have_the_layout_of_the_authors() -> None:
    quality = JointV2(GeneralBoxes(16).num_bins)
    shapes = {name: tuple(p.shape) for name, p in quality.named_parameters()}
    assert shapes == {
        "stack.0.weight": (64, 20),
        "stack.0.bias": (64,),
        "stack.2.weight": (1, 64),
        "stack.2.bias": (1,),
    }
    # The same network as convolutions of (N, 20, H, W) maps whose channels go edge by edge, as theirs.
    first, last = torch.nn.Conv2d(20, 64, 1), torch.nn.Conv2d(64, 1, 1)
    for layer, conv in zip((quality.stack[0], quality.stack[2]), (first, last), strict=True):
        layer.weight.data, layer.bias.data = conv.weight.data.flatten(1), conv.bias.data
    code = torch.randn(1, 68, 2, 3, generator=torch.Generator().manual_seed(0))
    top = code.view(1, 4, 17, 2, 3).softmax(2).topk(4, dim=2).values
    maps = torch.cat((top, top.mean(2, keepdim=True)), 2).reshape(1, 20, 2, 3)
    theirs = last(first(maps).relu())[0, 0].flatten()
    ours = quality.quality_logits(code.permute(0, 2, 3, 1).reshape(6, 68))[:, 0]
    torch.testing.assert_close(ours, theirs)


def test_initial_values() -> None:
    torch.manual_seed(0)
    quality = JointV2(17)
    assert not quality.stack[0].bias.any()
    assert not quality.stack[2].bias.any()
    assert quality.stack[0].weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert quality.stack[2].weight.std().item() == pytest.approx(0.01, rel=0.4)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="num_bins"):
        JointV2(1)
    with pytest.raises(ValueError, match="beta"):
        JointV2(17, beta=-1)
    out, labels, positive, _ = random_case()
    with pytest.raises(ValueError, match="target of every positive"):
        made().losses(LearningRows(out, labels, positive, None, norm=1.0))

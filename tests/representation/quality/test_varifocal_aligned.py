from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gfocal.points import make_points
from gfocal.representation import LearningRows, VarifocalAligned, VarifocalQuality
from gfocal.representation.quality.varifocal_aligned import geometric_mean_logits
from gfocal.structures import HeadOutput
from helpers.rows import positive_rows
from oracles.losses import varifocal
from oracles.qualities import geometric_mean_logit

POINT = make_points([(1, 1)], [8], anchor_scale=5, offset=0.5)  # the form does not look at it


def random_case() -> tuple[HeadOutput, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(12, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(-1, 4, (12,), generator=generator)
    positive = (labels >= 0).nonzero().squeeze(1)
    quality = torch.rand(len(positive), generator=generator, dtype=torch.float64)
    return output(logits[:, :4], logits[:, 4:]), labels, positive, quality


def output(classes: Tensor, quality: Tensor | None) -> HeadOutput:
    return HeadOutput(classes, torch.zeros(len(classes), 4), quality)


def test_the_mean_by_hand() -> None:
    # sqrt(1/2 1/2) = 1/2: 0. sqrt(1/4 1/9) = 1/6: log(1/5). sqrt(1 1/4) = 1/2 to rounding. sqrt(1 e^-40) = e^-20.
    x = torch.tensor([[0.0], [-math.log(3)], [200], [200]])
    z = torch.tensor([[0.0], [-math.log(8)], [-math.log(3)], [-40]])
    found = geometric_mean_logits(x, z).flatten().tolist()
    assert found == pytest.approx([0, -math.log(5), 0, -20], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_mean_is_exact_for_logits_up_to_100(dtype: torch.dtype) -> None:
    values = [0.0, 1e-3, 0.7, 3, 12, 19.9, 20.1, 40, 88, 99.5, 100]
    grid = torch.tensor([-v for v in values] + values, dtype=dtype)
    logits = geometric_mean_logits(grid.expand(len(grid), -1), grid[:, None])
    assert logits.dtype == dtype
    eps = torch.finfo(dtype).eps
    for z, row in zip(grid.tolist(), logits.tolist(), strict=True):
        assert row == pytest.approx([geometric_mean_logit(x, z) for x in grid.tolist()], rel=4 * eps, abs=4 * eps)
    assert torch.equal(logits.isfinite(), torch.ones_like(logits, dtype=torch.bool))


def test_its_slopes_are_finite_and_right() -> None:
    # d logit / dx = (1 - s(x)) / 2 (1 - p): with a = 1 - s(x) = s(-x) and b = s(-z), 1 - p^2 = a + b - a b.
    values = torch.tensor([-100.0, -30, -2, 0, 2, 30, 100], dtype=torch.float64)
    x, z = torch.meshgrid(values, values, indexing="ij")
    x, z = x.reshape(-1, 1).requires_grad_(), z.reshape(-1, 1).requires_grad_()
    geometric_mean_logits(x, z).sum().backward()
    a, b = (-x.detach()).sigmoid(), (-z.detach()).sigmoid()
    rest = (a + b - a * b) / (1 + (x.detach().sigmoid() * z.detach().sigmoid()).sqrt())
    torch.testing.assert_close(x.grad, a / (2 * rest))
    torch.testing.assert_close(z.grad, b / (2 * rest))


def test_one_positive_and_one_negative_by_hand() -> None:
    # Class 1/4 and quality 1 give p = 1/2 everywhere: the numbers of test_varifocal.
    classes, quality = torch.full((2, 2), -math.log(3)), torch.full((2, 1), 200.0)
    labels = torch.tensor([1, -1])
    rows = LearningRows(output(classes, quality), labels, torch.tensor([0]), torch.tensor([0.5]), norm=2.0)
    losses = VarifocalAligned().losses(rows)
    assert losses.keys() == {"cls"}
    assert losses["cls"].item() == pytest.approx((1 / 2 + 3 * 3 / 16) * math.log(2) / 2, rel=1e-6)


def test_a_certain_quality_gives_the_root_of_the_class_score() -> None:
    classes = torch.linspace(-4, 4, 9)[:, None]
    out = output(classes, torch.full((9, 1), 300.0))
    torch.testing.assert_close(VarifocalAligned().class_logits(out).sigmoid(), classes.sigmoid().sqrt())
    # And the other way round: both outputs are worth the same.
    swapped = output(torch.full((9, 1), 300.0), classes)
    torch.testing.assert_close(VarifocalAligned().class_logits(swapped), VarifocalAligned().class_logits(out))


def test_target_and_outputs() -> None:
    boxes, truth = torch.tensor([[0.0, 0, 10, 10], [0, 0, 1, 1]]), torch.tensor([[5.0, 0, 15, 10], [2, 2, 3, 3]])
    positives = positive_rows(POINT, boxes, truth)
    form, plain = VarifocalAligned(), VarifocalQuality()
    assert torch.equal(form.target(positives), plain.target(positives))
    assert (form.quality_channels, form.num_logits(3), form.sums) == (1, 3, None)
    scores = torch.rand(5)
    assert torch.equal(form.scores(scores, output(torch.zeros(5, 3), torch.zeros(5, 1))), scores)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.75, 2.0), (0.25, 1.5)])
def test_losses_agree_with_the_slow_loop(alpha: float, gamma: float) -> None:
    out, labels, positive, quality = random_case()
    slow, of = 0.0, dict(zip(positive.tolist(), quality.tolist(), strict=True))
    pairs = zip(out.class_logits.tolist(), out.quality_logits.flatten().tolist(), strict=True)
    for i, (row, z) in enumerate(pairs):
        slow += sum(
            varifocal(geometric_mean_logit(x, z), of[i] if c == labels[i] else 0.0, alpha, gamma)
            for c, x in enumerate(row)
        )
    rows = LearningRows(out, labels, positive, quality, norm=5.0)
    assert VarifocalAligned(alpha, gamma).losses(rows)["cls"].item() == pytest.approx(slow / 5, rel=1e-10)


def test_gradcheck_in_float64() -> None:
    out, labels, positive, target = random_case()

    def loss(classes: Tensor, quality: Tensor) -> Tensor:
        return VarifocalAligned().losses(LearningRows(output(classes, quality), labels, positive, target))["cls"]

    inputs = out.class_logits.clone().requires_grad_(), out.quality_logits.clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, inputs)


def test_no_positives_and_no_places() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    for places in (0, 3):
        classes, quality = torch.zeros(places, 2, requires_grad=True), torch.zeros(places, 1, requires_grad=True)
        rows = LearningRows(output(classes, quality), torch.full((places,), -1), none, torch.zeros(0))
        loss = VarifocalAligned().losses(rows)["cls"]
        loss.backward()
        assert loss.item() == pytest.approx(places * 2 * 0.75 / 4 * math.log(2), rel=1e-6)
        assert classes.grad is not None
        assert quality.grad is not None


def test_extremes_and_half_precision() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.tensor([-200.0, 0, 200], dtype=dtype)
        classes, quality = x.repeat_interleave(3)[:, None].requires_grad_(), x.repeat(3)[:, None].requires_grad_()
        labels, positive = torch.tensor([0] * 9), torch.arange(9)
        rows = LearningRows(output(classes, quality), labels, positive, torch.linspace(0, 1, 9))
        loss = VarifocalAligned().losses(rows)["cls"]
        assert loss.dtype == torch.float32
        loss.backward()
        assert all(value.isfinite().all() for value in (loss, classes.grad, quality.grad))


def test_what_it_refuses() -> None:
    for alpha, gamma in ((-1, 2), (0.5, math.nan)):
        with pytest.raises(ValueError, match="alpha and gamma must be >= 0"):
            VarifocalAligned(alpha, gamma)
    with pytest.raises(ValueError, match="build the head with quality_outputs=1"):
        VarifocalAligned().class_logits(output(torch.zeros(1, 2), None))

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gfocal.points import make_points
from gfocal.representation import GuidedQuality, LearningRows, NoQuality
from gfocal.structures import HeadOutput
from helpers.rows import positive_rows
from oracles.losses import focal
from oracles.qualities import guided

POINTS = make_points([(1, 2)], [8], anchor_scale=5, offset=0.5)  # (4, 4), (12, 4)


def output(logits: Tensor) -> HeadOutput:
    return HeadOutput(logits, torch.zeros(len(logits), 4))


def random_case(places: int = 12) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(places, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(-1, 4, (places,), generator=generator)
    positive = (labels >= 0).nonzero().squeeze(1)
    return logits, labels, positive, torch.rand(len(positive), generator=generator, dtype=torch.float64)


def loss_of(quality: GuidedQuality | NoQuality, logits: Tensor, labels: Tensor, q: Tensor | None) -> Tensor:
    positive = (labels >= 0).nonzero().squeeze(1)
    losses = quality.losses(LearningRows(output(logits), labels, positive, q, norm=1.0))
    assert losses.keys() == {"cls"}
    return losses["cls"]


def test_by_hand() -> None:
    # One class, alpha 1/2, gamma 0: half of binary cross-entropy. Positives at sigma = 1/2 and 1/4 cost
    # a = log 2 / 2 and b = log 4 / 2 = 2a; eta 1, q = 1 and 1/4: S = 3a, S' = a + a/2, so S / S' = 2, w = 2 and 1/2:
    # 2a + a = 3a, as before, but the first now has the larger part. The negative at sigma = 1/2 costs a.
    logits = torch.tensor([[0.0], [-math.log(3)], [0.0]], dtype=torch.float64, requires_grad=True)
    quality = GuidedQuality("iou", eta=1.0, alpha=0.5, gamma=0.0)
    loss = loss_of(quality, logits, torch.tensor([0, 0, -1]), torch.tensor([1.0, 0.25], dtype=torch.float64))
    a = math.log(2) / 2
    assert loss.item() == pytest.approx(4 * a, rel=1e-12)
    loss.backward()
    # (sigma - y) / 2, times 2 and 1/2: -1/2 and -3/16; the negative keeps 1/4.
    assert logits.grad.flatten().tolist() == pytest.approx([-0.5, -3 / 16, 0.25], rel=1e-12)
    sums = quality.sums(
        LearningRows(output(logits), torch.tensor([0, 0, -1]), torch.tensor([0, 1]), torch.tensor([1, 0.25]))
    )
    assert sums.tolist() == pytest.approx([3 * a, 1.5 * a])
    assert not sums.requires_grad


@pytest.mark.parametrize("eta", [0.5, 1.5, 3.0])
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (None, 1.0)])
def test_agrees_with_the_slow_loop(eta: float, alpha: float | None, gamma: float) -> None:
    logits, labels, positive, q = random_case()
    losses = GuidedQuality("centerness", eta, alpha, gamma).losses(
        LearningRows(output(logits), labels, positive, q, norm=5.0)
    )
    assert losses["cls"].item() == pytest.approx(guided(logits, labels, q, eta, alpha, gamma) / 5, rel=1e-10)


def test_the_weights_are_those_of_the_slow_loop() -> None:
    # The sum hides the weights (it is that of plain focal loss); the gradient shows them.
    logits, labels, positive, q = random_case()
    logits.requires_grad_()
    (guided_slope,) = torch.autograd.grad(loss_of(GuidedQuality("iou"), logits, labels, q), logits)
    (plain_slope,) = torch.autograd.grad(loss_of(NoQuality(), logits, labels, None), logits)
    rows = [
        sum(focal(x, int(c == label), 0.25, 2) for c, x in enumerate(row))
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    factor = [v**1.5 for v in q.tolist()]
    before = sum(rows[i] for i in positive.tolist())
    after = sum(f * rows[i] for f, i in zip(factor, positive.tolist(), strict=True))
    weight = torch.ones(len(labels), 1, dtype=torch.float64)
    weight[positive, 0] = torch.tensor([f * before / after for f in factor], dtype=torch.float64)
    torch.testing.assert_close(guided_slope, plain_slope * weight, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("eta", "q"), [(0.0, None), (1.5, 1.0), (1.5, 0.3), (1.5, 0.0), (0.0, 0.0)], ids=lambda value: str(value)
)
def test_equal_qualities_are_focal_loss(eta: float, q: float | None) -> None:
    # eta = 0, all q = 1, all q alike, and S' = 0: w = 1.
    logits, labels, positive, random = random_case()
    logits.requires_grad_()
    quality = random if q is None else torch.full((len(positive),), q, dtype=torch.float64)
    loss, plain = (
        loss_of(GuidedQuality("iou", eta), logits, labels, quality),
        loss_of(NoQuality(), logits, labels, None),
    )
    assert loss.item() == pytest.approx(plain.item(), rel=1e-12)
    slopes = [torch.autograd.grad(value, logits)[0] for value in (loss, plain)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-12, atol=0)


def test_sums_over_micro_batches_give_the_loss_of_the_whole() -> None:
    logits, labels, positive, q = random_case(40)
    logits.requires_grad_()
    quality = GuidedQuality("iou")
    whole = loss_of(quality, logits, labels, q)
    by_place = torch.zeros(len(labels), dtype=torch.float64).index_put((positive,), q)
    parts = []
    for part in (slice(0, 7), slice(7, 8), slice(8, 40)):
        at = (labels[part] >= 0).nonzero().squeeze(1)
        parts.append(LearningRows(output(logits[part]), labels[part], at, by_place[part][at]))
    sums = torch.stack([quality.sums(part) for part in parts]).sum(0)
    pieces = sum(quality.losses(replace(part, sums=sums))["cls"] for part in parts)
    assert pieces.item() == pytest.approx(whole.item(), rel=1e-12)
    slopes = [torch.autograd.grad(value, logits)[0] for value in (pieces, whole)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-12, atol=0)
    apart = sum(quality.losses(part)["cls"] for part in parts)
    (slope,) = torch.autograd.grad(apart, logits)
    assert not torch.allclose(slope, slopes[1], rtol=1e-3)  # without the sums it is another loss


def test_gradients() -> None:
    # The weights are constants: of the numerical gradient too, once the sums are given and q is fixed ...
    logits, labels, positive, q = random_case()
    quality = GuidedQuality("iou")
    sums = quality.sums(LearningRows(output(logits), labels, positive, q))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: quality.losses(LearningRows(output(x), labels, positive, q, norm=2.0, sums=sums))["cls"], (logits,)
    )
    # ... and without them the gradient is the same: S and S' are detached, and so are sums and quality given.
    sums.requires_grad_()
    q.requires_grad_()
    given = quality.losses(LearningRows(output(logits), labels, positive, q, norm=2.0, sums=sums))["cls"]
    own = quality.losses(LearningRows(output(logits), labels, positive, q, norm=2.0))["cls"]
    slopes = [torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (given, own)]
    torch.testing.assert_close(slopes[0], slopes[1])
    given.backward()
    assert sums.grad is None
    assert q.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_extremes(dtype: torch.dtype) -> None:
    logits = torch.tensor([[100.0], [-100], [-100]], dtype=dtype, requires_grad=True)
    loss = loss_of(GuidedQuality("iou"), logits, torch.tensor([0, 0, -1]), torch.tensor([1.0, 0.01]))
    loss.backward()
    # The first costs nothing, so S = 25 and S' = 25 * 0.001: the second counts as in focal loss.
    assert loss.item() == pytest.approx(25, rel=1e-4)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("tiny", [1e-10, 1e-25, 1e-27, 1e-30])
def test_a_hair_of_quality_does_not_overflow(tiny: float) -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    loss = loss_of(GuidedQuality("iou"), logits, torch.tensor([0, 1]), torch.tensor([tiny, 0.0]))
    loss.backward()
    assert loss.item() == pytest.approx(2 * 0.25 * math.log(2), rel=1e-4)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("places", [0, 3])
def test_no_positives(places: int) -> None:
    logits = torch.zeros(places, 2, requires_grad=True)
    labels, none = torch.full((places,), -1), torch.zeros(0, dtype=torch.int64)
    quality = GuidedQuality("iou")
    assert quality.sums(LearningRows(output(logits), labels, none, torch.zeros(0))).tolist() == [0, 0]
    for sums in (None, torch.zeros(2), torch.tensor([3.0, 1.0])):
        loss = quality.losses(LearningRows(output(logits), labels, none, torch.zeros(0), norm=1.0, sums=sums))["cls"]
        loss.backward()
        assert loss.item() == pytest.approx(places * 2 * 0.75 * 0.25 * math.log(2))
    assert torch.isfinite(logits.grad).all()


def test_targets() -> None:
    # (4, 4) in [2, 1, 10, 7]: sqrt(2/6 * 3/3). Boxes [0, 0, 10, 10] and [5, 0, 15, 10] overlap by 50 of 150.
    boxes = torch.tensor([[0.0, 0, 10, 10]], requires_grad=True)
    target = torch.tensor([[2.0, 1, 10, 7]])
    q = GuidedQuality("centerness").target(positive_rows(POINTS[:1], boxes, target))
    assert q.tolist() == pytest.approx([math.sqrt(1 / 3)])
    q = GuidedQuality("iou").target(positive_rows(POINTS[:1], boxes, torch.tensor([[5.0, 0, 15, 10]])))
    assert q.tolist() == pytest.approx([1 / 3])
    assert not q.requires_grad


def test_the_score_is_the_class_score() -> None:
    quality = GuidedQuality("iou")
    out, scores = output(torch.randn(3, 5)), torch.rand(3)
    assert (quality.num_logits(5), quality.quality_channels) == (5, 0)
    assert quality.class_logits(out) is out.class_logits
    assert torch.equal(quality.scores(scores, out), scores)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="kind"):
        GuidedQuality("joint")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="eta"):
        GuidedQuality("iou", eta=-1)
    with pytest.raises(ValueError, match="target of every positive"):
        loss_of(GuidedQuality("iou"), torch.zeros(1, 2), torch.tensor([0]), None)

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gfocal.boxes import centerness
from gfocal.points import make_points
from gfocal.representation import BranchQuality, LearningRows
from gfocal.structures import HeadOutput
from helpers.rows import positive_rows
from oracles.boxes import iou
from oracles.losses import binary_cross_entropy, focal
from oracles.qualities import centerness as slow_centerness

POINTS = make_points([(2, 2)], [8], anchor_scale=5, offset=0.5)  # (4, 4), (12, 4), (4, 12), (12, 12)
TARGETS = torch.tensor([[2.0, 1, 10, 7], [11, 0, 16, 16], [-4, 2, 8, 22], [13, 13, 20, 20]])


def random_case() -> tuple[HeadOutput, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return 3 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    labels = torch.randint(-1, 4, (12,), generator=generator)
    positive = (labels >= 0).nonzero().squeeze(1)
    quality = torch.rand(len(positive), generator=generator, dtype=torch.float64)
    return HeadOutput(normal(12, 4), normal(12, 4), normal(12, 1)), labels, positive, quality


def test_centerness_by_hand() -> None:
    # (4, 4): left 2, right 6, top 3, bottom 3: sqrt(2/6 * 3/3). (12, 4): 1, 4, 4, 12: sqrt(1/4 * 1/3).
    # (4, 12): 8, 4, 10, 10: sqrt(4/8). (12, 12) is outside its box.
    target = BranchQuality("centerness").target(positive_rows(POINTS, torch.zeros(4, 4), TARGETS))
    assert target.tolist() == pytest.approx([math.sqrt(1 / 3), math.sqrt(1 / 12), math.sqrt(1 / 2), 0])


def test_centerness_agrees_with_the_slow_loop_and_keeps_to_its_range() -> None:
    generator = torch.Generator().manual_seed(1)
    corner, xy = torch.rand(2, 200, 2, generator=generator, dtype=torch.float64) * 20
    boxes = torch.cat((corner, corner + 10), 1)
    values = centerness(xy, boxes)
    slow = [slow_centerness(*p, b) for p, b in zip(xy.tolist(), boxes.tolist(), strict=True)]
    assert values.tolist() == pytest.approx(slow, abs=1e-12)
    assert 0 < sum(v > 0 for v in slow) < 200  # some lie inside, some do not
    # The centre is 1, an edge 0, a box without area 0; no points at all are no trouble.
    odd = centerness(torch.tensor([[5.0, 5], [0, 5], [5, 5]]), torch.tensor([[0.0, 0, 10, 10], [0, 0, 9, 9], [5] * 4]))
    assert odd.tolist() == [1, 0, 0]
    assert centerness(torch.zeros(0, 2), torch.zeros(0, 4)).shape == (0,)


def test_the_target_iou_is_that_of_the_box_and_carries_no_gradient() -> None:
    # Overlap 5 x 10 of two boxes of 100: 50 / 150.
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 1, 1]], requires_grad=True)
    truth = torch.tensor([[5.0, 0, 15, 10], [2, 2, 3, 3]])
    target = BranchQuality("iou").target(positive_rows(POINTS[:2], boxes, truth))
    assert target.tolist() == pytest.approx([1 / 3, 0])
    assert not target.requires_grad
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, 4, 2, generator=generator) * 10
    a, b = torch.cat((corner, corner + 8), -1)
    slow = [iou(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert BranchQuality("iou").target(positive_rows(POINTS, a, b)).tolist() == pytest.approx(slow, abs=1e-6)


def test_losses_by_hand() -> None:
    # Places 0 and 2 are positive. sigma = 1/2 in the classes: a positive costs 1/4 * 1/4 * log 2, each of the other
    # seven numbers 3/4 of that 1/4: over norm 2. Branch at 0 against 1: log 2; at log 3 (sigma 3/4) against 1/4:
    # -(1/4 log 3/4 + 3/4 log 1/4). Place 1 is no positive: its branch of 50 costs nothing.
    out = HeadOutput(torch.zeros(3, 3), torch.zeros(3, 4), torch.tensor([[0.0], [50], [math.log(3)]]))
    losses = BranchQuality("iou").losses(
        LearningRows(out, torch.tensor([1, -1, 0]), torch.tensor([0, 2]), torch.tensor([1.0, 0.25]), norm=2.0)
    )
    assert losses.keys() == {"cls", "quality"}
    assert losses["cls"].item() == pytest.approx((2 * 0.25 + 7 * 0.75) / 4 * math.log(2) / 2)
    by_hand = math.log(2) - 0.25 * math.log(0.75) - 0.75 * math.log(0.25)
    assert losses["quality"].item() == pytest.approx(by_hand / 2)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (None, 1.0)])
def test_losses_agree_with_the_slow_loop(alpha: float | None, gamma: float) -> None:
    out, labels, positive, quality = random_case()
    branch = [out.quality_logits[i, 0].item() for i in positive.tolist()]
    slow = sum(binary_cross_entropy(x, y) for x, y in zip(branch, quality.tolist(), strict=True))
    classes = sum(
        focal(x, int(c == labels[i]), alpha, gamma)
        for i, row in enumerate(out.class_logits.tolist())
        for c, x in enumerate(row)
    )
    losses = BranchQuality("iou", alpha, gamma).losses(LearningRows(out, labels, positive, quality, norm=5.0))
    assert losses["quality"].item() == pytest.approx(slow / 5, rel=1e-12)
    assert losses["cls"].item() == pytest.approx(classes / 5, rel=1e-6)


def test_the_branch_learns_where_it_equals_the_target_nothing() -> None:
    # d BCE / dz = sigmoid(z) - y, over the norm; elsewhere 0.
    out, labels, positive, _ = random_case()
    logits = out.quality_logits.requires_grad_()
    quality = logits.detach()[positive, 0].sigmoid()
    quality[0] -= 0.1
    BranchQuality("iou").losses(LearningRows(out, labels, positive, quality, norm=4.0))["quality"].backward()
    expected = torch.zeros_like(logits)
    expected[positive[0]] = 0.1 / 4
    torch.testing.assert_close(logits.grad, expected)


def test_gradients() -> None:
    out, labels, positive, quality = random_case()

    def total(classes: Tensor, branch: Tensor) -> Tensor:
        full = HeadOutput(classes, out.box, branch)
        return sum(BranchQuality("centerness").losses(LearningRows(full, labels, positive, quality, norm=2.0)).values())

    inputs = out.class_logits.requires_grad_(), out.quality_logits.requires_grad_()
    assert torch.autograd.gradcheck(total, inputs)
    assert not quality.requires_grad
    followed = quality.clone().requires_grad_()
    BranchQuality("iou").losses(LearningRows(out, labels, positive, followed, norm=1.0))["quality"].backward()
    assert followed.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_extremes(dtype: torch.dtype) -> None:
    branch = torch.tensor([[100.0], [-100], [100]], dtype=dtype, requires_grad=True)
    out = HeadOutput(torch.zeros(3, 2, dtype=dtype), torch.zeros(3, 4, dtype=dtype), branch)
    loss = BranchQuality("iou").losses(
        LearningRows(out, torch.tensor([0, 0, 0]), torch.arange(3), torch.tensor([0.0, 1.0, 1.0]), norm=1.0)
    )["quality"]
    loss.backward()
    # Two of them wrong by 100, the third is right.
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(200)
    assert branch.grad.flatten().tolist() == [1, -1, 0]


@pytest.mark.parametrize("places", [0, 3])
def test_without_positives_the_branch_costs_nothing_and_stays_in_the_graph(places: int) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    branch = torch.zeros(places, 1, requires_grad=True)
    out = HeadOutput(torch.zeros(places, 2, requires_grad=True), torch.zeros(places, 4), branch)
    losses = BranchQuality("iou").losses(LearningRows(out, torch.full((places,), -1), none, torch.zeros(0), norm=1.0))
    sum(losses.values()).backward()
    assert losses["quality"].item() == 0
    # The classes still learn that nothing is there: 3/4 of sigma^2 softplus(0) for each of two.
    assert losses["cls"].item() == pytest.approx(places * 2 * 0.75 * 0.25 * math.log(2))
    assert branch.grad is not None
    assert not branch.grad.any()


def test_the_score_is_the_product_and_the_candidate_the_class() -> None:
    quality = BranchQuality("centerness")
    out, _, _, _ = random_case()
    assert (quality.num_logits(4), quality.quality_channels, quality.sums) == (4, 1, None)
    assert quality.class_logits(out) is out.class_logits
    # Branches at 0, log 3 and far below: 1/2, 3/4, 0.
    winners = HeadOutput(torch.zeros(3, 4), torch.zeros(3, 4), torch.tensor([[0.0], [math.log(3)], [-200]]))
    scores = quality.scores(torch.tensor([0.5, 0.8, 1.0]), winners)
    assert scores.tolist() == pytest.approx([0.25, 0.6, 0])
    half = winners.map(lambda tensor: tensor.half())
    assert quality.scores(torch.tensor([0.5, 0.8, 1.0]), half).dtype == torch.float32


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="'centerness' or 'iou', got 'giou'"):
        BranchQuality("giou")  # type: ignore[arg-type]
    out, labels, positive, quality = random_case()
    with pytest.raises(ValueError, match="target of every positive"):
        BranchQuality("iou").losses(LearningRows(out, labels, positive, None, norm=1.0))
    bare = HeadOutput(out.class_logits, out.box)
    with pytest.raises(ValueError, match="quality_outputs=1"):
        BranchQuality("iou").losses(LearningRows(bare, labels, positive, quality, norm=1.0))

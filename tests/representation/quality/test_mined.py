from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gfocal.assigners import MaxIouAssigner
from gfocal.criterion import assign_batch
from gfocal.points import make_anchors, make_points, ssd_shapes
from gfocal.representation import DiracBoxes, LearningRows, MinedSoftmax
from gfocal.structures import HeadOutput, Targets
from helpers.known_answers import known_head
from helpers.rows import positive_rows
from oracles.losses import log_softmax
from oracles.qualities import mined

POINT = make_points([(1, 1)], [8], anchor_scale=5, offset=0.5)  # this form does not look at it


def output(logits: Tensor) -> HeadOutput:
    return HeadOutput(logits, torch.zeros(len(logits), 4))


def loss_of(logits: Tensor, labels: Tensor, image: Tensor, negatives: int = 3, norm: float = 1.0) -> Tensor:
    quality, positive = MinedSoftmax(negatives), (labels >= 0).nonzero().squeeze(1)
    losses = quality.losses(LearningRows(output(logits), labels, positive, None, image=image, norm=norm))
    assert losses.keys() == {"cls"}
    return losses["cls"]


def random_case(places: int = 60, images: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(places, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(-9, 3, (places,), generator=generator).clamp(min=-1)
    image = torch.arange(places) // (places // images)
    labels[image == 1] = -1  # nothing in one of them ...
    labels[image == 2] = 0  # ... and in another one fewer negatives than wanted
    labels[-(places // images) - 2 : -(places // images)] = -1
    return logits, labels, image


def test_by_hand() -> None:
    # Uniform over 3 classes and background: each place costs log 4. Two positives in the first image, none in the
    # second: six negatives count, those of the lowest index, and none of the second.
    logits = torch.zeros(20, 4, requires_grad=True)
    labels = torch.full((20,), -1)
    labels[[2, 5]] = torch.tensor([0, 2])
    loss = loss_of(logits, labels, torch.arange(20) // 10, norm=2.0)
    loss.backward()
    assert loss.item() == pytest.approx(8 * math.log(4) / 2)
    learnt = logits.grad.abs().sum(1) > 0
    assert learnt.nonzero().squeeze(1).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    # softmax - one-hot, over the norm: a positive of class 0, and a negative whose class is the last.
    assert logits.grad[2].tolist() == pytest.approx([-0.375, 0.125, 0.125, 0.125])
    assert logits.grad[0].tolist() == pytest.approx([0.125, 0.125, 0.125, -0.375])


def test_the_worst_negatives_count() -> None:
    # One positive, negatives = 2. Background logits -1, 3, -2, -1: places 3 and 1 are the least sure of background,
    # of 1 and 4, which are equal, the first.
    logits = torch.zeros(5, 2, requires_grad=True)
    logits.data[1:, 1] = torch.tensor([-1.0, 3, -2, -1])
    loss = loss_of(logits, torch.tensor([0, -1, -1, -1, -1]), torch.zeros(5, dtype=torch.int64), negatives=2)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2) + math.log1p(math.e**2) + math.log1p(math.e))
    assert (logits.grad.abs().sum(1) > 0).tolist() == [True, True, False, True, False]


@pytest.mark.parametrize("negatives", [1, 3, 5])
@pytest.mark.parametrize("shuffled", [False, True])
def test_agrees_with_the_slow_loop(negatives: int, shuffled: bool) -> None:
    logits, labels, image = random_case()
    logits[10:14] = logits[9]  # ties
    if shuffled:  # the places of an image need not stand together
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(2))
        logits, labels, image = logits[order], labels[order], image[order]
    logits.requires_grad_()
    loss = loss_of(logits, labels, image, negatives, norm=5.0)
    slow, kept = mined(logits.detach(), labels, image, negatives)
    assert loss.item() == pytest.approx(slow / 5, rel=1e-12)
    loss.backward()
    learnt = set((logits.grad.abs().sum(1) > 0).nonzero().squeeze(1).tolist())
    assert learnt - set((labels >= 0).nonzero().squeeze(1).tolist()) == kept


def test_enough_negatives_are_cross_entropy() -> None:
    logits, labels, _ = random_case()
    loss = loss_of(logits, labels, torch.zeros_like(labels), negatives=1000)
    slow = sum(-log_softmax(row)[label] for row, label in zip(logits.tolist(), labels.tolist(), strict=True))
    assert loss.item() == pytest.approx(slow, rel=1e-12)  # label -1 is the last class


def test_gradients() -> None:
    logits, labels, image = random_case(12)
    assert torch.autograd.gradcheck(lambda x: loss_of(x, labels, image, norm=2.0), (logits.requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_extremes(dtype: torch.dtype) -> None:
    logits = torch.tensor([[100.0, 0, -100], [-100, 0, 100], [100, 0, -100]], dtype=dtype, requires_grad=True)
    loss = loss_of(logits, torch.tensor([0, 0, -1]), torch.zeros(3, dtype=torch.int64))
    loss.backward()
    # The first is right, the second wrong by 200, the negative too.
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(400)
    assert torch.isfinite(logits.grad).all()
    candidate = MinedSoftmax().class_logits(output(logits.detach()))
    assert candidate.dtype == torch.float32
    assert torch.isfinite(candidate).all()
    probability = [[1, math.exp(-100)], [0, math.exp(-100)], [1, math.exp(-100)]]  # e^-200 is 0 in float32
    torch.testing.assert_close(candidate.sigmoid(), torch.tensor(probability), rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize("places", [0, 4])
def test_background_alone_teaches_nothing_and_stays_in_the_graph(places: int) -> None:
    logits = torch.randn(places, 3, requires_grad=True)
    loss = loss_of(logits, torch.full((places,), -1), torch.arange(places) // 2)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_positives_alone() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    loss = loss_of(logits, torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(2 * math.log(3))


def test_the_candidate_is_the_softmax_probability() -> None:
    quality = MinedSoftmax()
    logits = 4 * torch.randn(200, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.tensor([[math.exp(v) for v in log_softmax(row)[:-1]] for row in logits.tolist()])
    double = quality.class_logits(output(logits))
    torch.testing.assert_close(double.sigmoid(), expected.double(), rtol=1e-7, atol=0)
    # By hand: logits log 3 and 0 (background): p = 3/4, whose logit is log 3.
    assert quality.class_logits(output(torch.tensor([[math.log(3), 0.0]]))).item() == pytest.approx(math.log(3))
    single = quality.class_logits(output(logits.float()))
    torch.testing.assert_close(single.sigmoid(), expected.float(), rtol=1e-5, atol=2e-7)
    scores = torch.rand(3)
    assert torch.equal(quality.scores(scores, output(logits)), scores)


def test_what_it_needs() -> None:
    quality = MinedSoftmax()
    assert (quality.num_logits(20), quality.quality_channels, quality.sums) == (21, 0, None)
    assert quality.target(positive_rows(POINT, torch.zeros(2, 4), torch.ones(2, 4))) is None
    with pytest.raises(ValueError, match="negatives"):
        MinedSoftmax(0)


def test_known_answers() -> None:
    """The classification loss of mmdetection's SSD head, one number an image."""
    known = known_head("ssd512_small")
    # 4, 10, 26, ... 106 hundredths of 512, whole pixels there.
    shapes = ssd_shapes([20, 51, 133, 215, 296, 378, 460, 542], [[2], *[[2, 3]] * 4, *[[2]] * 2])
    maps = []
    for level, sizes in enumerate(shapes):
        feature, weight, bias = (
            torch.from_numpy(known[name])
            for name in (f"feat_{level}", f"state/cls_convs.{level}.0.weight", f"state/cls_convs.{level}.0.bias")
        )
        assert len(bias) == len(sizes) * 4
        maps.append(F.conv2d(feature, weight, bias, padding=1).permute(0, 2, 3, 1).reshape(2, -1, 4))
    logits = torch.cat(maps, 1)
    points = make_anchors([(64 >> i, 64 >> i) for i in range(7)], [8 << i for i in range(7)], shapes, offset=0.5)
    targets = [
        Targets(torch.from_numpy(known[f"gt_bboxes_{i}"]), torch.from_numpy(known[f"gt_labels_{i}"])) for i in range(2)
    ]
    assignment = assign_batch(points, targets, MaxIouAssigner(0.5, 0.5, low_quality="first"), DiracBoxes("deltas"))
    learnt = MinedSoftmax(3).losses(
        LearningRows(
            output(logits.flatten(0, 1)),
            assignment.labels,
            assignment.positive,
            None,
            image=torch.arange(2).repeat_interleave(len(points)),
            norm=float(len(assignment.positive)),
        )
    )
    assert learnt["cls"].item() == pytest.approx(known["loss/loss_cls"].sum(), rel=1e-5)
    for i, of_image in enumerate(known["loss/loss_cls"][:, 0]):
        labels = assignment.labels.view(2, -1)[i]
        alone = loss_of(logits[i], labels, torch.zeros_like(labels), norm=float(len(assignment.positive)))
        assert alone.item() == pytest.approx(of_image, rel=1e-5)

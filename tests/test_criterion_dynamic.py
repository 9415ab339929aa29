"""The criterion with an assigner that looks at predictions: what it is shown, and what becomes of its answer."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gfocal.assigners import TaskAlignedAssigner
from gfocal.criterion import assign_batch, detection_losses, step_sums
from gfocal.errors import UsageError
from gfocal.representation import (
    GeneralBoxes,
    JointQuality,
    JointV2,
    PositiveRows,
    Quality,
    ScoreWeight,
    TargetWeight,
)
from gfocal.structures import IGNORED, NEGATIVE, Assignment, BatchAssignment, HeadOutput, Targets
from helpers.criterion_cases import (
    BOX_WEIGHTS,
    BOXES,
    IMAGES,
    OBJECT,
    ONES,
    POINTS,
    TWO,
    WEIGHTS,
    random_output,
    targets,
    two_points,
)
from oracles.losses import quality_focal


class FixedDynamic:
    """An assigner that was told its answers, and notes what it was shown."""

    def __init__(self, *answers: Assignment) -> None:
        self.answers = iter(answers)
        self.seen: list[tuple[Targets, Tensor, Tensor]] = []

    def candidates(self, points: object, boxes: Tensor) -> tuple[Tensor, Tensor]:
        raise AssertionError("a step asks for assignments alone")

    def assign(
        self, points: object, objects: Targets, scores: Tensor, boxes: Tensor, keep: object = None
    ) -> Assignment:
        self.seen.append((objects, scores, boxes))
        return next(self.answers)


def aligned_batch(
    out: HeadOutput, part: slice = slice(None), quality: Quality | None = None, positives: int = 3
) -> BatchAssignment:
    assigner = TaskAlignedAssigner(positives=positives)
    chosen = JointQuality() if quality is None else quality
    return assign_batch(POINTS, IMAGES[part], assigner, GeneralBoxes(8), out=out[part], quality=chosen)


def test_what_an_assigner_is_shown_and_what_becomes_of_its_answer() -> None:
    # Two points; point 0 of the first image decodes to [-6, -4, 12, 12], with the scores 1/2 and 3/4 (see above).
    boxes, quality = BOXES, JointQuality()
    one = two_points()
    out = HeadOutput(torch.cat([one.class_logits] * 3).requires_grad_(), torch.cat([one.box] * 3).requires_grad_())
    first, second = targets(([0.0, 0, 9, 9], 1), ([1.0, 1, 7, 7], 0)), targets(([0.0, 0, 20, 20], 0))
    answers = (
        Assignment(torch.tensor([1, 0]), torch.tensor([0.25, 0.5])),
        Assignment(torch.tensor([NEGATIVE, NEGATIVE])),  # an image without positives need not measure any
        Assignment(torch.tensor([IGNORED, 0]), torch.tensor([9.0, 0.125])),
    )
    assigner = FixedDynamic(*answers)
    assignment = assign_batch(TWO, [first, targets(), second], assigner, boxes, out=out, quality=quality)
    assert [len(objects) for objects, _, _ in assigner.seen] == [2, 0, 1]
    for _, scores, decoded in assigner.seen:
        torch.testing.assert_close(scores, torch.tensor([[0.5, 0.75], [0.5, 0.25]]))
        torch.testing.assert_close(decoded, torch.tensor([[-6.0, -4, 12, 12], [4, -4, 20, 12]]))
        assert not any(tensor.requires_grad for tensor in (scores, decoded))
    assert assignment.positive.tolist() == [0, 1, 5]
    assert assignment.gt_index.tolist() == [1, 0, 2]
    assert assignment.alignment.tolist() == [0.25, 0.5, 0.125]
    assert assignment.labels.tolist() == [0, 1, -1, -1, -1, 0]
    assert assignment.target_boxes.tolist() == [[1, 1, 7, 7], [0, 0, 9, 9], [0, 0, 20, 20]]
    assert (assignment.objects, assignment.missed, assignment.counts.tolist()) == (3, 0, [2, 0, 1])
    assert assignment.ignored.nonzero().flatten().tolist() == [4]


def test_an_assigner_that_measures_some_images_alone_is_refused() -> None:
    out = HeadOutput(torch.zeros(2, 2, 2), torch.zeros(2, 2, 12))
    answers = Assignment(torch.tensor([0, -1]), torch.tensor([0.25, 0])), Assignment(torch.tensor([0, -1]))
    with pytest.raises(ValueError, match="alignment of every image that has positives, or of none"):
        assign_batch(TWO, [OBJECT, OBJECT], FixedDynamic(*answers), BOXES, out=out, quality=JointQuality())
    plain = [Assignment(torch.tensor([0, -1]))] * 2
    found = assign_batch(TWO, [OBJECT, OBJECT], FixedDynamic(*plain), BOXES, out=out, quality=JointQuality())
    assert found.alignment is None


def test_predictions_must_be_there() -> None:
    for given in ({}, {"quality": JointQuality()}, {"out": two_points()}):
        with pytest.raises(
            UsageError, match="TaskAlignedAssigner looks at predictions: give assign_batch `out` and `qu"
        ):
            assign_batch(TWO, [OBJECT], TaskAlignedAssigner(), BOXES, **given)


def test_the_total_of_two_points_by_alignment() -> None:
    # Class 1, object [-4, -4, 20, 12] holds both points. Point 0 has s = 3/4 and the box [-6, -4, 12, 12] of IoU 256 /
    # (288 + 384 - 256) = 8/13; point 1 has s = 1/4 and [4, -4, 20, 12] of IoU 256 / 384 = 2/3.
    # t: 3/4 (8/13)^6 and 1/4 (2/3)^6; the first is larger and learns 2/3, the second their ratio times that.
    wide = targets(([-4.0, -4, 20, 12], 1))
    arguments = {"out": two_points(), "quality": JointQuality()}
    assignment = assign_batch(TWO, [wide], TaskAlignedAssigner(), BOXES, **arguments)
    t = [0.75 * (8 / 13) ** 6, 0.25 * (2 / 3) ** 6]
    assert assignment.alignment.tolist() == pytest.approx(t, rel=1e-5)
    y = [2 / 3, t[1] / t[0] * 2 / 3]
    losses = detection_losses(
        arguments["out"], TWO, assignment, BOXES, JointQuality(), box_weight=TargetWeight(), loss_weights=ONES
    )
    classes = quality_focal(math.log(3), y[0], 2) + quality_focal(-math.log(3), y[1], 2) + 2 * 0.25 * math.log(2)
    assert losses["cls"].item() == pytest.approx(classes / 2, rel=1e-5)
    # GIoU: the enclosing box is [-6, -4, 20, 12] of 416, the union 416; then the object itself.
    assert y[0] + y[1] > 1
    assert losses["box"].item() == pytest.approx((y[0] * 5 / 13 + y[1] * 1 / 3) / (y[0] + y[1]), rel=1e-5)


def test_the_total_of_two_points_by_a_judge() -> None:
    # Both points learn the object [-4, -4, 12, 12] of class 1. Their own boxes are [-6, -4, 12, 12] and
    # [4, -4, 20, 12], those of the judge [-4, -4, 12, 12] of IoU 1 and [2, -4, 20, 12] of IoU
    # 160 / (288 + 256 - 160) = 5/12.
    code = torch.zeros(1, 2, 12)
    code[0, 1, 2] = math.log(2)
    judge = HeadOutput(torch.full((1, 2, 2), 9.0), code)
    out = two_points().map(lambda tensor: tensor.requires_grad_())
    answers = FixedDynamic(Assignment(torch.tensor([0, 0])))
    assignment = assign_batch(TWO, [OBJECT], answers, BOXES, out=judge, quality=JointQuality())
    ((_, scores, boxes),) = answers.seen
    assert scores.unique().item() == pytest.approx(1 / (1 + math.exp(-9)))
    torch.testing.assert_close(boxes, torch.tensor([[-4.0, -4, 12, 12], [2, -4, 20, 12]]))
    given = {"box_weight": ScoreWeight(), "loss_weights": ONES, "judge": judge}
    losses = detection_losses(out, TWO, assignment, BOXES, JointQuality(), **given)
    classes = quality_focal(math.log(3), 1, 2) + quality_focal(-math.log(3), 5 / 12, 2) + 2 * 0.25 * math.log(2)
    assert losses["cls"].item() == pytest.approx(classes / 2, rel=1e-5)
    # Own boxes, by own scores 3/4 and 1/2: 1 - 8/9 and 1 - 1/3, as each lies in the union.
    assert losses["box"].item() == pytest.approx((0.75 * 1 / 9 + 0.5 * 2 / 3) / 1.25, rel=1e-5)
    assert step_sums(out, TWO, assignment, BOXES, JointQuality(), ScoreWeight(), judge).item() == pytest.approx(1.25)
    given["box_weight"] = TargetWeight()
    losses = detection_losses(out, TWO, assignment, BOXES, JointQuality(), **given)
    assert losses["box"].item() == pytest.approx((1 / 9 + 5 / 12 * 2 / 3) / (17 / 12), rel=1e-5)
    sums = step_sums(out, TWO, assignment, BOXES, JointQuality(), TargetWeight(), judge)
    assert sums.tolist() == pytest.approx([17 / 12])
    # What an assistant says beside the outputs is another's.
    beside = replace(out, assistant=judge)
    same = detection_losses(beside, TWO, assignment, BOXES, JointQuality(), **given)
    assert {name: value.item() for name, value in same.items()} == {n: v.item() for n, v in losses.items()}


def test_no_gradient_flows_into_a_judge() -> None:
    out, judge = (random_output(4, GeneralBoxes(8), seed) for seed in (0, 1))
    assignment = aligned_batch(judge)
    losses = detection_losses(
        out,
        POINTS,
        assignment,
        GeneralBoxes(8),
        JointQuality(),
        box_weight=TargetWeight(),
        loss_weights=WEIGHTS,
        judge=judge,
    )
    torch.stack(list(losses.values())).sum().backward()
    assert bool(out.class_logits.grad.any())
    assert judge.class_logits.grad is judge.box.grad is None


def test_a_weight_by_the_target_does_not_compute_it_again() -> None:
    asked = []

    class Counting(JointQuality):
        def target(self, positives: PositiveRows) -> Tensor:
            asked.append(positives)
            return super().target(positives)

    out, quality = two_points(), Counting()
    assignment = assign_batch(TWO, [OBJECT], TaskAlignedAssigner(), BOXES, out=out, quality=quality)
    detection_losses(out, TWO, assignment, BOXES, quality, box_weight=TargetWeight(), loss_weights=ONES)
    assert len(asked) == 1


@pytest.mark.parametrize("box_weight", BOX_WEIGHTS)
@pytest.mark.parametrize("quality", [JointQuality(), JointV2(9)], ids=["joint", "joint_v2"])
def test_parts_of_a_step_by_alignment_add_up_to_the_whole(quality: Quality, box_weight: str) -> None:
    boxes, chosen = GeneralBoxes(8), BOX_WEIGHTS[box_weight]
    out = random_output(4, boxes).map(lambda tensor: tensor.detach().double().requires_grad_())
    if isinstance(quality, JointV2):
        quality = quality.double()

    def losses_of(part: slice, **norms: float) -> Tensor:
        terms = detection_losses(
            out[part],
            POINTS,
            aligned_batch(out, part, quality),
            boxes,
            quality,
            box_weight=chosen,
            loss_weights=WEIGHTS,
            **norms,
        )
        return torch.stack(list(terms.values())).sum()

    whole = losses_of(slice(0, 4))
    expected = torch.autograd.grad(whole, (out.class_logits, out.box))
    parts = [slice(0, 1), slice(1, 2), slice(2, 4)]  # the second has no object at all
    assigned = [aligned_batch(out, part, quality) for part in parts]
    count = sum(len(a.positive) for a in assigned)
    sums = [step_sums(out[p], POINTS, a, boxes, quality, chosen)[0] for p, a in zip(parts, assigned, strict=True)]
    assert 4 < count == len(aligned_batch(out, slice(0, 4), quality).positive)
    total = sum(losses_of(part, cls_norm=count, box_norm=max(float(sum(sums)), 1)) for part in parts)
    assert total.item() == pytest.approx(whole.item(), rel=1e-12)
    for gradient, value in zip(torch.autograd.grad(total, (out.class_logits, out.box)), expected, strict=True):
        torch.testing.assert_close(gradient, value, rtol=1e-10, atol=1e-14)


class Constant(JointQuality):
    """Joint quality whose target is a constant of its own."""

    def __init__(self, target: Tensor) -> None:
        super().__init__()
        self.constant = target

    def target(self, positives: PositiveRows) -> Tensor:
        return self.constant


@pytest.mark.parametrize("box_weight", ["score", "target"])
def test_no_gradient_flows_through_alignment(box_weight: str) -> None:
    # With the assignment, its targets and the weights as constants, the gradient is that of finite differences; and
    # where they are computed from the same outputs, it is the same to the last bit.
    boxes, quality, chosen = GeneralBoxes(8), JointQuality(), BOX_WEIGHTS[box_weight]
    out = random_output(4, boxes).map(lambda tensor: tensor.detach().double().requires_grad_())
    assignment = aligned_batch(out)
    assert not assignment.alignment.requires_grad
    seen: list[tuple[Tensor, Tensor]] = []

    def note(positives: PositiveRows, of: Quality) -> Tensor:
        # Forms need not detach anything themselves.
        shown = {**vars(positives), **vars(positives.known_out)}.values()
        assert not any(value.requires_grad for value in shown if isinstance(value, Tensor))
        seen.append((of.target(positives), chosen(positives, of)))
        return seen[-1][1]

    losses = detection_losses(out, POINTS, assignment, boxes, quality, box_weight=note, loss_weights=WEIGHTS)
    real = torch.autograd.grad(sum(losses.values()), (out.class_logits, out.box))
    ((target, weight),) = seen
    assert not any(tensor.requires_grad for tensor in (target, weight))
    assert len(set(target.tolist())) > 5

    def frozen(logits: Tensor, code: Tensor) -> Tensor:
        terms = detection_losses(
            HeadOutput(logits, code),
            POINTS,
            assignment,
            boxes,
            Constant(target),
            box_weight=lambda positives, of: weight,
            loss_weights=WEIGHTS,
        )
        return torch.stack(list(terms.values())).sum()

    same = torch.autograd.grad(frozen(out.class_logits, out.box), (out.class_logits, out.box))
    assert all(torch.equal(*pair) for pair in zip(real, same, strict=True))
    assert torch.autograd.gradcheck(frozen, (out.class_logits, out.box), fast_mode=True)


def test_background_and_a_pixel_by_alignment() -> None:
    boxes, quality = GeneralBoxes(8), JointQuality()
    # (8, 8) is a point of the first level (and no other): an object of one pixel around it has one positive.
    pixel, nowhere = targets(([7.5, 7.5, 8.5, 8.5], 1)), targets(([9.0, 9, 10, 10], 1))
    for images, positives, missed in (
        ([targets()] * 2, 0, 0),
        ([pixel, targets()], 1, 0),
        ([nowhere, targets()], 0, 1),
    ):
        out = random_output(2, boxes)
        found = assign_batch(POINTS, images, TaskAlignedAssigner(), boxes, out=out, quality=quality)
        assert (len(found.positive), found.missed) == (positives, missed)
        losses = detection_losses(out, POINTS, found, boxes, quality, box_weight=TargetWeight(), loss_weights=WEIGHTS)
        torch.stack(list(losses.values())).sum().backward()
        assert losses["cls"].item() > 1
        assert (losses["box"].item() > 0) == bool(positives)
        assert out.class_logits.grad.isfinite().all()
        assert out.box.grad.isfinite().all()
    nobody = assign_batch(POINTS, [], TaskAlignedAssigner(), boxes, out=random_output(0, boxes), quality=quality)
    assert (len(nobody.positive), nobody.objects, nobody.alignment) == (0, 0, None)


@pytest.mark.parametrize("logit", [200.0, -200.0, math.nan, math.inf])
def test_extreme_outputs_by_alignment(logit: float) -> None:
    boxes, quality = GeneralBoxes(8), JointQuality()
    out = random_output(4, boxes)
    with torch.no_grad():
        out.class_logits[:, ::2] = logit
        out.box[:, 1::2] *= 200
        if math.isnan(logit):
            out.box[:, 3::4] = logit
    found = aligned_batch(out, positives=13)
    assert found.alignment.isfinite().all()
    assert len(found.positive) >= 13
    losses = detection_losses(out, POINTS, found, boxes, quality, box_weight=TargetWeight(), loss_weights=WEIGHTS)
    assert all(math.isfinite(value.item()) for value in losses.values()) == (abs(logit) == 200)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_alignment_of_half_precision_outputs_is_that_of_float32(dtype: torch.dtype) -> None:
    half = random_output(4, GeneralBoxes(8)).map(lambda tensor: tensor.detach().to(dtype))
    whole = half.map(Tensor.float)
    for quality in (JointQuality(), JointV2(9)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = aligned_batch(half, quality=quality)
        full = aligned_batch(whole, quality=quality)
        assert len(full.positive) > 8
        assert torch.equal(low.positive, full.positive)
        assert torch.equal(low.gt_index, full.gt_index)
        assert torch.equal(low.alignment, full.alignment)

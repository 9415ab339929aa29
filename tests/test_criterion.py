from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from gfocal.assigners import AtssAssigner
from gfocal.criterion import assign_batch, count_positives, detection_losses, divisors
from gfocal.errors import UsageError
from gfocal.points import make_points
from gfocal.representation import (
    CenternessWeight,
    DiracBoxes,
    GeneralBoxes,
    JointQuality,
    LearningRows,
    NoQuality,
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
from helpers.rows import positive_rows
from oracles.losses import quality_focal, quality_focal_slope


class Fixed:
    """An assigner that was told its answers, one image after the other."""

    def __init__(self, *answers: Sequence[int]) -> None:
        self.answers = iter(answers)

    def __call__(self, points: object, boxes: Tensor) -> Assignment:
        return Assignment(torch.tensor(next(self.answers)))


# --- two points, worked by hand -------------------------------------------------------------------------------------


def assigned_by_hand() -> BatchAssignment:
    return assign_batch(TWO, [OBJECT], AtssAssigner(1), BOXES)


def test_assigning_two_points() -> None:
    assignment = assigned_by_hand()
    assert assignment.positive.tolist() == [0]  # the anchor of point 0 is the object
    assert assignment.labels.tolist() == [1, -1]
    assert assignment.target_boxes.tolist() == OBJECT.boxes.tolist()
    assert assignment.ignored is None
    assert (assignment.objects, assignment.missed, assignment.edges, assignment.truncated) == (1, 0, 4, 0)


@pytest.mark.parametrize("box_weight", BOX_WEIGHTS)
def test_the_total_of_two_points(box_weight: str) -> None:
    chosen = BOX_WEIGHTS[box_weight]
    losses = detection_losses(
        two_points(), TWO, assigned_by_hand(), BOXES, JointQuality(), box_weight=chosen, loss_weights=WEIGHTS
    )
    # Point 0 decodes to 1.25 strides left, 1 elsewhere: [-6, -4, 12, 12], IoU = GIoU = 256 / 288 = 8/9.
    # The weight of its box terms: the larger class score sigmoid(log 3) = 3/4; the point is in the middle of its
    # object, so its centerness is 1; the quality learns the IoU there. Their sum is at most 1: the divisor is 1.
    weight = {"score": 0.75, "centerness": 1.0, "target": 8 / 9, "none": 1.0}[box_weight]
    assert losses["box"].item() == pytest.approx(2 * weight / 9, rel=1e-5)
    # Every edge of the object is at 1 stride, bin 1: -log 1/4 on the left, -log 1/3 on the three others.
    assert losses["dfl"].item() == pytest.approx(weight * (math.log(4) + 3 * math.log(3)) / 4 / 4, rel=1e-5)
    # Class 1 of point 0 has y = 8/9 and sigma = 3/4; the rest y = 0 and sigma = 1/2, 1/2, 1/4. One positive.
    positive = (8 / 9 - 3 / 4) ** 2 * -(1 / 9 * math.log(1 / 4) + 8 / 9 * math.log(3 / 4))
    negatives = 2 * 0.25 * math.log(2) + (1 / 4) ** 2 * -math.log(3 / 4)
    assert losses["cls"].item() == pytest.approx(positive + negatives, rel=1e-5)
    assert losses.keys() == {"cls", "box", "dfl"}


def test_the_weight_carries_no_gradient() -> None:
    out = two_points()
    logits = out.class_logits.requires_grad_()
    losses = detection_losses(out, TWO, assigned_by_hand(), BOXES, JointQuality(), loss_weights=WEIGHTS)
    losses["cls"].backward()
    # Nothing of the box terms reaches the class logits: the slopes are those of QFL at a constant target.
    expected = [quality_focal_slope(0, 0, 2), quality_focal_slope(math.log(3), 8 / 9, 2)]
    assert logits.grad[0, 0].tolist() == pytest.approx(expected, rel=1e-4)
    assert not losses["box"].requires_grad


def test_centerness_by_hand() -> None:
    # The point (4, 4) in [2, 1, 10, 7]: left 2, right 6, top 3, bottom 3: sqrt(2/6 * 3/3).
    weight = CenternessWeight()(positive_rows(TWO[:1], None, torch.tensor([[2.0, 1, 10, 7]])), NoQuality())
    assert weight.tolist() == pytest.approx([math.sqrt(1 / 3)])


def test_loss_weights_and_normalisers_only_scale() -> None:
    assignment, quality = assigned_by_hand(), JointQuality()
    plain = detection_losses(two_points(), TWO, assignment, BOXES, quality, loss_weights=ONES, cls_norm=1, box_norm=1)
    given = detection_losses(
        two_points(), TWO, assignment, BOXES, quality, loss_weights=WEIGHTS, cls_norm=torch.tensor(5.0), box_norm=4.0
    )
    for name, norm in (("cls", 5), ("box", 4), ("dfl", 4)):
        assert given[name].item() == pytest.approx(WEIGHTS[name] * plain[name].item() / norm, rel=1e-6)


def test_all_terms_are_divided_by_the_sum_of_the_weights() -> None:
    assignment, quality, target = assigned_by_hand(), JointQuality(), TargetWeight()
    given = {"box_weight": target, "loss_weights": ONES, "cls_norm": 3.0}
    plain = detection_losses(two_points(), TWO, assignment, BOXES, quality, **given, box_norm=1.0)
    for norm in (0.25, torch.tensor(2.0, dtype=torch.float64)):
        losses = detection_losses(
            two_points(), TWO, assignment, BOXES, quality, **given, box_norm=norm, count_rule="weights"
        )
        # The positives' count, which somebody may have given, divides nothing.
        assert losses["cls"].item() == pytest.approx(3 * plain["cls"].item() / float(norm), rel=1e-6)
        assert losses["box"].item() == pytest.approx(plain["box"].item() / float(norm), rel=1e-6)
    # By default the sum over this batch, but at least 1: one positive whose IoU is below 1.
    alone = detection_losses(
        two_points(), TWO, assignment, BOXES, quality, box_weight=target, loss_weights=ONES, count_rule="weights"
    )
    assert alone["cls"].item() == pytest.approx(3 * plain["cls"].item(), rel=1e-6)
    # Without weights each positive weighs 1: their count.
    counted = detection_losses(
        two_points(), TWO, assignment, BOXES, quality, box_weight=None, loss_weights=ONES, count_rule="weights"
    )
    assert counted["cls"].item() == pytest.approx(3 * plain["cls"].item() / len(assignment.positive), rel=1e-6)


def test_what_a_weight_needs() -> None:
    bare = positive_rows(TWO[:1], None, torch.zeros(1, 4))
    with pytest.raises(ValueError, match="reads the network's outputs, and out is None"):
        ScoreWeight()(bare, NoQuality())
    with pytest.raises(ValueError, match="reads the decoded boxes, and boxes is None"):
        TargetWeight()(bare, JointQuality())
    with pytest.raises(ValueError, match="box_weight target needs a quality that learns a target; NoQuality has none"):
        TargetWeight()(bare, NoQuality())
    assert [weight.reads_outputs for weight in (ScoreWeight(), CenternessWeight(), TargetWeight())] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            {"cls": 1.0, "boks": 2.0, "dfl": 0.25},
            "lacks a factor for box; it has cls, boks, dfl. Give .* cls, box, dfl",
        ),
        ({"cls": 1.0}, "lacks a factor for box and dfl; it has cls"),
        ({}, "lacks a factor for cls and box and dfl; it has none"),
    ],
    ids=["misspelt", "left out", "all"],
)
def test_a_term_without_a_factor_is_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        detection_losses(two_points(), TWO, assigned_by_hand(), BOXES, JointQuality(), loss_weights=weights)


# --- batches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("boxes", [GeneralBoxes(8), DiracBoxes()], ids=["general", "dirac"])
@pytest.mark.parametrize(
    ("quality", "box_weight"),
    [(JointQuality(), name) for name in BOX_WEIGHTS]
    + [(NoQuality(), name) for name in BOX_WEIGHTS if name != "target"],
)
def test_parts_of_a_step_add_up_to_the_whole(
    boxes: GeneralBoxes | DiracBoxes, quality: JointQuality | NoQuality, box_weight: str
) -> None:
    out, assigner, chosen = random_output(4, boxes), AtssAssigner(9), BOX_WEIGHTS[box_weight]

    def losses_of(part: slice, **norms: float) -> Tensor:
        assignment = assign_batch(POINTS, IMAGES[part], assigner, boxes)
        terms = detection_losses(
            out[part], POINTS, assignment, boxes, quality, box_weight=chosen, loss_weights=WEIGHTS, **norms
        )
        return torch.stack(list(terms.values())).sum()

    def norms_of(part: slice) -> tuple[int, float]:
        assignment = assign_batch(POINTS, IMAGES[part], assigner, boxes)
        flat = out[part].map(lambda tensor: tensor.detach().flatten(0, 1))[assignment.positive]
        at = POINTS[assignment.positive % len(POINTS)]
        rows = positive_rows(at, boxes.decode(at, flat.box), assignment.target_boxes, out=flat)
        weight = None if chosen is None else chosen(rows, quality)
        count = len(assignment.positive)
        return count, float(count) if weight is None else weight.sum().item()

    whole = losses_of(slice(0, 4))
    whole.backward()
    expected = [out.class_logits.grad.clone(), out.box.grad.clone()]
    out.class_logits.grad = out.box.grad = None
    parts = [slice(0, 1), slice(1, 2), slice(2, 4)]  # the second has no object at all
    counts, weights = zip(*map(norms_of, parts), strict=True)
    assert sum(counts) > 4
    halves = [losses_of(part, cls_norm=max(sum(counts), 1), box_norm=max(sum(weights), 1)) for part in parts]
    torch.stack(halves).sum().backward()
    assert sum(h.item() for h in halves) == pytest.approx(whole.item(), rel=1e-6)
    for gradient, value in zip((out.class_logits.grad, out.box.grad), expected, strict=True):
        torch.testing.assert_close(gradient, value, rtol=1e-5, atol=1e-7)


def test_the_default_normalisers_are_those_of_the_batch() -> None:
    boxes, quality = GeneralBoxes(8), JointQuality()
    out, assignment = random_output(4, boxes), assign_batch(POINTS, IMAGES, AtssAssigner(9), boxes)
    flat = HeadOutput(out.class_logits.flatten(0, 1), out.box.flatten(0, 1))[assignment.positive]
    score_sum = flat.class_logits.sigmoid().amax(1).sum().item()
    arguments = (out, POINTS, assignment, boxes, quality)
    default = detection_losses(*arguments, loss_weights=ONES)
    explicit = detection_losses(*arguments, loss_weights=ONES, cls_norm=len(assignment.positive), box_norm=score_sum)
    assert score_sum > 1
    assert {k: v.item() for k, v in default.items()} == pytest.approx({k: v.item() for k, v in explicit.items()})


def test_each_image_gets_its_own_objects() -> None:
    boxes = DiracBoxes()
    first, second = targets(([0.0, 0, 9, 9], 2)), targets(([1.0, 1, 7, 7], 0), ([0.0, 0, 20, 20], 1))
    count = len(POINTS)
    rows = [[NEGATIVE] * count for _ in range(3)]
    rows[0][5] = 0
    rows[2][3], rows[2][7] = 1, 1
    assignment = assign_batch(POINTS, [first, targets(), second], Fixed(*rows), boxes)
    assert assignment.positive.tolist() == [5, 2 * count + 3, 2 * count + 7]
    assert assignment.target_boxes.tolist() == [[0, 0, 9, 9], [0, 0, 20, 20], [0, 0, 20, 20]]
    assert assignment.labels[assignment.positive].tolist() == [2, 1, 1]
    assert (assignment.labels == -1).sum().item() == 3 * count - 3
    assert (assignment.objects, assignment.missed) == (3, 1)  # the first object of the third image has no point
    assert assignment.gt_index.tolist() == [0, 2, 2]  # of all objects of the batch
    assert assignment.alignment is None


def test_edges_out_of_reach_are_counted() -> None:
    rows = [NEGATIVE] * len(POINTS)
    rows[0] = 0  # the point (0, 0) of stride 8: General with n = 2 reaches 16 pixels
    assignment = assign_batch(POINTS, [targets(([-17.0, -16, 16, 40], 0))], Fixed(rows), GeneralBoxes(2))
    assert (assignment.edges, assignment.truncated) == (4, 2)


@pytest.mark.parametrize("boxes", [GeneralBoxes(8), DiracBoxes()], ids=["general", "dirac"])
@pytest.mark.parametrize("quality", [JointQuality(), NoQuality(None)], ids=["joint", "none"])
def test_background_teaches_the_negatives(boxes: GeneralBoxes | DiracBoxes, quality: JointQuality | NoQuality) -> None:
    out = random_output(2, boxes)
    assignment = assign_batch(POINTS, [Targets.empty(), Targets.empty()], AtssAssigner(9), boxes)
    losses = detection_losses(out, POINTS, assignment, boxes, quality, loss_weights=WEIGHTS)
    torch.stack(list(losses.values())).sum().backward()
    logits = out.class_logits.detach().flatten().tolist()
    # With y = 0 both qualities are sigma^2 softplus(x), and no positives divide by 1.
    assert losses["cls"].item() == pytest.approx(sum(quality_focal(x, 0, 2) for x in logits), rel=1e-5)
    slopes = [quality_focal_slope(x, 0, 2) for x in logits]
    assert out.class_logits.grad.flatten().tolist() == pytest.approx(slopes, rel=1e-3, abs=1e-7)
    assert {name: v.item() for name, v in losses.items() if name != "cls"} == dict.fromkeys(
        losses.keys() - {"cls"}, 0.0
    )
    assert out.box.grad is not None  # connected: parallel training waits for every gradient
    assert not out.box.grad.any()


def test_no_images_at_all() -> None:
    boxes, nobody = GeneralBoxes(8), torch.zeros(0, dtype=torch.int64)
    out = random_output(0, boxes)
    none = BatchAssignment(nobody, nobody, torch.zeros(0, 4), nobody, None, None, nobody, 0, 0, 0, 0)
    losses = detection_losses(out, POINTS, none, boxes, JointQuality(), loss_weights=WEIGHTS)
    assert {name: value.item() for name, value in losses.items()} == {"cls": 0, "box": 0, "dfl": 0}
    torch.stack(list(losses.values())).sum().backward()


def test_ignored_points_learn_nothing() -> None:
    boxes, quality, count = GeneralBoxes(8), JointQuality(), len(POINTS)
    one = targets(([0.0, 0, 30, 30], 2))
    plain, marked = [NEGATIVE] * count, [NEGATIVE] * count
    plain[6] = marked[6] = 0
    ignored = [0, 3, 19]
    for i in ignored:
        marked[i] = IGNORED
    out = random_output(1, boxes)
    assignment = assign_batch(POINTS, [one], Fixed(marked), boxes)
    assert assignment.ignored.nonzero().flatten().tolist() == ignored
    losses = detection_losses(out, POINTS, assignment, boxes, quality, loss_weights=ONES)
    torch.stack(list(losses.values())).sum().backward()
    all_points = detection_losses(
        out, POINTS, assign_batch(POINTS, [one], Fixed(plain), boxes), boxes, quality, loss_weights=ONES
    )
    theirs = sum(quality_focal(x, 0, 2) for x in out.class_logits[0, ignored].flatten().tolist())
    assert losses["cls"].item() == pytest.approx(all_points["cls"].item() - theirs, rel=1e-5)
    assert losses["box"].item() == all_points["box"].item()
    silent = (out.class_logits.grad[0] == 0).all(1).nonzero().flatten().tolist()
    assert silent == ignored


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_half_precision_outputs_are_float32(dtype: torch.dtype) -> None:
    boxes = GeneralBoxes(8)
    whole = random_output(4, boxes)
    half = HeadOutput(whole.class_logits.detach().to(dtype), whole.box.detach().to(dtype))
    same = HeadOutput(half.class_logits.float(), half.box.float())
    assignment = assign_batch(POINTS, IMAGES, AtssAssigner(9), boxes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = detection_losses(half, POINTS, assignment, boxes, JointQuality(), loss_weights=WEIGHTS)
    full = detection_losses(same, POINTS, assignment, boxes, JointQuality(), loss_weights=WEIGHTS)
    for name, value in low.items():
        assert value.dtype == torch.float32
        assert value.item() == full[name].item()


def test_a_quality_learns_which_image_each_row_is_of() -> None:
    seen: list[Tensor] = []

    class Recording(JointQuality):
        def losses(self, rows: LearningRows) -> dict[str, Tensor]:
            assert rows.image is not None
            seen.append(rows.image)
            return super().losses(rows)

    points = make_points([(1, 3)], [8], anchor_scale=5, offset=0.5)
    out = HeadOutput(torch.zeros(2, 3, 2), torch.zeros(2, 3, 32))
    # Point 1 of the first image and point 0 of the second learn nothing: two rows of each are left.
    ignored = torch.tensor([False, True, False, True, False, False])
    none = torch.zeros(0, dtype=torch.int64)
    for mask in (None, ignored):
        assignment = BatchAssignment(
            none,
            torch.full((6,), -1),
            torch.zeros(0, 4),
            none,
            None,
            mask,
            torch.zeros(2),
            objects=0,
            missed=0,
            edges=0,
            truncated=0,
        )
        detection_losses(out, points, assignment, GeneralBoxes(7), Recording(), loss_weights=ONES)
    assert [image.tolist() for image in seen] == [[0, 0, 0, 1, 1, 1], [0, 0, 1, 1]]


def test_three_ways_to_count_positives() -> None:
    def counted(*counts: int) -> BatchAssignment:
        nobody = torch.zeros(0, dtype=torch.int64)
        images = torch.tensor(counts, dtype=torch.int64)
        return BatchAssignment(nobody, nobody, torch.zeros(0, 4), nobody, None, None, images, 0, 0, 0, 0)

    # Two batches, images with 3, 0 and 0, 2 positives: 5; with at least 1 an image 3 + 1 + 1 + 2 = 7; and 5 + 4.
    step = [counted(3, 0), counted(0, 2)]
    assert count_positives(step, "step") == (5, 5)
    assert count_positives(step, "picture") == (7, 7)
    assert count_positives(step, "plus_pictures") == (9, 5)
    # Background alone; and no image at all.
    assert count_positives([counted(0, 0)], "step") == (0, 0)
    assert count_positives([counted(0, 0)], "picture") == (2, 2)
    assert count_positives([counted(0, 0)], "plus_pictures") == (2, 0)
    assert [count_positives([counted()], rule) for rule in ("step", "picture", "plus_pictures")] == [(0, 0)] * 3
    assert count_positives(step, "weights") == (5, 5)
    assert divisors((0, 0)) == (1.0, 1.0)
    assert divisors((9, 5)) == (9.0, 5.0)

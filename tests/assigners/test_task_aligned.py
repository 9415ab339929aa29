"""Task-aligned assignment: which points learn an object, by what the network says of them."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from gfocal.assigners import AtssAssigner, DynamicAssigner, TaskAlignedAssigner, lattice
from gfocal.assigners.lattice import inside_pairs
from gfocal.boxes import aligned_iou
from gfocal.errors import UsageError
from gfocal.points import make_points
from gfocal.structures import NEGATIVE, Assignment, Targets
from helpers.assigner_problems import Problem
from oracles.assigners import task_aligned as slow_task_aligned

# Sixteen points of stride 8 at 4, 12, 20, 28 and four of stride 16 at 8 and 24, of an image of 32 x 32.
POINTS = make_points([(4, 4), (2, 2)], [8, 16], anchor_scale=2, offset=0.5)
# Points (4, 4), (12, 4), (20, 4), (28, 4).
ROW = make_points([(1, 4)], [8], anchor_scale=2, offset=0.5)


def targets(*rows: tuple[list[float], int]) -> Targets:
    return Targets(torch.tensor([box for box, _ in rows]).view(-1, 4), torch.tensor([c for _, c in rows]).long())


def lengths(box: list[float], *shares: float) -> Tensor:
    """(N, 4) boxes that cover the left share of a box, which is their IoU with it; float64."""
    x1, y1, x2, y2 = box
    return torch.tensor([[x1, y1, x1 + share * (x2 - x1), y2] for share in shares], dtype=torch.float64)


# --- by hand --------------------------------------------------------------------------------------------------------


def test_alignment_and_choice_by_hand() -> None:
    # One object of class 1 over the four points. t = s u^6 with u = 1, 1/2, 1, 1/2 and s = 1/4, 1, 1/8, 1/2:
    # 1/4, 1/64, 1/8, 1/128. Class 0 has the highest scores and does not count.
    whole = [0.0, 0, 32, 8]
    scores = torch.tensor([[0.9, 0.25], [0.9, 1.0], [0.9, 0.125], [1.0, 0.5]])
    boxes = lengths(whole, 1, 0.5, 1, 0.5)
    found = TaskAlignedAssigner(positives=3).assign(ROW, targets((whole, 1)), scores, boxes)
    assert found.gt_index.tolist() == [0, 0, 0, NEGATIVE]
    assert found.alignment is not None
    assert found.alignment.dtype == torch.float64
    assert found.alignment[:3].tolist() == [1 / 4, 1 / 64, 1 / 8]
    # alpha 2, beta 1: 1/16, 1/2, 1/64, 1/8.
    found = TaskAlignedAssigner(2, 1, positives=2).assign(ROW, targets((whole, 1)), scores, boxes)
    assert found.gt_index.tolist() == [NEGATIVE, 0, NEGATIVE, 0]
    assert found.alignment[found.positive].tolist() == [1 / 2, 1 / 8]


def test_inside_means_the_point_not_its_box() -> None:
    # The object holds (12, 4) alone: (4, 4) lies on its edge, which is not inside. The best box is that of (28, 4).
    one = [4.0, 0, 20, 8]
    boxes = lengths(one, 0.5, 0.5, 0.5, 1)
    found = TaskAlignedAssigner().assign(ROW, targets((one, 0)), torch.ones(4, 1), boxes)
    assert found.gt_index.tolist() == [NEGATIVE, 0, NEGATIVE, NEGATIVE]
    for edge, inside in ((3.98, True), (3.991, False), (4.0, False)):  # by more than 0.01 pixels
        gt, point = TaskAlignedAssigner().candidates(ROW, torch.tensor([[edge, 0, 20, 8], [0, 0, 1, 1]]))
        assert (point.tolist(), gt.tolist()) == (([0, 1], [0, 0]) if inside else ([1], [0]))


def test_a_point_of_several_objects_goes_to_the_one_of_largest_iou() -> None:
    # Both objects hold all four points. Every predicted box is the first half of the row or all of it, so the IoU with
    # the objects [0, 32] and [0, 16] is 1/2 and 1 (first half), or 1 and 1/2 (all). Each object wants all points.
    # The alignment is that with the object which the point goes to, though the other one's score is higher.
    both = targets(([0.0, 0, 32, 8], 0), ([0.0, 0, 16, 8], 1))
    wide = targets(([0.0, 0, 32, 8], 0), ([0.0, -1, 32, 9], 1))
    boxes = lengths([0.0, 0, 32, 8], 1, 0.5, 1, 0.5)
    scores = torch.tensor([[0.25, 1.0]] * 4)
    found = TaskAlignedAssigner().assign(ROW, both, scores, boxes)
    # The second object holds the points 4 and 12 alone.
    assert found.gt_index.tolist() == [0, 1, 0, 0]
    assert found.alignment.tolist() == [1 / 4, 1, 1 / 4, 1 / 4 / 64]
    # The second object is 10 pixels high: its IoU is 4/5 of the first's everywhere, and it is left without a point.
    assert TaskAlignedAssigner().assign(ROW, wide, scores, boxes).gt_index.tolist() == [0, 0, 0, 0]


def test_a_point_is_only_lost_to_objects_that_chose_it() -> None:
    # Object 0 takes its best point alone, (4, 4), whose box is exactly object 1's: so it goes there, if object 1 takes
    # it too, and object 0 has none. It is not offered another one.
    both = targets(([0.0, 0, 32, 8], 0), ([0.0, 0, 16, 8], 1))
    boxes = lengths([0.0, 0, 32, 8], 0.5, 0.25, 0.25, 0.25)
    best = TaskAlignedAssigner(positives=1)
    assert best.assign(ROW, both, torch.ones(4, 2), boxes).gt_index.tolist() == [1, -1, -1, -1]
    # Where object 1 prefers (12, 4), for its score, each has one.
    scores = torch.ones(4, 2)
    scores[0, 1] = 1e-9
    assert best.assign(ROW, both, scores, boxes).gt_index.tolist() == [0, 1, -1, -1]


def test_ties_are_decided() -> None:
    whole = [0.0, 0, 32, 8]
    same = lengths(whole, 0.5, 0.5, 0.5, 0.5)
    # Equal t: the lowest flat indices. Equal IoU: the lowest object.
    found = TaskAlignedAssigner(positives=2).assign(ROW, targets((whole, 0)), torch.full((4, 1), 0.3), same)
    assert found.gt_index.tolist() == [0, 0, -1, -1]
    twice = targets((whole, 0), (whole, 1), (whole, 0))
    assert TaskAlignedAssigner().assign(ROW, twice, torch.rand(4, 2), same).gt_index.tolist() == [0] * 4
    # Nothing is recognised, or no box overlaps: all t are 0, and the first points are positive all the same.
    for scores, boxes in ((torch.zeros(4, 1), same), (torch.ones(4, 1), same + 100)):
        found = TaskAlignedAssigner(positives=3).assign(ROW, targets((whole, 0)), scores, boxes)
        assert found.gt_index.tolist() == [0, 0, 0, -1]
        assert found.alignment.tolist() == [0] * 4


def test_equal_predictions_tie_wherever_they_stand() -> None:
    # Vectorised powers round the last few numbers of a tensor otherwise than those before them.
    points = make_points([(7, 7)], [8], anchor_scale=2, offset=0.5)  # 49 points: one is left after twelve fours
    whole = targets(([0.0, 0, 56, 56], 0))
    for seed in range(150):
        draw = random.Random(seed)
        scores, boxes = torch.full((49, 1), draw.random()).double(), lengths([0.0, 0, 56, 56], *[draw.random()] * 49)
        assigner = TaskAlignedAssigner(draw.choice([0.3, 1.0]), draw.choice([0.7, 2.5, 6.0]), positives=49)
        found = assigner.assign(points, whole, scores, boxes)
        assert len(set(found.alignment.tolist())) == 1
        assigner.positives = 5
        found = assigner.assign(points, whole, scores, boxes)
        assert found.positive.nonzero().flatten().tolist() == [0, 1, 2, 3, 4]


# --- limits ---------------------------------------------------------------------------------------------------------


def test_limits() -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.rand(20, 1, generator=generator)
    boxes = torch.tensor([0.0, 0, 32, 32]) + 8 * torch.randn(20, 4, generator=generator)
    all_of_it = targets(([0.0, 0, 32, 32], 0))
    iou = aligned_iou(boxes.double(), all_of_it.boxes.double())

    def chosen(alpha: float, beta: float, positives: int = 4) -> tuple[list[int], Assignment]:
        found = TaskAlignedAssigner(alpha, beta, positives).assign(POINTS, all_of_it, scores, boxes)
        return found.positive.nonzero().flatten().tolist(), found

    # alpha 0: by IoU alone. beta 0: by score alone. Neither: the first points, all with t = 1, whatever 0^0 is.
    assert chosen(0, 6)[0] == sorted(iou.topk(4).indices.tolist())
    assert chosen(1, 0)[0] == sorted(scores[:, 0].topk(4).indices.tolist())
    scores[0], boxes[1] = 0, torch.tensor([90.0, 90, 99, 99])
    first, found = chosen(0, 0)
    assert first == [0, 1, 2, 3]
    assert found.alignment[:4].tolist() == [1] * 4
    # As many as there are, or more: every point inside.
    for positives in (20, 21, 10**6):
        assert chosen(1, 6, positives)[0] == list(range(20))


def test_perfect_boxes_leave_the_score() -> None:
    scores = torch.rand(20, 1, generator=torch.Generator().manual_seed(0))
    whole = targets(([0.0, 0, 32, 32], 0))
    found = TaskAlignedAssigner(2.0, 6.0, 20).assign(POINTS, whole, scores, whole.boxes.expand(20, 4))
    assert found.alignment.tolist() == [score**2 for score in scores[:, 0].double().tolist()]


# --- the slow loop --------------------------------------------------------------------------------------------------


class Aligned(Problem):
    """With settings of this assigner."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        alpha, beta = self.draw.choice([(1.0, 6.0), (0.0, 6.0), (1.0, 0.0), (0.5, 4.0), (1.0, 6.0)])
        self.settings: dict[str, Any] = {"alpha": alpha, "beta": beta, "positives": self.draw.choice([1, 3, 13, 1000])}


def rich() -> Aligned:
    """One with nine objects and no ties."""
    return next(p for p in map(Aligned, range(1000)) if not p.ties and len(p.targets) == 9 and len(p.points) > 50)


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_equal_to_the_slow_loop(count: int) -> None:
    tied = positive = left = 0
    for seed in range(count):
        p = Aligned(seed)
        found = TaskAlignedAssigner(**p.settings).assign(p.points, p.targets, p.scores, p.boxes)
        index, alignment = slow_task_aligned(
            p.points.xy, p.targets.boxes, p.targets.labels, p.scores, p.boxes, **p.settings
        )
        assert found.gt_index.tolist() == index, seed
        assert found.alignment.tolist() == pytest.approx(alignment, rel=1e-14, abs=0), seed
        own = found.alignment[found.positive]
        tied += len(own) > len(own.unique())
        positive += len(own)
        left += len(set(range(len(p.targets))) - set(index))
    # The problems are what they should be: with ties, many positives, and objects without a point.
    assert tied > count / 4
    assert positive > 10 * count
    assert left > count


@pytest.mark.parametrize("chunk", [1, 7, 10**9])
def test_the_size_of_a_chunk_changes_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    p = rich()
    expected = inside_pairs(p.points, p.targets.boxes)
    assert len(expected[0]) > 5
    monkeypatch.setattr(lattice, "_CHUNK", chunk)
    assert all(torch.equal(*pair) for pair in zip(inside_pairs(p.points, p.targets.boxes), expected, strict=True))
    for seed in range(60):  # and the choice, ties too
        p = Aligned(seed)
        found = TaskAlignedAssigner(**p.settings).assign(p.points, p.targets, p.scores, p.boxes)
        index, _ = slow_task_aligned(p.points.xy, p.targets.boxes, p.targets.labels, p.scores, p.boxes, **p.settings)
        assert found.gt_index.tolist() == index, seed


def test_candidates_are_all_that_can_become_positive() -> None:
    for seed in range(50):
        p = Aligned(seed)
        assigner = TaskAlignedAssigner(positives=10**6)
        gt, point = assigner.candidates(p.points, p.targets.boxes)
        slow = [
            (g, i)
            for g, (x1, y1, x2, y2) in enumerate(p.targets.boxes.tolist())
            for i, (x, y) in enumerate(p.points.xy.tolist())
            if min(x - x1, y - y1, x2 - x, y2 - y) > 0.01
        ]
        assert sorted(zip(gt.tolist(), point.tolist(), strict=True)) == slow
        assert gt.tolist() == sorted(gt.tolist())
        found = assigner.assign(p.points, p.targets, p.scores, p.boxes)
        assert found.positive.nonzero().flatten().tolist() == sorted(set(point.tolist()))


# --- empties and extremes -------------------------------------------------------------------------------------------


def test_no_objects_and_no_points() -> None:
    assigner, one = TaskAlignedAssigner(), targets(([2.0, 2, 30, 30], 0))
    found = assigner.assign(POINTS, Targets.empty(), torch.rand(20, 1), torch.rand(20, 4))
    assert found.gt_index.tolist() == [NEGATIVE] * 20
    assert found.alignment.tolist() == [0] * 20
    for grids in ([(0, 0), (0, 3)], [(0, 0), (2, 2)]):  # levels without points
        points = make_points(grids, [8, 16], anchor_scale=2, offset=0.5)
        for objects in (Targets.empty(), one):
            found = assigner.assign(points, objects, torch.rand(len(points), 1), torch.rand(len(points), 4))
            assert (found.gt_index >= 0).sum() == (len(points) if len(objects) else 0)
            assert found.alignment.shape == (len(points),)
    gt, point = assigner.candidates(POINTS, torch.zeros(0, 4))
    assert (len(gt), len(point), gt.dtype, point.dtype) == (0, 0, torch.int64, torch.int64)


def test_no_point_inside_and_one_pixel() -> None:
    # (4, 4) is a point; a pixel around it has it alone, a pixel beside it none.
    for box, expected in (([3.5, 3.5, 4.5, 4.5], [0]), ([5.0, 5, 6, 6], []), ([4.0, 4, 5, 5], [])):
        found = TaskAlignedAssigner().assign(POINTS, targets((box, 0)), torch.rand(20, 1), POINTS.anchors)
        assert found.positive.nonzero().flatten().tolist() == expected


def test_huge_boxes_objects_and_predictions() -> None:
    huge = targets(([-1e9, -1e9, 1e9, 1e9], 0), ([-3e38, 0, 3e38, 32], 0), ([1e20, 0, 2e20, 9], 0))
    boxes = POINTS.anchors.clone()
    boxes[:5] = torch.tensor([-1e19, -1e19, 1e19, 1e19])
    boxes[5] = torch.tensor([-math.inf, -math.inf, math.inf, math.inf])
    boxes[6] = torch.tensor([30.0, 30, 10, 10])  # inverted
    for alpha, beta in ((1.0, 6.0), (0.0, 0.0), (1.0, 300.0)):
        found = TaskAlignedAssigner(alpha, beta).assign(POINTS, huge, torch.ones(20, 1), boxes)
        assert found.alignment.isfinite().all()
        assert set(found.gt_index.tolist()) <= {-1, 0, 1}
        assert (found.gt_index >= 0).sum() >= 13


def test_outputs_that_are_not_numbers_neither_fail_nor_win() -> None:
    one = targets(([0.0, 0, 32, 32], 0), ([0.0, 0, 16, 16], 0))
    scores, boxes = torch.ones(20, 1), POINTS.anchors.clone()
    scores[3:6], boxes[6:9, 2] = math.nan, math.nan
    found = TaskAlignedAssigner(positives=13).assign(POINTS, one, scores, boxes)
    assert found.alignment.isfinite().all()
    lost = [p for p in range(3, 9) if found.gt_index[p] >= 0 and found.alignment[p] > 0]
    assert lost == []
    everything = TaskAlignedAssigner(positives=13).assign(
        POINTS, one, torch.full((20, 1), math.nan), torch.full((20, 4), math.nan)
    )
    # The first 13 of 20 points; the second object holds 0, 1, 4, 5, which it loses, and the first of the other level.
    assert everything.gt_index.tolist() == [0] * 13 + [-1] * 3 + [1] + [-1] * 3
    assert everything.alignment.tolist() == [0] * 20


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_boxes_of_another_precision_are_those_numbers_in_float32(dtype: torch.dtype) -> None:
    p = rich()
    rounded = Targets(p.targets.boxes.to(dtype) / 3, p.targets.labels)
    same = Targets(rounded.boxes.float(), p.targets.labels)
    one, other = (TaskAlignedAssigner().assign(p.points, t, p.scores, p.boxes) for t in (rounded, same))
    assert torch.equal(one.gt_index, other.gt_index)
    assert torch.equal(one.alignment, other.alignment)
    assert one.positive.any()


def test_the_same_every_time_and_without_gradients() -> None:
    p = rich()
    scores, boxes = p.scores.requires_grad_(), p.boxes.requires_grad_()
    saved = []

    def save(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        first = TaskAlignedAssigner().assign(p.points, p.targets, scores, boxes)
    assert not saved  # nothing is kept for a backward pass
    assert not first.alignment.requires_grad
    again = TaskAlignedAssigner().assign(p.points, p.targets, scores, boxes)
    assert torch.equal(first.gt_index, again.gt_index)
    assert torch.equal(first.alignment, again.alignment)


def test_the_order_of_objects_without_ties_changes_only_their_numbers() -> None:
    p = rich()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    found = TaskAlignedAssigner().assign(p.points, p.targets, p.scores, p.boxes).gt_index
    shuffled = Targets(p.targets.boxes[order], p.targets.labels[order])
    other = TaskAlignedAssigner().assign(p.points, shuffled, p.scores, p.boxes).gt_index
    assert (found >= 0).sum() > 5
    assert torch.equal(torch.cat((order, torch.tensor([-1])))[other], found)  # -1 indexes the last


# --- refusals -------------------------------------------------------------------------------------------------------


def test_what_it_refuses() -> None:
    for alpha, beta in ((-1, 6), (1, -0.1), (math.nan, 6), (1, math.nan)):
        with pytest.raises(ValueError, match="alpha and beta must be >= 0"):
            TaskAlignedAssigner(alpha, beta)
    with pytest.raises(ValueError, match="positives must be >= 1, got 0"):
        TaskAlignedAssigner(positives=0)
    one = targets(([2.0, 2, 14, 14], 0))
    part = POINTS[torch.tensor([0, 1])]
    with pytest.raises(ValueError, match="Task-aligned assignment needs the whole set of points"):
        TaskAlignedAssigner().assign(part, one, torch.rand(2, 1), torch.rand(2, 4))
    with pytest.raises(UsageError, match=r"needs Points, .* not a tensor of shape \(20, 4\)"):
        TaskAlignedAssigner().candidates(POINTS.anchors, one.boxes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="alignment must have shape"):
        Assignment(torch.tensor([0, -1]), torch.rand(3))
    with pytest.raises(ValueError, match="alignment must be float"):
        Assignment(torch.tensor([0, -1]), torch.tensor([0, 1]))


def test_which_assigners_are_dynamic() -> None:
    assert isinstance(TaskAlignedAssigner(), DynamicAssigner)
    assert not isinstance(AtssAssigner(), DynamicAssigner)

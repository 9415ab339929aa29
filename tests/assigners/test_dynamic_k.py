"""DSLA and SimOTA: the cheapest points of an object, as many as its predicted boxes are good."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from gfocal.assigners import DynamicAssigner, DynamicSoftLabelAssigner, SimOtaAssigner, dynamic_k
from gfocal.assigners.dynamic_k import surprise
from gfocal.assigners.reach import DynamicWithinReach
from gfocal.boxes import aligned_iou
from gfocal.points import Points, make_points
from gfocal.representation import GeneralBoxes
from gfocal.structures import NEGATIVE, Targets
from helpers.assigner_problems import Problem
from oracles import assigners as oracle

# Points (4, 4), (12, 4), (20, 4), (28, 4).
ROW = make_points([(1, 4)], [8], anchor_scale=2, offset=0.5)
WHOLE = [0.0, 0, 32, 8]


@dataclass(frozen=True)
class Kind:
    """An assigner and its slow loop, which gives (index, costs)."""

    make: Callable[..., DynamicAssigner]
    slow: Callable[..., tuple[list[int], list[list[float]]]]


def slow_dsla(p: Problem, **settings: Any) -> tuple[list[int], list[list[float]]]:
    return oracle.dsla(p.points.xy, p.targets.boxes, p.targets.labels, p.scores, p.boxes, **settings)


def slow_sim_ota(p: Problem, **settings: Any) -> tuple[list[int], list[list[float]]]:
    strides, t = p.points.stride, p.targets
    return oracle.sim_ota(p.points.xy, strides, t.boxes, t.labels, p.scores, p.boxes, **settings)


KINDS = {"dsla": Kind(DynamicSoftLabelAssigner, slow_dsla), "sim_ota": Kind(SimOtaAssigner, slow_sim_ota)}
each = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def targets(*rows: tuple[list[float], int]) -> Targets:
    return Targets(torch.tensor([box for box, _ in rows]).view(-1, 4), torch.tensor([c for _, c in rows]).long())


def lengths(box: list[float], *shares: float) -> Tensor:
    """(N, 4) boxes that cover the left share of a box, which is their IoU with it; float64."""
    x1, y1, x2, y2 = box
    return torch.tensor([[x1, y1, x1 + share * (x2 - x1), y2] for share in shares], dtype=torch.float64)


def index_of(assigner: DynamicAssigner, points: Points, t: Targets, scores: Tensor, boxes: Tensor) -> list[int]:
    return assigner.assign(points, t, scores, boxes).gt_index.tolist()


# --- by hand --------------------------------------------------------------------------------------------------------


@each
def test_k_is_the_whole_part_of_the_sum_of_ious(kind: Kind) -> None:
    # Scores are equal, so a better box is cheaper. Sums of IoU: 2.5, 1.9, 0.25, 4; the last two count two IoUs.
    for shares, settings, expected in (
        ((0.5, 1, 0.25, 0.75), {}, [-1, 0, -1, 0]),
        ((0.5, 0.4, 0.4, 0.6), {}, [-1, -1, -1, 0]),
        ((0.0, 0, 0.25, 0), {}, [-1, -1, 0, -1]),
        ((1.0, 1, 1, 1), {"counted": 2}, [0, 0, -1, -1]),
        ((1.0, 1, 1, 1), {}, [0, 0, 0, 0]),
    ):
        assigner = kind.make(**settings) if kind.make is DynamicSoftLabelAssigner else kind.make(radius=9, **settings)
        found = index_of(assigner, ROW, targets((WHOLE, 0)), torch.full((4, 1), 0.5), lengths(WHOLE, *shares))
        assert found == expected


def test_the_costs_of_dsla_by_hand() -> None:
    # Two classes, u = 1/2 everywhere, s = 1/2 of the object's class: no cost there. Of the other class s = 0, 1/2, 3/4,
    # 1/4, whose costs are s^2 log 1/(1 - s): 0, .173, .780, .018. k = 2.
    scores = torch.tensor([[0.5, 0.0], [0.5, 0.5], [0.5, 0.75], [0.5, 0.25]])
    boxes = lengths(WHOLE, 0.5, 0.5, 0.5, 0.5)
    assert index_of(DynamicSoftLabelAssigner(), ROW, targets((WHOLE, 0)), scores, boxes) == [0, -1, -1, 0]
    # Class 1 is the object's: |y - s|^2 BCE = .25 log 2 = .173, 0, .0625 * .837 = .052, .0625 * .837. The other: .173.
    assert index_of(DynamicSoftLabelAssigner(), ROW, targets((WHOLE, 1)), scores, boxes) == [-1, 0, 0, -1]
    # Without the IoU's cost the score alone decides, of boxes as good as 1, 1, 1/2, 1/2: .173 < BCE of s = .9 ... .1.
    scores = torch.tensor([[0.1], [0.2], [0.5], [0.45]])
    boxes = lengths(WHOLE, 1, 1, 0.5, 0.5)
    for weight, expected in ((0.0, [-1, 0, 0, 0]), (3.0, [0, 0, 0, -1])):
        assert index_of(DynamicSoftLabelAssigner(weight), ROW, targets((WHOLE, 0)), scores, boxes) == expected


def test_the_costs_of_sim_ota_by_hand() -> None:
    # Radius 1: within 8 pixels of the centre (16, 4) lie (12, 4) and (20, 4), which win whatever they cost.
    scores = torch.tensor([[1.0], [0.01], [0.02], [1.0]])
    boxes = lengths(WHOLE, 1, 0.5, 0.25, 1)
    # k = 2: u log 1/s + (1 - u) log 1/(1 - s), times u: 1.16 at (12, 4), .26 at (20, 4), and 6 (1 - GIoU) 3 and 4.5.
    assert index_of(SimOtaAssigner(1.0), ROW, targets((WHOLE, 0)), scores, boxes) == [-1, 0, 0, -1]
    assert index_of(SimOtaAssigner(1.0, counted=1), ROW, targets((WHOLE, 0)), scores, boxes) == [-1, 0, -1, -1]
    assert index_of(SimOtaAssigner(1.0, 0.0, 1), ROW, targets((WHOLE, 0)), scores, boxes) == [-1, -1, 0, -1]
    # A point near the centre of an object that holds no point is its candidate, if a dear one.
    thin = targets(([9.0, 3, 11, 5], 0))
    near = torch.tensor([[0.0, 0, 8, 8], [9, 3, 12, 6], [20, 0, 24, 8], [24, 0, 32, 8]])
    assert index_of(SimOtaAssigner(), ROW, thin, torch.full((4, 1), 0.5), near) == [-1, 0, -1, -1]
    assert index_of(SimOtaAssigner(0.1), ROW, thin, torch.full((4, 1), 0.5), ROW.anchors) == [-1] * 4


def test_a_candidate_of_dsla_may_lie_inside_another_object_alone() -> None:
    # Object 1 holds (28, 4) alone, whose box is bad; those of the other points, inside object 0, are its own exactly.
    both = targets(([0.0, 0, 24, 8], 0), ([24.0, 0, 32, 8], 0))
    boxes = torch.tensor([[24.0, 0, 32, 8]] * 3 + [[0.0, 0, 1, 1]])
    assert index_of(DynamicSoftLabelAssigner(), ROW, both, torch.full((4, 1), 0.5), boxes)[:3] == [1, 1, 1]


@each
def test_a_point_of_several_goes_where_it_is_cheapest_of_all(kind: Kind) -> None:
    # Three objects over all points; each wants one, and all want the first. It costs object 2 least.
    rows = [(WHOLE, 0), ([0.0, 0, 24, 8], 0), ([0.0, 0, 16, 8], 0)]
    boxes = torch.cat((lengths([0.0, 0, 16, 8], 1), lengths([100.0, 0, 116, 8], 1, 1, 1)))
    assigner = kind.make() if kind.make is DynamicSoftLabelAssigner else kind.make(radius=9)
    assert index_of(assigner, ROW, targets(*rows), torch.full((4, 1), 0.5), boxes) == [2, -1, -1, -1]


@each
def test_ties_are_decided(kind: Kind) -> None:
    twice = targets((WHOLE, 0), (WHOLE, 0))
    boxes, scores = lengths(WHOLE, 0.5, 0.5, 0.5, 0.5), torch.full((4, 1), 0.3)
    assigner = kind.make() if kind.make is DynamicSoftLabelAssigner else kind.make(radius=9)
    assert index_of(assigner, ROW, twice, scores, boxes) == [0, 0, -1, -1]
    # No box overlaps: one point each, the first, at a cost that is finite.
    assert index_of(assigner, ROW, targets((WHOLE, 0)), scores, boxes + 100) == [0, -1, -1, -1]


# --- limits ---------------------------------------------------------------------------------------------------------


def test_surprise_is_torchs_cross_entropy() -> None:
    score = torch.tensor([0.0, 1e-60, 0.3, 0.5, 1 - 1e-16, 1.0], dtype=torch.float64)
    for target in (0.0, 0.25, 1.0):
        expected = torch.nn.functional.binary_cross_entropy(score, torch.full_like(score, target), reduction="none")
        torch.testing.assert_close(surprise(score, target), expected, rtol=1e-12, atol=0)


def test_a_wide_radius_and_a_heavy_box_leave_giou() -> None:
    p = next(q for q in map(Problem, range(100)) if len(q.targets) == 1 and len(q.points) > 20 and not q.ties)
    found = SimOtaAssigner(1e6, 1e12, counted=1).assign(p.points, p.targets, p.scores, p.boxes).gt_index
    inside = SimOtaAssigner(1e6).candidates(p.points, p.targets.boxes)[1]
    true = p.targets.boxes[0]
    held = [i for i in inside.tolist() if torch.minimum(p.points.xy[i] - true[:2], true[2:] - p.points.xy[i]).min() > 0]
    best = max(held or inside.tolist(), key=lambda i: aligned_iou(p.boxes[i], true, generalized=True).item())
    assert found.argmax().item() == best


# --- the slow loop --------------------------------------------------------------------------------------------------


def too_close(costs: list[list[float]]) -> bool:
    """Whether a cost lies so near the middle of two steps that the order of a sum decides."""
    return any(abs(cost * 2**24 % 1 - 0.5) < 1e-6 for row in costs for cost in row)


@each
@pytest.mark.parametrize("seeds", [range(250), pytest.param(range(250, 1000), marks=pytest.mark.slow)], ids=str)
def test_equal_to_the_slow_loop_on_a_thousand_problems(kind: Kind, seeds: range) -> None:
    positive = left = skipped = 0
    for seed in seeds:
        p = Problem(seed)
        settings = {"iou_cost": p.draw.choice([3.0, 6.0, 0.0]), "counted": p.draw.choice([1, 10, 13])}
        index, costs = kind.slow(p, **settings)
        if too_close(costs):
            skipped += 1
            continue
        assert index_of(kind.make(**settings), p.points, p.targets, p.scores, p.boxes) == index, seed
        positive += sum(g >= 0 for g in index)
        left += len(set(range(len(p.targets))) - set(index))
    assert skipped < len(seeds) / 10
    assert positive > 1.5 * len(seeds)
    assert left > 0.3 * len(seeds)


@each
@pytest.mark.parametrize("pairs", [1, 50])
def test_the_size_of_a_chunk_changes_nothing(kind: Kind, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [Problem(seed) for seed in range(60)]
    expected = [index_of(kind.make(), p.points, p.targets, p.scores, p.boxes) for p in problems]
    monkeypatch.setattr(dynamic_k, "_PAIRS", pairs)
    assert [index_of(kind.make(), p.points, p.targets, p.scores, p.boxes) for p in problems] == expected


@each
def test_within_reach_it_chooses_among_those_that_reach(kind: Kind) -> None:
    boxes = GeneralBoxes(2)
    for seed in range(40):
        p = Problem(seed)
        found = DynamicWithinReach(kind.make(), boxes.truncated).assign(p.points, p.targets, p.scores, p.boxes)
        point = found.positive.nonzero().squeeze(1)
        for at, g in zip(point.tolist(), found.gt_index[point].tolist(), strict=True):
            cut = boxes.truncated(p.points, p.targets.boxes[g].expand(len(p.points), 4)).any(1)
            _, own = kind.make().candidates(p.points, p.targets.boxes)
            reachable = ~cut[own.unique()]
            assert not cut[at] or not reachable.any()


# --- empties and extremes -------------------------------------------------------------------------------------------


@each
def test_no_objects_no_points_and_one_pixel(kind: Kind) -> None:
    assigner = kind.make()
    assert index_of(assigner, ROW, Targets.empty(), torch.rand(4, 2), torch.rand(4, 4)) == [NEGATIVE] * 4
    empty = make_points([(0, 0)], [8], anchor_scale=2, offset=0.5)
    assert index_of(assigner, empty, targets((WHOLE, 0)), torch.rand(0, 1), torch.rand(0, 4)) == []
    gt, point = assigner.candidates(ROW, torch.zeros(0, 4))
    assert (len(gt), len(point), gt.dtype, point.dtype) == (0, 0, torch.int64, torch.int64)
    for pixel, expected in (([3.5, 3.5, 4.5, 4.5], 1), ([60.0, 60, 61, 61], 0)):
        found = index_of(assigner, ROW, targets((pixel, 0)), torch.rand(4, 1), ROW.anchors)
        assert sum(g >= 0 for g in found) == expected


@each
def test_outputs_that_are_not_numbers_neither_fail_nor_win(kind: Kind) -> None:
    scores, boxes = torch.full((4, 1), 0.5), lengths(WHOLE, 1, 1, 0.5, 0.5)
    scores[0], boxes[1, 2] = math.nan, math.nan
    assigner = kind.make() if kind.make is DynamicSoftLabelAssigner else kind.make(radius=9)
    found = index_of(assigner, ROW, targets((WHOLE, 0)), scores, boxes)
    assert found[1] == NEGATIVE
    assert 0 in found[2:]
    nothing = torch.full((4, 1), math.nan), torch.full((4, 4), math.inf)
    assert set(index_of(assigner, ROW, targets((WHOLE, 0)), *nothing)) <= {NEGATIVE, 0}


@each
def test_saturated_scores_and_huge_boxes(kind: Kind) -> None:
    huge = targets(([-1e9, -1e9, 1e9, 1e9], 0), ([-3e38, 0, 3e38, 8], 1))
    scores = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    found = index_of(kind.make(), ROW, huge, scores, ROW.anchors)
    assert any(g >= 0 for g in found)


@each
def test_the_same_every_time_and_without_gradients(kind: Kind) -> None:
    p = Problem(3)
    scores, boxes = p.scores.clone().requires_grad_(), p.boxes.clone().requires_grad_()
    first = kind.make().assign(p.points, p.targets, scores, boxes)
    assert first.alignment is None
    assert torch.equal(first.gt_index, kind.make().assign(p.points, p.targets, scores, boxes).gt_index)


def test_what_they_refuse() -> None:
    for kind in KINDS.values():
        with pytest.raises(ValueError, match="iou_cost must be >= 0"):
            kind.make(iou_cost=math.nan)
        with pytest.raises(ValueError, match="counted must be >= 1, got 0"):
            kind.make(counted=0)
        with pytest.raises(ValueError, match="whole set"):
            kind.make().candidates(ROW[:2], torch.zeros(0, 4))
    with pytest.raises(ValueError, match="radius must be > 0, got 0"):
        SimOtaAssigner(radius=0)

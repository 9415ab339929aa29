"""What the assigners share: the order of points, rectangles of cells, the refusals."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gfocal.assigners import (
    Assigner,
    AtssAssigner,
    FcosAssigner,
    FoveaAssigner,
    MaxIouAssigner,
    WithinReach,
    lattice,
)
from gfocal.assigners.lattice import Lattice, by_area, least_of
from gfocal.errors import UsageError
from gfocal.points import Points, make_anchors, make_points
from gfocal.representation import GeneralBoxes

EACH = [AtssAssigner(), FcosAssigner(), FoveaAssigner(), MaxIouAssigner()]
SINGLE = EACH[:3]


def names(assigner: object) -> str:
    return type(assigner).__name__


def scattered(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 120 - 10
    return torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * 90 + 0.1), 1)


def test_rectangles_by_hand() -> None:
    # Level 0: 2 rows of 3 cells with two anchors each, flat indices 0..11; level 1: one cell, indices 12 and 13.
    points = make_anchors([(2, 3), (1, 1)], [8, 16], [[(8, 8), (16, 8)], [(16, 16), (32, 16)]], offset=0.5)
    kinds = Lattice.of(points)
    assert kinds.first.tolist() == [0, 1, 12, 13]
    assert kinds.step.tolist() == [2, 2, 2, 2]
    assert kinds.cells.tolist() == [[3, 2], [3, 2], [1, 1], [1, 1]]
    low, high = torch.zeros(2, 4, 2), torch.full((2, 4, 2), -1.0)  # nothing
    low[0, 0], high[0, 0] = torch.tensor([1.0, 0]), torch.tensor([2.0, 0])  # columns 1 and 2 of row 0
    low[0, 1], high[0, 1] = torch.tensor([-math.inf, 1]), torch.tensor([0.0, math.inf])  # column 0 of row 1
    low[1, 3], high[1, 3] = torch.tensor([-5.0, -5]), torch.tensor([7.0, 7])
    low[1, 0], high[1, 0] = torch.tensor([3.0, 0]), torch.tensor([9.0, 9])  # beyond the last column
    ((gt, flat),) = kinds.rectangles(low, high)
    assert gt.tolist() == [0, 0, 0, 1]
    assert flat.tolist() == [2, 4, 7, 13]


def test_no_object_is_split_over_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = Lattice.of(make_points([(4, 4), (2, 2)], [8, 16], anchor_scale=4, offset=0.5))
    low = torch.zeros(6, 2, 2)
    high = torch.tensor([3.0, 1, 9, 1, -1, 0]).view(6, 1, 1).expand(6, 2, 2)  # 20, 8, 20, 8, 0 and 2 pairs
    monkeypatch.setattr(lattice, "_CHUNK", 10)
    chunks = [gt.unique().tolist() for gt, _ in kinds.rectangles(low, high)]
    assert chunks == [[0], [1], [2], [3, 5]]
    together = [torch.cat(part) for part in zip(*kinds.rectangles(low, high), strict=True)]
    monkeypatch.setattr(lattice, "_CHUNK", 10**9)
    ((gt, flat),) = kinds.rectangles(low, high)
    assert torch.equal(together[0], gt)
    assert torch.equal(together[1], flat)
    for none in (low[:0], low):  # no objects, objects without pairs
        assert [(len(gt), len(flat)) for gt, flat in kinds.rectangles(none, none - 1)] == [(0, 0)]


def test_least_and_order_by_hand() -> None:
    assert least_of(3, torch.tensor([2, 0, 2]), torch.tensor([7, 4, 5]), 9).tolist() == [4, 9, 5]
    rank, object_of = by_area(torch.tensor([5.0, 1.0, 5.0, 2.0]), -1)
    assert rank.tolist() == [2, 0, 3, 1]
    assert object_of.tolist() == [1, 3, 0, 2, -1]


@pytest.mark.parametrize("assigner", EACH[1:], ids=names)
@pytest.mark.parametrize("chunk", [1, 7, 10**9])
def test_the_size_of_a_chunk_changes_nothing(assigner: Assigner, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    points = make_points([(12, 12), (6, 6)], [8, 16], anchor_scale=4, offset=0.5)
    boxes = scattered(6, 0)
    expected = assigner(points, boxes).gt_index
    assert (expected >= 0).sum() > 3
    monkeypatch.setattr(lattice, "_CHUNK", chunk)
    assert torch.equal(assigner(points, boxes).gt_index, expected)


@pytest.mark.parametrize("assigner", SINGLE, ids=names)
def test_several_anchors_a_location_are_refused(assigner: Assigner) -> None:
    points = make_anchors([(2, 2), (1, 1)], [8, 16], [[(8, 8)], [(16, 16), (32, 16)]], offset=0.5)
    with pytest.raises(ValueError, match=r"needs one anchor a location, got \(1, 2\)"):
        assigner(points, scattered(2, 0))
    with pytest.raises(ValueError, match="one anchor a location"):  # before it looks at the objects
        assigner(points, torch.zeros(0, 4))


@pytest.mark.parametrize("assigner", EACH, ids=names)
def test_a_part_of_a_set_is_refused(assigner: Assigner) -> None:
    points = make_points([(2, 2)], [8], anchor_scale=8, offset=0)
    with pytest.raises(ValueError, match="needs the whole set of points"):
        assigner(points[torch.tensor([0, 1])], scattered(2, 0))


@pytest.mark.parametrize("assigner", EACH, ids=names)
def test_no_objects_and_no_points(assigner: Assigner) -> None:
    box = torch.tensor([[2.0, 2, 14, 14]])
    points = make_points([(2, 2)], [8], anchor_scale=2, offset=0.5)
    assert assigner(points, torch.zeros(0, 4)).gt_index.tolist() == [-1] * 4
    empty = make_points([(0, 0)], [8], anchor_scale=2, offset=0.5)
    assert assigner(empty, box).gt_index.tolist() == []
    assert assigner(empty, torch.zeros(0, 4)).gt_index.tolist() == []
    # Levels without points, first and last, change no other.
    some = make_points([(0, 0), (2, 2), (0, 3)], [4, 8, 16], anchor_scale=2, offset=0.5)
    found = assigner(some, box).gt_index
    assert found.shape == (4,)
    assert found.dtype == torch.int64


@pytest.mark.parametrize("assigner", EACH, ids=names)
def test_huge_tiny_and_inverted_boxes_neither_fail_nor_hit(assigner: Assigner) -> None:
    points = make_points([(8, 8), (4, 4)], [8, 16], anchor_scale=4, offset=0.5)
    far = [[1e7, 1e7, 2e7, 2e7], [-3e9, -3e9, -2e9, -2e9], [1e20, 0, 2e20, 9], [-90.0, -90, -60, -60]]
    none = [[20.0, 20, 20, 20], [30, 30, 20, 20], [20, 10, 20, 40]]  # without area
    boxes = torch.tensor([*far, *none])
    assert set(assigner(points, boxes).gt_index.tolist()) == {-1}
    # The object beside them gets what it gets alone.
    near = torch.tensor([[10.0, 10, 42, 42]])
    alone = assigner(points, near).gt_index
    assert (alone == 0).sum() > 0
    beside = assigner(points, torch.cat((boxes, near))).gt_index
    assert torch.equal(beside, alone.where(alone != 0, len(boxes)))


@pytest.mark.parametrize("assigner", EACH, ids=names)
def test_the_same_every_time_and_without_gradients(assigner: Assigner) -> None:
    points = make_points([(12, 12), (6, 6)], [8, 16], anchor_scale=4, offset=0.5)
    boxes = scattered(8, 1).requires_grad_()
    saved = []

    def save(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        first = assigner(points, boxes).gt_index
    assert not saved  # nothing is kept for a backward pass
    assert all(torch.equal(assigner(points, boxes).gt_index, first) for _ in range(3))
    # Half precision and float64 boxes are those numbers in float32.
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        rounded = boxes.detach().to(dtype)
        assert torch.equal(assigner(points, rounded).gt_index, assigner(points, rounded.float()).gt_index)


@pytest.mark.parametrize("assigner", [AtssAssigner(), FcosAssigner(), FoveaAssigner()], ids=names)
def test_the_order_of_objects_without_ties_changes_only_their_numbers(assigner: Assigner) -> None:
    points = make_points([(12, 12), (6, 6)], [8, 16], anchor_scale=4, offset=0.5)
    boxes = scattered(9, 2)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    shuffled = assigner(points, boxes[order]).gt_index
    back = torch.cat((order, torch.tensor([-1])))[shuffled]  # -1 indexes the last
    assert torch.equal(back, assigner(points, boxes).gt_index)


@pytest.mark.parametrize("assigner", [*EACH, WithinReach(FcosAssigner(), GeneralBoxes(7).truncated)], ids=names)
def test_plain_anchors_are_refused_with_the_way_to_make_points_of_them(assigner: Assigner) -> None:
    points = make_points([(12, 12), (6, 6)], [8, 16], anchor_scale=4, offset=0.5)
    boxes = scattered(6, 1)
    for given, what in ((points.anchors, r"a tensor of shape \(180, 4\)"), ([points.anchors], "a list")):
        with pytest.raises(UsageError, match=rf"needs Points, .* not {what}: .* gfocal.Points.from_anchors\("):
            assigner(given, boxes)  # type: ignore[arg-type]
    made = Points.from_anchors(points.anchors.split([144, 36]), [8, 16])
    expected = assigner(points, boxes).gt_index
    assert (expected >= 0).sum() > 3
    assert torch.equal(assigner(made, boxes).gt_index, expected)

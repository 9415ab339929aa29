from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gfocal.assigners import AtssAssigner
from gfocal.points import Points, grid_sizes, make_points
from oracles.assigners import atss as slow_atss


def assign(points: Points, boxes: Tensor | list[list[float]], top_k: int = 9) -> list[int]:
    return AtssAssigner(top_k)(points, torch.as_tensor(boxes, dtype=torch.float32).view(-1, 4)).gt_index.tolist()


def test_by_hand_on_one_row() -> None:
    # Points at x = 0, 8, 16, 24 (y = 0), anchors 16 wide: [-8, 8], [0, 16], [8, 24], [16, 32], all y in [-8, 8].
    points = make_points([(1, 4)], [8], anchor_scale=2, offset=0)
    # Box x in [2, 18], y in [-8, 8]: centre x = 10, nearest three: 8 (2 away), 16 (6), 0 (10).
    # IoU of equal boxes shifted by d: (16 - d) / (16 + d): d = 2, 6, 10 -> 14/18, 10/22, 6/26
    # = 0.7778, 0.4545, 0.2308; mean 0.4877, unbiased std 0.2750: threshold 0.7627. Only point 1 stays.
    assert assign(points, [[2, -8, 18, 8]], top_k=3) == [-1, 0, -1, -1]
    # With two candidates mean = 0.6162 and std = 0.2285: 0.8447 is above both, nothing is positive.
    assert assign(points, [[2, -8, 18, 8]], top_k=2) == [-1, -1, -1, -1]
    # A single candidate is its own threshold.
    assert assign(points, [[2, -8, 18, 8]], top_k=1) == [-1, 0, -1, -1]


def test_a_point_outside_the_box_is_no_positive() -> None:
    # The only point is (0, 0); its anchor [-8, 8]^2 overlaps both boxes, but only the second holds the point.
    points = make_points([(1, 1)], [8], anchor_scale=2, offset=0)
    assert assign(points, [[1, -8, 17, 8]]) == [-1]
    assert assign(points, [[-1, -8, 15, 8]]) == [0]
    # It must lie more than 0.01 pixels inside.
    assert assign(points, [[-0.01, -8, 15, 8]]) == [-1]
    assert assign(points, [[-0.02, -8, 15, 8]]) == [0]


def test_a_contested_point_goes_to_the_higher_iou_and_then_to_the_first() -> None:
    points = make_points([(1, 1)], [8], anchor_scale=2, offset=0)  # anchor [-8, 8]^2
    larger, exact = [-10.0, -10, 10, 10], [-8.0, -8, 8, 8]
    assert assign(points, [larger, exact]) == [1]  # IoU 256/400 against 1
    assert assign(points, [exact, larger]) == [0]
    assert assign(points, [larger, exact, exact]) == [1]


def test_equally_near_points_are_taken_from_the_lowest_index() -> None:
    # The centre (4, 4) is equally far from all four points; two candidates are points 0 and 1.
    points = make_points([(2, 2)], [8], anchor_scale=100, offset=0)
    # Anchors hold the box whole: all IoUs are 256 / 800^2, equal, and equal IoUs reach their mean.
    assert assign(points, [[-4, -4, 12, 12]], top_k=2) == [0, 0, -1, -1]
    assert assign(points, [[-4, -4, 12, 12]], top_k=4) == [0, 0, 0, 0]


@pytest.mark.parametrize("side", [24.1, 33.3, 56.0, 71.7])
def test_rounding_costs_no_object_all_its_points(side: float) -> None:
    # Inside every anchor all IoUs are equal; a mean rounded up would be above each of them.
    points = make_points([(16, 16)], [8], anchor_scale=30, offset=0)
    found = assign(points, [[64 - side / 2, 64 - side / 2, 64 + side / 2, 64 + side / 2]])
    assert found.count(0) == 9


def test_an_object_between_the_points_is_missed() -> None:
    points = make_points([(4, 4)], [8], anchor_scale=8, offset=0)
    assert set(assign(points, [[1, 1, 3, 3]])) == {-1}


def test_no_objects_and_no_points() -> None:
    assert assign(make_points([(2, 2)], [8], anchor_scale=8, offset=0), []) == [-1] * 4
    assert assign(make_points([(0, 0)], [8], anchor_scale=8, offset=0), [[0, 0, 9, 9]]) == []
    assert assign(make_points([(0, 0), (1, 1)], [8, 16], anchor_scale=8, offset=0), [[-8, -8, 9, 9]]) == [0]


def test_huge_numbers_neither_fail_nor_hit() -> None:
    points = make_points(grid_sizes(64, 64, (8, 16)), (8, 16), anchor_scale=8, offset=0)
    far = [[1e7, 1e7, 2e7, 2e7], [-3e9, -3e9, -2e9, -2e9]]
    assert set(assign(points, far)) == {-1}
    # The object beside them gets what it gets alone.
    near = [-2.0, -2, 66, 66]
    alone = assign(points, [near])
    assert 0 in alone
    assert assign(points, [*far, near]) == [2 if i == 0 else -1 for i in alone]


def test_what_is_not_whole_is_refused() -> None:
    points = make_points([(2, 2)], [8], anchor_scale=8, offset=0)
    with pytest.raises(ValueError, match="whole set"):
        assign(points[torch.tensor([0, 1])], [[0, 0, 9, 9]])
    with pytest.raises(ValueError, match="top_k"):
        AtssAssigner(0)


SIZES = [(64, 96), (8, 200), (200, 8), (33, 70), (8, 8), (1, 1)]


def random_boxes(kind: str, count: int, width: int, generator: torch.Generator) -> Tensor:
    def integers(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (count, 2), generator=generator).float()

    if kind == "integer":  # centres in and outside the map, many equal distances and IoUs
        corner, size = integers(-20, width + 20), integers(1, 90)
    elif kind == "grid":  # edges on the points
        corner, size = 8 * integers(-2, 14), 8 * integers(1, 8)
    elif kind == "pixel":
        corner, size = integers(0, width + 1), integers(1, 3)
    else:
        corner = torch.rand(count, 2, generator=generator) * width - 10
        size = torch.rand(count, 2, generator=generator) * 90 + 0.1
    return torch.cat((corner, corner + size), 1)


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", ["integer", "grid", "pixel", "float"])
def test_agrees_with_the_slow_loop(kind: str, size: tuple[int, int], offset: float) -> None:
    generator = torch.Generator().manual_seed(len(kind) + 10 * size[0] + int(2 * offset))
    for levels in (1, 3):
        strides = (8, 16, 32)[:levels]
        for scale, top_k in ((8, 9), (5, 9), (2, 3), (8, 1), (30, 20), (8, 2), (8, 4)):
            points = make_points(grid_sizes(*size, strides), strides, anchor_scale=scale, offset=offset)
            boxes = random_boxes(kind, 5, size[1], generator)
            assert assign(points, boxes, top_k) == slow_atss(points.anchors, points.level, boxes, top_k)

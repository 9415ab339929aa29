from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gfocal.assigners import FcosAssigner
from gfocal.points import Points, grid_sizes, make_points
from oracles.assigners import fcos as slow_fcos


def assign(points: Points, boxes: Tensor | list[list[float]], **options: float) -> list[int]:
    return FcosAssigner(**options)(points, torch.as_tensor(boxes, dtype=torch.float32).view(-1, 4)).gt_index.tolist()


def row_of(count: int, stride: int = 8) -> Points:
    """Points at x = 4, 12, 20, ..., y = 4."""
    return make_points([(1, count)], [stride], anchor_scale=8, offset=0.5)


def test_the_centre_by_hand() -> None:
    # Box x in [2, 38]: centre 20, sampled within 12 pixels: (8, 32) holds 12, 20, 28 of 4, 12, 20, 28, 36.
    assert assign(row_of(5), [[2, 0, 38, 8]]) == [-1, 0, 0, 0, -1]
    # Without centre sampling (2, 38) holds all of them.
    assert assign(row_of(5), [[2, 0, 38, 8]], radius=0) == [0] * 5
    # Centre 16: (4, 28) leaves both points on its edge out.
    assert assign(row_of(5), [[-2, 0, 34, 8]]) == [-1, 0, 0, -1, -1]
    # Centre 15.5: (3.5, 27.5).
    assert assign(row_of(5), [[-3, 0, 34, 8]]) == [0, 0, 0, -1, -1]
    # Radius 0.5: (16, 24) round 20.
    assert assign(row_of(5), [[2, 0, 38, 8]], radius=0.5) == [-1, -1, 0, -1, -1]
    # Radius 1.75: (6, 34), and 2.25: (2, 38).
    assert assign(row_of(5), [[2, 0, 38, 8]], radius=1.75) == [-1, 0, 0, 0, -1]
    assert assign(row_of(5), [[2, 0, 38, 8]], radius=2.25) == [0] * 5


def test_the_square_is_cut_to_the_box() -> None:
    # Box x in [13, 27], centre 20: the square (8, 32) holds 12 and 28, which lie outside the box.
    assert assign(row_of(5), [[13, 0, 27, 8]]) == [-1, -1, 0, -1, -1]
    # On the edge is not inside: 12 and 28 again.
    assert assign(row_of(5), [[12, 0, 28, 8]]) == [-1, -1, 0, -1, -1]
    assert assign(row_of(5), [[11.5, 0, 28.5, 8]]) == [-1, 0, 0, 0, -1]
    # In y: the points' y is 4.
    assert assign(row_of(5), [[2, 4, 38, 8]]) == [-1] * 5
    assert assign(row_of(5), [[2, 0, 38, 4]]) == [-1] * 5
    assert assign(row_of(5), [[2, -20, 38, 4.5]], radius=1) == [-1] * 5  # centre y = -7.75: up to 0.25


def test_ranges_by_hand() -> None:
    # One point at (16, 16) on each of the strides 8, 16, 32 (offset 0, moved there by the grid): longest distance d.
    points = make_points([(3, 3), (2, 2), (2, 2)], [8, 16, 32], anchor_scale=8, offset=0)
    at = {"8": 8, "16": 9 + 3, "32": 13}  # flat indices of (16, 16), (16, 16) and (0, 0)

    def levels(distance: float) -> list[bool]:
        found = assign(points, [[16 - distance, 16 - distance, 16 + distance, 16 + distance]], radius=1)
        return [found[at["8"]] == 0, found[at["16"]] == 0, found[at["32"]] == 0]

    # The first level takes [0, 64], the second [64, 128], both ends inclusive.
    assert levels(63)[:2] == [True, False]
    assert levels(64)[:2] == [True, True]
    assert levels(65)[:2] == [False, True]
    assert levels(128)[1]
    assert not levels(129)[1]
    # The last one: from 128 to infinity; (0, 0) is 16 further away from the far edges.
    assert levels(112)[2]
    assert not levels(111)[2]
    assert levels(1e6)[2]


def test_one_level_takes_everything() -> None:
    assert assign(row_of(3), [[0, 0, 24, 8]]) == [0, 0, 0]
    assert assign(row_of(3), [[-1e5, -1e5, 1e5, 1e5]], radius=0) == [0, 0, 0]


def test_the_scale_of_the_ranges() -> None:
    points = make_points([(1, 1), (1, 1)], [8, 16], anchor_scale=8, offset=0.5)  # (4, 4) and (8, 8)
    box = [[-8.0, -8, 20, 20]]  # longest distance 16 at (4, 4) and at (8, 8)
    assert assign(points, box, range_scale=2) == [0, 0]
    assert assign(points, box, range_scale=1.9) == [-1, 0]
    assert assign(points, box, range_scale=2.1) == [0, -1]


def test_a_contested_point_goes_to_the_least_area_and_then_to_the_first() -> None:
    points = row_of(1)
    small, large = [0.0, 0, 8, 8], [-1.0, -1, 9, 9]
    assert assign(points, [large, small]) == [1]
    assert assign(points, [small, large]) == [0]
    # Equal areas, other shapes: 4 x 16 = 16 x 4.
    assert assign(points, [large, [2.0, -4, 6, 12], [-4.0, 2, 12, 6]]) == [1]
    assert assign(points, [large, [-4.0, 2, 12, 6], [2.0, -4, 6, 12]]) == [1]
    # The order holds for areas of any size: 1e8 and more, and infinite in float32.
    assert assign(points, [[-3e4, -3e4, 3e4, 3e4], [-2e4, -2e4, 2e4, 2e4]], radius=0) == [1]
    assert assign(points, [[-1e20, -1e20, 1e20, 1e20]], radius=0) == [0]


def test_an_object_between_the_points_is_missed() -> None:
    assert assign(make_points([(4, 4)], [8], anchor_scale=8, offset=0.5), [[5, 5, 7, 7]]) == [-1] * 16
    # One pixel round a point is enough.
    assert assign(row_of(2), [[3.5, 3.5, 4.5, 4.5]]) == [0, -1]


def test_settings_are_checked() -> None:
    for bad in (-1.0, math.nan):
        with pytest.raises(ValueError, match="radius must be >= 0"):
            FcosAssigner(radius=bad)
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="range_scale must be > 0"):
            FcosAssigner(range_scale=bad)


def random_boxes(kind: str, count: int, width: int, generator: torch.Generator) -> Tensor:
    if kind == "float":
        corner = torch.rand(count, 2, generator=generator) * (width + 40) - 20
        size = torch.rand(count, 2, generator=generator) ** 2 * 200 + 0.1
    else:  # edges and centres on points, equal areas
        corner = 4.0 * torch.randint(-4, width // 4 + 1, (count, 2), generator=generator)
        size = 8.0 * torch.randint(1, 6, (count, 2), generator=generator) * torch.randint(1, 4, (count, 1))
    return torch.cat((corner, corner + size), 1)


@pytest.mark.parametrize("size", [(64, 96), (8, 200), (200, 8), (33, 70), (1, 1)], ids=str)
@pytest.mark.parametrize("kind", ["grid", "float"])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_agrees_with_the_slow_loop(kind: str, size: tuple[int, int], offset: float) -> None:
    generator = torch.Generator().manual_seed(size[0])
    positives = 0
    for strides in ((8,), (8, 16, 32), (10, 24)):
        points = make_points(grid_sizes(*size, strides), strides, anchor_scale=8, offset=offset)
        for radius, range_scale in ((1.5, 8.0), (1.5, 2.0), (0.0, 2.0), (1.0, 1.0), (2.5, 3.0), (0.25, 1.0)):
            boxes = random_boxes(kind, 7, size[1], generator)
            expected = slow_fcos(points.xy, points.level, boxes, strides, radius, range_scale)
            assert assign(points, boxes, radius=radius, range_scale=range_scale) == expected
            positives += sum(g >= 0 for g in expected)
    assert positives > 0 or size == (1, 1)

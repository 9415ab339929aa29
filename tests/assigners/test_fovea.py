from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gfocal.assigners import FoveaAssigner
from gfocal.points import Points, grid_sizes, make_points
from oracles.assigners import fovea as slow_fovea


def assign(points: Points, boxes: Tensor | list[list[float]], **options: float) -> list[int]:
    return FoveaAssigner(**options)(points, torch.as_tensor(boxes, dtype=torch.float32).view(-1, 4)).gt_index.tolist()


def row_of(count: int, offset: float = 0.5) -> Points:
    return make_points([(1, count)], [8], anchor_scale=4, offset=offset)


def test_the_middle_by_hand() -> None:
    # Box x in [8, 72] = cells [1, 9], half = 4: from ceil(1 + .6 * 4 - .5) = ceil(2.9) = 3
    # to floor(1 + 1.4 * 4 - .5) = floor(6.1) = 6.
    assert assign(row_of(10), [[8, 0, 72, 8]]) == [-1, -1, -1, 0, 0, 0, 0, -1, -1, -1]
    # sigma = 1/2: ceil(1 + 2 - .5) = 3 to floor(1 + 6 - .5) = 6; 7/8: ceil(1 + .5 - .5) = 1 to floor(1 + 7.5 - .5) = 8.
    assert assign(row_of(10), [[8, 0, 72, 8]], sigma=0.5) == [-1, -1, -1, 0, 0, 0, 0, -1, -1, -1]
    assert assign(row_of(10), [[8, 0, 72, 8]], sigma=0.875) == [-1, 0, 0, 0, 0, 0, 0, 0, 0, -1]
    # All of the box: the points 0.5 .. 8.5 cells inside [1, 9].
    assert assign(row_of(10), [[8, 0, 72, 8]], sigma=1.0) == [-1, 0, 0, 0, 0, 0, 0, 0, 0, -1]
    # Points on the corners (offset 0): ceil(3.4) = 4 to floor(6.6) = 6.
    assert assign(row_of(10, 0.0), [[8, 0, 72, 8]]) == [-1, -1, -1, -1, 0, 0, 0, -1, -1, -1]


def test_rows_as_columns() -> None:
    points = make_points([(10, 2)], [8], anchor_scale=4, offset=0.5)
    # y in [8, 72] as above; x in [8, 16] = [1, 2]: ceil(1.3 - .5) = 1 to floor(1.7 - .5) = 1.
    found = torch.tensor(assign(points, [[8, 8, 16, 72]])).view(10, 2)
    assert found[:, 0].tolist() == [-1] * 10
    assert found[:, 1].tolist() == [-1, -1, -1, 0, 0, 0, 0, -1, -1, -1]


def test_ranges_by_hand() -> None:
    # Bases 32, 64, 128: squares of side s belong to [1, 64], [32, 128], [64, 2048].
    strides = (8, 16, 32)
    points = make_points(grid_sizes(4096, 4096, strides), strides, anchor_scale=4, offset=0.5)

    def levels(side: float) -> list[int]:
        low = 2048 - side / 2
        found = torch.tensor(assign(points, [[low, low, low + side, low + side]]))
        return points.level[found == 0].unique().tolist()

    # 2048 lies between two cells of every level, half a stride from their points. They lie in the middle, .2 sides to
    # either side, of squares of more than 20, 40, 80 pixels.
    assert levels(31) == [0]
    assert levels(32) == [0]  # in the range of the second level, but less than 40
    assert levels(48) == [0, 1]
    assert levels(64) == [0, 1]
    assert levels(65) == [1]
    assert levels(100) == [1, 2]
    assert levels(128) == [1, 2]
    assert levels(129) == [2]
    assert levels(2048) == [2]
    assert levels(2049) == []


def test_ends_of_the_ranges_are_inclusive() -> None:
    # One cell a level, border objects: the limit at the border gives them the cell wherever the range allows.
    points = make_points([(1, 1), (1, 1)], [8, 16], anchor_scale=4, offset=0.5)
    for side, expected in ((1, [0, -1]), (31.9, [0, -1]), (32, [0, 0]), (64, [0, 0]), (64.1, [-1, 0]), (0.9, [-1, -1])):
        assert assign(points, [[0, 0, side, side]]) == expected
    # In float32, whatever the boxes are in.
    assert FoveaAssigner()(points, torch.tensor([[0, 0, 64, 64 + 1e-9]], dtype=torch.float64)).gt_index[0] == 0
    # sqrt(A): 16 x 64 has 32, 8 x 64 has 22.6.
    assert assign(points, [[0, 0, 16, 64]]) == [0, 0]
    assert assign(points, [[0, 0, 8, 64]]) == [0, -1]
    # The base in strides: 2 gives 16 and 32, hence [1, 32] and [16, 2048].
    assert assign(points, [[0, 0, 16, 16]], base_scale=2) == [0, 0]
    assert assign(points, [[0, 0, 33, 33]], base_scale=2) == [-1, 0]
    # A single level takes all from 1 to 2048.
    assert assign(row_of(1), [[0, 0, 1, 1]]) == [0]
    assert assign(row_of(1), [[0, 0, 2048, 2048]]) == [0]
    assert assign(row_of(1), [[0, 0, 2049, 2048]]) == [-1]


def test_at_the_border() -> None:
    # x in [30, 32] = [3.75, 4]: ceil(3.85 - .5) = 4 -> limited to 3, floor(3.9 - .5) = 3: the last cell.
    assert assign(row_of(4), [[30, 0, 32, 8]]) == [-1, -1, -1, 0]
    # The same object one cell further in lies between the points and is missed.
    assert assign(row_of(4), [[22, 0, 24, 8]]) == [-1] * 4
    # A middle beyond the border keeps the border's cell while the object touches the map.
    assert assign(row_of(4), [[-30, 0, 2, 8]]) == [0, -1, -1, -1]
    assert assign(row_of(4), [[31, 0, 61, 8]]) == [-1, -1, -1, 0]
    for beyond in ([-30.0, 0, 0, 8], [32.0, 0, 62, 8], [0.0, -9, 8, 0], [0.0, 8, 8, 17]):
        assert assign(row_of(4), [beyond]) == [-1] * 4


def test_a_contested_cell_goes_to_the_smaller_object_and_then_to_the_first() -> None:
    points = row_of(1)
    small, large = [0.0, 0, 8, 8], [0.0, 0, 9, 9]
    assert assign(points, [large, small]) == [1]
    assert assign(points, [small, large]) == [0]
    assert assign(points, [large, [2.0, -4, 6, 12], [-4.0, 2, 12, 6]]) == [1]
    assert assign(points, [large, [-4.0, 2, 12, 6], [2.0, -4, 6, 12]]) == [1]


def test_settings_are_checked() -> None:
    for bad in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="sigma must lie in"):
            FoveaAssigner(sigma=bad)
    for bad in (0.0, math.nan):
        with pytest.raises(ValueError, match="base_scale must be > 0"):
            FoveaAssigner(base_scale=bad)


def random_boxes(kind: str, count: int, width: int, generator: torch.Generator) -> Tensor:
    if kind == "float":
        corner = torch.rand(count, 2, generator=generator) * (width + 40) - 30
        size = torch.rand(count, 2, generator=generator) ** 2 * 200 + 0.1
    else:
        corner = 4.0 * torch.randint(-6, width // 4 + 2, (count, 2), generator=generator)
        size = 4.0 * torch.randint(1, 30, (count, 2), generator=generator)
    return torch.cat((corner, corner + size), 1)


@pytest.mark.parametrize("size", [(64, 96), (8, 200), (200, 8), (33, 70), (1, 1)], ids=str)
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_agrees_with_the_slow_loop(size: tuple[int, int], offset: float) -> None:
    generator = torch.Generator().manual_seed(size[0])
    for strides in ((8,), (8, 16, 32)):
        grids = grid_sizes(*size, strides)
        points = make_points(grids, strides, anchor_scale=4, offset=offset)
        # Ends that fall exactly on a cell are the same in float32 and float64 where sigma is a short binary number.
        for kind, sigma, base in (("float", 0.4, 4.0), ("float", 0.9, 1.0), ("grid", 0.5, 4.0), ("grid", 1.0, 1.0)):
            for count in (1, 8):
                boxes = random_boxes(kind, count, size[1], generator)
                expected = slow_fovea(grids, strides, boxes, sigma, base, offset)
                assert assign(points, boxes, sigma=sigma, base_scale=base) == expected

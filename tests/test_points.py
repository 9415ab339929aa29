from __future__ import annotations

import pytest
import torch

from gfocal.points import grid_sizes, make_points


def test_points_run_level_by_level_and_row_by_row() -> None:
    points = make_points([(2, 3), (1, 2)], [8, 16], anchor_scale=4, offset=0)
    assert points.xy.tolist() == [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8], [0, 0], [16, 0]]
    assert points.level.tolist() == [0] * 6 + [1] * 2
    assert points.stride.tolist() == [8] * 6 + [16] * 2
    assert points.level_counts == [6, 2]
    # An anchor of 4 strides: 16 pixels to each side on stride 8, 32 on stride 16.
    assert points.anchors[4].tolist() == [8 - 16, 8 - 16, 8 + 16, 8 + 16]
    assert points.anchors[7].tolist() == [16 - 32, -32, 16 + 32, 32]


def test_the_offset_is_in_cells() -> None:
    points = make_points([(1, 2), (1, 1)], [8, 32], anchor_scale=1, offset=0.5)
    assert points.xy.tolist() == [[4, 4], [12, 4], [16, 16]]
    assert points.offset == 0.5


@pytest.mark.parametrize(
    ("size", "grids"),
    [
        ((64, 96), ((8, 12), (4, 6), (2, 3))),
        ((65, 1), ((9, 1), (5, 1), (3, 1))),  # rounded up: 65 / 8 = 8.1, 65 / 16 = 4.1, 65 / 32 = 2.03
        ((0, 32), ((0, 4), (0, 2), (0, 1))),
    ],
)
def test_sizes_of_the_maps(size: tuple[int, int], grids: tuple[tuple[int, int], ...]) -> None:
    assert grid_sizes(*size, (8, 16, 32)) == grids


def test_picked_points_keep_their_level() -> None:
    points = make_points([(2, 2), (1, 1)], [8, 16], anchor_scale=8, offset=0)
    picked = points[torch.tensor([4, 3])]
    assert (len(picked), picked.xy.tolist(), picked.level.tolist()) == (2, [[0, 0], [8, 8]], [1, 0])
    assert picked.stride.tolist() == [16, 8]
    assert picked.level_counts == []  # no longer a whole set


def test_no_points_at_all() -> None:
    points = make_points([(0, 4)], [8], anchor_scale=8, offset=0)
    assert (points.xy.shape, points.anchors.shape, points.level_counts) == ((0, 2), (0, 4), [0])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="1 grids and 2 strides"):
        make_points([(1, 1)], [8, 16], anchor_scale=8, offset=0)
    with pytest.raises(ValueError, match="anchor_scale"):
        make_points([(1, 1)], [8], anchor_scale=0, offset=0)

from __future__ import annotations

import pytest
import torch

from gfocal.points import grid_sizes, make_anchors, make_points, octave_shapes, ssd_shapes


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
    with pytest.raises(ValueError, match="1 grids, 2 strides"):
        make_points([(1, 1)], [8, 16], anchor_scale=8, offset=0)
    with pytest.raises(ValueError, match="anchor_scale"):
        make_points([(1, 1)], [8], anchor_scale=0, offset=0)


# --- several anchors a location -------------------------------------------------------------------------------------


def test_anchors_stand_location_by_location() -> None:
    # Two levels: 1 x 2 cells of stride 8 with two anchors each, one cell of stride 16 with one.
    points = make_anchors([(1, 2), (1, 1)], [8, 16], [[(8, 4), (2, 2)], [(16, 16)]], offset=0.5)
    assert points.xy.tolist() == [[4, 4], [4, 4], [12, 4], [12, 4], [8, 8]]
    assert points.anchors.tolist() == [[0, 2, 8, 6], [3, 3, 5, 5], [8, 2, 16, 6], [11, 3, 13, 5], [0, 0, 16, 16]]
    assert (points.level.tolist(), points.stride.tolist()) == ([0, 0, 0, 0, 1], [8, 8, 8, 8, 16])
    assert (points.per_location, points.level_counts) == ((2, 1), [4, 1])


def test_one_square_anchor_is_the_general_form_with_one_shape() -> None:
    square = make_points([(3, 4), (2, 2)], [8, 16], anchor_scale=5, offset=0.5)
    general = make_anchors([(3, 4), (2, 2)], [8, 16], [[(40, 40)], [(80, 80)]], offset=0.5)
    for name in ("xy", "anchors", "stride", "level"):
        assert torch.equal(getattr(square, name), getattr(general, name))
    assert square.level_counts == general.level_counts == [12, 4]


def test_retinanets_anchors() -> None:
    # Ratio (height over width) by ratio, three sizes each; areas (32, 32 * 2^(1/3), 32 * 2^(2/3))^2 on stride 8.
    (shapes,) = octave_shapes([8])
    assert len(shapes) == 9
    sides = [32, 32 * 2 ** (1 / 3), 32 * 2 ** (2 / 3)]
    assert [w * h for w, h in shapes] == pytest.approx([side**2 for side in sides] * 3)
    assert [h / w for w, h in shapes] == pytest.approx([0.5] * 3 + [1] * 3 + [2] * 3)
    assert shapes[0] == pytest.approx((45.2548, 22.6274), rel=1e-5)


def test_ssds_anchors() -> None:
    # A square of 20, one of sqrt(20 * 51) = 31.94, then 2 : 1 and 1 : 2 of the first one's area.
    first, second = ssd_shapes([20, 51, 133], [[2], [2, 3]])
    expected = torch.tensor([[20, 20], [31.9374, 31.9374], [28.2843, 14.1421], [14.1421, 28.2843]])
    torch.testing.assert_close(torch.tensor(first), expected, rtol=1e-5, atol=0)
    assert len(second) == 6
    assert second[4] == pytest.approx((51 * 3**0.5, 51 / 3**0.5))


def test_anchors_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes of 2 levels"):
        make_anchors([(1, 1)], [8], [[(1, 1)], [(1, 1)]], offset=0)
    with pytest.raises(ValueError, match="anchors of positive size"):
        make_anchors([(1, 1)], [8], [[]], offset=0)
    with pytest.raises(ValueError, match="anchors of positive size"):
        make_anchors([(1, 1)], [8], [[(0, 1)]], offset=0)
    with pytest.raises(ValueError, match="one size more than levels, got 2 sizes for 2 levels"):
        ssd_shapes([20, 51], [[2], [2]])

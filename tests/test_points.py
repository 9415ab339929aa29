from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from gfocal.errors import UsageError
from gfocal.points import Points, grid_sizes, make_anchors, make_points, octave_shapes, ssd_shapes


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


@pytest.mark.parametrize("offset", [0.0, 0.5, 0.3])
@pytest.mark.parametrize("size", [(64, 96), (63, 41), (64.5, 33), (8, 8), (5, 96), (1, 1), (0, 64), (1000, 1000)])
def test_points_within_an_image_are_those_left_of_and_above_its_border(
    size: tuple[float, float], offset: float
) -> None:
    grids, shapes = grid_sizes(64, 96, (8, 16, 32)), [[(8.0, 8.0), (16.0, 8.0)], [(16.0, 16.0)], [(32.0, 32.0)]]
    points = make_anchors(grids, (8, 16, 32), shapes, offset=offset)
    inside, index = points.within(*size)
    assert index.tolist() == [i for i, (x, y) in enumerate(points.xy.tolist()) if y < size[0] and x < size[1]]
    assert torch.equal(inside.anchors, points.anchors[index])
    assert sum(inside.level_counts) == len(inside)  # a whole set, in the same order
    again = make_anchors(inside.grids, (8, 16, 32), shapes, offset=offset)
    assert torch.equal(again.anchors, inside.anchors)
    assert torch.equal(again.level, inside.level)
    with pytest.raises(ValueError, match="whole set"):
        points[:3].within(*size)


def test_an_image_without_padding_has_all_the_points() -> None:
    points = make_points(grid_sizes(60, 90, (8, 16)), (8, 16), anchor_scale=8, offset=0.5)
    for size in ((64, 96), (61, 93), (100, 100)):
        inside, index = points.within(*size)
        assert inside is points
        assert index.tolist() == list(range(len(points)))
    assert len(points.within(60, 96)[0]) < len(points)  # the last row lies on the border


def test_points_within_levels_without_any() -> None:
    points = make_points([(2, 3), (0, 2)], [8, 16], anchor_scale=8, offset=0)
    inside, index = points.within(8, 16)
    assert (inside.grids, index.tolist(), len(inside)) == (((1, 2), (0, 1)), [0, 1], 2)
    assert len(make_points([(0, 0)], [8], anchor_scale=8, offset=0).within(8, 8)[1]) == 0


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


SHAPES = [[(20.0, 10.0), (7.3, 31.7)], [(40.0, 20.0)], [(64.0, 64.0), (90.5, 45.3), (45.3, 90.5)]]


@pytest.mark.parametrize("offset", [0.0, 0.5, 0.0625])
@pytest.mark.parametrize("grids", [[(5, 7), (3, 4), (2, 2)], [(1, 7), (3, 1), (1, 1)]])
def test_plain_anchors_become_the_points_that_they_are(grids: list[tuple[int, int]], offset: float) -> None:
    points = make_anchors(grids, [8, 16, 32], SHAPES, offset=offset)
    plain = points.anchors.split(points.level_counts)
    again = Points.from_anchors(plain, [8, 16, 32])
    assert torch.equal(again.anchors, points.anchors)
    assert torch.equal(again.xy, points.xy)
    assert torch.equal(again.level, points.level)
    assert torch.equal(again.stride, points.stride)
    facts = [(p.grids, p.strides, p.offset, p.per_location) for p in (again, points)]
    assert facts[0] == facts[1]
    # Anchors that are a little off stay as they are; the points do not move.
    off = Points.from_anchors([level + 0.04 for level in plain], [8, 16, 32])
    assert torch.equal(off.anchors, points.anchors + 0.04)
    assert torch.allclose(off.xy, points.xy, atol=0.2)


def test_anchors_of_another_library() -> None:
    generator = AnchorGenerator(((32, 40), (64, 80)), ((0.5, 1.0, 2.0),) * 2)
    images = ImageList(torch.zeros(1, 3, 96, 128), [(96, 128)])
    (made,) = generator(images, [torch.zeros(1, 1, 12, 16), torch.zeros(1, 1, 6, 8)])
    points = Points.from_anchors(made.split([12 * 16 * 6, 6 * 8 * 6]), [8, 16])
    assert (points.grids, points.per_location, points.offset) == (((12, 16), (6, 8)), (6, 6), 0)
    assert torch.equal(points.anchors, made)


PLAIN = make_anchors([(2, 3), (1, 2)], [8, 16], [[(16.0, 8.0), (8.0, 16.0)]] * 2, offset=0.5).anchors.split([12, 4])


@pytest.mark.parametrize(
    ("anchors", "strides", "message"),
    [
        (PLAIN[0], [8], r"must be a list with an \(N, 4\) tensor of each level"),
        (PLAIN, [8], "of as many levels are needed, got 2 and 1"),
        ([], [], "of as many levels are needed, got 0 and 0"),
        ([PLAIN[0], torch.zeros(0, 4)], [8, 16], r"level 1 must be a tensor of shape \(N, 4\), N > 0, got \(0, 4\)"),
        ([PLAIN[0], [1, 2, 3, 4]], [8, 16], "level 1 must be a tensor .* got list"),
        (PLAIN, [8, 0], "the stride of level 1 must be at least 1, got 0"),
        ([PLAIN[0][:, [2, 3, 0, 1]]], [8], "level 0 must be finite xyxy boxes with positive sides"),
        ([PLAIN[0] * torch.inf], [8], "level 0 must be finite"),
        # One anchor is missing; the two kinds one after the other; columns first; another stride, order or start.
        ([PLAIN[0][:-1]], [8], "the 11 anchors of level 0 are no whole rows of 3 locations with 2 each"),
        ([PLAIN[0].view(6, 2, 4).transpose(0, 1).reshape(12, 4)], [8], "level 0 are no grid"),
        ([PLAIN[0].view(2, 3, 2, 4).transpose(0, 1).reshape(12, 4)], [8], "level 0 are no grid"),
        (PLAIN, [8, 12], "level 1 are no grid: .* 12 pixels apart, the first at 0.5 strides"),
        (PLAIN[::-1], [8, 16], "level 0 are no grid"),
        ([PLAIN[0], PLAIN[1] + 1], [8, 16], "level 1 are no grid"),
    ],
)
def test_plain_anchors_that_are_no_grid_are_refused(anchors: Any, strides: list[int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Points.from_anchors(anchors, strides)

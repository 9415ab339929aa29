from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from gfocal.assigners import MaxIouAssigner
from gfocal.assigners import max_iou as module
from gfocal.points import Points, Shapes, grid_sizes, make_anchors, make_points, octave_shapes
from oracles.assigners import max_iou as slow_max_iou


def assign(points: Points, boxes: Tensor | list[list[float]], **options: Any) -> list[int]:
    boxes = torch.as_tensor(boxes, dtype=torch.float32).view(-1, 4)
    return MaxIouAssigner(**options)(points, boxes).gt_index.tolist()


def row_of(count: int) -> Points:
    """Anchors x in [0, 16], [8, 24], [16, 32], ..., all y in [0, 16]."""
    return Points(
        xy=torch.tensor([[8.0 + 8 * i, 8.0] for i in range(count)]),
        anchors=torch.tensor([[8.0 * i, 0, 16 + 8 * i, 16] for i in range(count)]),
        stride=torch.full((count,), 8.0),
        level=torch.zeros(count, dtype=torch.int64),
        grids=((1, count),),
        strides=(8,),
        offset=1.0,
    )


def test_thresholds_by_hand() -> None:
    # Equal boxes shifted by d have IoU (16 - d) / (16 + d): d = 0, 8, 16 -> 1, 1/3, 0.
    box = [[8.0, 0, 24, 16]]
    assert assign(row_of(4), box) == [-1, 0, -1, -1]
    assert assign(row_of(4), box, negative_iou=0.3) == [-2, 0, -2, -1]
    assert assign(row_of(4), box, positive_iou=0.3, negative_iou=0.3) == [0, 0, 0, -1]
    # d = 4 and 12 -> 0.6 and 1/7.
    assert assign(row_of(4), [[4.0, 0, 20, 16]]) == [0, 0, -1, -1]
    # In float32, whatever the boxes are in: 8 - 1e-9 is 8, half of the anchor.
    almost = torch.tensor([[0, 0, 8 - 1e-9, 16]], dtype=torch.float64)
    assert MaxIouAssigner(low_quality="none")(row_of(1), almost).gt_index.tolist() == [0]
    # >= on both thresholds. Half of the anchor: IoU exactly 1/2; a quarter: 1/4.
    for size, value in ((8, 0.5), (4, 0.25)):
        small = [[0.0, 0, size, 16]]
        assert assign(row_of(1), small, positive_iou=value, negative_iou=0.1, low_quality="none") == [0]
        assert assign(row_of(1), small, positive_iou=0.9, negative_iou=value, low_quality="none") == [-2]
        above = value + 1e-4
        assert assign(row_of(1), small, positive_iou=above, negative_iou=0.1, low_quality="none") == [-2]
        assert assign(row_of(1), small, positive_iou=0.9, negative_iou=above, low_quality="none") == [-1]


def test_low_quality_by_hand() -> None:
    # 4 x 4 inside anchors 0 and 1: IoU 16 / 256 with both.
    box = [[10.0, 4, 14, 8]]
    assert assign(row_of(3), box, low_quality="none") == [-1, -1, -1]
    assert assign(row_of(3), box, low_quality="first") == [0, -1, -1]
    assert assign(row_of(3), box, low_quality="all") == [0, 0, -1]
    # Ignored anchors are taken, too.
    assert assign(row_of(3), box, negative_iou=0.05, low_quality="first") == [0, -2, -1]


def test_a_later_object_takes_the_anchor_even_from_a_better_match() -> None:
    # Object 0 is anchor 0 itself; object 1 lies in it and has no better anchor.
    exact, inner = [0.0, 0, 16, 16], [1.0, 1, 6, 6]
    assert assign(row_of(2), [exact, inner]) == [1, -1]
    assert assign(row_of(2), [inner, exact]) == [1, -1]
    assert assign(row_of(2), [exact, inner], low_quality="none") == [0, -1]
    assert assign(row_of(2), [exact, inner], low_quality="first") == [1, -1]


def test_among_equal_overlaps_the_first_object_wins_the_threshold_and_the_last_the_rest() -> None:
    twins = [[0.0, 0, 16, 16], [0.0, 0, 16, 16]]
    assert assign(row_of(1), twins, low_quality="none") == [0]
    assert assign(row_of(1), twins) == [1]


def test_an_object_beside_all_anchors_claims_none() -> None:
    for low_quality in ("all", "first", "none"):
        for beside in ([100.0, 0, 116, 16], [0.0, 16, 16, 32], [-20.0, 0, 0, 16]):  # two of them share an edge
            assert assign(row_of(3), [beside], low_quality=low_quality) == [-1] * 3
    # Nothing lies between the anchors of sparse points either.
    points = make_points([(2, 2)], [64], anchor_scale=0.25, offset=0.5)
    assert assign(points, [[60, 60, 68, 68]]) == [-1] * 4


def test_no_overlap_is_negative_only_below_the_threshold() -> None:
    # No IoU is below 0: with negative_iou = 0 nothing is negative, as the rule says.
    assert assign(row_of(2), [[0.0, 0, 16, 16]], negative_iou=0.0) == [0, -2]
    assert assign(row_of(2), [[100.0, 0, 116, 16]], negative_iou=0.0) == [-2, -2]
    assert assign(row_of(2), [], negative_iou=0.0) == [-1, -1]


def test_one_pixel_and_a_whole_image() -> None:
    points = make_anchors(grid_sizes(64, 64, (8, 16)), (8, 16), octave_shapes((8, 16)), offset=0.0)
    assert 0 in assign(points, [[30, 30, 31, 31]])
    assert 0 in assign(points, [[-500, -500, 900, 900]])
    assert 0 in assign(points, [[0, 30, 64, 30.5]])


def test_settings_are_checked() -> None:
    for positive, negative in ((0.4, 0.5), (0.0, 0.0), (1.1, 0.4), (0.5, -0.1), (math.nan, 0.4)):
        with pytest.raises(ValueError, match="positive_iou"):
            MaxIouAssigner(positive, negative)
    with pytest.raises(ValueError, match="low_quality must be one of all, first, none, got 'some'"):
        MaxIouAssigner(low_quality="some")  # type: ignore[arg-type]


SHAPES: dict[str, tuple[tuple[int, ...], Shapes]] = {
    "square": ((8, 16), [[(32, 32)], [(64, 64)]]),
    "several": ((8, 16), [[(16, 16), (32, 8), (8, 32)], [(40, 24), (24, 40)]]),
    "sparse": ((32,), [[(16, 8), (8, 8)]]),
    "octaves": ((16, 32), octave_shapes((16, 32), scale=2)),
}


def random_boxes(kind: str, count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    if kind == "integer":  # equal IoUs everywhere
        low = -10
        x = torch.randint(low, size[1] + 10, (count, 1), generator=generator).float()
        y = torch.randint(low, size[0] + 10, (count, 1), generator=generator).float()
        side = torch.randint(1, 50, (count, 2), generator=generator).float()
    elif kind == "grid":
        x = 4.0 * torch.randint(-4, size[1] // 4 + 4, (count, 1), generator=generator)
        y = 4.0 * torch.randint(-4, size[0] // 4 + 4, (count, 1), generator=generator)
        side = 8.0 * torch.randint(1, 9, (count, 2), generator=generator)
    else:
        x = torch.rand(count, 1, generator=generator) * (size[1] + 20) - 10
        y = torch.rand(count, 1, generator=generator) * (size[0] + 20) - 10
        side = torch.exp(torch.rand(count, 2, generator=generator) * 6)
    return torch.cat((x, y, x + side[:, :1], y + side[:, 1:]), 1)


@pytest.mark.parametrize("low_quality", ["all", "first", "none"])
@pytest.mark.parametrize("kind", ["integer", "grid", "float"])
@pytest.mark.parametrize("shapes", SHAPES)
def test_agrees_with_the_slow_loop(shapes: str, kind: str, low_quality: str) -> None:
    strides, sizes = SHAPES[shapes]
    generator = torch.Generator().manual_seed(len(kind))
    for size in ((64, 96), (8, 120), (1, 1)):
        for offset, positive, negative in ((0.5, 0.5, 0.4), (0.0, 0.7, 0.3), (0.5, 0.5, 0.5), (0.0, 0.3, 0.05)):
            points = make_anchors(grid_sizes(*size, strides), strides, sizes, offset=offset)
            boxes = random_boxes(kind, 6, size, generator)
            # Sides like 2^(1/3): which IoUs are equal is a matter of rounding, in float32 as in published code.
            table = box_iou(boxes, points.anchors) if shapes == "octaves" else None
            expected = slow_max_iou(points.anchors, boxes, positive, negative, low_quality, table)
            found = assign(points, boxes, positive_iou=positive, negative_iou=negative, low_quality=low_quality)
            assert found == expected


def test_few_pairs_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    points = make_anchors(grid_sizes(320, 320, (8, 16, 32)), (8, 16, 32), octave_shapes((8, 16, 32)), offset=0.0)
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(20, 2, generator=generator) * 250
    boxes = torch.cat((corner, corner + 10 + torch.rand(20, 2, generator=generator) * 150), 1)
    looked_at = []

    def note(a: Tensor, b: Tensor) -> Tensor:
        looked_at.append(a.shape[:-1].numel())
        return original(a, b)

    original = module.aligned_iou
    monkeypatch.setattr(module, "aligned_iou", note)
    _, anchor, _ = MaxIouAssigner()._overlaps(points, boxes)
    iou = original(boxes[:, None], points.anchors)
    matter = int(((iou >= 0.4) | (iou == iou.amax(1, keepdim=True))).sum())
    assert matter <= len(anchor) < 1.01 * matter  # of 378,000
    nearest, pairs = looked_at
    assert nearest == 20 * 27  # the nearest of each kind
    assert pairs < 1.3 * matter

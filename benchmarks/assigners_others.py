"""FCOS, max-IoU and FoveaBox assignment by arithmetic on the grid, beside the plain forms of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import box_iou

from assigner import random_boxes
from gfocal.assigners import Assigner, FcosAssigner, FoveaAssigner, MaxIouAssigner
from gfocal.points import Points, grid_sizes, make_anchors, make_points, octave_shapes
from harness import Candidate, Row, compare

STRIDES = (8, 16, 32, 64, 128)
HEIGHT, WIDTH = 800, 1344


def fcos(points: Points, boxes: Tensor) -> Tensor:
    """Section 3.2 of arXiv 1904.01355 with centre sampling 1.5: every point against every box; (P,) box or -1."""
    distance = torch.cat((points.xy[:, None] - boxes[:, :2], boxes[:, 2:] - points.xy[:, None]), -1)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    radius = 1.5 * points.stride[:, None, None]
    low, high = torch.maximum(centre - radius, boxes[:, :2]), torch.minimum(centre + radius, boxes[:, 2:])
    inside = torch.cat((points.xy[:, None] - low, high - points.xy[:, None]), -1).amin(-1) > 0
    most = torch.tensor([64, 128, 256, 512, math.inf])[points.level]
    least = torch.tensor([0.0, 64, 128, 256, 512])[points.level]
    longest = distance.amax(-1)
    positive = inside & (longest >= least[:, None]) & (longest <= most[:, None])
    areas = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).expand(len(points), -1)
    smallest, owner = areas.where(positive, math.inf).min(1)
    return owner.where(smallest < math.inf, -1)


def max_iou(points: Points, boxes: Tensor) -> Tensor:
    """The full matrix of anchors and boxes with RetinaNet's thresholds; (P,) box, -1 or -2."""
    iou = box_iou(boxes, points.anchors)
    best, owner = iou.max(0)
    gt_index = owner.where(best >= 0.5, -2).where(best >= 0.4, -1)
    for number, row in enumerate(iou):
        if row.max() > 0:
            gt_index[row == row.max()] = number
    return gt_index


def fovea(points: Points, boxes: Tensor) -> Tensor:
    """arXiv 1904.03797 with sigma 0.4: every object painted into the map of its levels, larger ones first."""
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    ranges = [(1, 64), (32, 128), (64, 256), (128, 512), (256, 2048)]
    maps = []
    for (height, width), stride, (least, most) in zip(points.grids, points.strides, ranges, strict=True):
        level = torch.full((height, width), -1)
        hit = ((side >= least) & (side <= most)).nonzero().flatten()
        hit = hit[side[hit].argsort(descending=True)]
        start, end = (boxes[hit] / stride).split(2, 1)
        half = (end - start) / 2
        limit = torch.tensor([width - 1, height - 1])
        low = (start + 0.6 * half - 0.5).ceil().long().clamp(min=0).minimum(limit).tolist()
        high = (start + 1.4 * half - 0.5).floor().long().clamp(min=0).minimum(limit).tolist()
        for number, (x1, y1), (x2, y2) in zip(hit.tolist(), low, high, strict=True):
            level[y1 : y2 + 1, x1 : x2 + 1] = number
        maps.append(level.flatten())
    return torch.cat(maps)


def case(
    name: str,
    assign: Assigner,
    baseline: tuple[str, Callable[[Points, Tensor], Tensor]],
    points: Points,
    count: int,
    repeats: int,
) -> list[Row]:
    seeds = 4
    other, slow = baseline
    for seed in range(seeds):
        boxes = random_boxes(count, HEIGHT, WIDTH, seed)
        different = int((assign(points, boxes).gt_index != slow(points, boxes)).sum())
        if different:
            raise AssertionError(f"{name}: {different} points are assigned differently")
    boxes = random_boxes(count, HEIGHT, WIDTH, 0)
    candidates = [
        Candidate(other, lambda: slow(points, boxes)),
        Candidate("gfocal", lambda: assign(points, boxes), True, f"all of {seeds} x {len(points):,} points"),
    ]
    return compare(f"{name} {HEIGHT} x {WIDTH}, {len(points):,} points, {count} boxes", candidates, repeats=repeats)


def rows(repeats: int) -> list[Row]:
    grids = grid_sizes(HEIGHT, WIDTH, STRIDES)
    single = make_points(grids, STRIDES, anchor_scale=4, offset=0.5)
    nine = make_anchors(grids, STRIDES, octave_shapes(STRIDES), offset=0.0)
    found = []
    for count in (1, 20, 100):
        found += case("FCOS", FcosAssigner(), ("full matrix", fcos), single, count, repeats)
        found += case("max-IoU", MaxIouAssigner(), ("full matrix", max_iou), nine, count, repeats)
        found += case("FoveaBox", FoveaAssigner(), ("painting", fovea), single, count, repeats)
    return found

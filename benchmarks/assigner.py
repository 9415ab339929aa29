"""ATSS by arithmetic on the grid, beside the full matrix of distances and IoUs."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

from gfocal.assigners import AtssAssigner
from gfocal.points import Points, grid_sizes, make_points
from harness import Candidate, Row, compare


def full_matrix(points: Points, boxes: Tensor, top_k: int = 9) -> Tensor:
    """Algorithm 1 of arXiv 1912.02424 read word by word: every point against every box; (P,) box or -1."""
    iou = box_iou(points.anchors, boxes)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = (points.xy[:, None] - centres).square().sum(-1)
    picked, start = [], 0
    for count in points.level_counts:
        nearest = distance[start : start + count].topk(min(top_k, count), dim=0, largest=False).indices
        picked.append(nearest + start)
        start += count
    candidates = torch.cat(picked)
    candidate_iou = iou.gather(0, candidates)
    threshold = candidate_iou.mean(0) + candidate_iou.std(0)
    xy = points.xy[candidates]
    inside = torch.minimum(xy - boxes[:, :2], boxes[:, 2:] - xy).amin(-1) > 0.01
    positive = torch.zeros_like(iou, dtype=torch.bool)
    positive.scatter_(0, candidates, (candidate_iou >= threshold) & inside)
    best, owner = iou.where(positive, torch.full_like(iou, -1)).max(1)
    return owner.where(best >= 0, torch.full_like(owner, -1))


def random_boxes(count: int, height: int, width: int, seed: int) -> Tensor:
    """Real numbers: no ties, which the two would break in different ways."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([width, height])
    centre = torch.rand(count, 2, generator=generator) * size
    side = (0.02 + 0.5 * torch.rand(count, 2, generator=generator) ** 2) * size
    return torch.cat((centre - side / 2, centre + side / 2), 1)


def case(height: int, width: int, strides: tuple[int, ...], scale: float, count: int, repeats: int) -> list[Row]:
    grids = grid_sizes(height, width, strides)
    points = make_points(grids, strides, anchor_scale=scale, offset=0.0)
    assign = AtssAssigner()
    different = 0
    for seed in range(8):
        boxes = random_boxes(count, height, width, seed)
        different += int((assign(points, boxes).gt_index != full_matrix(points, boxes)).sum())
    if different:
        raise AssertionError(f"{different} points are assigned differently")
    boxes = random_boxes(count, height, width, 0)
    candidates = [
        Candidate("full matrix", lambda: full_matrix(points, boxes)),
        Candidate("gfocal", lambda: assign(points, boxes), True, f"all of 8 x {len(points):,} points"),
    ]
    name = f"ATSS {height} x {width}, {len(points):,} points, {count} boxes"
    return compare(name, candidates, repeats=3 * repeats, warmup=3)


def rows(repeats: int) -> list[Row]:
    large, small = (8, 16, 32, 64, 128), (8, 16, 32)
    return [
        *case(320, 320, small, 5, 2, repeats),
        *case(320, 320, small, 5, 7, repeats),
        *case(800, 1344, large, 8, 7, repeats),
        *case(800, 1344, large, 8, 20, repeats),
        *case(800, 1344, large, 8, 200, repeats),
    ]

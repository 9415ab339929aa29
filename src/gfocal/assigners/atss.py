"""Adaptive Training Sample Selection by arithmetic on the grid, without the full IoU matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from gfocal.assigners.lattice import CLEARLY, require_single, to_highest_iou
from gfocal.boxes import aligned_iou
from gfocal.points import Points
from gfocal.structures import NEGATIVE, Assignment


class AtssAssigner:
    """ATSS: the nearest points of each level, kept where their IoU beats the statistics of that object.

    For every ground truth, the ``top_k`` points of each level that lie nearest to its centre are candidates;
    those are positive whose anchor's IoU is at least mean + standard deviation (unbiased) of all candidates'
    IoU, and that lie inside the box. A point that several ground truths claim goes to the one of highest IoU.

    Ties are decided: the lowest flat index among equally near points, the lowest ground-truth index among
    equal IoUs. The nearest k points of a grid lie in a window k wide (k + 1 for even k) around the centre, also on
    maps of one row and for centres outside the map, so no other point is looked at.

    Args:
        top_k: candidates of each level, >= 1.

    Source:
        Bridging the Gap Between Anchor-based and Anchor-free Detection, arXiv 1912.02424, algorithm 1.

    Example:
        What it equals, but for ties: the matrix (P, G) of all points and all boxes.

        >>> from gfocal.points import grid_sizes, make_points
        >>> points = make_points(grid_sizes(256, 256, (8, 16, 32)), (8, 16, 32), anchor_scale=8, offset=0.5)
        >>> boxes = torch.tensor([[20.0, 31, 92, 121], [101, 99, 249, 242], [39, 52, 83, 91]])
        >>> xy, near, far = points.xy[:, None], boxes[:, :2], boxes[:, 2:]
        >>> iou, distance = aligned_iou(points.anchors[:, None], boxes), (xy - (near + far) / 2).square().sum(-1)
        >>> candidate = torch.zeros_like(iou, dtype=torch.bool)
        >>> for level in range(3):
        ...     nearest = distance.where(points.level[:, None] == level, torch.inf).argsort(dim=0, stable=True)[:9]
        ...     candidate = candidate.scatter(0, nearest, True)
        >>> of_candidates = iou.where(candidate, torch.nan)
        >>> mean = of_candidates.nanmean(0)
        >>> std = ((of_candidates - mean).square().nansum(0) / (candidate.sum(0) - 1)).sqrt()
        >>> inside = torch.minimum(xy - near, far - xy).amin(-1) > 0.01
        >>> best, owner = iou.where(candidate & inside & (iou >= mean + std), -1).max(1)
        >>> matrix = owner.where(best >= 0, NEGATIVE)
        >>> torch.equal(AtssAssigner(top_k=9)(points, boxes).gt_index, matrix), (matrix != NEGATIVE).sum()
        (True, tensor(18))
    """

    def __init__(self, top_k: int = 9) -> None:
        if top_k < 1:
            raise ValueError(f"top_k must be >= 1, got {top_k}")
        self.top_k = top_k

    @torch.no_grad()
    def __call__(self, points: Points, boxes: Tensor) -> Assignment:
        """Assign (G, 4) xyxy boxes to the points of all levels.

        Raises:
            ValueError: for a set of points that is not whole, or has several anchors a location.
        """
        require_single(points, "ATSS")
        gt_index = torch.full((len(points),), NEGATIVE, dtype=torch.int64, device=points.xy.device)
        if len(boxes) == 0 or len(points) == 0:
            return Assignment(gt_index)
        boxes = boxes.float()
        candidate = self._candidates(points, boxes)
        iou = aligned_iou(points.anchors[candidate], boxes[:, None])
        positive = _beats_statistics(iou) & _inside(points.xy[candidate], boxes)
        gt, slot = positive.nonzero(as_tuple=True)
        return Assignment(to_highest_iou(gt_index, candidate[gt, slot], gt, iou[gt, slot]))

    def _candidates(self, points: Points, boxes: Tensor) -> Tensor:
        """(G, K) flat indices of the nearest points: top_k a level, or all where a level has fewer."""
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        picked = []
        start = 0
        for (height, width), stride in zip(points.grids, points.strides, strict=True):
            cell = centre / stride - points.offset
            columns = _window(cell[:, 0], width, self.top_k)
            rows = _window(cell[:, 1], height, self.top_k)
            flat = start + (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
            squared = (points.xy[flat] - centre[:, None]).square().sum(-1)
            # The window's own order is the flat order, so a stable sort gives ties to the lowest flat index.
            nearest = squared.sort(dim=1, stable=True).indices[:, : self.top_k]
            picked.append(flat.gather(1, nearest))
            start += height * width
        return torch.cat(picked, 1)


def _beats_statistics(iou: Tensor) -> Tensor:
    """(G, K) whether IoUs reach the mean + unbiased standard deviation of their row; that of a single one is 0.

    All of it relative to the first, so that equal IoUs (small boxes inside every anchor) reach a mean that no
    rounding has put above them: otherwise such an object would get no point at all.
    """
    relative = iou - iou[:, :1]
    mean = relative.mean(1, keepdim=True)
    variance = (relative - mean).square().sum(1, keepdim=True) / max(iou.shape[1] - 1, 1)
    return relative >= mean + variance.sqrt()


def _window(cell: Tensor, length: int, reach: int) -> Tensor:
    """(G, W) indices of a run of cells around ``cell`` that holds the ``reach`` nearest and stays in 0..length-1."""
    # Odd: as many cells on either side of the nearest, since an even number may lie more to one or the other.
    size = min(reach | 1, length)
    # Halfway between two cells the lower one counts as nearest, as in the order of ties.
    nearest = (cell - 0.5).ceil().clamp(0, length - 1).long()
    first = (nearest - size // 2).clamp(0, length - size)
    return first[:, None] + torch.arange(size, device=cell.device)


def _inside(xy: Tensor, boxes: Tensor) -> Tensor:
    """(G, K) whether points (G, K, 2) lie inside boxes (G, 4)."""
    near = xy - boxes[:, None, :2]
    far = boxes[:, None, 2:] - xy
    return torch.minimum(near, far).amin(-1) > CLEARLY

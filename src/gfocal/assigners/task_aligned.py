"""Task-aligned assignment: an object is learnt where it is already both recognised and located best."""

from __future__ import annotations

import torch
from torch import Tensor

from gfocal.assigners.lattice import inside_chunks, inside_pairs, power, require_whole, to_highest_iou
from gfocal.assigners.protocols import Keep
from gfocal.boxes import aligned_iou
from gfocal.points import Points
from gfocal.structures import NEGATIVE, Assignment, Targets

_NAME = "Task-aligned assignment"


class TaskAlignedAssigner:
    r"""The points inside an object whose predictions fit it best, by class score and IoU together.

    The alignment of a point and an object is :math:`t = s^\alpha u^\beta`: s the point's score of the object's class,
    u the IoU of its decoded box and the object. Of the points that lie inside the object (by more than 0.01 pixels),
    the ``positives`` of largest t are positive. A point that several objects claim goes to the one of largest IoU.

    Ties are decided: the lowest flat index among equal t, the lowest index among objects of equal IoU. So an object
    with a point inside is never without a positive for want of score; one without such a point gets none. Everything
    is computed in float64 (float32 on Apple's GPUs), so that the choice depends on rounding nowhere but in the network.

    Args:
        alpha: exponent >= 0 of the score.
        beta: exponent >= 0 of the IoU.
        positives: points of each object, >= 1.

    Source:
        TOOD: Task-aligned One-stage Object Detection, arXiv 2108.07755, section 3.2; its values alpha 1, beta 6,
        top 13 of section 4. That points lie inside the object, and that one of several objects goes to that of largest
        IoU, is published code's; the paper's formulas say neither.

    Example:
        What it equals, but for ties: the matrix (P, G) of all points and all boxes.

        >>> from gfocal.points import grid_sizes, make_points
        >>> points = make_points(grid_sizes(256, 256, (8, 16, 32)), (8, 16, 32), anchor_scale=8, offset=0.5)
        >>> targets = Targets(torch.tensor([[20.0, 31, 92, 121], [101, 99, 249, 242]]), torch.tensor([1, 0]))
        >>> scores, predicted = torch.linspace(0.1, 0.9, 2 * len(points)).view(-1, 2).double(), points.anchors.double()
        >>> iou = aligned_iou(predicted[:, None], targets.boxes.double())
        >>> t = scores[:, targets.labels] * iou**6
        >>> xy, near, far = points.xy[:, None], targets.boxes[:, :2], targets.boxes[:, 2:]
        >>> t = t.where(torch.minimum(xy - near, far - xy).amin(-1) > 0.01, -1)
        >>> chosen = (t >= t.topk(13, dim=0).values[-1]) & (t >= 0)
        >>> best, owner = iou.where(chosen, -1).max(1)
        >>> matrix = owner.where(best >= 0, NEGATIVE)
        >>> found = TaskAlignedAssigner().assign(points, targets, scores, predicted)
        >>> torch.equal(found.gt_index, matrix), (matrix != NEGATIVE).sum()
        (True, tensor(26))
    """

    def __init__(self, alpha: float = 1.0, beta: float = 6.0, positives: int = 13) -> None:
        if not (alpha >= 0 and beta >= 0):
            raise ValueError(f"alpha and beta must be >= 0, got {alpha} and {beta}")
        if positives < 1:
            raise ValueError(f"positives must be >= 1, got {positives}")
        self.alpha, self.beta, self.positives = alpha, beta, positives

    def candidates(self, points: Points, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) index of a box and (N,) flat index of a point inside it, by box: what may become positive.

        Raises:
            ValueError: for a set of points that is not whole.
        """
        require_whole(points, _NAME)
        return inside_pairs(points, boxes.float())

    @torch.no_grad()
    def assign(
        self, points: Points, targets: Targets, scores: Tensor, boxes: Tensor, keep: Keep | None = None
    ) -> Assignment:
        """Assign the objects of one image to points of all levels, any number of anchors a location.

        Args:
            points: all P of them.
            targets: G objects.
            scores: (P, C) score of each class, in [0, 1].
            boxes: (P, 4) decoded boxes.
            keep: which candidates to choose from; asked with all those of an object together. None: from all.

        Raises:
            ValueError: for a set of points that is not whole.
        """
        exact = torch.float32 if points.xy.device.type == "mps" else torch.float64
        true = targets.boxes.float()
        require_whole(points, _NAME)
        chosen = []
        for gt, point in inside_chunks(points, true):  # an object's choice needs its own pairs alone
            if keep is not None:
                kept = keep(gt, point)
                gt, point = gt[kept], point[kept]
            iou = aligned_iou(boxes[point].to(exact), true[gt].to(exact))
            score = scores[point, targets.labels[gt]].to(exact)
            # Not finite where training has diverged, which its losses say: the choice must only not fail on it.
            aligned = (power(score, self.alpha) * power(iou, self.beta)).nan_to_num(0, 0, 0)
            first = self._first(gt, point, aligned)
            chosen.append((gt[first], point[first], iou[first].nan_to_num(0, 0, 0), aligned[first]))
        gt, point, iou, aligned = (torch.cat(parts) for parts in zip(*chosen, strict=True))
        nothing = torch.full((len(points),), NEGATIVE, dtype=torch.int64, device=points.xy.device)
        index = to_highest_iou(nothing, point, gt, iou)
        won = index[point] == gt
        alignment = aligned.new_zeros(len(points)).index_put_((point[won],), aligned[won])
        return Assignment(index, alignment)

    def _first(self, gt: Tensor, point: Tensor, aligned: Tensor) -> Tensor:
        """Indices of the first ``positives`` pairs of each object: by alignment, equal ones by point."""
        order = point.argsort(stable=True)
        order = order[aligned[order].argsort(descending=True, stable=True)]
        order = order[gt[order].argsort(stable=True)]
        of = gt[order]
        start = torch.searchsorted(of, of)  # where the pairs of the same object begin
        return order[torch.arange(len(of), device=of.device) - start < self.positives]

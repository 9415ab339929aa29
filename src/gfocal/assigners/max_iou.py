"""Max-IoU: anchors by their overlap with objects, computed only where the overlap can matter."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from gfocal.assigners.lattice import Lattice, least_of, require_whole
from gfocal.boxes import aligned_iou, area
from gfocal.points import Points
from gfocal.structures import IGNORED, NEGATIVE, Assignment

LowQuality = Literal["all", "first", "none"]
_SLACK = 1e-4  # share of an IoU: what rounding may take from it, with room to spare


class MaxIouAssigner:
    """Anchors learn the object of their highest IoU, and every object gets its best anchors.

    An anchor whose highest IoU is at least ``positive_iou`` is positive for that object (among equal ones, the lowest
    index), below ``negative_iou`` it is negative, between the two it is ignored. Then each object, in their order,
    takes the anchors of its own highest IoU, however low: a later object takes what an earlier one got, and even an
    anchor that overlaps another object more (as published code has it). An object that overlaps no anchor takes none.

    Anchors stand in rows and columns, so the shift at which the IoU of an anchor and an object falls below a bound
    is known beforehand. Only anchors nearer than that are looked at.

    Args:
        positive_iou: in (0, 1].
        negative_iou: in [0, positive_iou].
        low_quality: "all" anchors that share an object's highest IoU, only the "first" one of them, or "none": the
            thresholds alone.

    Source:
        Faster R-CNN, arXiv 1506.01497, section 3.1.2; RetinaNet's thresholds, arXiv 1708.02002, section 4; the
        matching of SSD, arXiv 1512.02325, section 2.2, is 0.5, 0.5, "first".

    Example:
        What it equals: the matrix (G, P) of all boxes and all anchors.

        >>> from gfocal.points import grid_sizes, make_points
        >>> points = make_points(grid_sizes(256, 256, (8, 16, 32)), (8, 16, 32), anchor_scale=8, offset=0.5)
        >>> boxes = torch.tensor([[20.0, 31, 92, 121], [101, 99, 249, 242], [39, 52, 83, 91]])
        >>> iou = aligned_iou(boxes[:, None], points.anchors)
        >>> best, owner = iou.max(0)
        >>> matrix = owner.where(best >= 0.5, IGNORED).where(best >= 0.4, NEGATIVE)
        >>> for gt, row in enumerate(iou):  # low_quality="all"
        ...     matrix[(row == row.max()) & (row > 0)] = gt
        >>> torch.equal(MaxIouAssigner(0.5, 0.4)(points, boxes).gt_index, matrix), (matrix != NEGATIVE).sum()
        (True, tensor(60))
    """

    def __init__(self, positive_iou: float = 0.5, negative_iou: float = 0.4, low_quality: LowQuality = "all") -> None:
        if not (0 <= negative_iou <= positive_iou <= 1 and positive_iou > 0):
            raise ValueError(
                f"0 <= negative_iou <= positive_iou <= 1 and positive_iou > 0, got {negative_iou} and {positive_iou}"
            )
        if low_quality not in get_args(LowQuality):
            raise ValueError(f"low_quality must be one of {', '.join(get_args(LowQuality))}, got {low_quality!r}")
        self.positive_iou = positive_iou
        self.negative_iou = negative_iou
        self.low_quality = low_quality

    @torch.no_grad()
    def __call__(self, points: Points, boxes: Tensor) -> Assignment:
        """Assign (G, 4) xyxy boxes to the anchors of all levels, any number a location.

        Raises:
            ValueError: for a set of points that is not whole.
        """
        require_whole(points, "Max-IoU")
        if len(boxes) == 0 or len(points) == 0:
            return Assignment(torch.full((len(points),), NEGATIVE, device=points.xy.device))
        gt, anchor, iou = self._overlaps(points, boxes.float())
        best = iou.new_zeros(len(points)).scatter_reduce_(0, anchor, iou, "amax")
        # Where an IoU is not the best of its anchor the object's number becomes that of nobody.
        owner = least_of(len(points), anchor, gt.where(iou == best[anchor], len(boxes)), len(boxes))
        gt_index = owner.where(best >= self.positive_iou, IGNORED).where(best >= self.negative_iou, NEGATIVE)
        if self.low_quality != "none":
            taker = self._low_quality(gt, anchor, iou, len(boxes), len(points))
            gt_index = taker.where(taker >= 0, gt_index)
        return Assignment(gt_index)

    def _low_quality(self, gt: Tensor, anchor: Tensor, iou: Tensor, objects: int, anchors: int) -> Tensor:
        """(P,) the last of the objects that have their highest IoU with the anchor; -1 without any."""
        best = iou.new_zeros(objects).scatter_reduce_(0, gt, iou, "amax")
        match = iou == best[gt]
        if self.low_quality == "first":
            match &= anchor == least_of(objects, gt, anchor.where(match, anchors), anchors)[gt]
        return torch.full((anchors,), -1, device=gt.device).scatter_reduce_(0, anchor, gt.where(match, -1), "amax")

    def _overlaps(self, points: Points, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N,) object, (N,) anchor, (N,) IoU of all pairs that can matter.

        Those are the pairs of at least ``negative_iou``, and for each object those of its highest IoU. I = ox oy,
        the overlaps in x and y, and IoU = I / (A + B - I), so IoU >= t asks for I >= t / (1 + t) (A + B). Since oy is
        at most the lesser height, ox must be at least that over it, and ox falls by a pixel with each pixel of shift.
        """
        lattice = Lattice.of(points)
        form = points.anchors[lattice.first]  # (K, 4): the anchors of a kind are copies of its first
        size = form[:, 2:] - form[:, :2]
        own = (boxes[:, 2:] - boxes[:, :2])[:, None]  # (G, 1, 2)
        stride = lattice.stride[:, None]
        cell = ((boxes[:, :2] + boxes[:, 2:])[:, None] - (form[:, :2] + form[:, 2:])) / 2 / stride  # (G, K, 2)
        least, best = self._bounds(points, boxes, lattice, cell)
        need = (least / (1 + least))[:, None] * (area(boxes)[:, None] + area(form))  # (G, K)
        lesser = torch.minimum(own, size)
        reach = (own + size) / 2 - need[..., None] / lesser.flip(-1)  # (G, K, 2) pixels
        possible = (best[:, None] > 0) & (need <= lesser.prod(-1))
        # A thousandth of a cell for the rounding of pixels into cells.
        reach = reach.where(possible[..., None], -torch.inf) / stride + 1e-3
        kept = []
        for gt, anchor in lattice.rectangles((cell - reach).ceil(), (cell + reach).floor()):
            iou = aligned_iou(points.anchors[anchor], boxes[gt])
            enough = iou >= least[gt]
            kept.append((gt[enough], anchor[enough], iou[enough]))
        if not kept:
            return lattice.first[:0], lattice.first[:0], boxes.new_zeros(0)
        gts, anchors, ious = zip(*kept, strict=True)
        return torch.cat(gts), torch.cat(anchors), torch.cat(ious)

    def _bounds(self, points: Points, boxes: Tensor, lattice: Lattice, cell: Tensor) -> tuple[Tensor, Tensor]:
        """(G,) IoU below which a pair cannot matter, and (G,) the highest IoU with any anchor, up to rounding.

        Of the anchors of one kind the nearest to the object's centre overlaps it most.
        """
        spot = cell.round().clamp(min=0).minimum(lattice.cells - 1).clamp(min=0).long()
        nearest = lattice.flat(spot[..., 0], spot[..., 1])
        best = aligned_iou(points.anchors[nearest], boxes[:, None]).amax(1)
        least = torch.full_like(best, self.negative_iou)
        if self.low_quality != "none":
            least = least.minimum(best)
        return least * (1 - _SLACK), best

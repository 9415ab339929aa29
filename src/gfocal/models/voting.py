"""Boxes that their suppressed neighbours have a say in, each edge by how sure it is."""

from __future__ import annotations

import torch
from torch import Tensor

from gfocal.boxes import aligned_iou

_LEAST_STD = 0.05  # pixels: an edge that claims to be surer than this is not


@torch.no_grad()
def vote_edges(boxes: Tensor, edge_std: Tensor, groups: Tensor, kept: Tensor, *, scale: float) -> Tensor:
    """Variance voting (He and others, arXiv 1809.08545, section 3.4) of what suppression keeps.

    Each edge of a kept box becomes the mean of that edge over all candidates of its group that overlap it, weighted by
    ``exp(-(1 - IoU)^2 / scale) / edge_std^2``: near and sure neighbours count most, the box itself always.

    Args:
        boxes: (N, 4) xyxy in pixels, all candidates.
        edge_std: (N, 4) standard deviation in pixels of left, top, right, bottom.
        groups: (N,) integers; only candidates of one group vote for each other.
        kept: (K,) indices of the boxes that suppression keeps.
        scale: of the overlap, above 0; the paper's is 0.02. The smaller, the nearer a voter must be.

    Returns:
        (K, 4) boxes in float32 at least. An edge stays between the least and the largest one of those that vote.
    """
    wide = boxes if boxes.dtype == torch.float64 else boxes.float()
    certainty = edge_std.to(wide.dtype).clamp(min=_LEAST_STD).pow(-2)
    own = wide[kept]
    overlap = aligned_iou(own[:, None], wide[None])
    votes = (overlap > 0) & (groups[kept][:, None] == groups[None])
    weights = torch.where(votes, torch.exp(-(1 - overlap).square() / scale), 0.0)
    # Spelled out for each edge: no matrix product, which autocast would do in half precision.
    edges = []
    for edge in range(4):
        by_edge = weights * certainty[:, edge]
        # Around the own edge, so that far from the origin no digit is lost, and where nobody votes nothing moves.
        moved = (by_edge * (wide[None, :, edge] - own[:, None, edge])).sum(1) / by_edge.sum(1).clamp(min=1e-30)
        edges.append(own[:, edge] + moved)
    voted = torch.stack(edges, 1)
    # Edges move on their own: where far voters have turned a box inside out, it stays as it was.
    return torch.where((voted[:, 2:] > voted[:, :2]).all(1, keepdim=True), voted, own)

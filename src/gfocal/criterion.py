"""The whole algorithm on one page: raw outputs and ground truth in, named losses out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gfocal.assigners import Assigner
from gfocal.boxes import boxes_to_distances
from gfocal.losses.reduction import at_least_float32
from gfocal.points import Points
from gfocal.representation import BoxRepresentation, Quality
from gfocal.structures import IGNORED, HeadOutput, Targets

BoxWeight = Literal["score", "centerness", "none"]


@dataclass(frozen=True)
class Matched:
    """What every point of a batch learns; known before the forward pass.

    Attributes:
        positive: (N,) indices of the positives into the B * P points.
        labels: (B * P,) class of each point, -1 where there is none.
        boxes: (N, 4) ground truth of each positive.
        ignored: (B * P,) points that learn nothing, or None if there is none.
        objects, missed: number of ground truths, and of those that got no point at all.
        edges, truncated: number of edges of the positives, and of those that no code can reach.
    """

    positive: Tensor
    labels: Tensor
    boxes: Tensor
    ignored: Tensor | None
    objects: int
    missed: int
    edges: int
    truncated: int


def match(points: Points, targets: Sequence[Targets], assigner: Assigner, boxes: BoxRepresentation) -> Matched:
    """Assign every picture's ground truth and lay the batch out flat."""
    index = torch.stack([assigner(points, target.boxes).gt_index for target in targets])
    first = torch.tensor([0] + [len(target) for target in targets], device=index.device).cumsum(0)
    all_boxes = torch.cat([target.boxes for target in targets]).float()
    all_labels = torch.cat([target.labels for target in targets])
    flat = index.flatten()
    positive = (flat >= 0).nonzero().squeeze(1)
    owner = (index + first[:-1, None]).flatten()[positive]
    labels = torch.full_like(flat, -1)
    labels[positive] = all_labels[owner]
    ignored = flat == IGNORED
    target_boxes = all_boxes[owner]
    out_of_reach = boxes.truncated(points[positive % len(points)], target_boxes)
    return Matched(
        positive=positive,
        labels=labels,
        boxes=target_boxes,
        ignored=ignored if bool(ignored.any()) else None,
        objects=len(all_boxes),
        missed=len(all_boxes) - len(owner.unique()),
        edges=out_of_reach.numel(),
        truncated=int(out_of_reach.sum()),
    )


def positive_weights(
    kind: BoxWeight, out: HeadOutput, points: Points, target_boxes: Tensor, quality: Quality
) -> Tensor | None:
    """(N,) weight of each positive's box terms; detached. ``out`` and ``points`` hold the positives' rows.

    "score": the largest class score (as the published GFL checkpoints); "centerness": FCOS's centerness of the
    point in its ground truth; "none": every positive counts the same (the paper's formula).
    """
    if kind == "score":
        scores = at_least_float32(quality.class_logits(out).detach()).sigmoid()
        return scores.amax(-1) if scores.numel() else scores.sum(-1)
    if kind == "centerness":
        edges = boxes_to_distances(points.xy, target_boxes).clamp(min=0)
        pairs = torch.stack((edges[:, 0::2], edges[:, 1::2]), 1)
        return (pairs.amin(-1) / pairs.amax(-1).clamp(min=1e-6)).prod(-1).sqrt()
    return None


def detection_losses(
    out: HeadOutput,
    points: Points,
    matched: Matched,
    boxes: BoxRepresentation,
    quality: Quality,
    *,
    box_weight: BoxWeight = "score",
    loss_weights: Mapping[str, float],
    cls_norm: Tensor | float | None = None,
    box_norm: Tensor | float | None = None,
) -> dict[str, Tensor]:
    """Named scalar losses of a batch, each already multiplied by its loss weight: their sum is the loss.

    Args:
        out: raw outputs (B, P, ...).
        points: the P points.
        matched: what they learn.
        boxes, quality: the two axes.
        box_weight: see :func:`positive_weights`.
        loss_weights: factor of each term by name; applied here and nowhere else.
        cls_norm: divisor of the quality's losses; by default the positives of this batch, at least 1.
        box_norm: divisor of the box terms; by default the sum of the positives' weights, at least 1.

    Both normalisers belong to the whole optimizer step: under several processes or gradient accumulation the
    caller sums them first.
    """
    with torch.autocast(out.box.device.type, enabled=False):
        flat = out.map(lambda tensor: at_least_float32(tensor.flatten(0, 1)))
        positive = flat[matched.positive]
        at = points[matched.positive % len(points)]
        weight = positive_weights(box_weight, positive, at, matched.boxes, quality)
        if cls_norm is None:
            cls_norm = max(len(matched.positive), 1)
        if box_norm is None:
            box_norm = cls_norm if weight is None else weight.sum().clamp(min=1)
        decoded = boxes.decode(at, positive.box)
        target = quality.target(at, decoded.detach(), matched.boxes)
        index, labels = matched.positive, matched.labels
        picture = torch.arange(len(labels), device=labels.device) // len(points)
        if matched.ignored is not None:
            keep = ~matched.ignored
            index = keep.cumsum(0)[index] - 1
            flat, labels, picture = flat[keep], labels[keep], picture[keep]
        terms = {
            **quality.losses(flat, labels, index, target, picture=picture, norm=cls_norm),
            **boxes.losses(at, positive.box, decoded, matched.boxes, weight=weight, norm=box_norm),
        }
        return {name: value * loss_weights.get(name, 1.0) for name, value in terms.items()}

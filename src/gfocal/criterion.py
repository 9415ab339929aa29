"""The whole algorithm on one page: raw outputs and ground truth in, named losses out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from gfocal.assigners import Assigner, DynamicAssigner
from gfocal.errors import UsageError
from gfocal.losses.reduction import at_least_float32
from gfocal.points import Points
from gfocal.representation import (
    BoxRepresentation,
    BoxRows,
    BoxWeight,
    LearningRows,
    PositiveRows,
    Quality,
    ScoreWeight,
)
from gfocal.structures import IGNORED, Assignment, BatchAssignment, HeadOutput, Targets

CountRule = Literal["step", "picture", "plus_pictures", "weights"]
_SCORE = ScoreWeight()


def assign_batch(
    points: Points,
    targets: Sequence[Targets],
    assigner: Assigner | DynamicAssigner,
    box_coder: BoxRepresentation,
    *,
    out: HeadOutput | None = None,
    quality: Quality | None = None,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> BatchAssignment:
    """Assign every image's ground truth and lay the batch out flat.

    Points in the padding beside an image are no candidates and learn nothing: else what an image teaches would depend
    on which images share its batch.

    Args:
        points: the P points of the padded images.
        targets: of the B images.
        assigner: static or dynamic.
        box_coder: which edges can be reached; for a dynamic assigner, what the outputs mean.
        out: raw outputs (B, P, ...), of which those of an assistant count, if there are any, and
        quality: whose class scores count: for a dynamic assigner.
        sizes: (height, width) of each image inside the padding; None: there is no padding.

    Raises:
        UsageError: a dynamic assigner without outputs or quality.
        ValueError: the assigner measures how well predictions fit in some images, and not in others.
    """
    nothing = Targets.empty().to(points.xy.device)  # a batch of no images has nothing to concatenate
    assigned = [
        _assign_image(
            points,
            target,
            assigner,
            box_coder,
            None if out is None else out.judge[i].map(Tensor.detach),
            quality,
            None if sizes is None else sizes[i],
        )
        for i, target in enumerate(targets)
    ]
    index = torch.stack([a.gt_index for a in assigned]) if assigned else points.level.new_empty((0, len(points)))
    first = torch.tensor([0] + [len(target) for target in targets], device=index.device).cumsum(0)
    all_boxes = torch.cat([target.boxes for target in (*targets, nothing)]).float()
    all_labels = torch.cat([target.labels for target in (*targets, nothing)])
    flat = index.flatten()
    positive = (flat >= 0).nonzero().squeeze(1)
    owner = (index + first[:-1, None]).flatten()[positive]
    labels = torch.full_like(flat, -1)
    labels[positive] = all_labels[owner]
    ignored = flat == IGNORED
    target_boxes = all_boxes[owner]
    out_of_reach = box_coder.truncated(points[positive % len(points)], target_boxes)
    return BatchAssignment(
        positive=positive,
        labels=labels,
        target_boxes=target_boxes,
        gt_index=owner,
        alignment=_alignment(assigned),
        ignored=ignored if bool(ignored.any()) else None,
        counts=(index >= 0).sum(1),
        objects=len(all_boxes),
        missed=len(all_boxes) - len(owner.unique()),
        edges=out_of_reach.numel(),
        truncated=int(out_of_reach.sum()),
    )


def _alignment(assigned: Sequence[Assignment]) -> Tensor | None:
    """(N,) of the positives of all images; images without a positive need none."""
    measured = [a.alignment[a.positive] for a in assigned if a.alignment is not None]
    if measured and any(a.alignment is None and bool(a.positive.any()) for a in assigned):
        raise ValueError("an assigner must give the alignment of every image that has positives, or of none")
    return torch.cat(measured) if measured else None


@torch.no_grad()
def _assign_image(
    points: Points,
    target: Targets,
    assigner: Assigner | DynamicAssigner,
    box_coder: BoxRepresentation,
    out: HeadOutput | None,
    quality: Quality | None,
    size: tuple[int, int] | None,
) -> Assignment:
    """What all points learn of one image of that size, from its (P, ...) raw outputs; those beside it learn nothing."""
    if size is not None:
        inside, index = points.within(*size)
        if len(index) < len(points):
            outputs = None if out is None else _rows(out, index)
            own = _assign_image(inside, target, assigner, box_coder, outputs, quality, None)
            return _spread(own, index, len(points))
    if not isinstance(assigner, DynamicAssigner):
        return assigner(points, target.boxes)
    if out is None or quality is None:
        raise UsageError(f"{type(assigner).__name__} looks at predictions: give assign_batch `out` and `quality`")
    with torch.autocast(out.box.device.type, enabled=False):
        own_out = out.map(at_least_float32)
        scores, boxes = quality.class_logits(own_out).sigmoid(), box_coder.decode(points, own_out.box)
        return assigner.assign(points, target, scores, boxes)


def _spread(assigned: Assignment, index: Tensor, count: int) -> Assignment:
    """An assignment of the points at ``index``, among all ``count`` points of which the others learn nothing."""
    gt_index = assigned.gt_index.new_full((count,), IGNORED).index_copy(0, index, assigned.gt_index)
    alignment = assigned.alignment
    if alignment is not None:
        alignment = alignment.new_zeros(count).index_copy(0, index, alignment)
    return Assignment(gt_index, alignment)


def count_positives(assignments: Sequence[BatchAssignment], count_rule: CountRule) -> tuple[int, int]:
    """What a step's losses are divided by, by counting: (of the quality's, of unweighted box terms).

    Counts of several batches and processes add up to those of all of them; at least 1 is divided by, see
    :func:`divisors`.

    Args:
        assignments: of all batches of the step.
        count_rule: "step": the positives. "picture": an image without positives counts as 1 (as mmdetection has it,
            which makes background images weaken all others). "plus_pictures": one more an image for the quality's
            losses (FoveaBox). "weights": as "step", where :func:`detection_losses` has nothing better.
    """
    counts = torch.cat([assignment.counts for assignment in assignments])
    positives = int(counts.clamp(min=1).sum() if count_rule == "picture" else counts.sum())
    return positives + (len(counts) if count_rule == "plus_pictures" else 0), positives


def divisors(counts: Sequence[int]) -> tuple[float, float]:
    """(cls_norm, box_norm) from the counts of the whole step: clamped once, after everything is added up."""
    return float(max(counts[0], 1)), float(max(counts[1], 1))


def detection_losses(
    out: HeadOutput,
    points: Points,
    assignment: BatchAssignment,
    box_coder: BoxRepresentation,
    quality: Quality,
    *,
    box_weight: BoxWeight | None = _SCORE,
    loss_weights: Mapping[str, float],
    count_rule: CountRule = "step",
    cls_norm: Tensor | float | None = None,
    box_norm: Tensor | float | None = None,
    quality_sums: Tensor | None = None,
    judge: HeadOutput | None = None,
) -> dict[str, Tensor]:
    """Named scalar losses of a batch, each already multiplied by its loss weight: their sum is the loss.

    Args:
        out: raw outputs (B, P, ...); what an assistant says beside them is not looked at.
        points: the P points.
        assignment: what they learn.
        box_coder, quality: the two axes.
        box_weight: weight of each positive's box terms; None: every positive counts the same (the paper's formula).
        loss_weights: factor of each term by name; applied here and nowhere else. It may name terms that are not there.
        count_rule: how positives are counted, see :func:`count_positives`; with "weights" they are not, and
            ``box_norm`` divides the quality's losses, too.
        cls_norm: divisor of the quality's losses; by default the positives of this batch, counted so.
        box_norm: divisor of the box terms; by default the sum of the positives' weights, at least 1.
        quality_sums: what ``quality.sums`` gave, added up; None if this batch is the whole step.
        judge: raw outputs by whose boxes the quality's targets are made; by default ``out``.

    The normalisers and sums belong to the whole optimizer step: under several processes or gradient accumulation
    the caller adds them up first.

    Raises:
        UsageError: a term has no factor.
    """
    with torch.autocast(out.box.device.type, enabled=False):
        flat = _flat(out)
        learnt = flat[assignment.positive]
        at = points[assignment.positive % len(points)]
        decoded = box_coder.decode(at, learnt.box)
        positives = _positive_rows(at, assignment, learnt, decoded)
        positives = replace(positives, target=_target(positives, assignment, box_coder, quality, judge))
        weight = None if box_weight is None else box_weight(positives, quality)
        if cls_norm is None:
            cls_norm = divisors(count_positives([assignment], count_rule))[0]
        if box_norm is None:
            box_norm = (
                divisors(count_positives([assignment], count_rule))[1] if weight is None else _sum(weight).clamp(min=1)
            )
        if isinstance(box_norm, Tensor):
            box_norm = box_norm.to(learnt.box.dtype)
        if count_rule == "weights":
            cls_norm = box_norm
        rows = _learning_rows(flat, assignment, len(points), positives.target)
        terms = {
            **quality.losses(replace(rows, norm=cls_norm, sums=quality_sums)),
            **box_coder.losses(BoxRows(at, learnt.box, decoded, assignment.target_boxes, weight, box_norm)),
        }
        missing = [name for name in terms if name not in loss_weights]
        if missing:
            raise UsageError(
                f"loss_weights lacks a factor for {' and '.join(missing)}; it has {', '.join(loss_weights) or 'none'}. "
                f"Give one for each of {', '.join(terms)} (1 leaves a term as it is)"
            )
        return {name: value * loss_weights[name] for name, value in terms.items()}


def _flat(out: HeadOutput) -> HeadOutput:
    """(B, P, ...) as (B * P, ...), float32 at least, without what an assistant says."""
    return replace(out, assistant=None).map(lambda tensor: at_least_float32(tensor.flatten(0, 1)))


def _target(
    positives: PositiveRows,
    assignment: BatchAssignment,
    box_coder: BoxRepresentation,
    quality: Quality,
    judge: HeadOutput | None,
) -> Tensor | None:
    """(N,) what the quality learns at the positives, by their own outputs or those of a judge."""
    if judge is None:
        return quality.target(positives)
    learnt = _flat(judge.map(Tensor.detach))[assignment.positive]
    return quality.target(replace(positives, out=learnt, boxes=box_coder.decode(positives.points, learnt.box)))


def _positive_rows(
    at: Points, assignment: BatchAssignment, learnt: HeadOutput | None, decoded: Tensor | None
) -> PositiveRows:
    """What the positives learn, and their outputs without the graph."""
    return PositiveRows(
        points=at,
        target_boxes=assignment.target_boxes,
        labels=assignment.labels[assignment.positive],
        gt_index=assignment.gt_index,
        out=None if learnt is None else learnt.map(Tensor.detach),
        boxes=None if decoded is None else decoded.detach(),
        alignment=assignment.alignment,
    )


def _sum(weight: Tensor) -> Tensor:
    """Added up in float64 (which Apple's GPUs lack), so that the sum does not depend on how a step is split."""
    return weight.sum() if weight.device.type == "mps" else weight.sum(dtype=torch.float64)


def _learning_rows(flat: HeadOutput, assignment: BatchAssignment, points: int, target: Tensor | None) -> LearningRows:
    """Without the rows that learn nothing."""
    images = torch.arange(len(assignment.counts), device=assignment.labels.device)
    image = images[:, None].expand(-1, points).flatten()
    if assignment.ignored is None:
        return LearningRows(flat, assignment.labels, assignment.positive, target, image=image)
    keep = (~assignment.ignored).nonzero().squeeze(1)
    positive = torch.searchsorted(keep, assignment.positive)
    return LearningRows(_rows(flat, keep), assignment.labels[keep], positive, target, image=image[keep])


def _rows(out: HeadOutput, index: Tensor) -> HeadOutput:
    """``out[index]`` of (P, ...) outputs for an (N,) index; of many rows it takes two thirds of the time."""
    return out.map(lambda tensor: tensor.index_select(0, index))


@torch.no_grad()
def step_sums(
    out: HeadOutput | None,
    points: Points,
    assignment: BatchAssignment,
    box_coder: BoxRepresentation,
    quality: Quality,
    box_weight: BoxWeight | None,
    judge: HeadOutput | None = None,
) -> Tensor:
    """(1 + S,) what a step adds up before any of its losses: the positives' weights, and the quality's own sums.

    ``out`` may be None where neither needs the network's outputs: no ``box_weight.reads_outputs``, no ``quality.sums``.
    ``judge`` as in :func:`detection_losses`.
    """
    at = points[assignment.positive % len(points)]
    with torch.autocast(points.xy.device.type, enabled=False):
        flat = None if out is None else _flat(out)
        learnt = None if flat is None else flat[assignment.positive]
        decoded = None if learnt is None else box_coder.decode(at, learnt.box)
        positives = _positive_rows(at, assignment, learnt, decoded)
        if learnt is not None:
            positives = replace(positives, target=_target(positives, assignment, box_coder, quality, judge))
        weight = None if box_weight is None else box_weight(positives, quality)
        total = at.xy.new_tensor(float(len(assignment.positive))) if weight is None else _sum(weight)
        if quality.sums is None or flat is None:
            return total.view(1)
        sums = quality.sums(_learning_rows(flat, assignment, len(points), positives.target))
        return torch.cat((total.view(1), sums))

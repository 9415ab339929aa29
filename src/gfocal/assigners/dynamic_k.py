"""What DSLA and SimOTA share: each object takes as many of its cheapest points as its predictions are good."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gfocal.assigners.protocols import Keep
from gfocal.boxes import aligned_iou
from gfocal.points import Points
from gfocal.structures import NEGATIVE, Assignment, Targets

Cost = Callable[[Tensor, Tensor, Tensor], Tensor]
"""((N,) points, (g,) objects, (N, g) IoU of their boxes) -> (N, g) cost, from :func:`in_ticks`."""
_TICKS = 1 << 24
_PAIRS = 1 << 20  # of points and objects at a time: some 100 MB of numbers


def assign_cheapest(
    points: Points,
    targets: Targets,
    boxes: Tensor,
    candidate: Tensor,
    cost: Cost,
    *,
    counted: int,
    keep: Keep | None = None,
) -> Assignment:
    """Give each object its k cheapest candidates; k is the whole part of its ``counted`` largest IoUs' sum, at least 1.

    A point that several objects take goes to the object for which it is cheapest of all, whether that took it or not.
    Ties are decided, costs within 6e-8 among them: the lowest flat index among equally cheap points, the lowest index
    among objects.

    Args:
        points: all P of an image.
        targets: G objects.
        boxes: (P, 4) decoded boxes.
        candidate: (N,) flat indices, ascending, of the points that any object may take.
        cost: of pairs.
        counted: IoUs that count, >= 1.
        keep: which pairs may be taken; asked with all those of an object together. None: all.
    """
    exact = boxes.dtype if boxes.device.type == "mps" else torch.float64
    index = torch.full((len(points),), NEGATIVE, dtype=torch.int64, device=boxes.device)
    if not (len(candidate) and len(targets)):
        return Assignment(index)
    true, predicted = targets.boxes.float().to(exact), boxes[candidate].to(exact)
    cheapest = predicted.new_full((len(candidate),), torch.inf)  # of all objects, for each candidate
    owner, taken, taker = (torch.zeros_like(candidate) for _ in range(3))
    for group in torch.arange(len(true), device=boxes.device).split(max(1, _PAIRS // len(candidate))):
        # Not finite where training has diverged, which its losses say: the choice must only not fail on it.
        iou = aligned_iou(predicted[:, None], true[group]).nan_to_num(0, 0, 0)
        price = cost(candidate, group, iou).nan_to_num(torch.inf, torch.inf, torch.inf)
        if keep is not None:
            allowed = keep(group.repeat_interleave(len(candidate)), candidate.repeat(len(group))).view(len(group), -1).T
            price, iou = price.where(allowed, torch.inf), iou.where(allowed, 0)
        here, best = price.min(1)
        owner = torch.where(here < cheapest, group[best], owner)
        cheapest = torch.minimum(here, cheapest)
        k = iou.topk(min(counted, len(candidate)), dim=0).values.sum(0).long().clamp(min=1)
        rank = price.argsort(dim=0, stable=True).argsort(dim=0)
        mine = (rank < k) & (allowed if keep is not None else True)
        taken += mine.sum(1)
        taker = torch.where(mine.any(1), group[mine.int().argmax(1)], taker)
    won = torch.where(taken > 1, owner, taker)
    index[candidate] = torch.where(taken > 0, won, NEGATIVE)
    return Assignment(index)


def in_ticks(cost: Tensor) -> Tensor:
    """Whole steps of 6e-8, so that equal costs are equal: code for vectors rounds the same number in several ways."""
    return (cost * _TICKS).round()


def of_others(values: Tensor) -> Tensor:
    """(N, C) sum of each row without the number that stands there: added up, since a difference would cancel."""
    before = values.cumsum(1)
    after = values.flip(1).cumsum(1).flip(1)
    none = values.new_zeros(len(values), 1)
    return torch.cat((none, before[:, :-1]), 1) + torch.cat((after[:, 1:], none), 1)


def surprise(score: Tensor, target: Tensor | float) -> Tensor:
    """Binary cross-entropy of probabilities, at most 100, as torch has it."""
    return -(target * score.log().clamp(min=-100) + (1 - target) * (-score).log1p().clamp(min=-100))

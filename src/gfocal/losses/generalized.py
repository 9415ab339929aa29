"""The paper's total loss with its normalisers."""

from __future__ import annotations

from torch import Tensor

from gfocal.boxes import giou_loss
from gfocal.losses.distribution import distribution_focal_loss
from gfocal.losses.quality import quality_focal_loss
from gfocal.losses.reduction import reduce_loss


def generalized_focal_loss(
    logits: Tensor,
    target: tuple[Tensor, Tensor],
    boxes: Tensor,
    target_boxes: Tensor,
    edge_logits: Tensor,
    target_edges: Tensor,
    *,
    beta: float = 2.0,
    spacing: float = 1.0,
    box_loss_weight: float = 2.0,
    dfl_weight: float = 0.25,
    box_weight: Tensor | None = None,
    cls_norm: Tensor | float | None = None,
    box_norm: Tensor | float | None = None,
) -> dict[str, Tensor]:
    r"""Quality Focal Loss everywhere, box loss and Distribution Focal Loss on the positives.

    :math:`L = \frac{1}{N_{pos}} \sum_z L_Q + \frac{1}{N_{pos}} \sum_z 1_{c_z > 0}
    (\lambda_0 L_B + \lambda_1 L_D)`, with GIoU loss as :math:`L_B` and the mean of DFL over the four edges
    as :math:`L_D`.

    Args:
        logits: (N, C) class-and-quality logits of all points.
        target: (labels, quality), each (N,); see :func:`~gfocal.losses.quality_focal_loss`. P of the labels
            lie in 0..C-1: the positives.
        boxes: (P, 4) decoded xyxy boxes of the positives, in the order of the points.
        target_boxes: (P, 4) their ground truths.
        edge_logits: (P, 4, n + 1) logits of the four edge distributions.
        target_edges: (P, 4) distances left, top, right, bottom in the units of the bins.
        beta: QFL's exponent.
        spacing: distance of two bins.
        box_loss_weight: :math:`\lambda_0`.
        dfl_weight: :math:`\lambda_1`.
        box_weight: (P,) weight of each positive's box terms, detached here; None for the paper's plain formula.
        cls_norm: divisor of QFL; by default the number of positives, at least 1.
        box_norm: divisor of the box terms; by default the sum of ``box_weight`` (its number without
            weights), at least 1. Under several processes or gradient accumulation pass the sums of the
            whole step.

    Returns:
        {"qfl", "giou", "dfl", "total"}: scalars; the three terms carry their weights, total is their sum.

    Raises:
        ValueError: for shapes that do not fit.

    Source:
        Generalized Focal Loss, arXiv 2006.04388, section 3, eq. 8.

    Example:
        >>> import torch
        >>> box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        >>> terms = generalized_focal_loss(
        ...     torch.zeros(2, 3), (torch.tensor([1, -1]), torch.tensor([1.0, 0.0])),
        ...     box, box, torch.zeros(1, 4, 5), torch.full((1, 4), 2.0))
        >>> round(float(terms["giou"]), 4), round(float(terms["dfl"]), 4)  # identical boxes; log(5) / 4
        (0.0, 0.4024)
    """
    labels, _ = target
    positives = int(((labels >= 0) & (labels < logits.shape[-1])).sum())
    if not len(boxes) == len(target_boxes) == len(edge_logits) == len(target_edges) == positives:
        raise ValueError(
            f"{positives} labels are positive, so boxes, target_boxes, edge_logits and target_edges need "
            f"{positives} rows; got {len(boxes)}, {len(target_boxes)}, {len(edge_logits)}, {len(target_edges)}"
        )
    if box_weight is not None:
        box_weight = box_weight.detach()
    if cls_norm is None:
        cls_norm = max(positives, 1)
    if box_norm is None:
        box_norm = max(positives, 1) if box_weight is None else box_weight.sum().clamp(min=1)
    qfl = quality_focal_loss(logits, target, beta=beta, reduction="sum", norm=cls_norm)
    giou = reduce_loss(giou_loss(boxes, target_boxes), weight=box_weight, reduction="sum", norm=box_norm)
    dfl = distribution_focal_loss(edge_logits, target_edges, spacing=spacing).mean(-1)
    dfl = reduce_loss(dfl, weight=box_weight, reduction="sum", norm=box_norm)
    terms = {"qfl": qfl, "giou": box_loss_weight * giou, "dfl": dfl_weight * dfl}
    return {**terms, "total": terms["qfl"] + terms["giou"] + terms["dfl"]}

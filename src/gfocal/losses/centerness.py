"""The loss of a quality branch: centerness, or the IoU."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from gfocal.losses.reduction import Reduction, at_least_float32, check_reduction, reduce_loss


def centerness_loss(
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    reduction: Reduction = "none",
    norm: Tensor | float | None = None,
) -> Tensor:
    r"""Binary cross-entropy of one logit a positive against how good it is.

    :math:`-(c \log p + (1 - c) \log(1 - p))` with :math:`p = \mathrm{sigmoid}(logits)`. Least at :math:`p = c`, where
    it is the entropy of c and not 0. The target c is :func:`gfocal.boxes.centerness` of the point in its ground truth
    in FCOS and ATSS; a branch that learns the IoU of the decoded box has the same loss.

    Args:
        logits: (N,) or any shape, of the positives alone, not activated; computed in float32 at least.
        target: same shape, c in [0, 1]. No gradient flows to it.
        weight, reduction, norm: see :func:`~gfocal.losses.reduce_loss`.

    Returns:
        Loss of the shape of ``logits``, or a scalar for "sum" and "mean".

    Raises:
        ValueError: for shapes that differ.

    Source:
        FCOS, arXiv 1904.01355, section 3.2.

    Example:
        >>> import torch
        >>> from gfocal.boxes import centerness
        >>> target = centerness(torch.tensor([[2.0, 5.0]]), torch.tensor([[0.0, 0.0, 10.0, 10.0]]))  # sqrt(2 / 8)
        >>> round(float(centerness_loss(torch.zeros(1), target)), 4)  # log 2
        0.6931
    """
    check_reduction(reduction)
    if logits.shape != target.shape:
        raise ValueError(f"logits and target must have one shape, got {tuple(logits.shape)} and {tuple(target.shape)}")
    logits = at_least_float32(logits)
    loss = F.binary_cross_entropy_with_logits(logits, target.detach().to(logits.dtype), reduction="none")
    return reduce_loss(loss, weight=weight, reduction=reduction, norm=norm)

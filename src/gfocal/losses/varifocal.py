"""Varifocal loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gfocal.losses.quality import dense_quality
from gfocal.losses.reduction import Reduction, at_least_float32, check_reduction, reduce_loss


def varifocal_loss(
    logits: Tensor,
    target: Tensor | Sequence[Tensor],
    *,
    alpha: float = 0.75,
    gamma: float = 2.0,
    weight: Tensor | None = None,
    reduction: Reduction = "none",
    norm: Tensor | float | None = None,
) -> Tensor:
    r"""Binary cross-entropy against a quality in [0, 1]; good positives and hard negatives count.

    With :math:`p = \mathrm{sigmoid}(logits)` it is :math:`-q (q \log p + (1 - q) \log(1 - p))` where the target q is
    above 0, and :math:`-\alpha p^\gamma \log(1 - p)` where it is 0. Unlike Quality Focal Loss it weights a positive by
    its target, not by how badly it is estimated. The factor :math:`p^\gamma` is part of the gradient.

    Args:
        logits: (N, C), or any shape with a dense target; not activated. Computed in float32 at least.
        target: as of :func:`~gfocal.losses.quality_focal_loss`: a dense soft target, or the pair (labels, quality).
            A positive whose quality is 0 counts as a negative. No gradient flows to the target.
        alpha: weight of the negatives, >= 0.
        gamma: exponent of the negatives' probability, >= 0.
        weight, reduction, norm: see :func:`~gfocal.losses.reduce_loss`.

    Returns:
        Loss of the shape of ``logits``, or a scalar for "sum" and "mean".

    Raises:
        ValueError: for shapes that do not fit, alpha or gamma < 0, or a quality outside [0, 1] in a pair on the CPU.

    Source:
        VarifocalNet, arXiv 2008.13367, eq. 2.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0]])
        >>> varifocal_loss(logits, torch.tensor([[0.5, 0.0]]))  # log 2 times 1/2, and times 3/4 (1/2)^2
        tensor([[0.3466, 0.1300]])
    """
    check_reduction(reduction)
    if not alpha >= 0:
        raise ValueError(f"alpha must be >= 0, got {alpha}")
    if not gamma >= 0:
        raise ValueError(f"gamma must be >= 0, got {gamma}")
    x = at_least_float32(logits)
    y = dense_quality(x, target)
    p = x.sigmoid()
    if 0 < gamma < 1:
        # The power's slope is infinite at 0, where a saturated sigmoid lands: inf * 0 would be NaN.
        p = p.clamp(min=torch.finfo(x.dtype).tiny)
    factor = torch.where(y > 0, y, alpha * p.pow(gamma))
    loss = factor * F.binary_cross_entropy_with_logits(x, y, reduction="none")
    return reduce_loss(loss, weight=weight, reduction=reduction, norm=norm)

"""Focal loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gfocal.losses.reduction import Reduction, at_least_float32, check_reduction, reduce_loss


def focal_loss(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    weight: Tensor | None = None,
    reduction: Reduction = "none",
    norm: Tensor | float | None = None,
) -> Tensor:
    r"""Binary focal loss on independent classes.

    :math:`FL = -\alpha_t (1 - p_t)^\gamma \log p_t`, with :math:`p = \mathrm{sigmoid}(logits)`,
    :math:`p_t = p` and :math:`\alpha_t = \alpha` where the target is 1, :math:`1 - p` and
    :math:`1 - \alpha` where it is 0. ``gamma=0, alpha=None`` is binary cross-entropy.

    Args:
        logits: (N, C) or any shape, not activated; computed in float32 at least.
        target: same shape as ``logits``, 0 or 1; or (N,) int64 labels for (N, C) logits, where a label
            outside 0..C-1 (such as -1) means that nothing is there.
        alpha: weight of the positives in [0, 1]; None for no weighting.
        gamma: focusing exponent, >= 0.
        weight, reduction, norm: see :func:`~gfocal.losses.reduce_loss`.

    Returns:
        Loss of the shape of ``logits``, or a scalar for "sum" and "mean".

    Raises:
        ValueError: for shapes that do not fit, gamma < 0 or alpha outside [0, 1].

    Source:
        Focal Loss for Dense Object Detection, arXiv 1708.02002, eq. 4-5; Generalized Focal Loss,
        arXiv 2006.04388, eq. 1.

    Example:
        >>> round(float(focal_loss(torch.zeros(1, 2), torch.tensor([0]), reduction="sum")), 4)
        0.1733
    """
    check_reduction(reduction)
    if gamma < 0:
        raise ValueError(f"gamma must be >= 0, got {gamma}")
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1] or be None, got {alpha}")
    x = at_least_float32(logits)
    y = dense_target(x, target)
    p = x.sigmoid()
    loss = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    # |y - p| is 1 - p_t for y in {0, 1}.
    if gamma > 0:
        distance = (y - p).abs()
        if gamma < 1:
            # The power's slope is infinite at 0, where a saturated sigmoid lands: inf * 0 would be NaN.
            distance = distance.clamp(min=torch.finfo(x.dtype).tiny)
        loss = loss * distance.pow(gamma)
    if alpha is not None:
        loss = loss * (alpha * y + (1 - alpha) * (1 - y))
    return reduce_loss(loss, weight=weight, reduction=reduction, norm=norm)


def dense_target(logits: Tensor, target: Tensor) -> Tensor:
    """0/1 target of the shape of ``logits`` from a dense target or from labels."""
    if target.shape == logits.shape:
        return target.to(logits.dtype)
    if logits.ndim == 2 and target.shape == logits.shape[:1] and not target.is_floating_point():
        dense = logits.new_zeros(logits.shape)
        rows = ((target >= 0) & (target < logits.shape[1])).nonzero().squeeze(1)
        dense[rows, target[rows].long()] = 1
        return dense
    raise ValueError(
        f"target must have the shape of the logits {tuple(logits.shape)}, or be int64 labels of shape "
        f"{tuple(logits.shape[:1])} for two-dimensional logits; got {target.dtype} {tuple(target.shape)}"
    )

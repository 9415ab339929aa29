"""Smooth L1."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from gfocal.losses.reduction import Reduction, at_least_float32, check_reduction, reduce_loss


def smooth_l1_loss(
    code: Tensor,
    target: Tensor,
    *,
    beta: float = 1.0,
    weight: Tensor | None = None,
    reduction: Reduction = "none",
    norm: Tensor | float | None = None,
) -> Tensor:
    r"""Distance of two box codes: a square near 0, a straight line beyond.

    With :math:`d = |x - y|` it is :math:`\frac{d^2}{2 \beta}` for :math:`d < \beta` and :math:`d - \frac{\beta}{2}`
    beyond, so the slope never exceeds 1.

    Args:
        code: (...) the estimate x, for example (N, 4) deltas of anchors; computed in float32 at least.
        target: (...) the code y of the ground truth, in the same unit. No gradient flows to it.
        beta: where the square turns into a line, in units of the code, > 0.
        weight, reduction, norm: see :func:`~gfocal.losses.reduce_loss`; a weight for each row of (N, 4) codes has
            shape (N, 1).

    Returns:
        Loss of the shape of ``code``, or a scalar for "sum" and "mean".

    Raises:
        ValueError: for shapes that differ, or beta <= 0.

    Source:
        Fast R-CNN, arXiv 1504.08083, eq. 3, there with beta = 1.

    Example:
        >>> import torch
        >>> smooth_l1_loss(torch.tensor([0.5, 3.0]), torch.tensor([0.0, 0.0]))
        tensor([0.1250, 2.5000])
    """
    check_reduction(reduction)
    if not beta > 0:
        raise ValueError(f"beta must be > 0, got {beta}")
    if code.shape != target.shape:
        raise ValueError(f"code and target must have one shape, got {tuple(code.shape)} and {tuple(target.shape)}")
    code = at_least_float32(code)
    loss = F.smooth_l1_loss(code, target.detach().to(code.dtype), reduction="none", beta=beta)
    return reduce_loss(loss, weight=weight, reduction=reduction, norm=norm)

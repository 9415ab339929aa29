"""Distribution Focal Loss."""

from __future__ import annotations

import torch
from torch import Tensor

from gfocal.losses.reduction import Reduction, at_least_float32, check_reduction, reduce_loss


def distribution_focal_loss(
    logits: Tensor,
    target: Tensor,
    *,
    spacing: float = 1.0,
    weight: Tensor | None = None,
    reduction: Reduction = "none",
    norm: Tensor | float | None = None,
) -> Tensor:
    r"""Cross-entropy on the two bins next to a continuous target, weighted by how near each is.

    The n + 1 bins sit at :math:`y_i = i \Delta`. With :math:`y_i \le y \le y_{i+1}` and S the softmax,
    :math:`DFL = -\frac{y_{i+1} - y}{\Delta} \log S_i - \frac{y - y_i}{\Delta} \log S_{i+1}`:
    the weights add up to 1 for any spacing.

    Args:
        logits: (..., n + 1), not activated; computed in float32 at least.
        target: (...), in the units of the bins, range [0, n * spacing]. Values outside are taken as the
            nearest end: :func:`~gfocal.losses.outside_bins` counts them.
        spacing: distance of two bins, > 0.
        weight, reduction, norm: see :func:`~gfocal.losses.reduce_loss`; the element-wise shape is that of
            ``target``.

    Returns:
        Loss of the shape of ``target``, or a scalar for "sum" and "mean".

    Raises:
        ValueError: for shapes that do not fit, fewer than two bins, or spacing <= 0.

    Source:
        Generalized Focal Loss, arXiv 2006.04388, section 3, eq. 6; the division by the spacing is ours,
        so that Table 2's spacings share one scale.

    Example:
        >>> round(float(distribution_focal_loss(torch.zeros(1, 4), torch.tensor([1.5]))), 4)  # log 4
        1.3863
    """
    check_reduction(reduction)
    if not spacing > 0:
        raise ValueError(f"spacing must be > 0, got {spacing}")
    if logits.shape[-1] < 2:
        raise ValueError(f"logits need at least two bins in the last dimension, got shape {tuple(logits.shape)}")
    if target.shape != logits.shape[:-1]:
        raise ValueError(f"target must have shape {tuple(logits.shape[:-1])}, got {tuple(target.shape)}")
    log_probs = at_least_float32(logits).log_softmax(-1)
    last = logits.shape[-1] - 1
    position = (target.detach().to(log_probs.dtype) / spacing).clamp(0, last)
    # At the last bin the pair is (n - 1, n) with the whole weight on n.
    left = position.floor().clamp(max=last - 1)
    right_weight = (position - left).unsqueeze(-1)
    index = left.long().unsqueeze(-1)
    pair = log_probs.gather(-1, torch.cat((index, index + 1), -1))
    loss = -(pair * torch.cat((1 - right_weight, right_weight), -1)).sum(-1)
    return reduce_loss(loss, weight=weight, reduction=reduction, norm=norm)


def outside_bins(target: Tensor, bins: int, *, spacing: float = 1.0) -> Tensor:
    """Which targets Distribution Focal Loss takes as the nearest end of its bins; their number is ``.sum()``.

    Args:
        target: (...), in the units of the bins.
        bins: n + 1, the last dimension of the logits, >= 2.
        spacing: distance of two bins, > 0.

    Returns:
        (...) bool: outside [0, n * spacing], or NaN.

    Raises:
        ValueError: for fewer than two bins, or spacing <= 0.

    Example:
        >>> outside_bins(torch.tensor([-0.5, 0.0, 3.0, 3.1]), 4).sum()
        tensor(2)
    """
    if bins < 2:
        raise ValueError(f"bins must be >= 2, got {bins}")
    if not spacing > 0:
        raise ValueError(f"spacing must be > 0, got {spacing}")
    return ~((target >= 0) & (target <= (bins - 1) * spacing))

"""Gaussian negative log-likelihood."""

from __future__ import annotations

import torch
from torch import Tensor

from gfocal.losses.reduction import Reduction, at_least_float32, check_reduction, reduce_loss

# Beyond e^-15 .. e^15 squares of deviations leave float32. Nobody's uncertainty spans 13 decimal orders.
_MAX_LOG_STD = 15.0


def gaussian_nll_loss(
    mean: Tensor,
    log_std: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    reduction: Reduction = "none",
    norm: Tensor | float | None = None,
) -> Tensor:
    r"""Negative log-likelihood of the target under a normal distribution, without its constant.

    :math:`NLL = \log \sigma + \frac{(y - \mu)^2}{2 \sigma^2}`: the constant :math:`\frac12 \log 2\pi` is left out, so
    the loss falls below 0 where :math:`\sigma < 1` and the mean is right. At a given mean the best
    :math:`\sigma` is :math:`|y - \mu|`.

    Args:
        mean: (...) the estimate :math:`\mu`, in any unit; computed in float32 at least.
        log_std: (...) natural logarithm of the standard deviation :math:`\sigma` in that unit. Values outside
            [-15, 15] count as the nearest end and get no gradient: bound them before, as
            :class:`~gfocal.representation.GaussianBoxes` does.
        target: (...) in that unit. No gradient flows to it.
        weight, reduction, norm: see :func:`~gfocal.losses.reduce_loss`.

    Returns:
        Loss of the shape of ``mean``, or a scalar for "sum" and "mean".

    Raises:
        ValueError: for shapes that differ.

    Source:
        Gaussian YOLOv3, arXiv 1904.04620, section 3.2 (the negative log of a normal density); Bounding Box Regression
        with Uncertainty, arXiv 1809.08545, section 3.2 (the same up to constants, as a KL divergence). Both learn
        other codes than distances, see docs/mathematics.md.

    Example:
        >>> round(float(gaussian_nll_loss(torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([3.0]))), 4)
        2.0
    """
    check_reduction(reduction)
    if mean.shape != log_std.shape or mean.shape != target.shape:
        raise ValueError(
            "mean, log_std and target must have one shape, got "
            f"{tuple(mean.shape)}, {tuple(log_std.shape)} and {tuple(target.shape)}"
        )
    mean, log_std = at_least_float32(mean), at_least_float32(log_std).clamp(-_MAX_LOG_STD, _MAX_LOG_STD)
    deviation = (target.detach().to(mean.dtype) - mean) * torch.exp(-log_std)
    return reduce_loss(log_std + deviation.square() / 2, weight=weight, reduction=reduction, norm=norm)

"""Quality Focal Loss: the formula, and the choice between it and a faster form of the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gfocal.losses._quality_fused import fused
from gfocal.losses.reduction import Reduction, at_least_float32, check_reduction, reduce_loss

# On a CPU, from here on the fused form is faster than the formula; its more operations cost more on fewer logits.
_MANY = 32_768


def formula(x: Tensor, y: Tensor, beta: float) -> Tensor:
    """Eq. 2 in torch's own operations, element by element.

    Args:
        x: logits.
        y: soft target of the same shape.
        beta: exponent >= 0.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    error = x.sigmoid() - y
    if beta == 2:  # the usual one, and an even power needs no absolute value
        return error.square() * cross_entropy
    if beta >= 1 or beta == 0:
        return error.abs().pow(beta) * cross_entropy
    # The power's slope is infinite at 0, where the loss has its minimum: take the gradient there as 0.
    least = error.abs() < torch.finfo(x.dtype).tiny
    return error.masked_fill(least, 1).abs().pow(beta).masked_fill(least, 0) * cross_entropy


def quality_focal_loss(
    logits: Tensor,
    target: Tensor | Sequence[Tensor],
    *,
    beta: float = 2.0,
    weight: Tensor | None = None,
    reduction: Reduction = "none",
    norm: Tensor | float | None = None,
) -> Tensor:
    r"""Quality Focal Loss: binary cross-entropy against a quality in [0, 1], focused on what is estimated badly.

    :math:`QFL(\sigma) = -|y - \sigma|^\beta \left((1 - y) \log(1 - \sigma) + y \log \sigma\right)` with
    :math:`\sigma = \mathrm{sigmoid}(logits)`. The factor is part of the gradient (it is not detached);
    ``beta=0`` is binary cross-entropy against the soft target; where :math:`\sigma = y` the gradient is 0.

    Args:
        logits: (N, C), or any shape with a dense target; not activated. Computed in float32 at least.
        target: either a dense soft target of the shape of ``logits``, values in [0, 1]; or the pair
            (labels, quality), a tuple or a list: labels (N,) int64, where a label outside 0..C-1 (-1, or C as
            some code writes it) means that nothing is there, so a label that is too large is not noticed; and
            quality (N,) in [0, 1], the target of the labelled class, of no meaning where nothing is there. All
            other targets are 0. No gradient flows to the target.
        beta: exponent >= 0 of the focusing factor.
        weight, reduction, norm: see :func:`~gfocal.losses.reduce_loss`.

    Returns:
        Loss of the shape of ``logits``, or a scalar for "sum" and "mean".

    Raises:
        ValueError: for shapes that do not fit, beta < 0, or a quality outside [0, 1] in a pair on the CPU. (On
            other devices, and in a dense target, looking at the values would cost more than the loss.)

    Note:
        Many logits take a form that computes the gradient with the loss and keeps less memory
        (``losses/_quality_fused.py``). It equals the formula up to rounding. Second derivatives and the transforms of
        ``torch.func`` (``grad``, ``vmap``, ``jacrev``) are those of the formula, for any number of logits; inside the
        transforms the values of a quality are not looked at.

    Source:
        Generalized Focal Loss, arXiv 2006.04388, section 3, eq. 2.

    Example:
        >>> logits = torch.tensor([[2.0, -1.0]])
        >>> soft = quality_focal_loss(logits, torch.tensor([[0.9, 0.0]]), reduction="sum")
        >>> sparse = quality_focal_loss(logits, (torch.tensor([0]), torch.tensor([0.9])), reduction="sum")
        >>> bool(torch.isclose(soft, sparse))
        True
    """
    check_reduction(reduction)
    if not beta >= 0:
        raise ValueError(f"beta must be >= 0, got {beta}")
    x = at_least_float32(logits)
    if x.numel() < _MANY or torch._C._are_functorch_transforms_active():
        y = dense_quality(x, target)
        return reduce_loss(formula(x, y, beta), weight=weight, reduction=reduction, norm=norm)
    _check_target(x, target)
    # autocast would only look at the inputs: they are float32 already, and the function itself has no autocast op.
    given = target.detach().to(x.dtype) if isinstance(target, Tensor) else _sparse(x, *target)
    summed = reduction != "none" and weight is None
    loss = fused(x, given, float(beta), formula, summed=summed)
    if not summed:
        return reduce_loss(loss, weight=weight, reduction=reduction, norm=norm)
    return reduce_loss(loss / x.numel() if reduction == "mean" else loss, norm=norm)


def dense_quality(x: Tensor, target: Tensor | Sequence[Tensor]) -> Tensor:
    """The soft target of the shape of the logits ``x`` that a dense one, or a pair (labels, quality), means.

    Raises:
        ValueError: for shapes that do not fit, or a quality outside [0, 1] in a pair on the CPU.
    """
    _check_target(x, target)
    return target.detach().to(x.dtype) if isinstance(target, Tensor) else _dense(x, *target)


def _check_target(x: Tensor, target: Tensor | Sequence[Tensor]) -> None:
    if isinstance(target, Tensor):
        if target.shape != x.shape:
            raise ValueError(
                f"a soft target must have the shape of the logits {tuple(x.shape)}, got {tuple(target.shape)}; "
                "or pass the pair (labels, quality)"
            )
        return
    if len(target) != 2:
        raise ValueError(f"target must be a tensor or the pair (labels, quality), got {len(target)} of them")
    labels, quality = target
    if x.ndim != 2 or labels.shape != x.shape[:1] or quality.shape != x.shape[:1]:
        raise ValueError(
            "with a (labels, quality) target, logits must be (N, C) and both labels and quality (N,); got logits "
            f"{tuple(x.shape)}, labels {tuple(labels.shape)}, quality {tuple(quality.shape)}"
        )
    if labels.is_floating_point():
        raise ValueError(f"labels must be integers, got {labels.dtype}; the pair is (labels, quality)")


def _dense(x: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
    """The soft target (N, C) that the pair describes, in operations that vmap knows."""
    if x.numel() == 0:
        return torch.zeros_like(x)
    labels = labels.long()
    column = labels.clamp(0, x.shape[1] - 1)
    values = quality.detach().to(x.dtype).where(labels == column, 0)
    _check_quality(values)
    return x.new_zeros(x.shape).scatter(1, column[:, None], values[:, None])


def _sparse(x: Tensor, labels: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
    """Flat indices of the positives and their quality."""
    classes = x.shape[1]
    rows = ((labels >= 0) & (labels < classes)).nonzero().squeeze(1)
    values = quality.detach().index_select(0, rows).to(x.dtype)
    _check_quality(values)
    return torch.add(labels.index_select(0, rows), rows, alpha=classes), values


def _check_quality(values: Tensor) -> None:
    # Asking a GPU would make it wait, and inside a transform nothing can be asked. NaN is let through: it makes the
    # loss NaN, which whoever trains looks for. An IoU may lie above 1 by rounding.
    if values.device.type != "cpu" or values.numel() == 0 or torch._C._are_functorch_transforms_active():
        return
    least, most = values.aminmax()
    low, high = least.item(), most.item()
    if low < 0 or high > 1 + 1e-3:
        raise ValueError(f"quality must lie in [0, 1], got values from {low:g} to {high:g}")

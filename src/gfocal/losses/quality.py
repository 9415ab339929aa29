"""Quality Focal Loss, written for speed: one pass that gives the loss and its gradient.

On a CPU this loss is bound by memory and by torch's slow ``log1p``; the rows are taken in chunks that stay in
cache, the logarithm is taken of a sigmoid, and only the gradient is kept for the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gfocal.losses.reduction import Reduction, at_least_float32, check_reduction, reduce_loss

# 160k float32 values are 640 kB: with the temporaries a chunk stays in the second-level cache.
_CHUNK = 160_000


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
        The gradient is computed with the loss, so there is no second derivative, and the transforms of
        ``torch.func`` (``grad``, ``vmap``, ...) do not work.

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
    dense = index = values = None
    if not isinstance(target, Tensor):
        if len(target) != 2:
            raise ValueError(f"target must be a tensor or the pair (labels, quality), got {len(target)} of them")
        index, values = _sparse_target(x, *target)
    else:
        if target.shape != x.shape:
            raise ValueError(
                f"a soft target must have the shape of the logits {tuple(x.shape)}, got {tuple(target.shape)}; "
                "or pass the pair (labels, quality)"
            )
        dense = target.detach().to(x.dtype).expand_as(x)
    # autocast would only look at the inputs: they are float32 already, and the function itself has no autocast op.
    fused = reduction != "none" and weight is None
    # Inside the function gradients are off and its context only knows of requires_grad: ask here.
    wants_gradient = x.requires_grad and torch.is_grad_enabled()
    loss = _QualityFocalLoss.apply(x, dense, index, values, float(beta), fused, wants_gradient)
    if fused:
        count = max(x.numel(), 1) if reduction == "mean" else 1
        return reduce_loss(loss / count, norm=norm)
    return reduce_loss(loss, weight=weight, reduction=reduction, norm=norm)


def _sparse_target(x: Tensor, labels: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
    """Flat indices of the positives and their quality."""
    if x.ndim != 2 or labels.shape != x.shape[:1] or quality.shape != x.shape[:1]:
        raise ValueError(
            "with a (labels, quality) target, logits must be (N, C) and both labels and quality (N,); got logits "
            f"{tuple(x.shape)}, labels {tuple(labels.shape)}, quality {tuple(quality.shape)}"
        )
    if labels.is_floating_point():
        raise ValueError(f"labels must be integers, got {labels.dtype}; the pair is (labels, quality)")
    classes = x.shape[1]
    rows = ((labels >= 0) & (labels < classes)).nonzero().squeeze(1)
    values = quality.detach()[rows].to(x.dtype)
    # Asking a GPU would make it wait. NaN is let through: it makes the loss NaN, which whoever trains looks for. An IoU
    # may lie above 1 by rounding.
    if values.device.type == "cpu" and bool(((values < 0) | (values > 1 + 1e-3)).any()):
        low, high = values.min().item(), values.max().item()
        raise ValueError(f"quality must lie in [0, 1], got values from {low:g} to {high:g}")
    return rows * classes + labels[rows], values


class _QualityFocalLoss(torch.autograd.Function):
    """Loss and analytic gradient in one pass over chunks; the gradient is all that is saved."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        dense: Tensor | None,
        index: Tensor | None,
        values: Tensor | None,
        beta: float,
        fused: bool,
        wants_gradient: bool,
    ) -> Tensor:
        x = logits.contiguous().view(-1)
        y = None if dense is None else dense.reshape(-1)
        gradient = torch.empty_like(x) if wants_gradient else None
        loss = x.new_zeros(()) if fused else torch.empty_like(x)
        step = _CHUNK if x.device.type == "cpu" else max(x.numel(), 1)
        partial: list[Tensor] = []
        for start in range(0, x.numel(), step):
            part = slice(start, start + step)
            out = None if gradient is None else gradient[part]
            value = _loss_and_gradient(x[part], None if y is None else y[part], beta, out)
            if fused:
                partial.append(value.sum())
            else:
                loss[part] = value
        if fused and partial:
            loss = torch.stack(partial).sum()
        if index is not None and values is not None and index.numel():
            loss = _fix_positives(x, index, values, beta, gradient, loss, fused)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        ctx.fused = fused
        ctx.shape = logits.shape
        return loss if fused else loss.view(logits.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        scaled = gradient * (grad_output if ctx.fused else grad_output.reshape(-1))
        return scaled.view(ctx.shape), None, None, None, None, None, None


def _fix_positives(
    x: Tensor, index: Tensor, values: Tensor, beta: float, gradient: Tensor | None, loss: Tensor, fused: bool
) -> Tensor:
    """The pass took every target as 0; put right the few that are not."""
    at = x[index]
    right = None if gradient is None else torch.empty_like(at)
    value = _loss_and_gradient(at, values, beta, right)
    if gradient is not None and right is not None:
        gradient[index] = right
    if fused:
        return loss + (value - _loss_and_gradient(at, None, beta, None)).sum()
    loss[index] = value
    return loss


def _power(base: Tensor, exponent: float) -> Tensor:
    if exponent == 1:
        return base
    if exponent == 2:
        return base * base
    return base.pow(exponent)


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) without torch's slow log1p, with an absolute error of 6e-8 where it is below 1.

    It is -log(sigmoid(-x)); beyond x = 80, where sigmoid(-x) leaves the normal range of float32, it is x. Small
    values keep few digits of their own, but QFL multiplies them by sigma^beta: nothing of it is left to see.
    """
    if x.dtype != torch.float32:
        return torch.nn.functional.softplus(x)
    return torch.maximum(torch.neg(x).sigmoid_().clamp_min_(1e-36).log_().neg_(), x)


def _loss_and_gradient(x: Tensor, y: Tensor | None, beta: float, out: Tensor | None) -> Tensor:
    """Element-wise loss; the gradient with respect to ``x`` goes into ``out`` if given. ``y`` None means 0."""
    s = x.sigmoid()
    cross_entropy = _softplus(x)
    if y is None:
        factor = 1.0 if beta == 0 else _power(s, beta)
        if out is not None:
            # s^beta * (s + beta (1 - s) CE): the power of s below 1 that beta < 1 would need has cancelled.
            inner = s if beta == 0 else torch.addcmul(s, 1 - s, cross_entropy, value=beta)
            torch.mul(inner, factor, out=out)
        return cross_entropy * factor
    cross_entropy = cross_entropy - x * y
    difference = s - y
    distance = difference.abs()
    factor = 1.0 if beta == 0 else _power(distance, beta)
    if out is not None:
        torch.mul(difference, factor, out=out)
        if beta > 0:
            slope = s * (1 - s) * cross_entropy
            # d|d|^beta / dd = beta |d|^(beta - 1) sign(d), and 0 at d = 0 also where beta < 1 makes it a pole.
            power = difference.sign() if beta == 1 else difference.sign() * _power(distance, beta - 1)
            out.add_(torch.where(difference == 0, 0, power) * slope, alpha=beta)
    return cross_entropy * factor

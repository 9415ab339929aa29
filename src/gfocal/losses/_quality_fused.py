"""Quality Focal Loss for many logits: one pass that gives the loss and its gradient.

What it computes is :func:`gfocal.losses.quality.formula`; the tests hold the two together. On a CPU that formula is
bound by memory and by torch's slow ``log1p``. Here the values are taken in chunks that stay in cache, the logarithm is
taken of a sigmoid, results overwrite what is no longer needed, and the few targets that are not 0 are put right after a
pass that takes all of them as 0. Other devices take all values at once: they gain the memory that autograd would keep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# 160k float32 values are 640 kB: with the temporaries a chunk stays in the second-level cache.
_CHUNK = 160_000

Formula = Callable[[Tensor, Tensor, float], Tensor]


def fused(x: Tensor, target: Tensor | tuple[Tensor, Tensor], beta: float, formula: Formula, *, summed: bool) -> Tensor:
    """Quality Focal Loss and its analytic gradient.

    Args:
        x: logits of any shape, float32 or float64, at least one.
        target: a soft target of that shape; or (index, values), both (P,): the targets that are not 0, and where they
            stand in the flat ``x``.
        beta: exponent of the focusing factor.
        formula: the same loss from (x, dense target, beta), for autograd to differentiate twice.
        summed: give the sum.

    Returns:
        Loss of the shape of ``x``, or a scalar.
    """
    dense, index, values = (target, None, None) if isinstance(target, Tensor) else (None, *target)
    # Inside the function gradients are off and its context only knows of requires_grad: ask here.
    wants_gradient = x.requires_grad and torch.is_grad_enabled()
    loss: Tensor = _Fused.apply(x, dense, index, values, beta, formula, summed, wants_gradient)
    return loss


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        dense: Tensor | None,
        index: Tensor | None,
        values: Tensor | None,
        beta: float,
        formula: Formula,
        summed: bool,
        wants_gradient: bool,
    ) -> Tensor:
        x = logits.contiguous().view(-1)
        y = None if dense is None else dense.reshape(-1)
        gradient = torch.empty_like(x) if wants_gradient else None
        found = []  # the chunks' losses, or their sums
        chunk = _CHUNK if x.device.type == "cpu" else x.numel()
        for start in range(0, x.numel(), chunk):
            part = slice(start, start + chunk)
            out = None if gradient is None else gradient[part]
            at = x[part]
            s, softplus = at.sigmoid(), _softplus(at)
            loss = _background(s, softplus, beta, out) if y is None else _soft(at, y[part], s, softplus, beta, out)
            found.append(loss.sum() if summed else loss)
        loss = found[0]
        if len(found) > 1:
            loss = torch.stack(found).sum() if summed else torch.cat(found)
        if index is not None and values is not None and len(index):
            at = x.index_select(0, index)
            s, softplus = at.sigmoid(), _softplus(at)
            right = None if gradient is None else torch.empty_like(at)
            value = _soft(at, values, s, softplus, beta, right)
            if gradient is not None and right is not None:
                gradient.index_copy_(0, index, right)
            if summed:
                loss = loss + (value - _background(s, softplus, beta, None)).sum()
            else:
                loss.index_copy_(0, index, value)
        if wants_gradient:
            ctx.save_for_backward(gradient, logits, dense, index, values)
        ctx.beta, ctx.formula, ctx.summed = beta, formula, summed
        return loss if summed else loss.view(logits.shape)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        gradient, logits, dense, index, values = ctx.saved_tensors
        if torch.is_grad_enabled():  # under create_graph: the gradient must have a gradient itself
            if dense is None:
                dense = logits.new_zeros(logits.numel()).index_copy(0, index, values).view(logits.shape)
            loss = ctx.formula(logits, dense, ctx.beta)
            loss = loss.sum() if ctx.summed else loss
            (slope,) = torch.autograd.grad(loss, logits, grad_output, create_graph=True)
        else:
            slope = gradient.view(logits.shape) * grad_output
        return slope, None, None, None, None, None, None, None


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
    out = torch.neg(x).sigmoid_().clamp_min_(1e-36).log_().neg_()
    return torch.maximum(out, x, out=out)


def _background(s: Tensor, softplus: Tensor, beta: float, out: Tensor | None) -> Tensor:
    """Loss where every target is 0, in the place of ``softplus``; its gradient goes into ``out`` if given."""
    if beta == 0:
        if out is not None:
            out.copy_(s)
        return softplus
    factor = _power(s, beta)
    if out is not None:
        # s^beta * (s + beta (1 - s) CE): the power of s below 1 that beta < 1 would need has cancelled.
        torch.mul(torch.addcmul(s, 1 - s, softplus, value=beta), factor, out=out)
    return softplus.mul_(factor)


def _soft(x: Tensor, y: Tensor, s: Tensor, softplus: Tensor, beta: float, out: Tensor | None) -> Tensor:
    """Loss for soft targets; its gradient goes into ``out`` if given."""
    cross_entropy = softplus - x * y
    difference = s - y
    if beta == 0:
        if out is not None:
            out.copy_(difference)
        return cross_entropy
    distance = difference if beta == 2 else difference.abs()
    factor = _power(distance, beta)
    if out is not None:
        slope = (1 - s).mul_(s).mul_(cross_entropy).mul_(_slope_of_power(difference, distance, beta))
        torch.mul(difference, factor, out=out).add_(slope, alpha=beta)
    return cross_entropy.mul_(factor)


def _slope_of_power(difference: Tensor, distance: Tensor, beta: float) -> Tensor:
    """d|d|^beta / dd over beta: |d|^(beta - 1) sign(d), and 0 at d = 0 also where beta < 1 makes it a pole."""
    if beta == 2:
        return difference
    power = difference.sign() if beta == 1 else difference.sign() * _power(distance, beta - 1)
    return power.masked_fill_(difference == 0, 0)

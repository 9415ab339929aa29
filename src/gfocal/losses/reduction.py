"""The one place where an element-wise loss becomes a number."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["none", "sum", "mean"]
REDUCTIONS = ("none", "sum", "mean")


def check_reduction(reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")


def at_least_float32(logits: Tensor) -> Tensor:
    """Half precision goes up to float32, float64 stays: losses are never computed in half precision."""
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}")
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Within, what is computed on this tensor's device keeps its precision; nothing where a graph is exported.

    torch.export would write the region down as an operator of its own, which the file's readers do not take.
    """
    return nullcontext() if torch.compiler.is_exporting() else torch.autocast(tensor.device.type, enabled=False)


def reduce_loss(
    loss: Tensor,
    *,
    weight: Tensor | None = None,
    reduction: Reduction = "none",
    norm: Tensor | float | None = None,
) -> Tensor:
    """Weight, reduce and normalise an element-wise loss.

    Args:
        loss: any shape.
        weight: multiplied in before the reduction; one number, or as many dimensions as ``loss``, each of its size
            or 1. Of an (N, C) loss a weight for each row has shape (N, 1), for each column (1, C); shape (N,) is
            refused whatever N is, because broadcasting would read it as columns where N is C.
        reduction: "none" keeps the shape, "sum" adds up, "mean" divides the sum by the number of elements
            (not by the weights), and is 0 for no elements.
        norm: divisor after the reduction, for example the number of positives of the whole step. The caller
            clamps it: a step without positives divides by 1.

    Returns:
        The loss, connected to the graph also when it has no elements.

    Raises:
        ValueError: for an unknown reduction, or a weight whose shape does not fit.

    Example:
        >>> reduce_loss(torch.tensor([1.0, 3.0]), weight=torch.tensor([1.0, 0.5]), reduction="sum", norm=2.0)
        tensor(1.2500)
    """
    check_reduction(reduction)
    if weight is not None:
        loss = loss * _expand(weight, loss)
    if reduction == "sum":
        loss = loss.sum()
    elif reduction == "mean":
        loss = loss.sum() / max(loss.numel(), 1)
    return loss if norm is None else loss / norm


def _expand(weight: Tensor, loss: Tensor) -> Tensor:
    # Plain multiplication would take (N, 1) times (N,) for an (N, N) loss, (N,) for its columns, and say nothing.
    fits = all(size in (1, of_loss) for size, of_loss in zip(weight.shape, loss.shape, strict=False))
    if weight.ndim not in (0, loss.ndim) or not fits:
        raise ValueError(
            f"weight of shape {tuple(weight.shape)} does not fit the loss {tuple(loss.shape)}: give one number, or as "
            "many dimensions as the loss has, each of its size or 1; one weight for each row of an (N, C) loss has "
            "shape (N, 1), for each column (1, C)"
        )
    return weight.expand_as(loss)

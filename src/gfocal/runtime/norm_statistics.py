"""Batch norms without statistics of their own: weights whose normalisation was folded into the layers before it.

Files made for inference have no batch norms left: each is part of the convolution before it, and what is read from them
is an identity and a bias. In evaluation mode that is exact. In training mode a batch norm divides by the deviation of
the batch, which is not 1, so every layer would be scaled and the network be another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_PLACEHOLDER = 1e-3
"""How far from 1 a variance may be that nobody measured: 1 - eps where the identity is to be exact."""


def norms_without_statistics(module: nn.Module) -> list[_BatchNorm]:
    """The batch norms whose weight or bias was learnt, or folded, and whose running statistics were never measured.

    Such a one has the mean 0 and the variance 1 in every channel, as no measured one has. New ones, whose weight and
    bias are as they were made, are none of them.
    """
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and _lacks_statistics(m)]


def _lacks_statistics(norm: _BatchNorm) -> bool:
    mean, var = norm.running_mean, norm.running_var
    if mean is None or var is None or not norm.affine or bool(mean.any()):
        return False
    new = not bool(norm.bias.any()) and bool((norm.weight == norm.weight[0]).all())
    return not new and bool(((var - 1).abs() <= _PLACEHOLDER).all())


@torch.no_grad()
def measure_statistics(module: nn.Module, norms: Iterable[_BatchNorm], batches: Iterable[Tensor]) -> int:
    """Give batch norms the mean and variance of what comes in, and weights and biases that leave the function as it is.

    With the mean m and the variance v of its input, a norm y = a x + b becomes y = a sqrt(v + eps) (x - m) / sqrt(v +
    eps) + (b + a m). All are measured at once: in evaluation mode none changes what the others see.

    Args:
        module: what is run; its mode is the same afterwards.
        norms: of its modules.
        batches: what it takes.

    Returns:
        how many items, along the first dimension, the batches had; 0 leaves all as it is.
    """
    moments = {norm: Moments() for norm in norms}
    hooks = [norm.register_forward_pre_hook(partial(_note, moment)) for norm, moment in moments.items()]
    modes = [(each, each.training) for each in module.modules()]
    items = 0
    try:
        module.eval()
        for batch in batches:
            module(batch)
            items += len(batch)
    finally:
        for hook in hooks:
            hook.remove()
        for each, mode in modes:
            each.training = mode
    for norm, moment in moments.items():
        if moment.mean is not None:
            _install(norm, moment)
    return items


@dataclass
class Moments:
    """Mean and squared deviations of the values of each channel so far, float64.

    Attributes:
        count: values per channel.
        mean: (C,); None before the first.
        squares: (C,) sum of the squared deviations from the mean.
    """

    count: int = 0
    mean: Tensor | None = None
    squares: Tensor | None = None

    def add(self, x: Tensor) -> None:
        """Take the values of a map (B, C, ...) in, by Chan's formula for two samples."""
        values = x.transpose(0, 1).flatten(1)
        count = values.shape[1]
        if not count:
            return
        var, mean = torch.var_mean(values.float(), 1, correction=0)
        var, mean = var.double(), mean.double()
        if self.mean is None or self.squares is None:
            self.count, self.mean, self.squares = count, mean, var * count
            return
        apart, total = mean - self.mean, self.count + count
        self.squares = self.squares + var * count + apart**2 * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total

    @property
    def var(self) -> Tensor:
        """(C,) without bias, as batch norm keeps it."""
        assert self.squares is not None
        return self.squares / max(self.count - 1, 1)


def _note(moment: Moments, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    moment.add(inputs[0])


def _install(norm: _BatchNorm, moment: Moments) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert moment.mean is not None
    slope = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    offset = norm.bias.double() - slope * norm.running_mean.double()
    var = moment.var.to(norm.running_var)  # as it will be read, rounded
    norm.running_var.copy_(var)
    norm.running_mean.copy_(moment.mean)
    norm.weight.copy_(slope * (var.double() + norm.eps).sqrt())
    norm.bias.copy_(offset + slope * norm.running_mean.double())

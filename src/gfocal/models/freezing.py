"""Parts of a network that keep their values."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


def freeze(modules: Iterable[nn.Module]) -> None:
    """Stop the gradients of all their parameters."""
    for module in modules:
        for parameter in module.parameters():
            parameter.requires_grad_(False)


def frozen_norms_in_eval(module: nn.Module) -> None:
    """Batch normalisation whose parameters are frozen keeps its running statistics, whatever the mode of the rest.

    In training mode it would normalise by the batch and drift from what its frozen neighbours were trained with.
    """
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            own = list(child.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                child.eval()


def norms_in_eval(module: nn.Module) -> None:
    """All batch normalisation of a module keeps its running statistics."""
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.eval()

"""Weights of a backbone that cannot be had, or that nothing can be learnt from."""

from __future__ import annotations

from torch import nn

from gfocal.errors import UsageError
from gfocal.serialization.sums import describe_not_finite

RANDOM_START = "--set model.pretrained=false --set model.frozen_stages=0 --set model.norm_eval=false"
"""Frozen parts with random values would never learn."""


def refuse_not_finite(body: nn.Module) -> None:
    """Refuse weights that are infinite or not a number: nothing can be learnt from them.

    Raises:
        ValueError: naming them.
    """
    if where := describe_not_finite(body.state_dict()):
        raise ValueError(f"infinite or not a number: {where}")


def first_line(error: Exception) -> str:
    """What it says, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def no_weights(name: str, pretrained: bool | str, reason: str) -> UsageError:
    """The error to raise where the weights of the network ``name`` cannot be loaded."""
    where = f" from {pretrained}" if isinstance(pretrained, str) else ""
    return UsageError(
        f"model.pretrained: the weights of {name} could not be loaded{where} ({reason}); give the path of a local "
        f"file with its weights, or start from random values with {RANDOM_START}"
    )

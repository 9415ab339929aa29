"""Weights of a backbone that cannot be had, or that nothing can be learnt from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from gfocal.errors import UsageError
from gfocal.serialization.sums import describe_unusable
from gfocal.serialization.torch_files import check_weights_file

RANDOM_START = "--set model.pretrained=false --set model.frozen_stages=0 --set model.norm_eval=false"
"""Frozen parts with random values would never learn."""


def refuse_unusable(body: nn.Module) -> None:
    """Refuse weights that no network can compute with: infinite, not a number, or variances below 0.

    Raises:
        ValueError: naming them.
    """
    if what := describe_unusable(body.state_dict()):
        raise ValueError(what)


def load_file(
    body: nn.Module, name: str, pretrained: bool | str, *, elsewhere: str = "nobody offers them for PyTorch"
) -> None:
    """Load a file of a network's tensors under its own names.

    Args:
        body: the network ``name``.
        name: of the recipe.
        pretrained: the file's path; True is refused, as these weights cannot be downloaded.
        elsewhere: why, and what to do instead.

    Raises:
        UsageError: there is no such file, or it holds something else.
    """
    if not isinstance(pretrained, str):
        raise no_weights(name, pretrained, elsewhere)
    if not Path(pretrained).is_file():
        raise UsageError(f"model.pretrained: there is no file {pretrained}")
    try:
        check_weights_file(Path(pretrained))
        body.load_state_dict(torch.load(pretrained, map_location="cpu", weights_only=True))
        refuse_unusable(body)
    except Exception as error:  # torch raises many kinds for a file that is none
        raise no_weights(name, pretrained, first_line(error)) from error


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

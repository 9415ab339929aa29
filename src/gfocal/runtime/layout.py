"""How a detector's weights, and so all maps, lie in memory: one channel after another, or channels last."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def real_layout(channels_last: bool | Literal["auto"]) -> bool:
    """Whether channels come last where nothing was measured: "auto" stands for yes.

    Only a training on a CPU measures, see :mod:`gfocal.training.fitting.memory_layout`.
    """
    return channels_last is not False


def in_layout(module: M, channels_last: bool | Literal["auto"]) -> M:
    """The module with its weights in a layout; their values stay."""
    layout = torch.channels_last if real_layout(channels_last) else torch.contiguous_format
    return module.to(memory_format=layout)

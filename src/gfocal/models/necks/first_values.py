"""First values of a neck."""

from __future__ import annotations

from torch import nn


def initialise(neck: nn.Module) -> None:
    """Xavier's first values for its convolutions, biases at 0."""
    for module in neck.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

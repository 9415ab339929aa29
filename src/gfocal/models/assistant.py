"""Assistants: what helps a detector to learn and is gone when it predicts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from gfocal.models.heads import ConvHead
from gfocal.models.protocols import HeadShape, Neck
from gfocal.structures import HeadOutput


class AssignGuidance(nn.Module):
    """A second neck and a large head, by whose outputs the objects of a small head are assigned.

    The neck begins as a copy of the first one. The head has two towers of four 3x3 convolutions with GroupNorm and
    leaky ReLU, shared by all levels, each of which is the first neck's beside the second one's.

    Args:
        neck: the detector's own, whose levels are equally wide.
        shape: what the detector's own head gives.
        detach_after: epochs after which no gradient flows from here into the backbone and the first neck.

    Raises:
        ValueError: levels of different channels or anchors.

    Source:
        NanoDet-Plus's assign guidance module (AGM), published code.
    """

    def __init__(self, neck: Neck, shape: HeadShape, *, detach_after: int) -> None:
        super().__init__()
        # Where the first one is frozen, this one learns.
        self.neck = cast(nn.Module, copy.deepcopy(neck)).requires_grad_(True)
        width = 2 * shape.width
        self.head = ConvHead(replace(shape, in_channels=width), channels=width, activation="leaky_relu")
        self.detach_after = detach_after

    def forward(self, maps: Sequence[Tensor], levels: Sequence[Tensor], epoch: int) -> HeadOutput:
        """Raw outputs of all points.

        Args:
            maps: of the backbone.
            levels: of the first neck.
            epoch: from 0.
        """
        if epoch >= self.detach_after:
            maps, levels = ([x.detach() for x in some] for some in (maps, levels))
        return self.head([torch.cat(pair, 1) for pair in zip(levels, self.neck(maps), strict=True)])


def keep_out_of_state(module: nn.Module, part: str) -> None:
    """A part of a module is in none of the module's state dicts, and missed in none that is loaded."""

    def remove(_: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
        for name in [name for name in state if name.startswith(f"{prefix}{part}.")]:
            del state[name]

    def not_missed(_: nn.Module, found: Any) -> None:
        found.missing_keys[:] = [name for name in found.missing_keys if not name.startswith(f"{part}.")]

    module.register_state_dict_post_hook(remove)
    module.register_load_state_dict_post_hook(not_missed)

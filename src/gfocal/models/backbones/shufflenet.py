"""ShuffleNetV2, the backbone of NanoDet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfocal.errors import UsageError
from gfocal.models.backbones.loading import first_line, no_weights, refuse_unusable
from gfocal.models.freezing import freeze, norms_in_eval
from gfocal.serialization.torch_files import check_weights_file

if TYPE_CHECKING:
    from torchvision.models.shufflenetv2 import InvertedResidual

WIDTHS: dict[str, tuple[int, int, int]] = {
    "shufflenet_v2_x1_0": (116, 232, 464),
    "shufflenet_v2_x1_5": (176, 352, 704),
}
"""Channels of the three maps."""


class ShuffleNetBackbone(nn.Module):
    """ShuffleNetV2 with LeakyReLU(0.1): maps of strides 8, 16, 32.

    The layers are torchvision's, without its last convolution and classifier.

    Args:
        name: of :data:`WIDTHS`.
        pretrained: path of a file with torchvision's names of these layers, or False.
        norm_eval: batch normalisation keeps its running statistics while training.
        frozen_stages: parameters up to the map of stride 2 * 2^frozen_stages keep their values (0: none; 1: the first
            convolution; 4: all).
    """

    def __init__(
        self,
        name: str = "shufflenet_v2_x1_0",
        *,
        pretrained: bool | str = False,
        norm_eval: bool = False,
        frozen_stages: int = 0,
    ) -> None:
        super().__init__()
        import torchvision

        if name not in WIDTHS:
            raise UsageError(f"model.backbone: there is no ShuffleNet {name!r}, but {', '.join(WIDTHS)}")
        self.channels = WIDTHS[name]
        if isinstance(pretrained, str) and not Path(pretrained).is_file():
            raise UsageError(f"model.pretrained: there is no file {pretrained}")
        try:
            whole = getattr(torchvision.models, name)(weights="DEFAULT" if pretrained is True else None)
        except (OSError, RuntimeError) as error:  # no network, a damaged download
            raise no_weights(name, pretrained, first_line(error)) from error
        self.conv1, self.maxpool = whole.conv1, whole.maxpool
        self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(*(_Unit(unit) for unit in stage)) for stage in (whole.stage2, whole.stage3, whole.stage4)
        )
        _replace_relu(self)
        self.norm_eval = norm_eval
        if isinstance(pretrained, str):
            try:
                check_weights_file(Path(pretrained))
                state = torch.load(pretrained, map_location="cpu", weights_only=True)
                self.load_state_dict({k: v for k, v in state.items() if not k.startswith(("conv5.", "fc."))})
                refuse_unusable(self)
            except Exception as error:  # torch raises many kinds for a file that is none
                raise no_weights(name, pretrained, first_line(error)) from error
        freeze((self.conv1, self.stage2, self.stage3, self.stage4)[:frozen_stages])

    def forward(self, images: Tensor) -> list[Tensor]:
        c3 = self.stage2(self.maxpool(self.conv1(images)))
        c4 = self.stage3(c3)
        return [c3, c4, self.stage4(c4)]

    def train(self, mode: bool = True) -> ShuffleNetBackbone:
        super().train(mode)
        if self.norm_eval:
            norms_in_eval(self)
        return self


class _Unit(nn.Module):
    """torchvision's unit with its layers and their names, but a shuffle that leaves maps on a CPU in their layout.

    torchvision's shuffle gives maps with one channel after another. Where channels come last, the convolution after it
    turns them round, and every gradient before it is read across memory: a sixth of a training step. On a GPU torch
    does the same as torchvision.
    """

    def __init__(self, unit: InvertedResidual) -> None:
        super().__init__()
        self.halves = unit.stride > 1
        self.branch1, self.branch2 = unit.branch1, unit.branch2

    def forward(self, x: Tensor) -> Tensor:
        if self.halves:
            aside = self.branch1(x)
        else:
            aside, x = x.chunk(2, 1)
        return F.channel_shuffle(torch.cat((aside, self.branch2(x)), 1), 2)


def _replace_relu(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU):
            setattr(module, name, nn.LeakyReLU(0.1, inplace=True))
        else:
            _replace_relu(child)

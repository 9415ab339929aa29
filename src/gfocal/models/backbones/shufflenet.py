"""ShuffleNetV2, the backbone of NanoDet."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from gfocal.errors import UsageError
from gfocal.models.backbones.loading import first_line, no_weights, refuse_not_finite
from gfocal.models.freezing import freeze, norms_in_eval
from gfocal.serialization.torch_files import check_weights_file


class ShuffleNetBackbone(nn.Module):
    """ShuffleNetV2-1.0x with LeakyReLU(0.1): maps of strides 8, 16, 32 with 116, 232, 464 channels.

    The layers are torchvision's, without its last convolution and classifier.

    Args:
        pretrained: path of a file with torchvision's names of these layers, or False.
        norm_eval: batch normalisation keeps its running statistics while training.
        frozen_stages: parameters up to the map of stride 2 * 2^frozen_stages keep their values (0: none; 1: the first
            convolution; 4: all).
    """

    channels = (116, 232, 464)

    def __init__(self, *, pretrained: bool | str = False, norm_eval: bool = False, frozen_stages: int = 0) -> None:
        super().__init__()
        from torchvision.models import shufflenet_v2_x1_0

        if isinstance(pretrained, str) and not Path(pretrained).is_file():
            raise UsageError(f"model.pretrained: there is no file {pretrained}")
        try:
            whole = shufflenet_v2_x1_0(weights="DEFAULT" if pretrained is True else None)
        except (OSError, RuntimeError) as error:  # no network, a damaged download
            raise no_weights("shufflenet_v2_x1_0", pretrained, first_line(error)) from error
        self.conv1, self.maxpool = whole.conv1, whole.maxpool
        self.stage2, self.stage3, self.stage4 = whole.stage2, whole.stage3, whole.stage4
        _replace_relu(self)
        self.norm_eval = norm_eval
        if isinstance(pretrained, str):
            try:
                check_weights_file(Path(pretrained))
                state = torch.load(pretrained, map_location="cpu", weights_only=True)
                self.load_state_dict({k: v for k, v in state.items() if not k.startswith(("conv5.", "fc."))})
                refuse_not_finite(self)
            except Exception as error:  # torch raises many kinds for a file that is none
                raise no_weights("shufflenet_v2_x1_0", pretrained, first_line(error)) from error
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


def _replace_relu(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU):
            setattr(module, name, nn.LeakyReLU(0.1, inplace=True))
        else:
            _replace_relu(child)

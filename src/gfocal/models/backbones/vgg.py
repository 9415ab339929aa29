"""The VGG-16 of SSD."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from gfocal.errors import UsageError
from gfocal.models.backbones.loading import first_line, no_weights, refuse_unusable
from gfocal.models.freezing import freeze
from gfocal.serialization.torch_files import check_weights_file

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and number of 3x3 convolutions
_FIRST_MAP = 22  # in `features`: the ReLU after conv4_3
_ENDS = (16, _FIRST_MAP + 1, 35)  # in `features`: after conv3_3, conv4_3 and conv7, the maps of strides 4, 8 and 16
_NEW = ("features.31.", "features.33.")  # conv6 and conv7, which torchvision's VGG-16 has not

_PIXEL_SCALE = 58.0  # standard deviation of images on 0..255


class VggBackbone(nn.Module):
    """VGG-16 with two convolutions in the place of its linear layers: maps of strides 8 and 16.

    conv1_1 ... conv5_3 as in VGG-16, pools that round sizes up, a 3x3 pool of stride 1 in the place of pool5, conv6
    (3x3, dilation 6) and conv7 (1x1). The maps are those after the ReLUs of conv4_3 and conv7. Images come in RGB
    on the scale 0..255 less the mean (123, 117, 104), undivided.

    Args:
        pretrained: True downloads torchvision's weights of the features that SSD started from; a path is a file with
            torchvision's names (``features.N.weight``). conv6 and conv7 start from random values unless the file has
            them (``features.31``, ``features.33``).
        frozen_stages: layers up to the map of stride 2 * 2^frozen_stages keep their values (0: none; 1: conv1_1 to
            conv3_3; 2: to conv4_3; 3: all).

    Raises:
        UsageError: the weights cannot be had.

    Source:
        SSD, arXiv 1512.02325, section 3.
    """

    channels = (512, 1024)

    def __init__(self, *, pretrained: bool | str = False, frozen_stages: int = 0) -> None:
        super().__init__()
        if isinstance(pretrained, str) and not Path(pretrained).is_file():
            raise UsageError(f"model.pretrained: there is no file {pretrained}")
        self.features = nn.Sequential(*_layers())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Fan in: what comes out has the scale of what went in, as nothing here normalises.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        # Pixels come on the scale 0..255, as the published weights want them. Those bring them down to the scale of
        # features; random ones must too, or the first losses are in the thousands.
        nn.init.normal_(self.features[0].weight, std=math.sqrt(2 / 27) / _PIXEL_SCALE)  # type: ignore[arg-type]
        if pretrained:
            try:
                self._load(_read(pretrained))
                refuse_unusable(self)
            except Exception as error:  # no network, damaged files: many kinds
                raise no_weights("vgg16", pretrained, first_line(error)) from error

        freeze(self.features[: (0, *_ENDS)[frozen_stages]])

    def forward(self, images: Tensor) -> list[Tensor]:
        first = self.features[: _FIRST_MAP + 1](images)
        return [first, self.features[_FIRST_MAP + 1 :](first)]

    def _load(self, weights: dict[str, Tensor]) -> None:
        own = {name: value for name, value in self.state_dict().items() if name.startswith(_NEW)}
        # torchvision's classifier stays behind; the file of the features alone has none but NaN in it.
        self.load_state_dict(own | {k: v for k, v in weights.items() if k.startswith("features.")})


def _layers() -> list[nn.Module]:
    layers: list[nn.Module] = []
    before = 3
    for channels, count in _STAGES:
        for _ in range(count):
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(inplace=True)]
            before = channels
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    layers[-1] = nn.MaxPool2d(3, stride=1, padding=1)
    layers += [nn.Conv2d(before, 1024, 3, padding=6, dilation=6), nn.ReLU(inplace=True)]
    return [*layers, nn.Conv2d(1024, 1024, 1), nn.ReLU(inplace=True)]


def _read(pretrained: bool | str) -> dict[str, Tensor]:
    if isinstance(pretrained, str):
        check_weights_file(Path(pretrained))
        return torch.load(pretrained, map_location="cpu", weights_only=True)
    from torchvision.models import VGG16_Weights

    return VGG16_Weights.IMAGENET1K_FEATURES.get_state_dict(progress=False)

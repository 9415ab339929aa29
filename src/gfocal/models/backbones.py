"""Backbones: a picture in, one map a stride out."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gfocal.errors import UsageError


class TimmBackbone(nn.Module):
    """Any timm model that can give its features.

    Args:
        name: timm's model name, for example "resnet50.tv_in1k".
        strides: the strides wanted, for example (8, 16, 32).
        pretrained: True asks timm for its weights (a download); a path loads a local file.
        frozen_stages: parameters up to the map of stride 2 * 2^frozen_stages keep their values (0: none;
            1 on a ResNet: stem and first stage).
        norm_eval: batch normalisation keeps its running statistics while training.

    Attributes:
        channels: of each map.
    """

    def __init__(
        self,
        name: str,
        strides: Sequence[int] = (8, 16, 32),
        *,
        pretrained: bool | str = False,
        frozen_stages: int = 0,
        norm_eval: bool = False,
    ) -> None:
        super().__init__()
        import timm  # here, not above: it costs half a second, and the small detector does not need it

        if not timm.is_model(name.split(".")[0]):
            near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
            raise UsageError(
                f"model.backbone: timm has no model {name!r}" + (f" (did you mean {', '.join(near)}?)" if near else "")
            )
        weights = {"file": str(pretrained)} if isinstance(pretrained, str | Path) else None
        if weights and not Path(weights["file"]).is_file():
            raise UsageError(f"model.pretrained: there is no file {weights['file']}")
        try:
            info: Any = timm.create_model(name, features_only=True).feature_info
            reductions = info.reduction()
            missing = [s for s in strides if s not in reductions]
            if missing:
                raise UsageError(f"model.backbone: {name} has maps of strides {reductions}, not {missing}")
            indices = tuple(reductions.index(stride) for stride in strides)
            self.body = timm.create_model(
                name,
                features_only=True,
                out_indices=indices,
                pretrained=bool(pretrained),
                pretrained_cfg_overlay=weights,
            )
        except (RuntimeError, OSError) as error:
            raise UsageError(
                f"model.pretrained: the weights of {name} could not be loaded ({str(error).splitlines()[0]}); give "
                "the path of a local file, or start from random values with --set model.pretrained=false"
            ) from error
        self.channels: tuple[int, ...] = tuple(info.channels()[i] for i in indices)
        self.norm_eval = norm_eval
        if frozen_stages:
            last = info.module_name(reductions.index(2 * 2**frozen_stages))
            _freeze(self.body, last)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        return list(self.body(pictures))

    def train(self, mode: bool = True) -> TimmBackbone:
        super().train(mode)
        if self.norm_eval:
            _norms_in_eval(self)
        return self


def _freeze(body: nn.Module, last: str) -> None:
    """Stop the gradients of every child up to and including ``last``."""
    names = [name for name, _ in body.named_children()]
    stop = names.index(last.split(".")[0])
    for child in list(body.children())[: stop + 1]:
        for parameter in child.parameters():
            parameter.requires_grad_(False)


def _norms_in_eval(module: nn.Module) -> None:
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.eval()


class ShuffleNetBackbone(nn.Module):
    """ShuffleNetV2-1.0x with LeakyReLU(0.1): maps of strides 8, 16, 32 with 116, 232, 464 channels.

    The layers are torchvision's, without its last convolution and classifier.

    Args:
        pretrained: path of a file with torchvision's names of these layers, or False.
        norm_eval: batch normalisation keeps its running statistics while training.
    """

    channels = (116, 232, 464)

    def __init__(self, *, pretrained: bool | str = False, norm_eval: bool = False) -> None:
        super().__init__()
        from torchvision.models import shufflenet_v2_x1_0

        whole = shufflenet_v2_x1_0(weights="DEFAULT" if pretrained is True else None)
        self.conv1, self.maxpool = whole.conv1, whole.maxpool
        self.stage2, self.stage3, self.stage4 = whole.stage2, whole.stage3, whole.stage4
        _replace_relu(self)
        self.norm_eval = norm_eval
        if isinstance(pretrained, str):
            if not Path(pretrained).is_file():
                raise UsageError(f"model.pretrained: there is no file {pretrained}")
            state = torch.load(pretrained, map_location="cpu", weights_only=True)
            self.load_state_dict({k: v for k, v in state.items() if not k.startswith(("conv5.", "fc."))})

    def forward(self, pictures: Tensor) -> list[Tensor]:
        c3 = self.stage2(self.maxpool(self.conv1(pictures)))
        c4 = self.stage3(c3)
        return [c3, c4, self.stage4(c4)]

    def train(self, mode: bool = True) -> ShuffleNetBackbone:
        super().train(mode)
        if self.norm_eval:
            _norms_in_eval(self)
        return self


def _replace_relu(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU):
            setattr(module, name, nn.LeakyReLU(0.1, inplace=True))
        else:
            _replace_relu(child)

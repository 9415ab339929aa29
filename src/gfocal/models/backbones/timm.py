"""Backbones of the library timm."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gfocal.errors import UsageError
from gfocal.models.backbones.loading import first_line, no_weights, refuse_unusable
from gfocal.models.deformable import DeformableConv
from gfocal.models.freezing import norms_in_eval
from gfocal.serialization.torch_files import check_weights_file


class TimmBackbone(nn.Module):
    """Any timm model that can give its features.

    Args:
        name: timm's model name, for example "resnet50.tv_in1k".
        strides: the strides wanted, for example (8, 16, 32).
        pretrained: True asks timm for its weights (a download); a path loads a local file.
        frozen_stages: parameters up to the map of stride 2 * 2^frozen_stages keep their values (0: none;
            1 on a ResNet: stem and first stage).
        norm_eval: batch normalisation keeps its running statistics while training.
        style: which convolution of a ResNet's bottleneck has the stride: "pytorch" the 3x3, "caffe" the first 1x1.
            Weights of either fit the other, by name and by shape, and give other maps.
        deformable: stages of a ResNet whose 3x3 convolutions are deformable: 3 for that of C3 (stride 8), 4, 5. They
            start as what they were.
        modulated: deformable convolutions weigh their samples.

    Attributes:
        channels: of each map.

    Raises:
        UsageError: timm has no such model, it has no such maps, stages or bottlenecks, or its weights cannot be had.
    """

    def __init__(
        self,
        name: str,
        strides: Sequence[int] = (8, 16, 32),
        *,
        pretrained: bool | str = False,
        frozen_stages: int = 0,
        norm_eval: bool = False,
        style: Literal["pytorch", "caffe"] = "pytorch",
        deformable: Sequence[int] = (),
        modulated: bool = True,
    ) -> None:
        super().__init__()
        import timm  # here, not above: it costs half a second, and the small detector does not need it

        if not timm.is_model(name.split(".")[0]):
            near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
            raise UsageError(
                f"model.backbone: timm has no model {name!r}" + (f" (did you mean {', '.join(near)}?)" if near else "")
            )
        if isinstance(pretrained, str) and not Path(pretrained).is_file():
            raise UsageError(f"model.pretrained: there is no file {pretrained}")
        self.body = _timm_features(name, pretrained)
        info: Any = self.body.feature_info
        reductions = info.reduction()
        missing = [s for s in strides if s not in reductions]
        if missing:
            raise UsageError(f"model.backbone: {name} has maps of strides {reductions}, not {missing}")
        self.picked = tuple(reductions.index(stride) for stride in strides)
        self.channels: tuple[int, ...] = tuple(info.channels()[i] for i in self.picked)
        if max(self.picked) + 1 < len(reductions):  # without the layers that nothing would use
            self.body = _timm_features(name, pretrained, out_indices=self.picked)
            self.picked = tuple(range(len(self.picked)))
        if style == "caffe":
            _stride_on_first(self.body, name)
        elif style != "pytorch":
            raise UsageError(f'model.style: "pytorch" or "caffe", not {style!r}')
        for stage in deformable:
            _deform(self.body, name, stage, modulated)
        self.norm_eval = norm_eval
        if frozen_stages:
            stride = 2 * 2**frozen_stages
            if stride not in reductions or not _freeze(self.body, info.module_name(reductions.index(stride))):
                raise UsageError(f"model.frozen_stages: {name} has no stages that end at stride {stride}; set it to 0")

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.body(images)
        return [maps[i] for i in self.picked]

    def train(self, mode: bool = True) -> TimmBackbone:
        super().train(mode)
        if self.norm_eval:
            norms_in_eval(self)
        return self


def _stride_on_first(body: nn.Module, name: str) -> None:
    """Move the stride of every bottleneck from its 3x3 convolution to its first 1x1, as Caffe's ResNets have it.

    Raises:
        UsageError: there is none to move.
    """
    from timm.models.resnet import Bottleneck

    # Not those with an anti-aliasing layer: there neither convolution strides.
    strided = [m for m in body.modules() if isinstance(m, Bottleneck) and m.conv2.stride != (1, 1)]
    if not strided:
        raise UsageError(
            f"model.style: {name} is no ResNet whose bottlenecks stride on their 3x3 convolution, so it has no caffe "
            'style; set it to "pytorch"'
        )
    for block in strided:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def _deform(body: nn.Module, name: str, stage: int, modulated: bool) -> None:
    """Make the 3x3 convolutions of the bottlenecks of a stage deformable.

    Raises:
        UsageError: there are none.
    """
    from timm.models.resnet import Bottleneck

    blocks = [m for m in getattr(body, f"layer{stage - 1}", nn.Module()).modules() if isinstance(m, Bottleneck)]
    if not blocks:
        raise UsageError(
            f"model.deformable: {name} has no bottlenecks of a ResNet in stage {stage} here; leave the stage out, or "
            "use a ResNet of 50 layers or more"
        )
    for block in blocks:
        block.register_module("conv2", DeformableConv(block.conv2, modulated=modulated))


def _timm_features(name: str, pretrained: bool | str, **options: Any) -> nn.Module:
    """A network of timm that gives its features.

    Raises:
        UsageError: it has none, or its weights cannot be had.
    """
    import timm

    try:
        overlay = {"file": pretrained} if isinstance(pretrained, str) else None
        if isinstance(pretrained, str):
            check_weights_file(Path(pretrained))
        # Before timm reads the file: its older versions would run code that a pickle in it names.
        weights = timm.models.load_state_dict(pretrained, weights_only=True) if isinstance(pretrained, str) else {}
        body: nn.Module = timm.create_model(
            name, features_only=True, pretrained=bool(pretrained), pretrained_cfg_overlay=overlay, **options
        )
        # timm takes what fits and leaves the rest random, without a word.
        fits = overlay is None or _comes_from(body, weights)
        refuse_unusable(body)
    except Exception as error:  # many kinds: damaged files, no network, networks that give no features
        if not pretrained:
            raise UsageError(f"model.backbone: {name} gives no features ({first_line(error)})") from error
        raise no_weights(name, pretrained, first_line(error)) from error
    if not fits:
        raise no_weights(name, pretrained, "it holds the weights of something else")
    return body


def _comes_from(body: nn.Module, weights: dict[str, Tensor]) -> bool:
    """Whether (nearly) all kernels of ``body`` are among ``weights``; by value, as timm translates names."""
    sizes: dict[int, list[Tensor]] = {}
    for tensor in weights.values():
        sizes.setdefault(tensor.numel(), []).append(tensor.flatten())
    kernels = [p.detach().flatten() for p in body.parameters() if p.ndim > 1]
    found = sum(any(torch.equal(k, t.to(k.dtype)) for t in sizes.get(k.numel(), ())) for k in kernels)
    return found >= 0.9 * len(kernels)


def _freeze(body: nn.Module, last: str) -> bool:
    """Stop the gradients of everything up to and including the module ``last``; False if there is none."""
    # timm writes stages.0 where the module is called stages_0.
    inside = last.replace(".", "_") + "_"
    parameters = list(body.named_parameters())
    stop = [i for i, (name, _) in enumerate(parameters) if name.replace(".", "_").startswith(inside)]
    for _, parameter in parameters[: stop[-1] + 1] if stop else ():
        parameter.requires_grad_(False)
    return bool(stop)

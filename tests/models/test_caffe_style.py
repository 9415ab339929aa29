from __future__ import annotations

import pytest
import torch
from torch import nn

from gfocal.errors import UsageError
from gfocal.models import TimmBackbone
from oracles.models import bottleneck_resnet


def randomise(module: nn.Module) -> None:
    """Values that let every layer be seen: timm starts the last norm of each block at 0."""
    generator = torch.Generator().manual_seed(0)
    for name, value in module.state_dict().items():
        if value.ndim == 1:
            noise = torch.rand(value.shape, generator=generator)
            value.copy_(noise + 0.5 if name.endswith(("weight", "var")) else noise - 0.5)


@pytest.mark.parametrize(("style", "stride_on"), [("pytorch", 2), ("caffe", 1)])
@pytest.mark.parametrize("size", [(64, 96), (70, 33)], ids=str)
def test_which_convolution_strides(style: str, stride_on: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    backbone = TimmBackbone("resnet26", style=style).double().eval()
    randomise(backbone)
    images = torch.randn(1, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        maps = backbone(images)
        expected = bottleneck_resnet(backbone.body.state_dict(), images, (2, 2, 2, 2), stride_on=stride_on)
    for ours, theirs in zip(maps, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_weights_fit_both_styles_and_give_other_maps() -> None:
    torch.manual_seed(0)
    first, second = TimmBackbone("resnet26"), TimmBackbone("resnet26", style="caffe")
    randomise(first)
    second.load_state_dict(first.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = first.eval()(images), second.eval()(images)
    assert [x.shape for x in ours] == [x.shape for x in theirs]
    assert not any(torch.allclose(a, b, rtol=0.1, atol=0.1) for a, b in zip(ours, theirs, strict=True))


def test_style_holds_where_unused_layers_are_left_out() -> None:
    backbone = TimmBackbone("resnet26", (4, 16), style="caffe")
    strides = [m.stride for name, m in backbone.body.named_modules() if name.endswith(("0.conv1", "0.conv2"))]
    # layer1 does not stride at all; layer2 and layer3 on their first convolution.
    assert strides == [(1, 1), (1, 1), (2, 2), (1, 1), (2, 2), (1, 1)]


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "resnetblur50"])
def test_networks_without_a_caffe_style(name: str) -> None:
    with pytest.raises(UsageError, match=rf'^model\.style: {name} is no ResNet .* set it to "pytorch"'):
        TimmBackbone(name, style="caffe")


def test_unknown_styles() -> None:
    with pytest.raises(UsageError, match=r'^model\.style: "pytorch" or "caffe", not \'Caffe\''):
        TimmBackbone("resnet18", style="Caffe")

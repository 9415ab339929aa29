"""Deformable convolutions: against a slow loop, at the start, in backbones and in towers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from gfocal.errors import UsageError
from gfocal.models import ConvHead, TimmBackbone
from gfocal.models.deformable import DeformableConv
from gfocal.models.protocols import HeadShape
from gfocal.recipe import load_recipe
from oracles.models import deformable_convolution

FORMS: list[dict[str, Any]] = [
    {"padding": 1},
    {"padding": 1, "stride": 2, "bias": False},
    {"padding": 2, "dilation": 2, "groups": 2},
    {"groups": 4, "stride": (1, 2), "padding": (0, 1)},
]
MODULATED = pytest.mark.parametrize("modulated", [True, False], ids=["modulated", "plain"])


def made(modulated: bool, *, learnt: bool = True, **form: Any) -> tuple[nn.Conv2d, DeformableConv]:
    """A convolution of 4 channels to 8, and the deformable one in its place; ``learnt``: its offsets are not 0."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, 3, **form).double()
    deformed = DeformableConv(conv, modulated=modulated).double()
    if learnt:
        nn.init.normal_(deformed.conv_offset.weight, std=0.5)
        nn.init.normal_(deformed.conv_offset.bias)
    return conv, deformed


def image(height: int = 6, width: int = 5) -> Tensor:
    return torch.randn(2, 4, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@MODULATED
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_it_is_the_convolution_until_it_has_learnt_offsets(modulated: bool, form: dict[str, Any]) -> None:
    conv, deformed = made(modulated, learnt=False, **form)
    torch.testing.assert_close(deformed(image()), conv(image()), rtol=1e-12, atol=1e-12)
    assert {name for name, _ in deformed.named_parameters()} == {
        *(name for name, _ in conv.named_parameters()),
        *("conv_offset.weight", "conv_offset.bias"),
    }


@MODULATED
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_slow_loop_gives_the_same(modulated: bool, form: dict[str, Any]) -> None:
    _, deformed = made(modulated, **form)
    x = image()
    learnt = deformed.conv_offset(x)
    weights = 2 / (1 + (-learnt[:, 18:]).exp()) if modulated else torch.ones_like(learnt[:, :9])
    bias = [0.0] * 8 if deformed.bias is None else deformed.bias.tolist()
    for i in range(2):
        slow = deformable_convolution(
            x[i].tolist(),
            learnt[i, :18].tolist(),
            weights[i].tolist(),
            deformed.weight.tolist(),
            bias,
            stride=deformed.stride,
            padding=deformed.padding,
            dilation=deformed.dilation,
        )
        torch.testing.assert_close(deformed(x)[i], torch.tensor(slow, dtype=torch.float64), rtol=1e-10, atol=1e-10)


def test_offsets_by_hand() -> None:
    """A kernel of one number, moved a cell down and half a cell to the right."""
    conv = nn.Conv2d(1, 1, 1, bias=False)
    conv.weight.data.fill_(3)
    deformed = DeformableConv(conv)
    deformed.conv_offset.bias.data = torch.tensor([1.0, 0.5, 0])
    x = torch.tensor([[[[1.0, 2], [10, 20], [100, 200]]]])
    # The mean of a cell and the one to its right; to the right of the last one there is 0.
    expected = torch.tensor([[[[45.0, 30], [450, 300], [0, 0]]]])
    torch.testing.assert_close(deformed(x), expected)
    deformed.conv_offset.bias.data[2] = 200  # a weight of 2
    torch.testing.assert_close(deformed(x), 2 * expected)
    deformed.conv_offset.bias.data = torch.tensor([1e4, -1e30, 0])
    assert not deformed(x).any()


@MODULATED
def test_gradcheck(modulated: bool) -> None:
    _, deformed = made(modulated, padding=1, stride=2, groups=2)
    names = [name for name, _ in deformed.named_parameters()]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(deformed, dict(zip(names, values, strict=True)), (x,))

    inputs = [image(4, 3), *(p.detach().clone() for p in deformed.parameters())]
    assert torch.autograd.gradcheck(call, tuple(t.requires_grad_() for t in inputs), fast_mode=True)


def test_half_precision_moves_no_sample() -> None:
    deformed = made(True, padding=1)[1].float()
    x = image().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        out = deformed(x)
    assert out.dtype == torch.bfloat16
    learnt = deformed.conv_offset(x.float())
    full = torchvision.ops.deform_conv2d(
        x.float(), learnt[:, :18], deformed.weight, deformed.bias, padding=1, mask=2 * learnt[:, 18:].sigmoid()
    )
    assert torch.equal(out, full.bfloat16())
    small = deformed.bfloat16()
    assert small(x).dtype == torch.bfloat16
    assert small(x).isfinite().all()


def test_no_images_and_maps_of_a_cell() -> None:
    deformed = made(True, padding=1)[1]
    assert deformed(image()[:0]).shape == (0, 8, 6, 5)
    assert deformed(image(1, 1)).shape == (2, 8, 1, 1)


@pytest.mark.parametrize("form", [{"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}], ids=str)
def test_padding_that_is_no_number_of_zeros_is_refused(form: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="padded by a number of zeros"):
        DeformableConv(nn.Conv2d(4, 8, 3, **form))


# --- backbones ------------------------------------------------------------------------------------------------------


def with_values(backbone: TimmBackbone) -> TimmBackbone:
    """timm starts the last norm of each block at 0, so that nothing of the block would be seen."""
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1)
    return backbone


@pytest.mark.parametrize(("name", "blocks"), [("resnet26", (2, 2)), ("resnext50_32x4d", (6, 3))])
def test_the_stages_of_a_backbone(name: str, blocks: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = with_values(TimmBackbone(name)).eval()
    deformable = TimmBackbone(name, deformable=(4, 5)).eval()
    own = deformable.state_dict()
    new = own.keys() - plain.state_dict().keys()
    assert new == {
        f"body.layer{i}.{j}.conv2.conv_offset.{what}"
        for i, count in zip((3, 4), blocks, strict=True)
        for j in range(count)
        for what in ("weight", "bias")
    }
    assert own["body.layer3.0.conv2.conv_offset.weight"].shape[0] == 27
    missing = deformable.load_state_dict(plain.state_dict(), strict=False)
    assert set(missing.missing_keys) == new
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():  # trained weights of the plain network stay what they are
        for ours, theirs in zip(deformable(images), plain(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        before = deformable(images)
        for module in deformable.modules():
            if isinstance(module, DeformableConv):
                nn.init.constant_(module.conv_offset.bias, 0.5)
        # C3 comes before the first of them.
        assert [torch.equal(x, y) for x, y in zip(deformable(images), before, strict=True)] == [True, False, False]


def test_plain_offsets_frozen_stages_and_strides() -> None:
    backbone = TimmBackbone("resnet26", deformable=(3, 4), modulated=False, frozen_stages=2, style="caffe")
    offsets = {n: p for n, p in backbone.named_parameters() if "conv_offset.weight" in n}
    assert {len(p) for p in offsets.values()} == {18}
    assert {n for n, p in offsets.items() if p.requires_grad} == {n for n in offsets if "layer3" in n}
    # In caffe style the first 1x1 convolution strides, so that no 3x3 one does.
    assert {m.stride for m in backbone.modules() if isinstance(m, DeformableConv)} == {(1, 1)}
    assert {m.conv_offset.stride for m in backbone.modules() if isinstance(m, DeformableConv)} == {(1, 1)}
    strided = [m for m in TimmBackbone("resnet26", deformable=(3,)).modules() if isinstance(m, DeformableConv)]
    assert [(m.stride, m.conv_offset.stride) for m in strided[:2]] == [((2, 2), (2, 2)), ((1, 1), (1, 1))]


def test_networks_without_such_stages_are_refused() -> None:
    for name, strides, stage in (("resnet18", (8, 16), 3), ("regnetx_002", (8, 16), 4), ("resnet26", (8, 16), 5)):
        with pytest.raises(UsageError, match=f"{name} has no bottlenecks of a ResNet in stage {stage}"):
            TimmBackbone(name, strides, deformable=(stage,))
    with pytest.raises(UsageError, match=r"shufflenet_v2_x1_0 has none: leave model\.deformable out"):
        load_recipe("gfl_nano", ["model.deformable=[4]"])
    with pytest.raises(UsageError, match=r"model\.deformable"):
        load_recipe("gfl_r50", ["model.deformable=[6]"])


# --- towers ---------------------------------------------------------------------------------------------------------


def test_the_last_convolution_of_each_tower() -> None:
    shape = HeadShape(8, 2, class_outputs=3, box_outputs=4)
    torch.manual_seed(0)
    plain = ConvHead(shape, channels=8, head_depth=2)
    head = ConvHead(shape, channels=8, head_depth=2, deformable_tower=True)
    for tower in (head.class_tower, head.box_tower):
        assert [type(layer).__name__ for layer in tower if not isinstance(layer, nn.ReLU | nn.GroupNorm)] == [
            "Conv2d",
            "DeformableConv",
        ]
        assert tower[3].weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert not tower[3].conv_offset.weight.any()
    head.load_state_dict(plain.state_dict(), strict=False)
    levels = [torch.randn(1, 8, 6, 5), torch.randn(1, 8, 3, 3)]
    torch.testing.assert_close(head(levels).box, plain(levels).box)
    out = head(levels)
    (out.class_logits.sum() + out.box.pow(2).sum()).backward()
    assert all(tower[3].conv_offset.weight.grad.any() for tower in (head.class_tower, head.box_tower))


def test_no_tower_has_no_last_convolution() -> None:
    head = ConvHead(HeadShape(8, 2, class_outputs=3, box_outputs=4), channels=8, head_depth=0, deformable_tower=True)
    assert not any(isinstance(m, DeformableConv) for m in head.modules())

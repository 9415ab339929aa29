"""SSD's network: VGG-16 with dilated layers, and the extra levels."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision.models
from torch import Tensor, nn

from gfocal.errors import UsageError
from gfocal.models import PlainHead, SsdNeck, VggBackbone
from gfocal.models.protocols import HeadShape
from gfocal.points import grid_sizes
from gfocal.recipe.forms import NECKS
from helpers.known_answers import keys_of
from oracles.models import ssd_levels, ssd_vgg

STRIDES = (8, 16, 32, 64, 128, 256, 512)


def published(part: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published SSD512 for COCO."""
    lines = keys_of("ssd512_vgg16").read_text().splitlines()
    pairs = (line.split("\t") for line in lines if line.startswith(f"{part}."))
    return {name.removeprefix(f"{part}."): tuple(int(n) for n in shape.split("x")) for name, shape in pairs}


# --- VGG ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vgg() -> VggBackbone:
    torch.manual_seed(0)
    backbone = VggBackbone().eval()
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.bias, std=0.1)
    return backbone


@pytest.mark.parametrize("size", [(64, 96), (70, 33), (1, 1)], ids=str)
def test_vgg_beside_its_description(vgg: VggBackbone, size: tuple[int, int]) -> None:
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        maps = vgg(images)
        expected = ssd_vgg(vgg.state_dict(), images)
    assert [x.shape[1] for x in maps] == list(vgg.channels)
    assert tuple(x.shape[-2:] for x in maps) == grid_sizes(*size, (8, 16))
    for ours, theirs in zip(maps, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_vgg_has_the_published_names() -> None:
    own = {name: tuple(value.shape) for name, value in VggBackbone().state_dict().items()}
    assert own == published("backbone")


def test_values_keep_their_scale_through_a_new_vgg() -> None:
    torch.manual_seed(0)
    backbone = VggBackbone()
    with torch.no_grad():
        for x in backbone(58 * torch.randn(1, 3, 64, 64)):  # pixels on 0..255
            assert 0.1 < x.pow(2).mean().sqrt().item() < 10
    assert not any(m.bias.any() for m in backbone.modules() if isinstance(m, nn.Conv2d))


@functools.cache
def torchvision_weights() -> dict[str, Tensor]:
    """As in torchvision's file of the features: its classifier is there and holds nothing."""
    from torchvision.models.vgg import cfgs, make_layers

    layers = make_layers(cfgs["D"]).state_dict()
    return {f"features.{k}": v for k, v in layers.items()} | {"classifier.0.weight": torch.full((2, 2), torch.nan)}


def test_vgg_weights_from_a_file(tmp_path: Path) -> None:
    weights, file = torchvision_weights(), tmp_path / "vgg.pth"
    torch.save(weights, file)
    read = VggBackbone(pretrained=str(file)).state_dict()
    assert set(read) - set(weights) == {f"features.{n}.{p}" for n in (31, 33) for p in ("weight", "bias")}
    assert all(torch.equal(value, weights[name]) for name, value in read.items() if name in weights)
    assert read["features.31.weight"].std() > 0
    whole = VggBackbone().state_dict()
    torch.save(whole, file)
    assert all(torch.equal(v, whole[k]) for k, v in VggBackbone(pretrained=str(file)).state_dict().items())


def test_vgg_weights_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torchvision_weights()
    fake = SimpleNamespace(IMAGENET1K_FEATURES=SimpleNamespace(get_state_dict=lambda progress: weights))
    monkeypatch.setattr(torchvision.models, "VGG16_Weights", fake)
    read = VggBackbone(pretrained=True).state_dict()
    assert torch.equal(read["features.28.weight"], weights["features.28.weight"])

    def offline(progress: bool) -> None:
        raise ConnectionError("no network\nmore words")

    fake.IMAGENET1K_FEATURES.get_state_dict = offline
    with pytest.raises(UsageError, match=r"weights of vgg16 could not be loaded \(no network\); give the path"):
        VggBackbone(pretrained=True)


def test_files_without_weights_of_vgg(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file /no/such\.pth"):
        VggBackbone(pretrained="/no/such.pth")
    file = tmp_path / "some.pth"
    short = {name: value for name, value in torchvision_weights().items() if name != "features.28.bias"}
    more = torchvision_weights() | {"features.35.weight": torch.zeros(1)}
    for content in (short, more, {"a.b": torch.zeros(2)}, [1, 2]):
        torch.save(content, file)
        with pytest.raises(UsageError, match=r"weights of vgg16 could not be loaded from .*some\.pth \(.+\)") as caught:
            VggBackbone(pretrained=str(file))
        assert "\n" not in str(caught.value)
    file.write_text("root:x:0:0\n")
    with pytest.raises(UsageError, match=r"could not be loaded"):
        VggBackbone(pretrained=str(file))


# --- neck -----------------------------------------------------------------------------------------------------------


def extra_names(name: str) -> str:
    """Ours -> published: two convolutions a level, each with an activation after it."""
    if name == "norm.weight":
        return "l2_norm.weight"
    _, level, layer, what = name.split(".")
    return f"extra_layers.{level}.{int(layer) // 2}.conv.{what}"


def test_neck_and_head_have_the_published_shapes() -> None:
    neck = SsdNeck()
    assert neck.channels == NECKS["ssd"].widths == (512, 1024, 512, 256, 256, 256, 256)
    own = {extra_names(name): tuple(value.shape) for name, value in neck.state_dict().items()}
    assert own == published("neck")
    head = PlainHead(HeadShape(neck.channels, 7, class_outputs=81, box_outputs=4, anchors=(4, 6, 6, 6, 6, 4, 4)))
    kinds = {"class_out": "cls_convs", "box_out": "reg_convs"}
    renamed = {}
    for name, value in head.state_dict().items():
        kind, level, what = name.split(".")
        renamed[f"{kinds[kind]}.{level}.0.{what}"] = tuple(value.shape)
    assert renamed == published("bbox_head")


@pytest.mark.parametrize("grid", [(64, 64), (64, 96), (37, 50)], ids=str)
def test_neck_beside_its_description(grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    neck = SsdNeck((6, 5)).double()
    nn.init.uniform_(neck.norm.weight, 5, 30)
    for layers in neck.extra:
        for conv in (layers[0], layers[2]):
            nn.init.normal_(conv.weight)
            nn.init.normal_(conv.bias)
    height, width = grid
    maps = [torch.rand(1, 6, height, width), torch.rand(1, 5, -(-height // 2), -(-width // 2))]
    maps = [x.double() for x in maps]
    extra = [(e[0].weight, e[0].bias, e[2].weight, e[2].bias) for e in neck.extra]
    with torch.no_grad():
        levels = neck(maps)
        expected = ssd_levels(neck.norm.weight, extra, *maps)
    assert tuple(x.shape[-2:] for x in levels) == grid_sizes(8 * height, 8 * width, STRIDES)
    assert [x.shape[1] for x in levels] == list(neck.channels)
    for ours, theirs in zip(levels, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_neck_at_the_start() -> None:
    neck = SsdNeck((6, 5), levels=4)
    assert neck.norm.weight.tolist() == [20] * 6
    for layers in neck.extra:
        for conv in (layers[0], layers[2]):
            assert not conv.bias.any()
            fans = sum(conv.weight.shape[:2]) * math.prod(conv.kernel_size)
            assert 0.95 * math.sqrt(6 / fans) < conv.weight.abs().max().item() <= math.sqrt(6 / fans)


def test_normalisation_by_hand() -> None:
    neck = SsdNeck((2, 1), levels=3)
    # 3 and 4 have the norm 5: 20 * 3/5 = 12, 20 * 4/5 = 16. The other cells hold nothing.
    first = torch.zeros(1, 2, 2, 3)
    first[0, :, 1, 2] = torch.tensor([3.0, 4.0])
    first.requires_grad_()
    level = neck([first, torch.zeros(1, 1, 2, 2)])[0]
    assert level[0, :, 1, 2].tolist() == pytest.approx([12, 16])
    assert level.count_nonzero() == 2
    level.sum().backward()
    assert torch.isfinite(first.grad).all()
    # The derivative of 20 (x + y) / r at (3, 4), r = 5: 20 (1/5 - 3 * 7/125) = 0.64 and 20 (1/5 - 4 * 7/125) = -0.48.
    assert first.grad[0, :, 1, 2].tolist() == pytest.approx([0.64, -0.48], abs=1e-5)


def test_normalisation_in_double_and_half_precision() -> None:
    neck = SsdNeck((2, 1), levels=3)
    x = torch.rand(1, 2, 2, 2, dtype=torch.float64) + 0.1
    assert torch.autograd.gradcheck(neck.norm.double(), (x.requires_grad_(),))
    half = torch.tensor([48000.0, 64000.0], dtype=torch.float16).view(1, 2, 1, 1)  # the norm is beyond float16
    level = neck.norm.float()(half)
    assert level.dtype == torch.float16
    assert level.flatten().tolist() == [12, 16]


@pytest.mark.parametrize("size", [(1, 2), (2, 1), (4, 3), (3, 4)])
def test_images_that_do_not_fit(size: tuple[int, int]) -> None:
    neck = SsdNeck((2, 3), levels=3)
    with pytest.raises(UsageError, match=rf"3 levels of SSD.* {size[0]} x {size[1]}; .* 257 to 768"):
        neck([torch.zeros(1, 2, 8, 8), torch.zeros(1, 3, *size)])


def test_a_neck_without_extra_levels() -> None:
    with pytest.raises(ValueError, match="more than the 2 maps of the backbone, got 2"):
        SsdNeck((2, 3), levels=2)


def test_the_whole_network_learns() -> None:
    torch.manual_seed(0)
    neck = SsdNeck()
    head = PlainHead(HeadShape(neck.channels, 7, class_outputs=3, box_outputs=4, anchors=(4, 6, 6, 6, 6, 4, 4)))
    network = nn.Sequential(VggBackbone(), neck, head)
    out = network(torch.randn(1, 3, 257, 300))
    grids = grid_sizes(257, 300, STRIDES)
    count = sum(h * w * n for (h, w), n in zip(grids, (4, 6, 6, 6, 6, 4, 4), strict=True))
    assert out.class_logits.shape == (1, count, 3)
    (out.class_logits.pow(2).sum() + out.box.pow(2).sum()).backward()
    for name, parameter in network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name

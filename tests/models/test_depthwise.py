"""Wide depthwise convolutions: torch's values, and the same gradients computed some columns at a time."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from gfocal.models.depthwise import NARROW, WideDepthwise

SHAPES = [
    (5, 1, (12, 9)),
    (5, 2, (13, 8)),
    (7, 1, (10, 10)),
    (4, 1, (9, 9)),
    (5, 1, (1, 1)),
    (3, 1, (6, 7)),
    (9, 3, (5, 4)),
]


def pair(kernel: int, stride: int) -> tuple[WideDepthwise, nn.Conv2d]:
    torch.manual_seed(0)
    ours = WideDepthwise(6, kernel, stride)
    torchs = nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=6, bias=False)
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


def gradients(layer: nn.Module, maps: Tensor) -> list[Tensor]:
    """The layer's output, and what a loss of it says to the maps and to each parameter."""
    maps = maps.clone().requires_grad_()
    out = layer(maps)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), [maps, *layer.parameters()])]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("kernel", "stride", "size"), SHAPES)
def test_has_the_values_and_gradients_of_float64(
    kernel: int, stride: int, size: tuple[int, int], layout: torch.memory_format
) -> None:
    ours, torchs = pair(kernel, stride)
    maps = torch.randn(3, 6, *size).contiguous(memory_format=layout)
    found = gradients(ours.to(memory_format=layout), maps)
    for own, exact in zip(found, gradients(torchs.double(), maps.double()), strict=True):
        torch.testing.assert_close(own.double(), exact, rtol=1e-5, atol=1e-5 * max(float(exact.abs().max()), 1.0))


def test_its_gradient_is_torchs_on_narrow_kernels() -> None:
    """One part: nothing is moved and nothing summed in another order."""
    ours, torchs = pair(NARROW, 1)
    maps = torch.randn(2, 6, 8, 8)
    assert all(torch.equal(a, b) for a, b in zip(gradients(ours, maps), gradients(torchs, maps), strict=True))


def took_columns(layer: nn.Module, maps: Tensor) -> bool:
    return "Columnwise" in type(layer(maps).grad_fn).__name__


def test_takes_columns_only_in_float32_training_of_its_weights_on_a_cpu() -> None:
    layer, _ = pair(5, 1)
    maps = torch.randn(1, 6, 8, 8, requires_grad=True)
    assert took_columns(layer, maps)
    assert not took_columns(copy.deepcopy(layer).eval(), maps)
    assert not took_columns(copy.deepcopy(layer).double(), maps.double())
    assert not took_columns(copy.deepcopy(layer).requires_grad_(False), maps)
    with torch.no_grad():
        assert layer(maps).grad_fn is None
    with torch.autocast("cpu", torch.bfloat16):
        assert not took_columns(layer, maps)
        layer(maps).sum().backward()
    assert not took_columns(layer, maps[0])
    layer.bias = nn.Parameter(torch.ones(6))
    assert not took_columns(layer, maps)


def test_a_norm_that_is_folded_into_it_counts_in_training_too() -> None:
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    norm = nn.BatchNorm2d(6).eval()
    nn.init.ones_(norm.bias)
    folded, maps = fuse_conv_bn_eval(pair(5, 1)[0].eval(), norm), torch.randn(1, 6, 8, 8)
    torch.testing.assert_close(folded.train()(maps), folded.eval()(maps))


def test_functional_gradients_are_torchs() -> None:
    maps, (ours, torchs) = torch.randn(2, 6, 8, 8), pair(5, 1)

    def loss(layer: nn.Module, weight: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, maps).square().sum()

    found = [torch.func.grad(lambda weight, layer=layer: loss(layer, weight))(layer.weight) for layer in (ours, torchs)]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-4)


def test_maps_that_need_no_gradient_get_none() -> None:
    layer, torchs = pair(5, 1)
    maps = torch.randn(2, 6, 8, 8)
    for own in (layer, torchs):
        own(maps).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, torchs.weight.grad)


def test_gradients_of_gradients_are_torchs() -> None:
    maps, found = torch.randn(2, 6, 8, 8), []
    for layer in pair(5, 1):
        (first,) = torch.autograd.grad(layer(maps).square().sum(), layer.weight, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), layer.weight)[0])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-3)


def test_an_empty_batch_has_gradients_of_zero() -> None:
    layer, _ = pair(5, 1)
    layer(torch.zeros(0, 6, 8, 8)).sum().backward()
    assert layer.weight.grad is not None
    assert not layer.weight.grad.any()


@pytest.mark.parametrize("recipe", ["nanodet_plus_m", "picodet_s"])
def test_the_small_networks_have_them(recipe: str) -> None:
    from gfocal.recipe import load_recipe
    from gfocal.zoo import build_detector

    detector = build_detector(load_recipe(recipe), ["thing"], pretrained=False)
    wide = [
        own
        for own in detector.modules()
        if isinstance(own, nn.Conv2d) and own.groups > 1 and own.kernel_size[1] > NARROW
    ]
    assert len(wide) > 5
    assert all(isinstance(own, WideDepthwise) for own in wide)

"""With channels last no map of a training step comes with one channel after another: turning it round costs more than
the layer that it goes into."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from gfocal.recipe import load_recipe
from gfocal.runtime.layout import in_layout
from gfocal.runtime.memory import synthetic_loss
from gfocal.zoo import add_assistant, build_detector

QUICK = ["gfl_nano", "nanodet_plus_m", "picodet_s", "picodet_s_lcnet", "ssd_nano"]
LARGE = ["gfl_r18", "retinanet_r50", "foveabox_r50", "picodet_l", "nanodet_plus_m_1.5x"]


def channels_first(maps: object) -> bool:
    """Whether the numbers of a channel lie side by side; maps of one column or one channel lie both ways."""
    if not isinstance(maps, Tensor) or maps.dim() != 4 or 1 in (maps.shape[1], maps.shape[3]):
        return False
    return maps.stride(1) > maps.stride(3)


def turned(detector: nn.Module, loss: object) -> Counter[str]:
    """Layers that meet a map with channels first, in the pass of ``loss`` or in the one back."""
    found: Counter[str] = Counter()
    names = {module: name for name, module in detector.named_modules() if not list(module.children())}

    def look(module: nn.Module, entered: tuple[object, ...], out: object) -> None:
        name = names[module]
        found.update(f"into {name}" for maps in entered if channels_first(maps))
        found.update([f"out of {name}"] if channels_first(out) else [])
        if isinstance(out, Tensor) and out.requires_grad:
            out.register_hook(lambda grad: found.update([f"back into {name}"] if channels_first(grad) else []))

    for module in names:
        module.register_forward_hook(look)
    loss().backward()  # type: ignore[operator]
    return found


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_only_the_image_comes_with_channels_first(name: str) -> None:
    recipe = load_recipe(name)
    detector = build_detector(recipe, ["thing", "other"], pretrained=False)
    add_assistant(detector, recipe)
    detector = in_layout(detector.train(), channels_last=True)
    size = (512, 512) if recipe.model.points.kind == "ssd" else (96, 128)
    found = turned(detector, lambda: synthetic_loss(detector, size, 2))
    first = next(name for name, module in detector.backbone.named_modules() if isinstance(module, nn.Conv2d))
    assert dict(found) == {"into pixels": 1, "out of pixels": 1, f"into backbone.{first}": 1}


def test_sees_a_map_that_is_turned_round() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Identity(), nn.Conv2d(4, 4, 1)).to(memory_format=torch.channels_last)
    net[1].forward = lambda maps: maps.contiguous()  # type: ignore[method-assign]
    maps = torch.ones(2, 4, 3, 5).contiguous(memory_format=torch.channels_last)
    weights = torch.ones(2, 4, 3, 5)
    assert set(turned(net, lambda: (net(maps) * weights).sum())) == {"out of 1", "into 2", "back into 2"}

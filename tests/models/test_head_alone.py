"""A recipe's head without the network around it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from gfocal.errors import UsageError
from gfocal.models import ConvHead
from gfocal.models.protocols import HeadShape
from gfocal.points import grid_sizes, make_anchors
from gfocal.recipe import load_recipe, recipe_names
from gfocal.recipe.forms import BACKBONES, NECKS, TIMM
from gfocal.zoo import anchor_shapes, build_detector, build_head


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes a backbone or a neck fails."""

    def refuse(*args: object, **more: object) -> None:
        raise AssertionError("a backbone or a neck is made")

    class Refused:
        __init__ = refuse

    for form in (TIMM, *BACKBONES.values(), *NECKS.values()):
        monkeypatch.setattr(f"gfocal.{form.place.replace(':', '.')}", Refused)


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


@pytest.mark.parametrize("name", [name for name in recipe_names() if "r50" not in name])
def test_it_is_the_head_of_the_detector(name: str) -> None:
    recipe = load_recipe(name)
    with torch.device("meta"):
        head = build_head(recipe, 3)
    detector = build_detector(recipe, ["a", "b", "c"], pretrained=False)
    assert shapes(head) == shapes(detector.head)
    assert type(head) is type(detector.head)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", recipe_names())
def test_no_backbone_is_made(name: str) -> None:
    assert shapes(build_head(load_recipe(name), 3))


def test_the_guard_itself_fails_where_a_network_is_made(no_network: None) -> None:
    for name in ("gfl_nano", "gfl_r18", "ssd512_vgg16"):
        with pytest.raises(AssertionError, match="is made"):
            build_detector(load_recipe(name), ["a"], pretrained=False)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("name", "overrides", "channels"),
    [
        ("gfl_nano", [], None),
        ("gfl_r18", [], 24),
        ("ssd_nano", [], 40),
        ("ssd_nano", ["model.head=plain"], 40),
        ("ssd_nano", ["model.head=plain"], [8, 16, 24]),
    ],
)
def test_it_takes_maps_of_ones_own_and_gives_every_point_its_numbers(
    name: str, overrides: list[str], channels: int | list[int] | None
) -> None:
    recipe = load_recipe(name, overrides)
    strides = recipe.model.strides
    head = build_head(recipe, 5, in_channels=channels)
    given = recipe.model.channels if channels is None else channels
    widths = [given] * len(strides) if isinstance(given, int) else given
    grids = grid_sizes(64, 96, strides)
    out = head([torch.randn(2, c, *grid) for c, grid in zip(widths, grids, strict=True)])
    count = len(make_anchors(grids, strides, anchor_shapes(recipe), offset=0.5))
    assert out.class_logits.shape == (2, count, 6 if name == "ssd_nano" else 5)  # a softmax has one more
    assert out.box.shape[:2] == (2, count)
    (out.class_logits.sum() + out.box.sum()).backward()
    assert all(p.grad is not None for p in head.parameters())


def test_a_head_of_ones_own_numbers_needs_no_recipe() -> None:
    head = ConvHead(HeadShape(16, 2, class_outputs=3, box_outputs=68), channels=32)
    out = head([torch.randn(1, 16, 4, 6), torch.randn(1, 16, 2, 3)])
    assert (out.class_logits.shape, out.box.shape) == ((1, 30, 3), (1, 30, 68))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: build_head(load_recipe("gfl_nano"), 0), "num_classes must be at least 1, got 0"),
        (lambda: build_head(load_recipe("gfl_nano"), 2, in_channels=[8, 8, 8]), "head depthwise takes levels of one"),
        (lambda: build_head(load_recipe("ssd_nano", ["model.head=plain"]), 2, in_channels=[8, 8]), "or 3, .* got 2"),
    ],
)
def test_what_cannot_be_built_is_refused(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build()

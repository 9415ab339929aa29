"""How a recipe sizes, pads and tiles images."""

from __future__ import annotations

from gfocal.images.resizing import Resize
from gfocal.images.tiling import Tiling
from gfocal.recipe import Recipe


def tiling_of(recipe: Recipe) -> Tiling | None:
    """How a recipe cuts images into tiles; None where it does not."""
    data = recipe.data
    return None if data.tile is None else Tiling(data.tile, data.tile_overlap, data.tile_whole)


def resize_of(recipe: Recipe) -> Resize:
    """How large an image enters the detector of a recipe."""
    resize = recipe.data.resize
    return Resize(resize.kind, resize.size, resize.short_side, resize.long_side, _padding(recipe))


def _padding(recipe: Recipe) -> tuple[int, int, int]:
    """RGB colour beside the image."""
    if recipe.data.resize.pad == "black":
        return 0, 0, 0
    pixels = recipe.model.pixels
    red, green, blue = (round(value) for value in (pixels.mean if pixels.order == "rgb" else pixels.mean[::-1]))
    return red, green, blue

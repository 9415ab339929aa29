"""How large images enter a training that `gfocal train auto` chooses."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gfocal.auto.facts import DataFacts
from gfocal.auto.known import EPOCHS, Known, Values, budget, pixels
from gfocal.recipe import Recipe
from gfocal.recipe.forms import NECKS
from gfocal.recipe.values import with_values

SIZES = (256, 320, 416, 512, 640)
"""Sides of the square that images enter in, in pixels."""
SHORT_SIDES = (*SIZES, 800)
"""Shorter sides of images that keep their shape, in pixels; the longer one as the recipe has the two."""
SEEN = 6000
"""Images that fine-tuning should see at least, counted each time: fewer leave accuracy behind."""


@dataclass(frozen=True)
class Size:
    """A size that images may enter in.

    Attributes:
        values: recipe keys.
        words: for people.
        recipe: with that size.
        width, height: in pixels, of the median image as it enters.
        is_enough: that image is not enlarged by a larger size alone.
    """

    values: dict[str, object]
    words: str
    recipe: Recipe
    width: float
    height: float
    is_enough: bool

    def small(self, facts: DataFacts) -> float:
        """Side in pixels that a tenth of the objects does not reach as they enter."""
        return facts.small_share * math.sqrt(self.width * self.height)


def choose_size(recipe: Recipe, known: Known) -> Values:
    """The largest size that the time allows, and that the images have."""
    square = recipe.data.resize.kind == "square"
    keys = ("data.resize.size",) if square else ("data.resize.short_side", "data.resize.long_side")
    if any(known.is_given(key) for key in keys):
        return {}, []
    if only := NECKS[recipe.model.neck].image_size:
        return {}, [f"{only} x {only} pixels: neck {recipe.model.neck} takes no other"]
    size, why = _fitting(sizes_of(recipe, known.facts), known)
    small = size.small(known.facts)
    return size.values, [f"{size.words}: {why}; a tenth of the objects is below {small:.0f} pixels"]


def sizes_of(recipe: Recipe, facts: DataFacts) -> list[Size]:
    """Those that are chosen among, the smallest first."""
    longer, shorter, resize = facts.longer_side, facts.shorter_side, recipe.data.resize
    found = []
    if resize.kind == "square":
        for side in SIZES:
            values: dict[str, object] = {"data.resize.size": side}
            words = f"{side} x {side} pixels"
            found.append(Size(values, words, with_values(recipe, values), side, side, side >= longer))
        return found
    for short in SHORT_SIDES:
        long = round(short * resize.long_side / resize.short_side)
        scale = min(short / shorter, long / longer)
        values = {"data.resize.short_side": short, "data.resize.long_side": long}
        words = f"shorter side {short} pixels, longer side {long} at most"
        sized = with_values(recipe, values)
        found.append(Size(values, words, sized, scale * longer, scale * shorter, scale >= 1))
    return found


def _fitting(sizes: list[Size], known: Known) -> tuple[Size, str]:
    """The one that is chosen, and why."""
    wanted = max(SEEN, EPOCHS[0] * known.shown)
    enough = next((number for number, size in enumerate(sizes) if size.is_enough), len(sizes) - 1)
    fitting = [size for size in sizes[: enough + 1] if shown_in_time(size, known) >= wanted]
    size = fitting[-1] if fitting else sizes[0]
    shown = shown_in_time(size, known)
    seen = f"{shown:,.0f} pictures, {shown / known.shown:.0f} times each"
    if fitting and size is sizes[enough]:
        return size, f"no larger than the pictures ({known.facts.longer_side:.0f}); the time shows {seen}"
    if fitting:
        return size, f"the largest at which the time shows {wanted:,} pictures or more: {seen}"
    return size, f"the smallest, since the time shows only {seen}; --minutes gives it more"


def shown_in_time(size: Size, known: Known) -> float:
    """How many images the time shows at a size, counted each time."""
    return budget(size.recipe) / (known.pace * pixels(size.recipe))

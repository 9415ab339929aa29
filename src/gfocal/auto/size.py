"""How large images enter a training that `gfocal train auto` chooses."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gfocal.auto.facts import DataFacts
from gfocal.auto.known import EPOCHS, SHARE, Known, Values, budget, pixels
from gfocal.recipe import Recipe
from gfocal.recipe.forms import NECKS
from gfocal.recipe.values import with_values
from gfocal.utils.text import counted

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
    """The largest size that the time allows, and that the images have; and a warning where objects vanish at it."""
    square = recipe.data.resize.kind == "square"
    keys = ("data.resize.size",) if square else ("data.resize.short_side", "data.resize.long_side")
    own = _own(recipe, known.facts)
    if any(known.is_given(key) for key in keys):
        return {}, _vanishing(own, [], known)
    if NECKS[recipe.model.neck].image_size:
        return {}, [f"{own.words}: neck {recipe.model.neck} takes no other", *_vanishing(own, [], known)]
    sizes = sizes_of(recipe, known.facts)
    size, why = _fitting(sizes, known)
    small = f"a tenth of the objects is below {size.small(known.facts):.0f} pixels"
    return size.values, [f"{size.words}: {why}; {small}", *_vanishing(size, sizes, known)]


def sizes_of(recipe: Recipe, facts: DataFacts) -> list[Size]:
    """Those that are chosen among, the smallest first."""
    resize = recipe.data.resize
    if resize.kind == "square":
        found: list[dict[str, object]] = [{"data.resize.size": side} for side in SIZES]
    else:
        share = resize.long_side / resize.short_side
        found = [
            {"data.resize.short_side": short, "data.resize.long_side": round(short * share)} for short in SHORT_SIDES
        ]
    return [_own(with_values(recipe, values), facts, values) for values in found]


def _own(recipe: Recipe, facts: DataFacts, values: dict[str, object] | None = None) -> Size:
    """The size that a recipe has, or that these values have given it."""
    longer, shorter, resize = facts.longer_side, facts.shorter_side, recipe.data.resize
    if resize.kind == "square":
        side = resize.size
        return Size(values or {}, f"{side} x {side} pixels", recipe, side, side, side >= longer)
    scale = min(resize.short_side / shorter, resize.long_side / longer)
    words = f"shorter side {resize.short_side} pixels, longer side {resize.long_side} at most"
    return Size(values or {}, words, recipe, scale * longer, scale * shorter, scale >= 1)


def _fitting(sizes: list[Size], known: Known) -> tuple[Size, str]:
    """The one that is chosen, and why."""
    wanted = max(SEEN, EPOCHS[0] * known.shown)
    enough = next((number for number, size in enumerate(sizes) if size.is_enough), len(sizes) - 1)
    fitting = [size for size in sizes[: enough + 1] if shown_in_time(size, known) >= wanted]
    size = fitting[-1] if fitting else sizes[0]
    shown = shown_in_time(size, known)
    seen = f"{counted(round(shown), 'picture')}, {_times(shown / known.shown, known)}"
    if fitting and size is sizes[enough]:
        return size, f"no larger than the pictures ({known.facts.longer_side:.0f}); the time shows {seen}"
    if fitting:
        return size, f"the largest at which the time shows {wanted:,} pictures or more: {seen}"
    more = "" if _is_fixed(known) else f"; --minutes {_minutes(size, known)} shows {wanted:,}"
    return size, f"the smallest, since the time shows only {seen}{more}"


def _times(often: float, known: Known) -> str:
    if often < 1:
        return f"not each of the {known.shown:,} once"
    return f"each {'once' if round(often) == 1 else f'{often:.0f} times'}"


def shown_in_time(size: Size, known: Known) -> float:
    """How many images the time shows at a size, counted each time."""
    return budget(size.recipe) / (known.pace * pixels(size.recipe))


def _minutes(size: Size, known: Known) -> int:
    """How long it takes to show as many images as should be seen."""
    wanted = max(SEEN, EPOCHS[0] * known.shown)
    return math.ceil(wanted * known.pace * pixels(size.recipe) / (60 * SHARE))


def _is_fixed(known: Known) -> bool:
    """Whether a person has set a length that more minutes contradict."""
    return known.is_given("schedule.epochs") or known.is_given("schedule.epoch_steps")


def _vanishing(size: Size, sizes: list[Size], known: Known) -> list[str]:
    """A warning where a tenth of the objects is too small to be learnt, and what helps."""
    facts, stride = known.facts, size.recipe.model.strides[0]
    small = size.small(facts)
    if small >= stride / 2:
        return []
    fixes = []
    if known.index.tiles is None and size.recipe.data.tile is None:
        side = facts.small_share * math.sqrt(facts.longer_side * facts.shorter_side)  # of such an object in its file
        tile = max(int(side * min(size.width, size.height) / stride) // 32 * 32, 64)
        if tile < facts.longer_side:
            fixes.append(
                f"--set data.tile={tile}, which shows it {side * min(size.width, size.height) / tile:.0f} large"
            )
    larger = next((each for each in sizes if each.small(facts) >= stride / 2), None)
    if larger is not None and not _is_fixed(known) and _minutes(larger, known) > budget(size.recipe) / (60 * SHARE):
        fixes.append(f"--minutes {_minutes(larger, known)} for {larger.words}")
    if not fixes:
        fixes.append("larger pictures (data.resize), or a finer level (model.strides)")
    return [
        f"warning: a tenth of the objects is below {small:.1f} pixels as they enter, and nothing of that size can be "
        f"learnt: {', or '.join(fixes)}"
    ]

"""Options of the command line that stand for recipe keys, as overrides; what contradicts each other is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml

from gfocal.errors import UsageError
from gfocal.recipe.reading import load_recipe
from gfocal.recipe.sections import Recipe

FLAGS = {
    "epochs": "schedule.epochs",
    "batch": "schedule.batch_size",
    "lr": "optim.lr",
    "size": "data.resize.size",
    "minutes": "schedule.minutes",
}
"""Options of ``gfocal train`` and the key that each of them is."""
_LENGTH = ("schedule.epochs", "schedule.epoch_steps")  # what a time budget chooses


@dataclass(frozen=True)
class _Given:
    """A key that a person set: how they typed it, and the value."""

    key: str
    typed: str
    value: object


def with_flags(recipe: str, overrides: Sequence[str], flags: Mapping[str, object]) -> list[str]:
    """Overrides with those of the options at their end.

    Args:
        recipe: name or file, see :func:`gfocal.recipe.load_recipe`.
        overrides: "a.b=c" each.
        flags: value by option of :data:`FLAGS`; None: not given. A batch of "auto" is found later, and no key yet.

    Raises:
        UsageError: two of them contradict each other, or the recipe has no square images that ``--size`` is for.
    """
    named = [
        _Given(FLAGS[name], f"--{name} {value:g}" if isinstance(value, float) else f"--{name} {value}", value)
        for name, value in flags.items()
        if value is not None
    ]
    given = [*{one.key: one for one in _typed(overrides)}.values(), *named]  # the last override of a key counts
    for flag in named:
        for other in given:
            # A batch of auto starts from what the recipe says.
            if other is not flag and other.key == flag.key and other.value != flag.value and flag.value != "auto":
                raise UsageError(f"{flag.typed} and {other.typed} contradict each other: give one of them")
    length = [one for one in given if one.key in _LENGTH and one.value is not None]
    budget = [one for one in given if one.key == "schedule.minutes" and one.value is not None]
    if length and budget:
        raise UsageError(
            f"{length[-1].typed} and {budget[-1].typed} contradict each other: a time budget chooses as many epochs as "
            "fit into it; give one of them"
        )
    found = [*overrides, *(f"{one.key}={one.value}" for one in named if one.value != "auto")]
    if length and load_recipe(recipe, found).schedule.minutes is not None:
        # A recipe file with a time budget; those of runs of versions until 0.2 have the epochs that it chose as well.
        own = {one.key for one in length}
        found += [f"{key}=null" for key in ("schedule.minutes", "schedule.epoch_steps") if key not in own]
    if flags.get("size") is not None:
        check_square(load_recipe(recipe, found), recipe, flags["size"])
    return found


def _typed(overrides: Sequence[str]) -> Iterator[_Given]:
    for override in overrides:
        key, _, text = override.partition("=")
        try:
            value = yaml.safe_load(text)
            yield _Given(key.strip(), f"--set {override}", float(value) if isinstance(value, str) else value)
        except (ValueError, yaml.YAMLError):  # said where the override is read
            yield _Given(key.strip(), f"--set {override}", text)


def check_square(recipe: Recipe, called: str, size: object) -> None:
    """Refuse a side of square images for a recipe whose images keep their shape.

    Args:
        recipe: with everything that is set.
        called: what the person calls it.
        size: in pixels.

    Raises:
        UsageError: naming the keys that are meant.
    """
    resize = recipe.data.resize
    if resize.kind != "square":
        longer = round(int(str(size)) * resize.long_side / resize.short_side)
        raise UsageError(
            f"--size is the side of square pictures, and {called} keeps their shape: "
            f"--set data.resize.short_side={size} --set data.resize.long_side={longer}, or --set data.resize.kind="
            "square beside it"
        )

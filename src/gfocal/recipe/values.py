"""A recipe's values by their full keys."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gfocal.recipe.reading import build_recipe
from gfocal.recipe.sections import Recipe


def with_values(recipe: Recipe, values: Mapping[str, object]) -> Recipe:
    """A recipe with other values, by full key and as plain data."""
    return build_recipe(recipe.to_dict(), [f"{key}={json.dumps(value)}" for key, value in values.items()])


def flat(content: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """A recipe's plain data by full keys, "optim.lr" and so on."""
    found: dict[str, object] = {}
    for key, value in content.items():
        found.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return found


_FREE = (
    "data.workers",
    "data.worker_timeout",
    "schedule.save_every",
    "schedule.keep_steps",
    "schedule.eval_every",
    "schedule.patience",
    "runtime.trackers",
    "predict.",
    "model.pretrained",
    "runtime.threads",
)
"""Keys that may differ between a run and its continuation: they do not change the weights, or (threads) only the last
bits, and gfocal prints that."""


def changed_keys(saved: dict[str, object], recipe: Recipe, where: str) -> list[str]:
    """The full keys in which a recipe asks for another training than one that was saved.

    Args:
        saved: as plain data.
        recipe: that is to go on with it.
        where: the saved one is, for messages.

    Raises:
        UsageError: the saved one is no recipe.
    """
    # One of an older version lacks keys: they had no effect then, as their defaults have none now.
    theirs = flat(build_recipe(saved, (), where).to_dict())
    ours = flat(recipe.to_dict())
    return [key for key in ours if theirs.get(key) != ours[key] and not key.startswith(_FREE)]

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

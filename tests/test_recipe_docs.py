"""docs/recipes.md lists every recipe, every key, its default and its choices, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel

from gfocal.recipe import Recipe, recipe_names
from helpers.paths import ROOT

PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+(?:\.\w+)+)` \| `(.*?)` \| (.+) \|$", re.MULTILINE)


def leaves(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """(dotted key, default, choices) of every value."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field.default, get_args(kind) if get_origin(kind) is Literal else ()


def documented() -> dict[str, tuple[str, str]]:
    return {key: (default, meaning) for key, default, meaning in ROW.findall(PAGE)}


def test_every_key_is_there_once_in_order() -> None:
    assert [row[0] for row in ROW.findall(PAGE)] == [key for key, _, _ in leaves(Recipe)]


def test_defaults_are_right() -> None:
    written = {key: yaml.safe_load(default) for key, (default, _) in documented().items()}
    defaults = {key: json.loads(json.dumps(default)) for key, default, _ in leaves(Recipe)}  # tuples as lists
    assert written == defaults
    assert {k: type(v) for k, v in written.items()} == {k: type(v) for k, v in defaults.items()}


def test_choices_are_named() -> None:
    pages = documented()
    missing = [
        (key, choice)
        for key, _, choices in leaves(Recipe)
        for choice in choices
        if choice != pages[key][0] and f"`{choice}`" not in pages[key][1]
    ]
    assert missing == []


def test_every_recipe_is_listed() -> None:
    listed = PAGE.partition("## Overrides")[0]
    assert set(re.findall(r"^\| `(\S+)` \|", listed, re.MULTILINE)) == set(recipe_names())

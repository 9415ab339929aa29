"""Recipes as text: a line each, and annotated YAML."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from pydantic import BaseModel
from yaml import safe_dump

from gfocal.recipe import Recipe, load_recipe, recipe_names


def recipe_summaries() -> dict[str, str]:
    """What each recipe is: the comment at the top of its file."""
    return {name: recipe_text(name).splitlines()[0].lstrip("# ").rstrip(".") for name in recipe_names()}


def recipe_text(name: str) -> str:
    """A recipe's file as it is, comments included."""
    load_recipe(name)  # says what is wrong with an unknown name or a broken file
    file = Path(name) if name.endswith((".yaml", ".yml")) else resources.files("gfocal") / "recipes" / f"{name}.yaml"
    return file.read_text(encoding="utf-8")


def annotated_yaml(recipe: Recipe) -> str:
    """Every key of a recipe with its value, and what it means as a comment."""
    return "\n".join(_section_lines(recipe, 0)) + "\n"


def _section_lines(section: BaseModel, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _section_lines(value, depth + 1)
            continue
        plain = list(value) if isinstance(value, tuple) else value
        text = safe_dump(plain, default_flow_style=True, width=1000).removesuffix("...\n").strip()
        comment = f"  # {field.description}" if field.description else ""
        yield f"{indent}{name}: {text}{comment}"

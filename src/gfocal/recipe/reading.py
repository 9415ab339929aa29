"""Recipes from names and YAML files, with overrides that refuse unknown keys."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import yaml
from pydantic import ValidationError

from gfocal.errors import UsageError, require_path, require_texts
from gfocal.recipe.hints import explain, nearest
from gfocal.recipe.rows import DETECTORS
from gfocal.recipe.sections import Recipe

_LONGEST, _DEEPEST, _MOST_VALUES = 1_000_000, 16, 100_000


def recipe_names() -> list[str]:
    """Recipes that come with the package."""
    return sorted(f.name.removesuffix(".yaml") for f in _folder().iterdir() if f.name.endswith(".yaml"))


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name or from a YAML file.

    Args:
        name_or_path: a name of :func:`recipe_names`, or the path of a YAML file.
        overrides: "a.b=c" each; the value is read as YAML.

    Raises:
        UsageError: unknown recipe, unknown key (with the nearest right one), or a value of the wrong type.
    """
    require_path("a recipe", name_or_path)
    require_texts("overrides", overrides)
    text, where = _read(name_or_path)
    return build_recipe(_parsed(text, where), overrides, where)


@functools.lru_cache(maxsize=32)
def _parsed(text: str, where: str) -> dict[str, object]:
    """Parsing takes longer than all the rest, and a study reads a few recipes a hundred times."""
    if len(text) > _LONGEST:
        raise UsageError(f"{where} has {len(text):,} characters; a recipe has at most {_LONGEST:,}")
    try:
        content = yaml.safe_load(text) or {}
    except RecursionError as error:
        raise UsageError(f"{where} is nested without end") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{where} must hold sections such as 'model:', not {type(content).__name__}")
    return content


def build_recipe(content: Mapping[str, object], overrides: Sequence[str] = (), where: str = "recipe") -> Recipe:
    """A recipe from plain data and overrides; see :func:`load_recipe`."""
    require_texts("overrides", overrides)
    if not isinstance(content, Mapping):
        raise UsageError(f"{where} must hold sections such as 'model', not {type(content).__name__}")
    _check_size(content, where)
    own = copy.deepcopy(dict(content))  # overrides must not reach the caller's data
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set takes key=value, for example optim.lr=0.01; got {override!r}")
        try:
            parsed = _number(yaml.safe_load(value))
        except (yaml.YAMLError, RecursionError) as error:
            raise UsageError(f"--set {override[:200]}: the value is not valid YAML") from error
        if key.strip() == "model.detector":
            _same_detector(own, parsed)
        _check_size(parsed, f"--set {key.strip()[:200]}")
        _set(own, key.strip().split("."), parsed, override)
    try:
        return Recipe.model_validate(own)
    except ValidationError as error:
        raise UsageError(explain(error, where)) from error


def sets_key(overrides: Sequence[str], key: str) -> bool:
    """Whether a key is among the overrides."""
    return any(override.partition("=")[0].strip() == key for override in overrides)


def _check_size(content: object, where: str) -> None:
    """Refuse what no recipe is: deeper or with more values than any. YAML can name a part inside itself, or many times.

    Raises:
        UsageError: it is.
    """
    waiting, count = [(content, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if depth > _DEEPEST or count > _MOST_VALUES:
            raise UsageError(f"{where} is no recipe: more than {_DEEPEST} sections deep, or {_MOST_VALUES:,} values")
        if isinstance(value, Mapping | list | tuple):
            inner = value.values() if isinstance(value, Mapping) else value
            waiting += [(part, depth + 1) for part in inner]


def _same_detector(content: Mapping[str, object], wanted: object) -> None:
    """Another detector under the keys of this one would be neither.

    Raises:
        UsageError: naming the recipes of the detector that is wanted.
    """
    model = content.get("model")
    own = model.get("detector", "gfl") if isinstance(model, dict) else "gfl"
    if isinstance(wanted, str) and wanted != own and wanted in DETECTORS:
        fitting = [name for name in recipe_names() if name.startswith(wanted)]
        raise UsageError(
            f"--set model.detector={wanted}: this is a recipe of {own}, whose points, assigner, quality and boxes "
            f"would stay; start from {' or '.join(fitting)}, or write a recipe with model: {{detector: {wanted}}}"
        )


def _folder() -> Traversable:
    return resources.files("gfocal") / "recipes"


def _read(name_or_path: str | Path) -> tuple[str, str]:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UsageError(f"there is no recipe file {path}")
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except (UnicodeDecodeError, OSError) as error:
            raise UsageError(f"the recipe {path} cannot be read as UTF-8 text: {error}") from error
    names = recipe_names()
    if str(name_or_path) not in names:
        raise UsageError(
            f"there is no recipe {str(name_or_path)!r}{nearest(str(name_or_path), names)}; there are "
            f"{', '.join(names)}; or give the path of a .yaml file"
        )
    return (_folder() / f"{name_or_path}.yaml").read_text(encoding="utf-8"), f"recipe {name_or_path}"


def _number(value: object) -> object:
    """YAML 1.1 takes 1e-3 for a word; people mean a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _set(content: dict[str, object], keys: list[str], value: object, override: str) -> None:
    for depth, key in enumerate(keys[:-1]):
        inner = content.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {override}: {'.'.join(keys[: depth + 1])} is a value, not a section")
        content = inner
    content[keys[-1]] = value

"""What a person gives as MODEL: a path, the name of published weights, or ``hub:owner/name``."""

from __future__ import annotations

import difflib
import shlex
from pathlib import Path

from gfocal.catalogue.describe import describe_near
from gfocal.catalogue.entries import find, near
from gfocal.catalogue.home import model_folder
from gfocal.catalogue.settings import is_offline
from gfocal.errors import UsageError
from gfocal.exported.open import is_exported
from gfocal.hub.names import is_hub_name, parse_hub_name
from gfocal.recipe import recipe_names
from gfocal.utils.progress import notice
from gfocal.utils.text import Say, program


def model_path(model: str | Path, *, say: Say = notice) -> Path:
    """The run folder or checkpoint that a MODEL stands for; published weights are fetched where they are not here yet.

    A path goes before a name. See :func:`gfocal.catalogue.fetch.fetch` and :func:`gfocal.hub.download.hub_file`.

    Args:
        model: a run folder, a checkpoint, a name of ``gfocal models``, or ``hub:owner/name`` with a ``@revision``
            perhaps.
        say: gets lines about what is taken, and about fetching it.

    Raises:
        UsageError: there is no such thing, or it has no weights (a recipe), or they are those of an exported file; or
            it may not be fetched.
        GfocalError: it cannot be fetched.
    """
    text, path = str(model), Path(model)
    if not text:  # as of a variable of a shell that is not set; the path would be the folder that this runs in
        raise UsageError("MODEL is an empty text: give a run folder, a checkpoint or a published name")
    if is_hub_name(text):
        from gfocal.hub.download import hub_file

        return hub_file(parse_hub_name(text), offline=is_offline() is not None, say=say)
    if is_recipe(model):
        raise UsageError(
            f"{text} is a recipe, a detector without training; train it ({program()} train {shlex.quote(text)} --data "
            "FOLDER) and give the run folder, or give a .safetensors file"
        )
    entry = find(text)
    if path.exists():
        if entry is not None:
            kind = "folder" if path.is_dir() else "file"
            say(f"note: the {kind} {path} here is taken, not the published weights of that name")
        _refuse_exported(path)
        return path
    if entry is None:
        close = difflib.get_close_matches(text, recipe_names(), n=1, cutoff=0.8)
        recipe = f"; the nearest recipe is {close[0]}" if close else ""
        raise UsageError(f"there is no run folder or checkpoint {text}{recipe}{describe_near(near(text))}")
    from gfocal.catalogue.fetch import fetch

    return fetch(entry, say=say)


def _refuse_exported(path: Path) -> None:
    if path.is_dir():
        return
    if is_exported(path):
        raise UsageError(f"{path} is an exported file, which is fixed: give the checkpoint that it was made of")
    graph = path.with_suffix(".xml")
    if path.suffix.lower() == ".bin" and graph.is_file():
        raise UsageError(
            f"{path} holds the weights of {graph}: give that to run it, and else the checkpoint that they were made of"
        )


def planned_path(model: str | Path) -> Path:
    """What :func:`model_path` gives once the weights are here; nothing is fetched, nor looked for."""
    text, path = str(model), Path(model)
    if is_hub_name(text):
        from gfocal.hub.download import local_hub_file

        return local_hub_file(parse_hub_name(text)) or path
    entry = find(text)
    return path if entry is None or path.exists() else model_folder(entry.name)


def is_recipe(model: str | Path) -> bool:
    """Whether it names a recipe; a file or folder of the same name goes before one."""
    path = Path(model)
    return path.suffix in (".yaml", ".yml") or (str(model) in recipe_names() and not path.exists())

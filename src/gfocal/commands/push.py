"""`gfocal push`: weights for others, as a folder or in a repository of the hub."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from gfocal.catalogue.home import record_in
from gfocal.catalogue.resolve import model_path
from gfocal.errors import UsageError
from gfocal.hub.model_card import model_card
from gfocal.hub.names import is_hub_name, parse_hub_name
from gfocal.hub.upload import upload
from gfocal.recipe import Recipe, build_recipe
from gfocal.runs import card
from gfocal.runs.checkpoint import BEST, CheckpointInfo, find_weights, read_about, read_weights, save_detector
from gfocal.runs.folder import RECIPE
from gfocal.runs.initial_weights import Origin, hub_repository, origin_notes, origins_of
from gfocal.utils.files import write_atomically
from gfocal.utils.locks import locked_folder
from gfocal.utils.progress import notice
from gfocal.utils.text import Say, visible

CARD = "README.md"
_FILES = (BEST, RECIPE, CARD)
_FORBIDS = re.compile(r"\bnc\b|non-?commercial", re.IGNORECASE)
_GENERATIONS = 8  # of runs that started from each other's weights


@dataclass(frozen=True)
class Pushed:
    """What was written or uploaded.

    Attributes:
        target: the folder, or the address of the commit.
        files: bytes of each, by name.
    """

    target: str
    files: Mapping[str, int]


def push(
    model: str,
    target: str,
    *,
    licence: str | None = None,
    public: bool = False,
    message: str | None = None,
    overwrite: bool = False,
    say: Say = notice,
) -> Pushed:
    """Give weights to others: weights, recipe and a card with figures, use and origin.

    Nothing of the machine or the data goes with them: no paths, no command lines, no names of images.

    Args:
        model: a MODEL: a run folder, a checkpoint, or a name.
        target: "hub:owner/name", or a folder, which gets what would be uploaded.
        licence: of the weights, for the card; such as "apache-2.0".
        public: that anybody may see a repository that is made here.
        message: of the commit.
        overwrite: replace the files of an earlier call in a folder.
        say: gets lines about what happens.

    Raises:
        UsageError: the weights cannot be read, or the target is taken or may not be written.
        GfocalError: the hub cannot be reached.
    """
    licence, message = (None if text is None else visible(text) for text in (licence, message))
    name = parse_hub_name(target) if is_hub_name(target) else None
    path = model_path(model, say=say)
    if name is None:
        folder = Path(target)
        with locked_folder(folder):
            taken = [each.name for each in folder.iterdir() if not each.name.startswith(".")]
            if set(taken) - set(_FILES) or (taken and not overwrite):
                raise UsageError(
                    f"{folder} holds files already: give another folder, or --overwrite for an earlier push's"
                )
            return Pushed(str(folder), _write(path, folder, target, licence, say))
    with tempfile.TemporaryDirectory() as made:
        files = _write(path, Path(made), target, licence, say)
        whom = "anybody" if public else "you alone, if it is new (--public: anybody)"
        say(f"{target}: {', '.join(f'{file} ({size:,} bytes)' for file, size in files.items())}; seen by {whom}")
        commit = upload(Path(made), name, public=public, message=message or "Weights, recipe and card by gfocal push")
    return Pushed(commit, files)


def _write(path: Path, folder: Path, target: str, licence: str | None, say: Say) -> dict[str, int]:
    """Fill a folder; bytes of each file."""
    weights = find_weights(path)
    about, tensors = read_about(weights), read_weights(weights)
    recipe = _without_paths(build_recipe(about.recipe, (), str(weights)))
    origins = _origins(path)
    for each in origins:
        if each.noncommercial:
            say(f"warning: they come from {each.words}, whose licence ({each.licence}) forbids commercial use")
    name = target.partition("@")[0] if is_hub_name(target) else Path(target).resolve().name
    own = _with_own(origins, name, licence)
    notes = {**_notes_for_others(about), **(origin_notes(own) if own else {})}
    save_detector(
        folder / BEST,
        tensors,
        recipe,
        about.names,
        category_ids=about.category_ids,
        notes=notes,
        calibration=about.calibration,
    )
    text = model_card(name.rpartition("/")[2], target, recipe, about, origins, licence)
    write_atomically(folder / CARD, lambda file: file.write_text(text, encoding="utf-8"))
    plain = yaml.safe_dump(recipe.to_dict(), sort_keys=False)
    write_atomically(folder / RECIPE, lambda file: file.write_text(plain, encoding="utf-8"))
    return {file: (folder / file).stat().st_size for file in _FILES}


def _without_paths(recipe: Recipe) -> Recipe:
    """``model.pretrained`` may be a path of this machine; its name is enough to know it by."""
    pretrained = recipe.model.pretrained
    if not isinstance(pretrained, str):
        return recipe
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"pretrained": Path(pretrained).name})})


def _notes_for_others(about: CheckpointInfo) -> dict[str, object]:
    """The notes without the names of images that could not be read."""
    metrics = about.notes.get("metrics")
    return {**about.notes, "metrics": {**metrics, "skipped": []}} if isinstance(metrics, dict) else dict(about.notes)


def _origins(path: Path) -> list[Origin]:
    """Other people's weights that these are, or that their run began with, or the run that it began with ...

    Weights say it themselves; the rest is for those of earlier versions.
    """
    for _ in range(_GENERATIONS):
        folder = path if path.is_dir() else path.parent
        if (record := record_in(folder)) is not None:
            return [record.origin]
        if path.exists() and (found := origins_of(path)):
            return found
        if (repository := hub_repository(path)) is not None:
            return [Origin(repository)]
        if not path.exists():
            return [Origin(f"other weights ({path.name}), which are not here any more")]
        run = card.read(folder)
        began = None if run is None or run.get("init") is None else run["init"]
        if not began or not began.get("from"):
            return []
        path = Path(str(began["from"]))
    return []


def _with_own(origins: Sequence[Origin], name: str, licence: str | None) -> list[Origin]:
    """What whoever starts from these weights has to know: where they come from, and their own licence."""
    if licence is None:
        return list(origins)
    own = Origin(name, licence, noncommercial=_FORBIDS.search(licence) is not None)
    return [*(each for each in origins if each != own), own]

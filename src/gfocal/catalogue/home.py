"""Where fetched weights lie on this machine, and what is there.

``GFOCAL_HOME/models/NAME`` has the converted weights of a published checkpoint and ``model.json``, which says where
they come from and is written last: a folder without it is unfinished. ``GFOCAL_HOME/downloads`` has files that are on
their way, and those that somebody put there by hand.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gfocal.errors import UsageError
from gfocal.runs.initial_weights import Origin
from gfocal.utils.files import explained_writing, write_atomically
from gfocal.utils.locks import locked_file
from gfocal.utils.records import from_json, to_json

RECORD = "model.json"


@dataclass(frozen=True)
class Record:
    """What is known of fetched weights.

    Attributes:
        name: in the catalogue.
        address: as published.
        url: that was asked for the file; "" where somebody put it there by hand.
        sha256, bytes: of the published file.
        licence: of the repository that publishes it.
        noncommercial: that licence forbids commercial use.
        fetched: when, UTC.
        gfocal: the version that converted it.
        recipe: that the weights are of.
        changed: its keys that they have otherwise, as "key=value" for ``--set``.
    """

    name: str
    address: str
    url: str
    sha256: str
    bytes: int
    licence: str
    noncommercial: bool
    fetched: str
    gfocal: str
    recipe: str
    changed: tuple[str, ...]

    @property
    def origin(self) -> Origin:
        """What weights that are made of these carry with them."""
        return Origin(f"{self.name} ({self.address})", self.licence, self.noncommercial)


@dataclass(frozen=True)
class Cached:
    """Something in GFOCAL_HOME.

    Attributes:
        name: of the checkpoint, or of the file.
        path: the folder or file.
        bytes: that it takes.
        record: of fetched weights; None for a file on its way.
    """

    name: str
    path: Path
    bytes: int
    record: Record | None


def home() -> Path:
    """GFOCAL_HOME; by default ``gfocal`` in the folder where this system keeps caches."""
    given = os.environ.get("GFOCAL_HOME", "").strip()
    return Path(given).expanduser() if given else _caches() / "gfocal"


def _caches() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    given = os.environ.get("XDG_CACHE_HOME", "")  # a relative one counts as none
    return Path(given) if os.path.isabs(given) else Path.home() / ".cache"


def model_folder(name: str) -> Path:
    """Where the weights of a checkpoint are, or will be."""
    return home() / "models" / name


def download_file(name: str) -> Path:
    """Where a file of that name is put on its way."""
    return home() / "downloads" / name


def read_record(name: str) -> Record | None:
    """What is known of the weights of a checkpoint; None where they are not there."""
    return record_in(model_folder(name))


def record_in(folder: Path) -> Record | None:
    """What is known of the weights in a folder; None where it is not one of fetched weights."""
    try:
        return from_json(Record, json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None


def write_record(record: Record) -> None:
    """Write ``model.json``, which makes the folder a finished one."""
    text = json.dumps(to_json(record), indent=1) + "\n"
    write_atomically(model_folder(record.name) / RECORD, lambda file: file.write_text(text, encoding="utf-8"))


def cached() -> list[Cached]:
    """Fetched weights by name, then files that are on their way or were put there by hand."""
    return [*_models(), *_downloads()]


def _models() -> Iterator[Cached]:
    folder = home() / "models"
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (record := record_in(place)) is not None:
            yield Cached(place.name, place, _size(place), record)


def _downloads() -> Iterator[Cached]:
    folder = home() / "downloads"
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        if place.is_file() and not place.name.startswith(".") and place.suffix != ".json":
            yield Cached(place.name, place, _size(place), None)


def _size(place: Path) -> int:
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def remove(name: str, file: str) -> int:
    """Remove the weights of a checkpoint, and what is on its way; how many bytes they took.

    Args:
        name: of the checkpoint.
        file: name of its file.

    Raises:
        UsageError: there is nothing, or another process is at it.
        CannotWrite: it cannot be removed.
    """
    folder, download = model_folder(name), download_file(file)
    found = [place for place in (folder, *with_parts(download), refused_file(download)) if place.exists()]
    if not found:
        raise UsageError(f"there is nothing of {name} in {home()}")
    with locked_file(folder), explained_writing(folder):
        size = sum(map(_size, found))
        (folder / RECORD).unlink(missing_ok=True)  # first: what is left, should this end here, is unfinished
        for place in found:
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    return size


def with_parts(file: Path) -> tuple[Path, Path, Path]:
    """A file, what there is of it while it is on its way, and the notes on that."""
    return file, file.with_name(f"{file.name}.part"), file.with_name(f"{file.name}.part.json")


def delete_fetched(file: Path) -> None:
    """Delete a file that is not needed any more, and the notes on how it came."""
    with explained_writing(file):
        for own in with_parts(file):
            own.unlink(missing_ok=True)


def refused_file(file: Path) -> Path:
    """Where a fetched file is put that is not what it should be."""
    return file.with_name(f"{file.name}.bad")

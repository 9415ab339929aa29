"""What the finders of all formats share: a data set that was found, names of splits, lists of images."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.images.file_types import IMAGE_SUFFIXES

Format = Literal["coco", "yolo", "voc"]
FORMATS: tuple[Format, ...] = get_args(Format)
TITLES = {"coco": "COCO JSON", "yolo": "YOLO", "voc": "Pascal VOC"}

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
WHOLE = "all"
"""Stands for all images of a data set that is not split."""

_SYNONYMS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validate", "validation"),
    "test": ("test", "testing"),
    WHOLE: ("default", "all"),
}

Reader = Callable[[Problems], DataIndex]


@dataclass(frozen=True)
class Found:
    """A data set in one format.

    Attributes:
        format: which.
        place: the file or folder that gives it away.
        splits: what reads each; the one key "all" where a data set is not split.
        absent: splits that are named somewhere but are not there, and why.
        notes: what a person should know about how it is read.
    """

    format: Format
    place: Path
    splits: Mapping[str, Reader]
    absent: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def split_of(name: str) -> str | None:
    """The split that a folder or file is named after: "Train", "valid" and "val2017" are "train", "val" and "val"."""
    name = re.sub(r"[_-]?(?:19|20)\d\d$", "", name.lower())
    return next((split for split, names in _SYNONYMS.items() if name in names), None)


def split_in(name: str) -> str | None:
    """The split that one word of a name says: custom_train.json and train2017 are "train"; None for none or several."""
    found = {split_of(word) for word in re.split(r"[^a-z]+", name.lower())} & set(SPLITS)
    return found.pop() if len(found) == 1 else None


def is_hidden(name: str) -> bool:
    """What the file managers of some systems leave in folders and archives."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def folders_in(folder: Path) -> list[Path]:
    """Its folders but the hidden ones, by name."""
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if not is_hidden(entry.name) and _is_folder(entry))


def split_folders(folder: Path) -> dict[str, Path]:
    """Its folders that are named after a split."""
    named = {split_of(inside.name): inside for inside in folders_in(folder)}
    return {split: named[split] for split in SPLITS if split in named}


def files_in(folder: Path, *suffixes: str) -> list[Path]:
    """Its files with one of these endings (lower case), by name, without looking into its folders."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.lower().endswith(suffixes) and not is_hidden(entry.name)]
    # Not entry.is_file, which fails on a link to itself.
    return [folder / name for name in sorted(names) if os.path.isfile(folder / name)]


def walk(folder: Path, *suffixes: str) -> Iterator[str]:
    """Files with one of these endings (lower case) in a folder and its folders, as relative names with "/", sorted."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        # A link may lead back to a folder above: each is looked into once.
        real = os.path.realpath(place)
        folders[:] = sorted(name for name in folders if not is_hidden(name)) if real not in seen else []
        if real in seen:
            continue
        seen.add(real)
        inside = Path(place).relative_to(folder).as_posix()
        for name in sorted(files):
            if name.lower().endswith(suffixes) and not is_hidden(name):
                yield name if inside == "." else f"{inside}/{name}"


def images_in(folder: Path) -> Iterator[str]:
    """:func:`walk` for images."""
    return walk(folder, *IMAGE_SUFFIXES)


def rest_of(folder: Path, used: Iterable[Path]) -> list[str]:
    """A note where a folder of splits holds images that are in none of them."""
    known = {path.name for path in used}
    others = [path.name for path in folders_in(folder) if path.name not in known and has_any(path, *IMAGE_SUFFIXES)]
    beside = len(files_in(folder, *IMAGE_SUFFIXES))
    left = [*others, *([f"{beside} pictures beside the folders of its splits"] if beside else [])]
    return [f"{folder}: {', '.join(left)}: these belong to no split and are not read"] if left else []


def has_any(folder: Path, *suffixes: str) -> bool:
    """Whether :func:`walk` finds anything."""
    return folder.is_dir() and next(walk(folder, *suffixes), None) is not None


class Listings:
    """Which files exist, from one listing a folder: a stat a file takes minutes on network disks."""

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}

    def names(self, folder: str | Path) -> frozenset[str]:
        key = os.fspath(folder)
        if key not in self._names:
            try:
                with os.scandir(key) as entries:
                    self._names[key] = frozenset(entry.name for entry in entries)
            except (OSError, ValueError):  # ValueError: a null character in the name.
                self._names[key] = frozenset()
        return self._names[key]

    def has(self, path: str | Path) -> bool:
        folder, name = os.path.split(os.fspath(path))
        return name in self.names(folder)


def portable(name: str) -> str:
    """A name with "/" between its parts, as Windows programs write it with backslashes."""
    return name.replace("\\", "/")

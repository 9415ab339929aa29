"""Dataset yaml files: which folders and lists their splits are, also where the file was made on another machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from gfocal.data.formats.common import SPLITS, has_any, portable, split_of
from gfocal.data.formats.yolo.class_names import Yaml, names_of
from gfocal.data.formats.yolo.split import YoloSplit, alike, locate, parts_of, siblings
from gfocal.errors import UsageError
from gfocal.images.file_types import IMAGE_SUFFIXES

_KEYS = {"train": ("train",), "val": ("val", "valid", "validation", "validate"), "test": ("test",)}
_NOTHING = ("", "null", "~")


@dataclass(frozen=True)
class Splits:
    """The splits of a dataset file.

    Attributes:
        places: those that are there.
        absent: those that the file names and that are not there, and what to do.
        notes: what a person should know of how the file is understood.
    """

    places: Mapping[str, YoloSplit]
    absent: Mapping[str, str]
    notes: tuple[str, ...]


def read_yaml(file: Path, quiet: bool = False) -> dict[str, Yaml]:
    """The keys of a yaml file.

    Args:
        file: the file.
        quiet: an empty dict where it cannot be used.

    Raises:
        UsageError: it cannot be used.
    """
    try:
        # Every scalar stays text: a class may be called "no", "1e5" or "null".
        content = yaml.load(file.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OSError) as error:
        if quiet:
            return {}
        reason = " ".join(str(error).split())
        raise UsageError(f"{file} is not YAML: {reason}; give a YOLO dataset file with train, val and names") from None
    if isinstance(content, dict):
        return content
    if quiet:
        return {}
    raise UsageError(f"{file} holds no keys; a YOLO dataset file has train, val and names")


def read_splits(file: Path, content: Mapping[str, Yaml]) -> Splits:
    """The splits of a dataset file.

    A split whose path does not exist is read from the only sibling that is named after it too (``valid`` for
    ``val``), and a note says so; without one it is absent. It is never looked for in the folder of another split.

    Raises:
        UsageError: its classes cannot be used, or it names no split.
    """
    names, ids = names_of(file, content)
    wanted: dict[str, list[str]] = {split: entries for split in SPLITS if (entries := _entries(content, split))}
    if not wanted:
        raise UsageError(f"{file} has none of the keys train, val and test; each names a folder or a list of pictures")
    given = content.get("path")
    bases, notes = _bases(file, given if isinstance(given, str) and given not in _NOTHING else None, wanted)
    found: dict[str, tuple[Path, ...]] = {}
    absent: dict[str, str] = {}
    for split, entries in wanted.items():
        try:
            found[split] = tuple(_place(file, entry, bases, split, notes) for entry in entries)
        except _Lost as lost:
            absent[split] = str(lost)
    if {"train", "val"} <= set(found) and wanted["train"] != wanted["val"] and found["train"] == found["val"]:
        # Two paths of another machine that end alike.
        absent["val"] = (
            f"{file}: val: {wanted['val'][0]} does not exist, and its end leads to train's {found['train'][0]}; "
            "correct the path, or set pictures apart to measure on with --val 0.2"
        )
        del found["val"]
    if "val" not in wanted and "train" in found:
        notes += _unnamed(file, wanted["train"], bases) or _blank(file, content)
    keypoints = _keypoints(content)
    every = tuple(entry for entries in found.values() for entry in entries)
    places = {
        split: YoloSplit(file.parent, file, entries, names, ids, keypoints, tuple(found), every)
        for split, entries in found.items()
    }
    return Splits(places, absent, (*notes, *absent.values()))


def _entries(content: Mapping[str, Yaml], split: str) -> list[str]:
    value = next((content[key] for key in _KEYS[split] if content.get(key)), "")
    entries = value if isinstance(value, list) else [value]
    return [entry for entry in entries if isinstance(entry, str) and entry not in _NOTHING]


def _keypoints(content: Mapping[str, Yaml]) -> bool | None:
    """Whether the label lines end with key points: ``kpt_shape: [17, 3]``; [0, 0] or nothing says that none do."""
    if "kpt_shape" not in content:
        return None
    shape = content["kpt_shape"]
    first = shape[0] if isinstance(shape, list) and shape else "" if isinstance(shape, list) else shape
    return first not in (*_NOTHING, "none", "None", "0")


def _bases(file: Path, given: str | None, wanted: Mapping[str, Sequence[str]]) -> tuple[list[Path], list[str]]:
    """The folders that the paths of a file may be relative to, the likeliest first, and a note where that is a guess.

    Exports name a folder of the machine they were made on (``path: /content/set``): the file's own folder counts as
    well, and what the end of ``path`` leads to from there or from the folder above.
    """
    own = file.parent
    if given is None:
        return [own], []
    named = [place for place in (Path(portable(given)), own / portable(given)) if place.is_dir()]
    ends = [] if named else list(_ends(own, parts_of(given)))
    bases = list(dict.fromkeys([*named, own, *ends]))
    needed = [entry for split in ("train", "val") for entry in wanted.get(split, ())]
    # All splits from one folder: an old copy may have some of them.
    whole = [base for base in bases if needed and all((base / portable(entry)).exists() for entry in needed)]
    if whole and whole[0] in ends:
        return whole[:1], [f"{file}: path: {given} is not on this machine: {whole[0]} is read"]
    return [*whole[:1], *(base for base in bases if base not in whole[:1])], []


def _ends(own: Path, parts: Sequence[str]) -> Iterator[Path]:
    for first in range(len(parts)):
        for folder in (own, own.parent, own.parent / "datasets"):
            if (place := folder.joinpath(*parts[first:])).is_dir():
                yield place


class _Lost(UsageError):
    """A path of a split leads nowhere."""


def _place(file: Path, entry: str, bases: Sequence[Path], split: str, notes: list[str]) -> Path:
    where = locate(entry, bases, split)
    if where is not None:
        return where
    others = siblings(entry, bases, split)
    if len(others) == 1:
        notes.append(f"{file}: {split}: {entry} does not exist: {others[0]} is read in its place; correct the path")
        return others[0]
    message = f"{file}: {split}: {entry} does not exist beside it"
    if others:
        message += f", but {' and '.join(map(str, others))} do: name one of them"
    elif near := alike(entry, bases, split):
        message += f"; did you mean {near}? Correct the path"
    else:
        message += "; correct the path"
    if split == "val":
        message += ", or set pictures apart to measure on with --val 0.2"
    raise _Lost(message)


def _blank(file: Path, content: Mapping[str, Yaml]) -> list[str]:
    """A note where a file has the key val and nothing behind it; ``null`` and ``[]`` say that there is none."""
    blank = next((key for key in _KEYS["val"] if content.get(key) == ""), None)
    how = "name its pictures, or set some of train apart to measure on with --val 0.2"
    return [f"{file}: {blank}: is left blank, so no picture is measured on: {how}"] if blank else []


def _unnamed(file: Path, train: Sequence[str], bases: Sequence[Path]) -> list[str]:
    """A note where a file names no val, and a folder beside train is called so."""
    for parts in map(parts_of, train):
        for number in (i for i, part in enumerate(parts) if split_of(part) == "train"):
            for name in _KEYS["val"]:
                other = "/".join([*parts[:number], name, *parts[number + 1 :]])
                if any(has_any(base / other, *IMAGE_SUFFIXES) for base in bases):
                    return [f"{file} names no val, but {other} holds pictures: add `val: {other}` to measure on them"]
    return []

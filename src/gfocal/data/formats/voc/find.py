"""Finding Pascal VOC data sets: the devkit's folders, or XML files beside or near their images."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from gfocal.data.formats.common import (
    WHOLE,
    Found,
    files_in,
    folders_in,
    has_any,
    portable,
    rest_of,
    split_folders,
    split_of,
    walk,
)
from gfocal.data.formats.voc.split import VocSplit
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.errors import UsageError
from gfocal.images.file_types import IMAGE_SUFFIXES

LOOKED_FOR = "Annotations/*.xml with JPEGImages/; .xml files beside their pictures"
_LABEL_FOLDERS = ("annotations", "labels", "xml", "xmls")
_IMAGE_FOLDERS = ("jpegimages", "images", "imgs", "pictures")
_LISTS = "imagesets"
_ROOT = re.compile(rb"<(?:[\w.-]+:)?annotation[\s/>]", re.IGNORECASE)
_LOOKED_INTO = 20
"""XML files that are looked into: those of other programs may lie beside them."""


def find_voc(root: Path, images: Path | None = None) -> Found | None:
    """The VOC data set in a folder; None if there is none.

    Args:
        root: its folder; or one that is part of it (``JPEGImages``, ``Annotations``, ``ImageSets/Main``).
        images: the folder of its images; None for where they are by custom.
    """
    if not root.is_dir():
        return None
    found = _find(root, images)
    around = _around(root)
    if around is not None and (found is None or (images is None and not has_any(root, *IMAGE_SUFFIXES))):
        whole = _find(around, images)
        if whole is not None:
            return replace(whole, notes=(*whole.notes, f"{root} is part of the data set {around}, which is read"))
    return found


def _around(folder: Path) -> Path | None:
    """The data set of which a folder is a part by its name."""
    folder = folder.absolute()
    if folder.parent.name.lower() == _LISTS:
        folder = folder.parent
    return folder.parent if folder.name.lower() in (*_LABEL_FOLDERS, *_IMAGE_FOLDERS, _LISTS) else None


def _find(root: Path, given: Path | None) -> Found | None:
    pair = _folders(root)
    if pair is not None:
        labels, images = pair[0], given or pair[1]
        return _from_lists(root, labels, images) or _from_subfolders(root, labels, images)
    pairs = {split: _folders(folder, beside=True) for split, folder in split_folders(root).items()}
    found = {split: pair for split, pair in pairs.items() if pair}
    if found:
        folders = tuple(labels for labels, _ in found.values())
        own = {} if given is None else split_folders(given)
        places = {
            split: VocSplit(root, labels, images if given is None else own.get(split, given), None, None, folders)
            for split, (labels, images) in found.items()
        }
        return _found(root, places)
    pair = _folders(root, beside=True)
    return _found(root, {WHOLE: VocSplit(root, pair[0], given or pair[1], None, None, (pair[0],))}) if pair else None


def _found(place: Path, places: dict[str, VocSplit], notes: Sequence[str] = ()) -> Found:
    return Found("voc", place, {split: partial(_read, one, split) for split, one in places.items()}, {}, (*notes,))


def _read(place: VocSplit, split: str, problems: Problems) -> DataIndex:
    from gfocal.data.formats.voc.reader import read_voc

    return read_voc(place, split, problems)


def _folders(root: Path, beside: bool = False) -> tuple[Path, Path] | None:
    """(XML files, images) in folders of their own, or both in this one if ``beside``."""
    named = {folder.name.lower(): folder for folder in reversed(folders_in(root))}
    images = next((named[name] for name in _IMAGE_FOLDERS if name in named), root)
    for name in _LABEL_FOLDERS:
        if name in named and has_any(named[name], ".xml"):
            return named[name], images
    if images != root and _is_voc(files_in(images, ".xml")):
        return images, images
    return (root, root) if beside and _is_voc(files_in(root, ".xml")) else None


def _is_voc(files: Sequence[Path]) -> bool:
    """Whether one of the first XML files is an annotation; other programs' settings are XML as well."""
    return any(_ROOT.search(_head(file)) for file in files[:_LOOKED_INTO])


def _head(file: Path) -> bytes:
    """What a file begins with, without the zeros of UTF-16."""
    try:
        with file.open("rb") as opened:
            return opened.read(4096).replace(b"\0", b"")
    except OSError:
        return b""


def _from_lists(root: Path, labels: Path, images: Path) -> Found | None:
    """The splits that ImageSets/Main names, as the devkit and CVAT write them."""
    main = next((folder for folder in (root / "ImageSets" / "Main", root / "ImageSets") if folder.is_dir()), None)
    files = {} if main is None else {file.stem.lower(): file for file in files_in(main, ".txt")}
    lists = {split: file for name, file in files.items() if (split := split_of(name))}
    stems = {split: _stems(file) for split, file in lists.items()}
    if "trainval" in files and "train" not in stems:
        val = set(stems.get("val", ()))
        lists["train"] = files["trainval"]
        stems["train"] = tuple(stem for stem in _stems(files["trainval"]) if stem not in val)
    if set(stems) > {WHOLE}:
        stems.pop(WHOLE)
    if not stems:
        return None
    places = {s: VocSplit(root, labels, images, names, lists[s], (labels,)) for s, names in stems.items()}
    notes = []
    if WHOLE not in stems:
        listed = {stem for names in stems.values() for stem in names}
        listed |= {os.path.splitext(stem)[0] for stem in listed if stem.lower().endswith(IMAGE_SUFFIXES)}
        rest = [name for name in walk(labels, ".xml") if name[:-4] not in listed and Path(name).stem not in listed]
        if rest:
            notes.append(
                f"{main}: {len(rest)} XML files are in none of its lists and belong to no split: {rest[0]}, ..."
            )
    return _found(labels, places, notes)


def _stems(file: Path) -> tuple[str, ...]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError):
        raise UsageError(f"{file} cannot be read as UTF-8 text; it should name one picture per line") from None
    return tuple(dict.fromkeys(portable(line.strip()) for line in lines if line.strip()))


def _from_subfolders(root: Path, labels: Path, images: Path) -> Found:
    places = {
        split: VocSplit(root, folder, images / folder.name, None, None, (labels,))
        for split, folder in split_folders(labels).items()
        if has_any(folder, ".xml") and has_any(images / folder.name, *IMAGE_SUFFIXES)
    }
    if places:
        return _found(labels, places, rest_of(images, (place.images for place in places.values())))
    return _found(labels, {WHOLE: VocSplit(root, labels, images, None, None, (labels,))})

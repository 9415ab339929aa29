"""Several data sets as one: their pictures one after the other, their classes united by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError
from gfocal.utils.text import fold_name


def join(indices: Sequence[DataIndex]) -> tuple[DataIndex, list[str]]:
    """One index of several data sets, and lines that say what was joined.

    Classes of the same name are one: those of the first data set come first, in its order, then what each of the others
    adds. Names that differ only in case or blanks stay apart, and a line names them. Ids of pictures and boxes are kept
    where no two data sets share one, and counted from 1 otherwise.

    Args:
        indices: at least one.

    Raises:
        UsageError: one data set is given twice.
    """
    if len(indices) == 1:
        return indices[0], []
    files = [os.path.abspath(index.annotations) for index in indices]
    if twice := [file for i, file in enumerate(files) if file in files[:i]]:
        raise UsageError(f"{twice[0]} is given twice; data.mix shows the pictures of a data set more often")
    names = _united([index.names for index in indices])
    own = [index.with_classes(names) for index in indices]
    folder, file_names = _file_names(own)
    image_ids, kept = _ids([index.image_ids for index in own])
    joined = DataIndex.build(
        pictures_dir=folder,
        annotations=Path(" + ".join(str(index.annotations) for index in own)),
        image_ids=image_ids,
        file_names=file_names,
        widths=_one(own, lambda index: index.widths),
        heights=_one(own, lambda index: index.heights),
        box_start=np.cumsum([0, *_one(own, lambda index: np.diff(index.box_start))]),
        boxes=_one(own, lambda index: index.boxes),
        labels=_one(own, lambda index: index.labels),
        names=names,
        crowd=_one(own, lambda index: index.crowd),
        ignore=_one(own, lambda index: index.ignore),
        area=_one(own, lambda index: index.area),
        annotation_ids=_ids([index.annotation_ids for index in own])[0],
        category_ids=own[0].category_ids,
        skipped=[line for index in own for line in index.skipped],
        edge_ambiguity=_ambiguity(own),
    )
    return replace(joined, parts=tuple(map(len, own))), _lines(indices, names, kept)


def _one(indices: Sequence[DataIndex], column: Callable[[DataIndex], Any]) -> np.ndarray:
    return np.concatenate([np.asarray(column(index)) for index in indices])


def _united(names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    result = list(names[0])
    for more in names[1:]:
        # Two classes of one name in one data set stay two.
        left = list(result)
        for name in more:
            if name in left:
                left.remove(name)
            else:
                result.append(name)
    return tuple(result)


def _file_names(indices: Sequence[DataIndex]) -> tuple[Path, list[str]]:
    """The folder around all pictures, and their names in it."""
    folders = [os.path.abspath(index.pictures_dir) for index in indices]
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # drives of Windows: all names get their whole path
        common = ""
    names = []
    for index, folder in zip(indices, folders, strict=True):
        prefix = os.path.relpath(folder, common) if common else folder
        own = (index.file_name(i) for i in range(len(index)))
        names += [name if prefix == "." else os.path.join(prefix, name) for name in own]
    return Path(common), names


def _ids(columns: Sequence[Any]) -> tuple[np.ndarray, bool]:
    """The ids of all, and whether they are those of the data sets."""
    ids = np.concatenate([np.asarray(column) for column in columns])
    kept = len(np.unique(ids)) == len(ids)
    return (ids if kept else np.arange(1, len(ids) + 1)), kept


def _ambiguity(indices: Sequence[DataIndex]) -> np.ndarray | None:
    if all(index.edge_ambiguity is None for index in indices):
        return None
    unknown = [np.full((len(index.boxes), 4), np.nan) for index in indices]
    known = [index.edge_ambiguity for index in indices]
    return np.concatenate([u if k is None else k for u, k in zip(unknown, known, strict=True)])


def _lines(indices: Sequence[DataIndex], names: Sequence[str], kept: bool) -> list[str]:
    known: set[str] = set()
    lines = []
    for index in indices:
        new = [name for name in index.names if name not in known]
        shared = len(index.names) - len(new)
        added = ", ".join(new[:8]) + (", ..." if len(new) > 8 else "")
        classes = f"{shared} shared" + (f", {len(new)} new: {added}" if new else "")
        if not known:
            classes = f"{len(new)}: {added}" if new else "none"
        lines.append(f"joined {index.annotations}: {len(index):,} pictures; classes {classes}")
        known |= set(new)
    if not kept:
        lines.append("joined: pictures are numbered anew from 1, since two data sets share ids")
    alike: dict[str, str] = {}
    for name in dict.fromkeys(names):
        other = alike.setdefault(fold_name(name), name)
        if other != name:
            lines.append(
                f"warning: {other!r} and {name!r} differ only in case or blanks and are learnt as two classes: "
                "give them one name if they are one"
            )
    return lines

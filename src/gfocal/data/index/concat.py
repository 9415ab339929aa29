"""Several data sets as one: their images one after the other, their classes united by name."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError
from gfocal.utils.text import counted, fold_name


def join(indices: Sequence[DataIndex]) -> tuple[DataIndex, list[str]]:
    """One index of several data sets, and lines that say what was joined.

    Classes of the same name are one: those of the first data set come first, in its order, then what each of the others
    adds. Names that differ only in case or blanks stay apart, and a line names them. Ids of images and boxes are kept
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
    joined = DataIndex.concat([index.with_classes(names) for index in indices])
    kept = np.array_equal(joined.image_ids, np.concatenate([index.image_ids for index in indices]))
    return joined, _lines(indices, names, kept)


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
        lines.append(f"joined {index.annotations}: {counted(len(index), 'picture')}; classes {classes}")
        known |= set(new)
    if not kept:
        lines.append("joined: pictures are renumbered from 1, since two data sets share ids")
    alike: dict[str, str] = {}
    for name in dict.fromkeys(names):
        other = alike.setdefault(fold_name(name), name)
        if other != name:
            lines.append(
                f"warning: {other!r} and {name!r} differ only in case or blanks and are learnt as two classes: "
                "give them one name if they are one"
            )
    return lines

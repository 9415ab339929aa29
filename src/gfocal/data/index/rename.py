"""Classes under other names, boxes of some classes only, classes without boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gfocal.data.index.class_match import match_by_name
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError
from gfocal.recipe.hints import nearest
from gfocal.utils.text import join_some


def parse_renames(words: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """What ``--rename OLD=NEW`` says, once for each class.

    Args:
        words: as typed; a name may have a "=" of its own.
        names: of the classes that there are.

    Raises:
        UsageError: a word without "=", a class that is not there, or one with two new names.
    """
    renames: dict[str, str] = {}
    for word in words:
        pairs = [(word[:at], word[at + 1 :]) for at, letter in enumerate(word) if letter == "="]
        if not pairs or not any(new.strip() for _, new in pairs):
            raise UsageError(f"--rename {word}: give OLD=NEW, the name of a class of the data and its new one")
        old, new = next((pair for pair in pairs if pair[0] in names), pairs[0])
        if old not in names:
            hint = f" (did you mean --rename {new}={old}?)" if new in names else nearest(old, list(names))
            raise UsageError(f"--rename {word}: the data have no class {old!r}{hint}; they have {join_some(names, 12)}")
        if renames.setdefault(old, new) != new:
            raise UsageError(f"--rename gives class {old!r} two names, {renames[old]!r} and {new!r}")
    return renames


def rename_classes(index: DataIndex, renames: Mapping[str, str]) -> DataIndex:
    """The same boxes, of classes under other names, all changed at once: a pair may swap its names.

    A class that gets the name of another one becomes part of it. Names that the data lack change nothing.
    """
    names = [renames.get(name, name) for name in index.names]
    if names == list(index.names):
        return index
    new_names: list[str] = []
    ids: list[int] = []
    first: dict[str, int] = {}
    labels = []
    for name, number in zip(names, index.category_ids.tolist(), strict=True):
        if name not in first or name not in renames.values():  # two classes of one name that nobody renamed stay two
            first[name] = len(new_names)
            new_names.append(name)
            ids.append(number)
        labels.append(first[name])
    new_label = np.array(labels, np.int64)
    return index.replace(labels=new_label[np.asarray(index.labels)], names=new_names, category_ids=ids)


def keep_classes(index: DataIndex, names: Sequence[str]) -> DataIndex:
    """All images with the boxes of these classes alone, labels in the order of ``names``; matched by name."""
    new_label, _ = match_by_name(index.names, index.category_ids.tolist(), names)
    rows = np.flatnonzero(new_label[np.asarray(index.labels)] >= 0)
    box_start = np.searchsorted(rows, index.box_start)
    return index.take(np.arange(len(index)), boxes=rows, box_start=box_start).with_classes(names)


def empty_classes(*indexes: DataIndex | None) -> list[int]:
    """Labels of which no index has a box, crowds and ignored ones included.

    Args:
        indexes: of the same classes in the same order; None for one that is not there.
    """
    there = [index if index.tiles is None else index.tiles.of for index in indexes if index is not None]
    used = np.concatenate([np.unique(np.asarray(index.labels)) for index in there])
    return np.setdiff1d(np.arange(len(there[0].names)), used).tolist()


def without_labels(index: DataIndex, labels: Sequence[int]) -> DataIndex:
    """The same boxes without some classes that have none; the others keep their order."""
    kept = np.setdiff1d(np.arange(len(index.names)), labels)
    if len(kept) == len(index.names):
        return index
    new_label = np.full(len(index.names), -1, np.int64)
    new_label[kept] = np.arange(len(kept))
    return index.replace(
        labels=new_label[np.asarray(index.labels)],
        names=[index.names[label] for label in kept.tolist()],
        category_ids=index.category_ids[kept],
    )

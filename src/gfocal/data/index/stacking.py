"""Some rows of an array, and the rows of several as one: what data sets are taken apart and put together with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from gfocal.data.index.columns import Column, parts


def rows_within(start: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows that belong to some owners, one owner after the other.

    Args:
        start: (I + 1,) the rows of owner i are ``start[i]:start[i + 1]``.
        owners: (R,) int64 in 0..I-1.

    Returns:
        (M,) int64 rows, and (R + 1,) where those of each owner begin among them.
    """
    counts = np.diff(start)[owners]
    begin = np.cumsum(np.concatenate([[0], counts]))
    return np.repeat(start[owners] - begin[:-1], counts) + np.arange(begin[-1]), begin


def texts_of(texts: np.ndarray, start: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(bytes,) uint8 texts of some owners, and where each begins; see :func:`rows_within`."""
    chunks, lengths = [texts[:0]], np.diff(start)[owners]
    for some in parts(len(owners)):  # the row numbers of all bytes would take eight times as much as the bytes
        chunks.append(texts[rows_within(start, owners[some])[0]])
    return np.concatenate(chunks), np.cumsum(np.concatenate([[0], lengths]))


def stacked(columns: Sequence[Column | np.ndarray | None], counts: Sequence[int]) -> np.ndarray | None:
    """Columns one after the other; NaN stands for one that is None, None for nothing but those.

    Args:
        columns: arrays or packed columns of floats where one of them is None, with the same number of dimensions.
        counts: rows of each.
    """
    known = next((column for column in columns if column is not None), None)
    if known is None:
        return None
    width = known.shape[1:]
    pairs = zip(columns, counts, strict=True)
    return np.concatenate([np.full((n, *width), np.nan) if c is None else np.asarray(c) for c, n in pairs])


def stacked_ids(columns: Sequence[Column | np.ndarray]) -> np.ndarray:
    """The ids of all where no two are the same, otherwise 1, 2, 3, ..."""
    ids = np.concatenate([np.asarray(column) for column in columns])
    return ids if len(np.unique(ids)) == len(ids) else np.arange(1, len(ids) + 1)


def under_one_folder(folders: Sequence[Path], names: Sequence[Iterable[str]]) -> tuple[Path, list[str]]:
    """The folder around several folders, and the names in each of them as seen from there."""
    absolute = [os.path.abspath(folder) for folder in folders]
    try:
        common = os.path.commonpath(absolute)
    except ValueError:  # drives of Windows: all names get their whole path
        common = ""
    found: list[str] = []
    for own, folder in zip(names, absolute, strict=True):
        prefix = os.path.relpath(folder, common) if common else folder
        found += own if prefix == "." else [os.path.join(prefix, name) for name in own]
    return Path(common), found

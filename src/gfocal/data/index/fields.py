"""How the columns of a data set are kept: each field of ``DataIndex`` says it once, here are the ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from gfocal.data.index.columns import Column, parts
from gfocal.data.index.packing import pack_areas, pack_boxes, pack_whole
from gfocal.data.index.stacking import stacked, stacked_ids

Pack = Callable[[Any, Mapping[str, Any]], Any]
"""From what is given (arrays, or None for the documented value) and the columns before it to what is kept."""


def whole_numbers(values: ArrayLike, before: Mapping[str, Any]) -> np.ndarray:
    return np.asarray(values, np.int64)


def row_numbers(rows: ArrayLike, count: int) -> np.ndarray:
    """(R,) int64 rows of ``count``, from row numbers or from a mask (count,).

    Raises:
        ValueError: it is neither, or a row is not in 0..count-1.
    """
    given = np.asarray(rows)
    if given.dtype == bool and given.shape == (count,):
        return np.flatnonzero(given)
    if given.ndim != 1 or not (np.issubdtype(given.dtype, np.integer) or given.size == 0):
        raise ValueError(f"rows must be whole numbers (R,) or a mask ({count},), not {given.dtype} {given.shape}")
    if given.size and not 0 <= given.min() <= given.max() < count:
        raise ValueError(f"rows must be in 0..{count - 1}, got {given.min()} to {given.max()}")
    return given.astype(np.int64)


def corners(values: ArrayLike, before: Mapping[str, Any]) -> Column:
    return pack_boxes(np.asarray(values, np.float64).reshape(-1, 4))


def labels_of_boxes(values: ArrayLike, before: Mapping[str, Any]) -> Column:
    return pack_whole(np.asarray(values, np.int64))


def marks(values: ArrayLike | None, before: Mapping[str, Any]) -> np.ndarray:
    """(N,) bool; where no row is marked, as mostly, one value that is seen everywhere."""
    rows = np.broadcast_to(False, (len(before["boxes"]),)) if values is None else np.asarray(values, bool)
    return rows if rows.any() else np.broadcast_to(False, rows.shape)


def areas(values: ArrayLike | None, before: Mapping[str, Any]) -> Column:
    return pack_areas(None if values is None else np.asarray(values, np.float64), before["boxes"])


def box_ids(values: ArrayLike | None, before: Mapping[str, Any]) -> Column:
    return pack_whole(_ids(values, len(before["boxes"])))


def class_ids(values: ArrayLike | None, before: Mapping[str, Any]) -> np.ndarray:
    return _ids(values, len(before["names"]))


def ambiguity(values: ArrayLike | None, before: Mapping[str, Any]) -> np.ndarray | None:
    return None if values is None else np.asarray(values, np.float64).reshape(-1, 4)


def per(axis: Literal["image", "box", "class"], pack: Pack) -> dict[str, Any]:
    """What a column has a row for, and how it is kept: all that taking, replacing and joining need to know of it."""
    return {"axis": axis, "pack": pack}


def packed(
    columns: Sequence[Field[Any]], given: Iterable[tuple[str, Any]], before: Mapping[str, Any]
) -> dict[str, Any]:
    """Columns as they are kept.

    Args:
        columns: of the index.
        given: (name, values) in the order of the fields; of an iterator one column at a time is in memory.
        before: other columns: ``names``, and ``boxes`` where they are not given.
    """
    pack = {column.name: column.metadata["pack"] for column in columns}
    done: dict[str, Any] = {}
    for name, values in given:
        done[name] = pack[name](values, {**before, **done})
    return done


def stacked_column(column: Field[Any], indices: Sequence[Any]) -> np.ndarray | None:
    """A column of several data sets, see :meth:`gfocal.data.index.data_index.DataIndex.concat`."""
    own = [getattr(index, column.name) for index in indices]
    if column.name in ("image_ids", "annotation_ids"):
        return stacked_ids(own)
    if column.metadata["axis"] == "class":
        return np.asarray(own[0])
    return stacked(own, [len(index if column.metadata["axis"] == "image" else index.boxes) for index in indices])


def check_lengths(columns: Sequence[Field[Any]], index: Any) -> None:
    """Each column has a row for all that it should have one for, and boxes follow their images.

    Raises:
        ValueError: naming the column.
    """
    images, boxes, classes = len(index.name_start) - 1, len(index.boxes), len(index.names)
    length_of = {"image": images, "box": boxes, "class": classes}
    for column in columns:
        values, length = getattr(index, column.name), length_of[column.metadata["axis"]]
        if values is not None and values.shape[:1] != (length,):
            raise ValueError(f"{column.name} has the shape {values.shape}: {length} rows were expected")
    start = index.box_start
    if start.shape != (images + 1,) or start[0] != 0 or start[-1] != boxes or (np.diff(start) < 0).any():
        raise ValueError(f"box_start must rise from 0 to {boxes} in {images + 1} numbers")
    labels = (index.labels[rows] for rows in parts(boxes))
    if not all(0 <= some.min() <= some.max() < classes for some in labels):
        raise ValueError(f"labels are not all in 0..{classes - 1}")


def pack_names(file_names: Sequence[str]) -> tuple[np.ndarray, Column]:
    """``name_bytes`` and ``name_start``."""
    encoded = [name.encode(errors="surrogatepass") for name in file_names]
    return np.frombuffer(b"".join(encoded), np.uint8), pack_whole(np.cumsum([0, *map(len, encoded)]))


def _ids(ids: ArrayLike | None, count: int) -> np.ndarray:
    return np.arange(1, count + 1) if ids is None else np.asarray(ids, np.int64)

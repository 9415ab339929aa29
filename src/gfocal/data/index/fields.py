"""How the columns of a data set are kept: each field of ``DataIndex`` says it once, here are the ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from gfocal.data.index.columns import Column, parts
from gfocal.data.index.packing import pack_areas, pack_boxes, pack_whole
from gfocal.data.index.stacking import stacked, stacked_ids

Values = ArrayLike | None
"""What is given of a column: numbers, or None for the documented value."""


class Before(NamedTuple):
    """What a column may depend on: the class names, and the boxes, where they are known already."""

    names: tuple[str, ...]
    boxes: Column


Pack = Callable[[Values, Before], "Column | np.ndarray | None"]
"""From what is given to what is kept."""


@dataclass(frozen=True)
class ColumnKind:
    """All that taking, replacing and joining need to know of a column: what it has a row for, and how it is kept."""

    axis: Literal["image", "box", "class"]
    pack: Pack


class Index(Protocol):
    """What is read here of :class:`gfocal.data.index.data_index.DataIndex`."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def name_start(self) -> Column: ...

    @property
    def box_start(self) -> np.ndarray: ...

    @property
    def boxes(self) -> Column: ...

    @property
    def labels(self) -> Column: ...

    def __len__(self) -> int: ...


def whole_numbers(values: Values, before: Before) -> np.ndarray:
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


def corners(values: Values, before: Before) -> Column:
    return pack_boxes(np.asarray(values, np.float64).reshape(-1, 4))


def labels_of_boxes(values: Values, before: Before) -> Column:
    return pack_whole(np.asarray(values, np.int64))


def marks(values: Values, before: Before) -> np.ndarray:
    """(N,) bool; where no row is marked, as mostly, one value that is seen everywhere."""
    rows = np.broadcast_to(False, (len(before.boxes),)) if values is None else np.asarray(values, bool)
    return rows if rows.any() else np.broadcast_to(False, rows.shape)


def areas(values: Values, before: Before) -> Column:
    return pack_areas(None if values is None else np.asarray(values, np.float64), before.boxes)


def box_ids(values: Values, before: Before) -> Column:
    return pack_whole(_ids(values, len(before.boxes)))


def class_ids(values: Values, before: Before) -> np.ndarray:
    return _ids(values, len(before.names))


def ambiguity(values: Values, before: Before) -> np.ndarray | None:
    return None if values is None else np.asarray(values, np.float64).reshape(-1, 4)


def per(axis: Literal["image", "box", "class"], pack: Pack) -> dict[str, ColumnKind]:
    """What a field of the index says of its column."""
    return {"kind": ColumnKind(axis, pack)}


def packed(
    columns: Mapping[str, ColumnKind],
    given: Iterable[tuple[str, Values]],
    names: Sequence[str],
    boxes: Column | None = None,
) -> dict[str, Any]:
    """Columns as they are kept, by the name of the field: keywords of the index.

    Args:
        columns: of the index.
        given: (name, values) in the order of the fields; of an iterator one column at a time is in memory.
        names: of the classes.
        boxes: as they are kept, where they are not given.
    """
    before = Before(tuple(names), pack_boxes(np.zeros((0, 4))) if boxes is None else boxes)
    done: dict[str, Column | np.ndarray | None] = {}
    for name, values in given:
        done[name] = column = columns[name].pack(values, before)
        if name == "boxes" and isinstance(column, Column):
            before = before._replace(boxes=column)
    return done


def stacked_column(name: str, kind: ColumnKind, indices: Sequence[Index]) -> np.ndarray | None:
    """A column of several data sets, see :meth:`gfocal.data.index.data_index.DataIndex.concat`."""
    own = [getattr(index, name) for index in indices]
    if name in ("image_ids", "annotation_ids"):
        return stacked_ids(own)
    if kind.axis == "class":
        return np.asarray(own[0])
    return stacked(own, [len(index if kind.axis == "image" else index.boxes) for index in indices])


def check_lengths(columns: Mapping[str, ColumnKind], index: Index) -> None:
    """Each column has a row for all that it should have one for, and boxes follow their images.

    Raises:
        ValueError: naming the column.
    """
    images, boxes, classes = len(index.name_start) - 1, len(index.boxes), len(index.names)
    length_of = {"image": images, "box": boxes, "class": classes}
    for name, kind in columns.items():
        values, length = getattr(index, name), length_of[kind.axis]
        if values is not None and values.shape[:1] != (length,):
            raise ValueError(f"{name} has the shape {values.shape}: {length} rows were expected")
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

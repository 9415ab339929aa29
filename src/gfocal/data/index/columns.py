"""Columns of a data set that take few bytes and are read like arrays.

They are made by :mod:`gfocal.data.index.packing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

Rows = int | np.integer[Any] | slice | np.ndarray
_PART = 1 << 18  # Rows that are converted at once: temporaries stay small beside the column.


class Source(Protocol):
    """Where the N numbers, or rows of numbers, of a column come from."""

    def __len__(self) -> int: ...

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What is kept in memory for it."""

    def read(self, rows: Rows) -> np.ndarray:
        """New values of one row, a slice of rows or (M,) row numbers."""


class Column(NDArrayOperatorsMixin):
    """N numbers, or (N, 4), kept small; what is read is an ordinary array, int64 or float64.

    Indexed like an array. Slices and integer arrays cost what they return; operators and ``np.asarray`` unpack the
    whole column.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return sum(array.nbytes for array in self.source.arrays)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.source.read(slice(0, 0)).shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.source.read(slice(0, 0)).dtype

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, (slice, int, np.integer)):
            return self.source.read(key)
        if isinstance(key, tuple):
            inner = key and isinstance(key[0], slice)
            return self.source.read(key[0])[(slice(None), *key[1:])] if inner else np.asarray(self)[key]
        rows = np.asarray(key)
        if rows.dtype == bool and rows.shape == (len(self),):
            return self.source.read(np.flatnonzero(rows))
        return self.source.read(rows) if rows.dtype.kind in "iu" else np.asarray(self)[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a packed column cannot be seen as an array without a copy")
        values = self.source.read(slice(None))
        return values if dtype is None else values.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = (np.asarray(value) if isinstance(value, Column) else value for value in inputs)
        return getattr(ufunc, method)(*arrays, **options)

    def tolist(self) -> list[Any]:
        return np.asarray(self).tolist()


@dataclass(frozen=True, eq=False)
class Numbers:
    """Stored numbers over a power of ten; a scale of 1 leaves them as they are."""

    codes: np.ndarray
    dtype: type
    scale: int = 1

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        return (self.codes,)

    def read(self, rows: Rows) -> np.ndarray:
        values: np.ndarray = self.codes[rows].astype(self.dtype)
        if self.scale != 1:
            values /= self.scale
        return values


@dataclass(frozen=True)
class Counted:
    """``first, first + 1, ...``: nothing is stored."""

    first: int
    count: int
    arrays: tuple[np.ndarray, ...] = ()

    def __len__(self) -> int:
        return self.count

    def read(self, rows: Rows) -> np.ndarray:
        if isinstance(rows, slice):
            return np.arange(*rows.indices(self.count), dtype=np.int64) + self.first
        chosen = np.asarray(rows, np.int64)
        if chosen.size and not -self.count <= chosen.min() <= chosen.max() < self.count:
            raise IndexError(f"a row is not among the {self.count}")
        return (np.where(chosen < 0, chosen + self.count, chosen) + self.first)[()]


@dataclass(frozen=True, eq=False)
class Boxes:
    """(N, 4) boxes, read as xyxy.

    Attributes:
        stored: x, y, width, height as files have them, or xyxy.
        sized: which of the two.
    """

    stored: Numbers
    sized: bool

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.stored.arrays

    def read(self, rows: Rows) -> np.ndarray:
        boxes = self.stored.read(rows)
        if self.sized:
            ends = boxes[..., 2:]
            ends += boxes[..., :2]
        return boxes

    def sides(self, rows: Rows) -> np.ndarray:
        """(M, 2) widths and heights."""
        boxes = self.stored.read(rows)
        return boxes[..., 2:] if self.sized else boxes[..., 2:] - boxes[..., :2]


@dataclass(frozen=True, eq=False)
class Products:
    """Areas that are width * height of the boxes: nothing is stored."""

    boxes: Boxes
    arrays: tuple[np.ndarray, ...] = ()

    def __len__(self) -> int:
        return len(self.boxes)

    def read(self, rows: Rows) -> np.ndarray:
        sides = self.boxes.sides(rows)
        with np.errstate(over="ignore"):  # Sides of 1e308 are finite, and may stand in a file.
            return sides[..., 0] * sides[..., 1]


def parts(count: int) -> Iterator[slice]:
    """Slices of a column one after the other, small enough to be unpacked."""
    for first in range(0, count, _PART):
        yield slice(first, min(first + _PART, count))

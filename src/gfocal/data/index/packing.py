"""Numbers of a data set in few bytes that give back every bit.

Annotation files hold decimals: 123.46 is kept as 12346 and read as 12346 / 100, two bytes instead of eight. Decimals of
up to nine digits survive that exactly, since the division of two whole numbers is rounded as the parser of the file
rounds. It is not assumed but tried on every number of a column: if one does not come back bit by bit, the column stays
in float32 where that is exact, as with numbers that a network wrote, and in float64 otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gfocal.data.index.columns import Boxes, Column, Counted, Numbers, Products, parts

_SCALES = tuple(10**digits for digits in range(7))
_WHOLE = tuple(np.dtype(kind) for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "i8"))


def pack_whole(values: np.ndarray) -> Column:
    """(N,) whole numbers of int64; consecutive ones take nothing, others the smallest type that holds them all."""
    first, last = (int(values[0]), int(values[-1])) if len(values) else (0, 0)
    if last - first == len(values) - 1 and (np.diff(values) == 1).all():
        return Column(Counted(first, len(values)))
    return Column(Numbers(values.astype(_smallest(values)), np.int64))


def pack_numbers(values: np.ndarray) -> Column:
    """(N, ...) float64."""
    return Column(_plain(values))


def pack_boxes(boxes: np.ndarray) -> Column:
    """(N, 4) float64 xyxy.

    What a COCO file holds is x and width, and x + width is seldom a short decimal; the width that it was made of is
    found again and kept, if it gives the same x + width.
    """
    stored, plain = _decimals(boxes, _whole_sides), None
    if stored is None:
        plain = _decimals(boxes, _whole_numbers)
    if stored is None and plain is None:
        stored = _floats(boxes, _float32_sides)
    if stored is not None:
        return Column(Boxes(stored, sized=True))
    return Column(Boxes(_plain(boxes) if plain is None else plain, sized=False))


def pack_areas(areas: np.ndarray | None, boxes: Column) -> Column:
    """(N,) float64; nothing is stored where all are width * height of ``boxes`` from :func:`pack_boxes`, or None."""
    assert isinstance(boxes.source, Boxes)
    products = Products(boxes.source)
    if areas is None or all(_same_bits(products.read(rows), areas[rows]) for rows in parts(len(areas))):
        return Column(products)
    return pack_numbers(areas)


def _plain(values: np.ndarray) -> Numbers:
    for found in (_decimals(values, _whole_numbers), _floats(values, _float32)):
        if found is not None:
            return found
    return Numbers(values.copy(), np.float64)


def _smallest(whole: np.ndarray) -> np.dtype[Any]:
    low, high = (int(whole.min()), int(whole.max())) if whole.size else (0, 0)
    return next(kind for kind in _WHOLE if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Not ==: NaN must be equal to itself, and -0 differ from 0."""
    return np.array_equal(np.ascontiguousarray(a).view(np.int64), np.ascontiguousarray(b).view(np.int64))


def _decimals(values: np.ndarray, encode: Callable[[np.ndarray, int], np.ndarray | None]) -> Numbers | None:
    for scale in _SCALES:
        coded = [np.zeros((0, *values.shape[1:]), np.uint8)]
        for rows in parts(len(values)):
            codes = encode(values[rows], scale)
            if codes is None:
                break
            coded.append(codes.astype(_smallest(codes)))
        else:
            bounds = [bound for codes in coded if codes.size for bound in (codes.min(), codes.max())]
            kind = _smallest(np.array(bounds, np.int64))
            return Numbers(np.concatenate(coded, dtype=kind), np.float64, scale) if kind.itemsize < 8 else None
    return None


def _floats(values: np.ndarray, encode: Callable[[np.ndarray], np.ndarray | None]) -> Numbers | None:
    stored = np.empty(values.shape, np.float32)
    for rows in parts(len(values)):
        codes = encode(values[rows])
        if codes is None:
            return None
        stored[rows] = codes
    return Numbers(stored, np.float64)


def _whole_numbers(values: np.ndarray, scale: int) -> np.ndarray | None:
    codes = _rounded(values, scale)
    return codes if codes is not None and _same_bits(codes / scale, values) else None


def _whole_sides(boxes: np.ndarray, scale: int) -> np.ndarray | None:
    codes = _rounded(to_xywh(boxes), scale)
    if codes is None:
        return None
    back = Boxes(Numbers(codes, np.float64, scale), sized=True).read(slice(None))
    return codes if _same_bits(back, boxes) else None


def _rounded(values: np.ndarray, scale: int) -> np.ndarray | None:
    with np.errstate(over="ignore", invalid="ignore"):
        codes = np.rint(values * scale)
    return codes.astype(np.int64) if (np.abs(codes) < 2.0**32).all() else None


def _float32(values: np.ndarray) -> np.ndarray | None:
    with np.errstate(over="ignore"):
        codes = values.astype(np.float32)
    return codes if _same_bits(codes.astype(np.float64), values) else None


def _float32_sides(boxes: np.ndarray) -> np.ndarray | None:
    with np.errstate(over="ignore", invalid="ignore"):
        codes = to_xywh(boxes).astype(np.float32)
        back = Boxes(Numbers(codes, np.float64), sized=True).read(slice(None))
    return codes if _same_bits(back, boxes) else None


def to_xywh(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) xyxy as x, y, width, height, in the same type; infinite where that overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)

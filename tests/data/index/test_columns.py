"""Columns: every bit comes back, in few bytes, however they are read."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gfocal.data.index.columns import Column, parts
from gfocal.data.index.packing import pack_areas, pack_boxes, pack_numbers, pack_whole


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


DECIMALS = st.integers(0, 9).flatmap(
    lambda digits: st.lists(
        st.integers(-(2**33), 2**33).map(lambda whole: float(f"{whole}e-{digits}")), min_size=1, max_size=24
    )
)
FLOATS = st.lists(st.floats(), min_size=1, max_size=24)
SINGLES = st.lists(st.floats(width=32), min_size=1, max_size=24)
SPECIAL = st.lists(
    st.sampled_from([-0.0, 0.0, 5e-324, -5e-324, 1e-310, 1e308, -1e308, 2.0**53, np.nan, np.inf, 0.1, 4294967295.0]),
    min_size=1,
    max_size=8,
)
NUMBERS = DECIMALS | FLOATS | SINGLES | SPECIAL


@settings(max_examples=300, deadline=None)
@given(values=NUMBERS)
def test_numbers_come_back_bit_by_bit(values: list[float]) -> None:
    array = np.array(values, np.float64)
    packed = pack_numbers(array)
    assert same_bits(np.asarray(packed), array)
    assert packed.nbytes <= array.nbytes


@settings(max_examples=300, deadline=None)
@given(values=NUMBERS, sized=st.booleans())
def test_boxes_come_back_bit_by_bit(values: list[float], sized: bool) -> None:
    boxes = np.resize(np.array(values, np.float64), (-(-len(values) // 4), 4))
    if sized:
        with np.errstate(all="ignore"):
            boxes[:, 2:] += boxes[:, :2]
    packed = pack_boxes(boxes)
    assert same_bits(np.asarray(packed), boxes)
    assert packed.nbytes <= boxes.nbytes


@settings(max_examples=200, deadline=None)
@given(values=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300), max_size=20), counted=st.booleans())
def test_whole_numbers_come_back(values: list[int], counted: bool) -> None:
    array = np.array(values, np.int64)
    if counted and values and values[0] < 2**62:
        array = values[0] + np.arange(len(values), dtype=np.int64)
    assert same_bits(np.asarray(pack_whole(array)), array)


def xyxy(xywh: np.ndarray) -> np.ndarray:
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)


RANDOM = np.random.default_rng(0)
HUNDREDTHS = np.rint(RANDOM.uniform(1, 640, (1000, 4)) * 100) / 100
TYPICAL: list[Any] = [
    pytest.param(xyxy(HUNDREDTHS), 8, id="hundredths"),
    pytest.param(xyxy(np.rint(HUNDREDTHS)), 8, id="whole"),
    pytest.param(xyxy(np.rint(HUNDREDTHS) % 100), 4, id="small"),
    pytest.param(xyxy(np.rint((HUNDREDTHS + 1000) * 1000) / 1000), 16, id="thousandths"),
    pytest.param(np.rint(np.sort(HUNDREDTHS, 1) * 10) / 10, 8, id="tenths as xyxy"),
    pytest.param(xyxy(RANDOM.uniform(1, 640, (1000, 4)).astype(np.float32).astype(np.float64)), 16, id="float32"),
    pytest.param(np.sort(RANDOM.uniform(1, 640, (1000, 4)).astype(np.float32)).astype(float), 16, id="float32 xyxy"),
    pytest.param(np.sort(RANDOM.uniform(1, 640, (1000, 4))), 32, id="no pattern"),
]


@pytest.mark.parametrize(("boxes", "size"), TYPICAL)
def test_bytes_of_a_box(boxes: np.ndarray, size: int) -> None:
    packed = pack_boxes(boxes)
    assert packed.nbytes == size * len(boxes)
    assert same_bits(np.asarray(packed), boxes)


def test_one_odd_number_at_the_end_is_not_rounded() -> None:
    values = np.full(300_000, 0.5)
    values[-1] = 0.123456
    assert pack_numbers(values).nbytes == 4 * len(values)
    for odd, size in ((1 / 3, 8), (2.0**-20, 4)):
        values[-1] = odd
        packed = pack_numbers(values)
        assert same_bits(packed[-5:], values[-5:])
        assert packed.nbytes == size * len(values)


def test_areas_that_follow_from_the_boxes_take_nothing() -> None:
    boxes = pack_boxes(xyxy(HUNDREDTHS))
    areas = HUNDREDTHS[:, 2] * HUNDREDTHS[:, 3]
    packed = pack_areas(areas, boxes)
    assert packed.nbytes == 0
    assert same_bits(np.asarray(packed), areas)
    assert same_bits(packed[5:9], areas[5:9])
    assert same_bits(np.asarray(pack_areas(None, boxes)), areas)
    other = areas.copy()
    other[7] = np.nextafter(other[7], 0)
    assert same_bits(np.asarray(pack_areas(other, boxes)), other)


def test_areas_of_boxes_without_a_pattern() -> None:
    corners = np.sort(RANDOM.uniform(1, 640, (50, 4)))
    sides = corners[:, 2:] - corners[:, :2]
    packed = pack_areas(sides[:, 0] * sides[:, 1], pack_boxes(corners))
    assert packed.nbytes == 0
    assert same_bits(np.asarray(packed), sides[:, 0] * sides[:, 1])


COLUMNS: list[Any] = [
    pytest.param(pack_boxes(xyxy(HUNDREDTHS)), xyxy(HUNDREDTHS), id="boxes"),
    pytest.param(pack_boxes(RANDOM.uniform(size=(9, 4))), None, id="floats"),
    pytest.param(pack_whole(np.arange(5, 105)), np.arange(5, 105), id="counted"),
    pytest.param(pack_whole(np.array([3, 1, 2**40])), np.array([3, 1, 2**40]), id="whole"),
    pytest.param(pack_numbers(HUNDREDTHS[:, 0]), HUNDREDTHS[:, 0], id="numbers"),
    pytest.param(pack_areas(None, pack_boxes(np.tile([0.0, 0, 2, 3], (7, 1)))), np.full(7, 6.0), id="areas"),
]


@pytest.mark.parametrize(("column", "array"), COLUMNS)
def test_a_column_is_read_like_an_array(column: Column, array: np.ndarray | None) -> None:
    array = np.asarray(column) if array is None else array
    assert (len(column), column.shape, column.dtype) == (len(array), array.shape, array.dtype)
    mask = np.arange(len(array)) % 2 == 0
    keys = [slice(1, 3), slice(None), slice(-2, None), slice(None, None, -1), slice(3, 1)]
    keys += [np.array([2, 0, -1, 2]), np.array([], np.int64), [1, 2], mask, 1, -1, np.int64(2)]
    if array.ndim == 2:
        keys += [(slice(1, 3), 2), (slice(None), slice(2, None)), (1, 2), (np.array([0, 1]), 3), (..., 0)]
    for key in keys:
        assert same_bits(np.asarray(column[key]), np.asarray(array[key])), key
    for wrong in (len(array), -len(array) - 1, np.array([0, len(array)]), np.array([-len(array) - 1])):
        with pytest.raises(IndexError):
            column[wrong]
    assert column.tolist() == array.tolist()
    assert same_bits(np.asarray(pickle.loads(pickle.dumps(column))), array)


def test_operators_unpack() -> None:
    labels = pack_whole(np.array([0, 200, 200, 3]))
    assert labels.nbytes == 4
    assert (labels == 200).tolist() == [False, True, True, False]
    assert (labels + 100).tolist() == [100, 300, 300, 103]
    assert (labels * labels).tolist() == [0, 40000, 40000, 9]
    assert np.sqrt(pack_numbers(np.array([4.0, 9]))).tolist() == [2, 3]
    assert np.bincount(labels).tolist()[200] == 2
    assert np.asarray(labels, np.float32).dtype == np.float32


def test_what_is_read_belongs_to_the_reader() -> None:
    for values in (np.array([0.1, 0.2]), np.array([1 / 3, 0.1])):
        packed = pack_numbers(values)
        packed[:][0] = 7
        np.asarray(packed)[0] = 7
        assert same_bits(np.asarray(packed), values)
        values[1] = 5
        assert packed[1] != 5


def test_parts_cover_everything_once() -> None:
    assert list(parts(0)) == []
    rows = list(parts(600_000))
    assert np.concatenate([np.arange(600_000)[part] for part in rows]).tolist() == list(range(600_000))
    assert len(rows) == 3

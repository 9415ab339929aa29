"""An index made from arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfocal.data.index import DataIndex

ARRAYS: dict[str, Any] = {
    "pictures_dir": Path("pictures"),
    "annotations": Path("labels.json"),
    "image_ids": [7, 5],
    "file_names": ["a.png", "sub/bü.png"],
    "widths": [40, 20],
    "heights": [30, 10],
    "box_start": [0, 1, 3],
    "boxes": [[0.5, 1.5, 10.5, 21.5], [1, 2, 4, 6], [15, 5, 25, 15]],
    "labels": [1, 0, 1],
    "names": ["cat", "dog"],
}


def test_what_is_left_out_has_the_documented_value() -> None:
    index = DataIndex.build(**ARRAYS)
    assert index.area.tolist() == [200, 12, 100]
    assert index.annotation_ids.tolist() == [1, 2, 3]
    assert index.category_ids.tolist() == [1, 2]
    assert not index.crowd[0:3].any()
    assert not index.ignore[0:3].any()
    assert index.skipped == []
    assert index.edge_ambiguity is None
    assert [index.file_name(i) for i in range(2)] == ARRAYS["file_names"]
    assert index.targets(1).boxes.tolist() == [[1, 2, 4, 6], [15, 5, 20, 10]]
    assert index.targets(1).labels.tolist() == [0, 1]


def test_what_is_given_is_kept() -> None:
    given: dict[str, Any] = {
        "crowd": [True, False, False],
        "ignore": [False, False, True],
        "area": [1.5, 2.25, 1e9],
        "annotation_ids": [12, 3, 2**40],
        "category_ids": [90, 4],
        "edge_ambiguity": [[0, 1, 2, 3], [1, 1, 1, 1], [np.nan] * 4],
    }
    index = DataIndex.build(**ARRAYS, **given, skipped=["one"])
    for name, value in given.items():
        assert np.array_equal(np.asarray(getattr(index, name)), np.array(value), equal_nan=True), name
    assert index.skipped == ["one"]
    assert index.targets(0).boxes.tolist() == []
    assert index.targets(1).labels.tolist() == [0]


def test_no_boxes_and_no_pictures() -> None:
    empty = DataIndex.build(**ARRAYS | {"boxes": [], "labels": [], "box_start": [0, 0, 0]})
    assert (len(empty), len(empty.boxes), len(empty.targets(1))) == (2, 0, 0)
    assert np.asarray(empty.boxes).shape == (0, 4)
    nothing = {"image_ids": [], "file_names": [], "widths": [], "heights": [], "boxes": [], "labels": []}
    assert len(DataIndex.build(**ARRAYS | nothing | {"box_start": [0]})) == 0


@pytest.mark.parametrize("key", ["image_ids", "widths", "heights", "labels", "box_start"])
def test_lengths_that_disagree_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        DataIndex.build(**ARRAYS | {key: ARRAYS[key][:-1]})

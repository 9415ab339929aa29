"""An index made from arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gfocal.data.index.data_index import DataIndex

ARRAYS: dict[str, Any] = {
    "images_dir": Path("pictures"),
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


def test_no_boxes_and_no_images() -> None:
    empty = DataIndex.build(**ARRAYS | {"boxes": [], "labels": [], "box_start": [0, 0, 0]})
    assert (len(empty), len(empty.boxes), len(empty.targets(1))) == (2, 0, 0)
    assert np.asarray(empty.boxes).shape == (0, 4)
    nothing = {"image_ids": [], "file_names": [], "widths": [], "heights": [], "boxes": [], "labels": []}
    assert len(DataIndex.build(**ARRAYS | nothing | {"box_start": [0]})) == 0


@pytest.mark.parametrize("key", ["image_ids", "widths", "heights", "labels", "box_start"])
def test_lengths_that_disagree_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        DataIndex.build(**ARRAYS | {key: ARRAYS[key][:-1]})


def test_a_typical_set_takes_few_bytes() -> None:
    """Hundredths of pixels in random order of ids, areas of masks, a crowd here and there: what COCO itself holds."""
    rng, images, per = np.random.default_rng(0), 2000, 10
    count = images * per
    xywh = np.rint(rng.uniform(1, 300, (count, 4)) * 100) / 100
    arrays: dict[str, Any] = {
        "images_dir": Path("pictures"),
        "annotations": Path("labels.json"),
        "image_ids": rng.permutation(images),
        "file_names": [f"{i:012d}.jpg" for i in range(images)],
        "widths": [640] * images,
        "heights": [480] * images,
        "box_start": np.arange(0, count + 1, per),
        "boxes": np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1),
        "labels": rng.integers(0, 80, count),
        "names": [f"class {c}" for c in range(80)],
    }
    small = DataIndex.build(**arrays)
    of_images = images * (8 * 4 + 16 + 2) + 80 * 8
    assert small.nbytes == count * (4 * 2 + 1) + of_images + 8 + 2
    area = rng.uniform(1, 1e4, count)
    ids, crowd = rng.permutation(2_000_000)[:count], rng.uniform(size=count) < 0.01
    large = DataIndex.build(**arrays, area=area, annotation_ids=ids, crowd=crowd)
    assert large.nbytes == small.nbytes + count * (8 + 4 + 1)
    assert large.nbytes / count < 40
    for name, given in {"area": area, "annotation_ids": ids, "crowd": crowd, "boxes": arrays["boxes"]}.items():
        assert np.array_equal(np.asarray(getattr(large, name)), given), name


def test_labels_are_read_as_int64_whatever_they_are_kept_in() -> None:
    index = DataIndex.build(**ARRAYS | {"names": [str(i) for i in range(300)], "labels": [299, 0, 255]})
    assert index.labels[0:2].dtype == np.int64
    assert (index.labels + 1).tolist() == [300, 1, 256]
    assert index.targets(1).labels.dtype == torch.int64


def test_labels_out_of_range_are_refused() -> None:
    for labels in ([0, 1, 2], [0, -1, 1]):
        with pytest.raises(ValueError, match="labels"):
            DataIndex.build(**ARRAYS | {"labels": labels})


def test_boxes_that_do_not_follow_the_images_are_refused() -> None:
    with pytest.raises(ValueError, match="box_start"):
        DataIndex.build(**ARRAYS | {"box_start": [0, 4, 3]})
    with pytest.raises(ValueError, match="crowd"):
        DataIndex.build(**ARRAYS, crowd=[False])

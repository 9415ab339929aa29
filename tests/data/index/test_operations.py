"""Taking, replacing and joining: no column is forgotten, whichever columns there are."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfocal.data.checks.fix_boxes import Change, Kept, with_boxes, with_one_name_each
from gfocal.data.index.concat import join
from gfocal.data.index.data_index import DataIndex
from gfocal.data.index.tiled import cut_into_tiles
from gfocal.images.tiling import Tiling

IMAGES = ("image_ids", "widths", "heights")
BOXES = ("boxes", "labels", "crowd", "ignore", "area", "annotation_ids", "edge_ambiguity")
ALL = ("images_dir", "annotations", "category_ids", "names", "skipped")
OTHERS = ("box_start", "name_bytes", "name_start", "parts", "tiles")
NAMES = ["a.png", "sub/bü.png", "c.png"]
COUNTS = [2, 0, 3]


def full(folder: str = "set", first: int = 0) -> DataIndex:
    """Every column is given, each number is another one, and no column has the value that is documented for none."""
    rng = np.random.default_rng(first + 1)
    corner = np.round(rng.uniform(0, 20, (5, 2)), 1)
    index = DataIndex.build(
        images_dir=Path("root") / folder,
        annotations=Path(f"{folder}.json"),
        image_ids=[first + 7, first + 5, first + 6],
        file_names=NAMES,
        widths=[64, 65, 200],
        heights=[50, 51, 52],
        box_start=np.cumsum([0, *COUNTS]),
        boxes=np.concatenate([corner, corner + np.round(rng.uniform(1, 20, (5, 2)), 1)], 1),
        labels=[2, 0, 1, 1, 0],
        names=["cat", "dog", "bird"],
        crowd=[True, False, False, True, False],
        ignore=[False, True, True, False, False],
        area=rng.uniform(1, 100, 5),
        annotation_ids=[first + 30, first + 10, first + 20, first + 50, first + 40],
        category_ids=[9, 4, 11],
        skipped=[f"left out of {folder}"],
        edge_ambiguity=rng.uniform(0, 3, (5, 4)),
    )
    return index.replace(parts=(2, 1))


def value(index: DataIndex, name: str) -> Any:
    found = getattr(index, name)
    return np.asarray(found).tolist() if hasattr(found, "dtype") else found


def names_of(index: DataIndex) -> list[str]:
    return [index.file_name(i) for i in range(len(index))]


def assert_columns(index: DataIndex, expected: dict[str, Any], names: list[str]) -> None:
    """All fields, but for ``name_bytes`` and ``name_start``, which ``names`` stands for."""
    wanted = {each.name for each in fields(DataIndex)} - {"name_bytes", "name_start"}
    assert set(expected) == wanted, "a new field: say what this operation does with it"
    assert {name: value(index, name) for name in expected} == expected
    assert names_of(index) == names


def every_column(index: DataIndex) -> dict[str, Any]:
    return {each.name: value(index, each.name) for each in fields(DataIndex) if not each.name.startswith("name_")}


def test_the_lists_here_name_every_field_once() -> None:
    assert Counter([*IMAGES, *BOXES, *ALL, *OTHERS]) == Counter(each.name for each in fields(DataIndex))


@pytest.mark.parametrize(
    ("images", "boxes", "parts"),
    [
        ([2, 0], [2, 3, 4, 0, 1], (1, 1)),
        ([1], [], (1, 0)),
        ([0, 1, 2], [0, 1, 2, 3, 4], (2, 1)),
        ([2, 2], [2, 3, 4, 2, 3, 4], (0, 2)),
        ([], [], (0, 0)),
    ],
)
def test_take(images: list[int], boxes: list[int], parts: tuple[int, ...]) -> None:
    index = full()
    expected = {name: value(index, name) for name in ALL}
    expected |= {name: [value(index, name)[i] for i in images] for name in IMAGES}
    expected |= {name: [value(index, name)[i] for i in boxes] for name in BOXES}
    start = np.cumsum([0, *(COUNTS[i] for i in images)]).tolist()
    taken = index.take(np.array(images, np.int64))
    assert_columns(taken, expected | {"box_start": start, "parts": parts, "tiles": None}, [NAMES[i] for i in images])


def test_take_with_other_boxes() -> None:
    """Image 1 gets a box of image 0 and one of image 2."""
    index = full()
    taken = index.take([1, 2], boxes=np.array([0, 4, 3]), box_start=np.array([0, 2, 3]))
    expected = every_column(index) | {name: value(index, name)[1:] for name in IMAGES}
    expected |= {name: [value(index, name)[i] for i in (0, 4, 3)] for name in BOXES}
    assert_columns(taken, expected | {"box_start": [0, 2, 3], "parts": (1, 1)}, NAMES[1:])
    with pytest.raises(ValueError, match="box_start must rise from 0 to 3"):
        index.take([1, 2], boxes=np.array([0, 4, 3]), box_start=np.array([0, 2, 2]))


def test_what_is_taken_is_packed_anew() -> None:
    """As small as if only that had been read: the labels need a byte, though others of the set needed two."""
    count = 1000
    index = DataIndex.build(
        images_dir=Path("a"),
        annotations=Path("a.json"),
        image_ids=np.arange(count),
        file_names=[f"{i}.png" for i in range(count)],
        widths=[9] * count,
        heights=[9] * count,
        box_start=np.arange(count + 1),
        boxes=np.tile([1.5, 2.5, 3, 4], (count, 1)),
        labels=np.arange(count),
        names=[str(i) for i in range(count)],
    )
    few = index.take(np.arange(100)[::-1])
    # xywh in tenths and label in a byte each; annotation ids no longer count up; the area is that of the boxes.
    assert sum(column.nbytes for column in (few.boxes, few.labels, few.area, few.annotation_ids)) == 100 * (4 + 1 + 1)
    assert not any(few.crowd.strides)


CHANGES: dict[str, Any] = {
    "images_dir": Path("elsewhere"),
    "annotations": Path("other.json"),
    "image_ids": [1, 2, 3],
    "widths": [8, 9, 10],
    "heights": [11, 12, 13],
    "box_start": [0, 1, 1, 5],
    "boxes": [[i, i, i + 2, i + 3.5] for i in range(5)],
    "labels": [0, 0, 0, 0, 1],
    "crowd": [False] * 5,
    "ignore": [True] * 5,
    "area": [1.0, 2, 3, 4, 5.5],
    "annotation_ids": [5, 4, 3, 2, 1],
    "category_ids": [1, 2, 3],
    "names": ("x", "y", "z"),
    "skipped": [],
    "edge_ambiguity": None,
    "parts": (),
    "tiles": object(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_replace_changes_one_column_and_shares_the_others(name: str) -> None:
    index = full()
    changed = index.replace(**{name: CHANGES[name]})
    assert value(changed, name) == CHANGES[name] != value(index, name)
    for each in fields(DataIndex):
        if each.name != name:
            assert getattr(changed, each.name) is getattr(index, each.name)
    assert set(CHANGES) == {each.name for each in fields(DataIndex)} - {"name_bytes", "name_start"}


def test_replace_file_names_and_what_none_stands_for() -> None:
    index = full()
    renamed = index.replace(file_names=["x", "", "zü"])
    assert_columns(renamed, every_column(index), ["x", "", "zü"])
    plain = index.replace(boxes=[[0, 0, 2, 3.5]] * 2, box_start=[0, 1, 1, 2], labels=[1, 1], **dict.fromkeys(BOXES[2:]))
    assert value(plain, "area") == [7, 7]
    assert value(plain, "annotation_ids") == [1, 2]
    assert value(plain, "crowd") == value(plain, "ignore") == [False] * 2
    assert plain.edge_ambiguity is None


@pytest.mark.parametrize(
    "changes",
    [{"widths": [1]}, {"names": ["one"]}, {"labels": [0]}, {"edge_ambiguity": [[0] * 4]}, {"labels": [3] * 5}],
)
def test_replace_refuses_what_does_not_fit(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"shape|labels are not all"):
        full().replace(**changes)
    with pytest.raises(TypeError, match="colour"):
        full().replace(colour=1)


def test_concat() -> None:
    one, two = full("a"), full("b/c", 100)
    expected = {name: value(one, name) + value(two, name) for name in (*IMAGES, *BOXES, "skipped")}
    expected |= {name: value(one, name) for name in ("category_ids", "names")}
    expected |= {"images_dir": Path.cwd() / "root", "annotations": Path("a.json + b/c.json")}
    expected |= {"box_start": [0, 2, 2, 5, 7, 7, 10], "parts": (3, 3), "tiles": None}
    names = [f"a/{name}" for name in NAMES] + [f"b/c/{name}" for name in NAMES]
    assert_columns(DataIndex.concat([one, two]), expected, names)
    same = DataIndex.concat([one, full("b/c")])
    assert value(same, "image_ids") == [1, 2, 3, 4, 5, 6]
    assert value(same, "annotation_ids") == list(range(1, 11))
    half = np.asarray(DataIndex.concat([one.replace(edge_ambiguity=None), two]).edge_ambiguity)
    assert np.isnan(half[:5]).all()
    assert half[5:].tolist() == value(two, "edge_ambiguity")
    with pytest.raises(ValueError, match="same classes"):
        DataIndex.concat([one, two.replace(names=["cat", "dog", "fish"])])
    joined, _ = join([one, two.replace(names=["dog", "cat", "bird"])])
    assert value(joined, "labels") == [2, 0, 1, 1, 0, 2, 1, 0, 0, 1]
    assert joined.skipped == ["left out of a", "left out of b/c"]


def test_other_classes() -> None:
    index = full()
    labels = {"labels": [0, 1, 2, 2, 1], "names": ("bird", "cat", "dog", "fish"), "category_ids": [11, 9, 4, 1]}
    assert_columns(index.with_classes(labels["names"]), every_column(index) | labels, NAMES)


def test_a_cleaned_copy_has_every_column() -> None:
    index = full()
    sizes = np.stack([index.widths, index.heights], 1)
    kept = Kept(np.array([0, 2]), ("x.png", "y.png"), sizes[[0, 2]] * 2, Path("new"))
    changes: list[Change] = []
    fixed = with_boxes(index, kept, np.array([0, 1, 2]), np.full((3, 2), 2.0), "train", changes)
    assert changes == []
    expected = every_column(index) | {name: [value(index, name)[i] for i in (0, 2)] for name in IMAGES}
    expected |= {"boxes": (np.asarray(index.boxes) * 2).tolist(), "area": (np.asarray(index.area) * 4).tolist()}
    expected |= {"widths": [128, 400], "heights": [100, 104], "images_dir": Path("new")}
    expected["area"] = np.minimum(expected["area"], [np.prod(np.subtract(b[2:], b[:2])) for b in expected["boxes"]])
    expected |= {"area": expected["area"].tolist(), "box_start": [0, 2, 5], "parts": (1, 1)}
    assert_columns(fixed, expected, ["x.png", "y.png"])


def test_classes_that_became_one_leave_every_other_column() -> None:
    index = full().replace(names=["cat", "dog", "Cat "])
    unified = with_one_name_each({"train": index}, [])["train"]
    labels = {"labels": [0, 0, 1, 1, 0], "names": ("cat", "dog"), "category_ids": [9, 4]}
    assert_columns(unified, every_column(index) | labels, NAMES)


def test_tiles_are_cut_last() -> None:
    index = full()
    tiles = cut_into_tiles(index, Tiling(64))
    assert tiles.tiles is not None
    assert tiles.replace(skipped=[]).tiles is tiles.tiles
    assert (tiles.skipped, tiles.parts) == (index.skipped, (4, 5))
    with pytest.raises(ValueError, match="then cut"):
        tiles.take([0])
    with pytest.raises(ValueError, match="before they are cut"):
        DataIndex.concat([tiles, tiles])


def test_rows_are_numbers_or_a_mask() -> None:
    index = full()
    mask = np.arange(len(index)) % 2 == 0
    assert index.take(mask).image_ids.tolist() == index.image_ids[mask].tolist()
    assert len(index.take([])) == 0
    for wrong in ([0.7], [-1], [len(index)], [[0, 1]], np.ones(len(index) + 1, bool)):
        with pytest.raises(ValueError, match="rows must be"):
            index.take(wrong)
    with pytest.raises(ValueError, match="at least one"):
        DataIndex.concat([])

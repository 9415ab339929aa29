"""A small COCO file: read right, and each way to break it named in one line."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gfocal.data.formats.coco.find import find_coco
from gfocal.data.formats.coco.parser import AnnotationRecord, Annotations, ImageRecord
from gfocal.data.formats.coco.reader import read_coco
from gfocal.data.formats.coco.validate import check_annotations
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.errors import BrokenInputError, GfocalError, UsageError

GOOD: dict[str, Any] = {
    "images": [
        {"id": 30, "file_name": "c.png", "width": 40, "height": 30},
        {"id": 10, "file_name": "sub/a.png", "width": 20, "height": 10},
        {"id": 20, "file_name": "bü.png", "width": 20, "height": 10, "license": 3},
    ],
    "annotations": [
        {"id": 5, "image_id": 10, "category_id": 90, "bbox": [1, 2, 3, 4], "area": 7.5, "iscrowd": 0},
        {"id": 2, "image_id": 30, "category_id": 4, "bbox": [0.5, 1.5, 10, 20], "segmentation": [[1, 2, 3]]},
        {"id": 3, "image_id": 10, "category_id": 4, "bbox": [-5, -5, 15, 10], "iscrowd": 1},
        {"id": 9, "image_id": 10, "category_id": 17, "bbox": [15, 5, 10, 10], "ignore": 1},
        {"id": 7, "image_id": 10, "category_id": 17, "bbox": [15, 5, 10, 10], "iscrowd": False, "ignore": None},
    ],
    "categories": [
        {"id": 90, "name": "toothbrush", "supercategory": "indoor"},
        {"id": 4, "name": "motorcycle"},
        {"id": 17, "name": "cat"},
    ],
}


def write(folder: Path, content: Any) -> Path:
    """The annotation file, and black images for those that it names."""
    (folder / "images" / "sub").mkdir(parents=True, exist_ok=True)
    for image in GOOD["images"]:
        path = folder / "images" / image["file_name"]
        if not path.exists():
            Image.new("RGB", (image["width"], image["height"])).save(path)
    (folder / "annotations").mkdir(exist_ok=True)
    path = folder / "annotations" / "val.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(folder: Path, content: Any, skip_broken: bool = False) -> DataIndex:
    return read_coco(write(folder, content), folder / "images", skip_broken=skip_broken)


def changed(*path: Any, to: Any = None, drop: bool = False) -> dict[str, Any]:
    """GOOD with one value set, or left out."""
    content = copy.deepcopy(GOOD)
    place = content
    for key in path[:-1]:
        place = place[key]
    if drop:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return content


def test_everything_lands_in_its_column(tmp_path: Path) -> None:
    index = read(tmp_path, GOOD)
    assert len(index) == 3
    assert index.image_ids.tolist() == [30, 10, 20]
    assert (index.widths.tolist(), index.heights.tolist()) == ([40, 20, 20], [30, 10, 10])
    assert [index.file_name(i) for i in range(3)] == ["c.png", "sub/a.png", "bü.png"]
    assert index.path(1) == tmp_path / "images" / "sub" / "a.png"
    assert index.category_ids.tolist() == [4, 17, 90]
    assert index.names == ("motorcycle", "cat", "toothbrush")
    # Image 30 has one box, 10 has four in the order of the file, 20 is background.
    assert index.box_start.tolist() == [0, 1, 5, 5]
    assert index.annotation_ids.tolist() == [2, 5, 3, 9, 7]
    assert index.labels.tolist() == [0, 2, 0, 1, 1]
    assert index.boxes[:3].tolist() == [[0.5, 1.5, 10.5, 21.5], [1, 2, 4, 6], [-5, -5, 10, 5]]
    assert index.area.tolist() == [200, 7.5, 150, 100, 100]
    assert index.crowd.tolist() == [False, False, True, False, False]
    assert index.ignore.tolist() == [False, False, False, True, False]
    assert index.skipped == []


def test_targets_are_clipped_and_without_crowds(tmp_path: Path) -> None:
    index = read(tmp_path, GOOD)
    own = index.targets(1)
    assert own.boxes.tolist() == [[1, 2, 4, 6], [15, 5, 20, 10]]
    assert own.labels.tolist() == [2, 1]
    assert own.boxes.dtype == torch.float32
    assert index.targets(1, include_crowd=True).boxes.tolist() == [
        [1, 2, 4, 6],
        [0, 0, 10, 5],
        [15, 5, 20, 10],
        [15, 5, 20, 10],
    ]
    assert len(index.targets(2)) == 0


def test_a_sliver_that_float32_cannot_hold_is_no_target(tmp_path: Path) -> None:
    index = read(tmp_path, changed("annotations", 1, "bbox", to=[40 - 1e-9, 1, 5, 5]))
    assert index.box_start.tolist()[:2] == [0, 1]
    assert len(index.targets(0)) == 0


def test_targets_do_not_share_memory_with_the_index(tmp_path: Path) -> None:
    index = read(tmp_path, GOOD)
    index.targets(0).boxes.zero_()
    index.targets(0).labels.fill_(5)
    assert index.targets(0).boxes.tolist() == [[0.5, 1.5, 10.5, 21.5]]
    assert index.targets(0).labels.tolist() == [0]


@pytest.mark.parametrize("ids", [[1, 1, 2, 3, 4], [None, 1, 2, 3, 4]])
def test_annotation_ids_that_repeat_or_lack_are_numbered_anew(tmp_path: Path, ids: list) -> None:
    content = copy.deepcopy(GOOD)
    for annotation, value in zip(content["annotations"], ids, strict=True):
        annotation["id"] = value
    # Positions 1 to 5 in the file, sorted by image: 30 has the second.
    assert read(tmp_path, content).annotation_ids.tolist() == [2, 1, 3, 4, 5]


def test_box_of_no_height_is_kept_for_evaluation_and_not_learnt(tmp_path: Path) -> None:
    flat = read(tmp_path, changed("annotations", 0, "bbox", to=[1, 2, 3, 0]))
    whole = read(tmp_path, GOOD)
    assert (flat.without_area, whole.without_area) == (1, 0)
    assert len(flat.boxes) == len(whole.boxes)
    first = whole.image_ids.tolist().index(10)
    assert len(flat.targets(first)) == len(whole.targets(first)) - 1


ANNOTATION, IMAGE = r"val\.json: annotation 5 \(image 10\)", r"val\.json: image 10"
BROKEN = [
    (changed("annotations", 0, "bbox", to=[1, math.nan, 3, 4]), rf"{ANNOTATION}: box is not finite.*\[1, nan, 3, 4\]"),
    (changed("annotations", 0, "bbox", to=[1, 2, math.inf, 4]), rf"{ANNOTATION}: box is not finite"),
    (changed("annotations", 0, "bbox", to=[1, 2, -3, 4]), rf"{ANNOTATION}: box has a negative.*\[1, 2, -3, 4\]"),
    (changed("annotations", 0, "bbox", to=[20, 2, 3, 4]), rf"{ANNOTATION}: box lies outside its picture, 20x10"),
    (changed("annotations", 0, "bbox", to=[1, -4, 3, 4]), rf"{ANNOTATION}: box lies outside"),
    (changed("annotations", 0, "bbox", to=[1, 2, 3]), rf"{ANNOTATION}: .*length 4, got 3 \(key 'bbox'\)"),
    (changed("annotations", 0, "bbox", to=[]), rf"{ANNOTATION}: .*length 4"),
    (
        changed("annotations", 0, "bbox", to=[1, 2, 3, "4"]),
        rf"{ANNOTATION}: expected 'float', got 'str' \(key 'bbox'\)",
    ),
    (changed("annotations", 0, "bbox", to=None), rf"{ANNOTATION}: expected 'array', got 'null'"),
    (changed("annotations", 0, "bbox", drop=True), rf"{ANNOTATION}: lacks the key 'bbox'"),
    (changed("annotations", 0, "category_id", drop=True), rf"{ANNOTATION}: lacks the key 'category_id'"),
    (changed("annotations", 0, "category_id", to=18), rf"{ANNOTATION}: unknown category id 18; known are 4, 17, 90"),
    (changed("annotations", 0, "category_id", to="cat"), rf"{ANNOTATION}: expected 'int', got 'str'"),
    (changed("annotations", 0, "image_id", drop=True), r"annotation 5: lacks the key 'image_id'"),
    (changed("annotations", 0, "image_id", to=11), r"annotation 5 \(image 11\): no image has the id 11"),
    (changed("annotations", 0, to=[1, 2]), r"annotation at position 0: expected 'object', got 'array'"),
    (changed("images", 1, "file_name", drop=True), rf"{IMAGE}: lacks the key 'file_name'"),
    (changed("images", 1, "file_name", to=""), rf"{IMAGE}: .*'file_name'"),
    (changed("images", 1, "width", drop=True), rf"{IMAGE}: lacks the key 'width'"),
    (changed("images", 1, "height", to=0), rf"{IMAGE}: .*>= 1 \(key 'height'\)"),
    (changed("images", 1, "width", to="20"), rf"{IMAGE}: expected 'int', got 'str' \(key 'width'\)"),
    (changed("images", 1, "id", drop=True), r"image at position 1: lacks the key 'id'"),
    (changed("images", 1, "id", to=30), r"image id 30 is there twice, the second time for sub/a\.png"),
    (changed("images", 1, "file_name", to="a\0b/c.png"), "1 of 3 pictures are missing"),
    (changed("images", 1, "file_name", to="\ud800.png"), "1 of 3 pictures are missing"),
    (changed("images", 1, "file_name", to="sub/x.png"), r"1 of 3 pictures are missing in .*images: sub/x\.png;"),
]


@pytest.mark.parametrize(("content", "message"), BROKEN)
def test_broken_record_is_one_clear_line(tmp_path: Path, content: dict, message: str) -> None:
    with pytest.raises(BrokenInputError, match=message) as caught:
        read(tmp_path, content)
    assert "--skip-broken" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "message"), BROKEN)
def test_skip_broken_leaves_out_what_is_broken_and_nothing_else(tmp_path: Path, content: dict, message: str) -> None:
    index = read(tmp_path, content, skip_broken=True)
    assert len(index.skipped) >= 1
    assert all("\n" not in line for line in index.skipped)
    assert "--skip-broken" not in "".join(index.skipped)
    if len(index) == 3:
        assert index.annotation_ids.tolist() == [2, 3, 9, 7]
        assert len(index.skipped) == 1
    else:
        assert index.image_ids.tolist() == [30, 20]
        assert index.annotation_ids.tolist() == [2]


def test_boxes_of_a_image_left_out_are_not_listed_one_by_one(tmp_path: Path) -> None:
    for content in (changed("images", 1, "file_name", to="x.png"), changed("images", 1, "width", to=-1)):
        index = read(tmp_path, content, skip_broken=True)
        assert len(index.skipped) == 1
        assert "image 10" in index.skipped[0]


def test_missing_images_are_counted_and_three_named(tmp_path: Path) -> None:
    content = copy.deepcopy(GOOD)
    content["images"] += [{"id": 100 + i, "file_name": f"gone/{i}.png", "width": 5, "height": 5} for i in range(5)]
    message = r"5 of 8 pictures are missing in .*images: gone/0\.png, gone/1\.png, gone/2\.png, \.\.\.;"
    with pytest.raises(BrokenInputError, match=message):
        read(tmp_path, content)
    index = read(tmp_path, content, skip_broken=True)
    assert len(index) == 3
    assert len(index.skipped) == 5


def test_each_image_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(str(path)), scandir(path))[1])
    read(tmp_path, GOOD)
    assert len(listed) == 2


WRONG_FILES = [
    ("not json", r"val\.json is not JSON: .*line 1 column 1"),
    ("", r"val\.json is not JSON"),
    ('{"images": [', r"val\.json is not JSON"),
    ("[" * 100_000, r"val\.json is not JSON"),
    ([1, 2], "holds no object with images, annotations and categories"),
    (changed("images", drop=True), "lacks the key 'images'"),
    (changed("annotations", drop=True), "lacks the key 'annotations'"),
    (changed("categories", drop=True), "lacks the key 'categories'"),
    (changed("annotations", to=None), "has no list under the key 'annotations'"),
    (changed("categories", to=[]), "'categories' is empty"),
    (changed("categories", 0, "id", to=4), "category id 4 is there twice"),
    (changed("categories", 0, "name", drop=True), "category 90: lacks the key 'name'"),
    (changed("categories", 0, "id", to="4"), "category '4': expected 'int', got 'str'"),
    (changed("images", to=[]) | {"annotations": []}, "no picture in it"),
]


@pytest.mark.parametrize("skip_broken", [False, True])
@pytest.mark.parametrize(("content", "message"), WRONG_FILES)
def test_wrong_file(tmp_path: Path, content: Any, message: str, skip_broken: bool) -> None:
    with pytest.raises(UsageError, match=message):
        read(tmp_path, content, skip_broken)


def test_missing_file_folder_and_all_images(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    with pytest.raises(UsageError, match=r"annotation file .*none\.json does not exist"):
        read_coco(tmp_path / "none.json", tmp_path / "images")
    with pytest.raises(UsageError, match=r"picture folder .*photos does not exist"):
        read_coco(path, tmp_path / "photos")
    with pytest.raises(BrokenInputError, match="3 of 3 pictures are missing"):
        read_coco(path, tmp_path / "annotations")
    with pytest.raises(UsageError, match="no picture is left"):
        read_coco(path, tmp_path / "annotations", skip_broken=True)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.write_bytes(b"\x89PNG\xff\xfe" * 10)
    with pytest.raises(UsageError, match="is not JSON"):
        read_coco(path, tmp_path / "images")


def test_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_coco(path, tmp_path / "images")) == 3


def test_nan_area_is_replaced(tmp_path: Path) -> None:
    assert read(tmp_path, changed("annotations", 0, "area", to=math.nan)).area.tolist()[1] == 12


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
PLACES = [(part, 0, key) for part in GOOD for key in GOOD[part][0]] + [(part, 0) for part in GOOD]


@settings(max_examples=100, deadline=None)
@given(place=st.sampled_from(PLACES), value=JSON, skip=st.booleans())
def test_any_value_anywhere_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, place: tuple, value: Any, skip: bool
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    try:
        index = read(folder, changed(*place, to=value), skip)
    except GfocalError:
        return
    assert np.isfinite(index.boxes).all()
    for i in range(len(index)):
        assert (index.targets(i).boxes[:, 2:] > index.targets(i).boxes[:, :2]).all()


def test_the_fast_reader_and_the_careful_one_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = read(tmp_path, GOOD)

    def refuse(*_: Any, **__: Any) -> None:
        raise msgspec.DecodeError("")

    monkeypatch.setattr(msgspec.json, "decode", refuse)
    careful = read(tmp_path, GOOD)
    for name in (
        "image_ids",
        "box_start",
        "boxes",
        "labels",
        "crowd",
        "ignore",
        "area",
        "annotation_ids",
        "name_bytes",
    ):
        assert np.array_equal(getattr(fast, name), getattr(careful, name)), name


def layout(folder: Path, file: str, images: str) -> Path:
    for image in GOOD["images"]:
        path = folder / images / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (image["width"], image["height"])).save(path)
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps({"info": {}} | GOOD))
    return folder


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("annotations/val.json", "images"),
        ("annotations/val.json", "images/val"),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_val2017.json", "images/val2017"),
        ("annotations/instances_val.json", "val"),
        ("valid/_annotations.coco.json", "valid"),
        ("val/_annotations.coco.json", "val"),
    ],
)
def test_find_coco(tmp_path: Path, file: str, images: str) -> None:
    root = layout(tmp_path, file, images)
    (root / "images").mkdir(exist_ok=True)  # An empty folder of a likelier name does not lead astray.
    for given_path in (root, str(root), root / file):
        annotations, folders = find_coco(given_path, "val")  # type: ignore[arg-type]
        index = read_coco(annotations, folders)
        assert (annotations, index.images_dir) == (root / file, root / images)
        assert len(index) == 3


def test_find_coco_beside_and_train(tmp_path: Path) -> None:
    mine = layout(tmp_path / "a", "mine.json", ".") / "mine.json"
    assert read_coco(*find_coco(mine, "val")).images_dir == tmp_path / "a"
    layout(tmp_path / "b", "train/_annotations.coco.json", "train")
    assert read_coco(*find_coco(tmp_path / "b", "train")).images_dir == tmp_path / "b" / "train"


@pytest.mark.parametrize("far", [False, True], ids=["images first", "annotations first"])
@pytest.mark.parametrize("gone", range(3))
def test_one_missing_image_does_not_hide_the_folder_of_the_others(tmp_path: Path, gone: int, far: bool) -> None:
    layout(tmp_path, "annotations/train.json", "images/train")
    file = tmp_path / "annotations" / "train.json"
    content = json.loads(file.read_text())
    if far:  # the names begin behind the first MB
        file.write_text(json.dumps({"annotations": content.pop("annotations"), "info": "x" * (1 << 20)} | content))
    name = content["images"][gone]["file_name"]
    (tmp_path / "images" / "train" / name).unlink()
    index = read_coco(*find_coco(tmp_path, "train"), skip_broken=True)
    assert index.images_dir == tmp_path / "images" / "train"
    assert len(index) == 2
    assert len(index.skipped) == 1
    assert name in index.skipped[0]


def test_find_coco_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no val annotations in .*annotations/val\.json.*valid/_annotations\.coco\.json"
    ):
        find_coco(tmp_path, "val")
    with pytest.raises(UsageError, match=r"data set .*nowhere does not exist"):
        find_coco(tmp_path / "nowhere", "train")


@pytest.mark.parametrize(("name", "images", "boxes", "classes"), [("coco_mini", 350, 2752, 80), ("bccd", 87, 1137, 3)])
def test_real_data(shared: Path, name: str, images: int, boxes: int, classes: int) -> None:
    index = read_coco(*find_coco(shared / "data" / name, "val"))
    assert (len(index), len(index.boxes), len(index.names)) == (images, boxes, classes)
    raw = json.loads(index.annotations.read_text())
    by_id = {annotation["id"]: annotation for annotation in raw["annotations"]}
    owner = np.repeat(index.image_ids, np.diff(index.box_start))
    for i, annotation_id in enumerate(index.annotation_ids.tolist()):
        annotation = by_id[annotation_id]
        x, y, width, height = annotation["bbox"]
        assert index.boxes[i].tolist() == [x, y, x + width, y + height]
        assert owner[i] == annotation["image_id"]
        assert index.category_ids[index.labels[i]] == annotation["category_id"]
        assert index.crowd[i] == bool(annotation["iscrowd"])


def test_whole_numbers_may_be_written_as_floats(tmp_path: Path) -> None:
    content = copy.deepcopy(GOOD)
    for part, keys in (
        ("images", ("id", "width", "height")),
        ("annotations", ("id", "image_id", "category_id", "iscrowd", "ignore")),
        ("categories", ("id",)),
    ):
        for record in content[part]:
            record |= {key: float(record[key]) for key in keys if record.get(key) is not None}
    floats, whole = read(tmp_path / "floats", content), read(tmp_path / "whole", GOOD)
    assert '"image_id": 10.0' in floats.annotations.read_text()
    for name in ("image_ids", "widths", "heights", "labels", "crowd", "ignore", "annotation_ids", "category_ids"):
        ours, expected = getattr(floats, name), getattr(whole, name)
        assert ours.dtype == expected.dtype, name
        assert ours.tolist() == expected.tolist(), name
    booleans = copy.deepcopy(GOOD)
    for record in booleans["annotations"]:
        record |= {key: bool(record.get(key)) for key in ("iscrowd", "ignore")}
    assert read(tmp_path / "booleans", booleans).crowd.tolist() == whole.crowd.tolist()


@pytest.mark.parametrize("key", ["image_id", "category_id", "iscrowd"])
def test_fractions_are_no_whole_numbers(tmp_path: Path, key: str) -> None:
    with pytest.raises(BrokenInputError, match=rf"annotation 5 .*'float' \(key '{key}'\)"):
        read(tmp_path, changed("annotations", 0, key, to=10.5))


def test_boxes_of_a_image_with_a_float_id_go_with_it(tmp_path: Path) -> None:
    content = changed("images", 1, to=GOOD["images"][1] | {"id": 10.0, "width": -1})
    assert len(read(tmp_path, content, skip_broken=True).skipped) == 1


def test_with_classes_matches_by_name(tmp_path: Path) -> None:
    index = read(tmp_path, GOOD)
    names = ("cat", "dog", "motorcycle", "toothbrush")
    new = index.with_classes(names)
    assert new.names == names
    # As read: motorcycle 0, cat 1, toothbrush 2.
    assert index.labels.tolist() == [0, 2, 0, 1, 1]
    assert new.labels.tolist() == [2, 3, 2, 0, 0]
    assert new.labels.dtype == np.int64
    # The dog has an id that nothing else has.
    assert new.category_ids.tolist() == [17, 1, 4, 90]
    assert new.targets(1).labels.tolist() == [3, 0]
    assert new.boxes is index.boxes
    assert index.with_classes(list(index.names)) is index
    assert new.with_classes(index.names).labels.tolist() == index.labels.tolist()


def test_with_classes_drops_only_what_has_no_boxes(tmp_path: Path) -> None:
    content = copy.deepcopy(GOOD)
    content["categories"].append({"id": 1, "name": "things"})
    index = read(tmp_path, content)
    new = index.with_classes(("motorcycle", "cat", "toothbrush"))
    assert new.category_ids.tolist() == [4, 17, 90]
    assert new.labels.tolist() == [0, 2, 0, 1, 1]
    with pytest.raises(UsageError, match=r"val\.json has different classes: .* has cat \(2 boxes\); .* motorcycle"):
        index.with_classes(("motorcycle", "toothbrush"))


def test_with_classes_of_one_name(tmp_path: Path) -> None:
    index = read(tmp_path, changed("categories", 2, "name", to="motorcycle"))
    assert index.names == ("motorcycle", "motorcycle", "toothbrush")
    new = index.with_classes(("toothbrush", "motorcycle", "motorcycle"))
    assert new.category_ids.tolist() == [90, 4, 17]
    assert new.labels.tolist() == [1, 0, 1, 2, 2]
    with pytest.raises(UsageError, match=r"motorcycle \(2 boxes\)"):
        index.with_classes(("toothbrush", "motorcycle"))


def test_ambiguity_of_edges(tmp_path: Path) -> None:
    assert read(tmp_path / "none", GOOD).edge_ambiguity is None
    content = changed("annotations", 1, "edge_ambiguity", to=[0, 1.5, 2, 0.25])
    content["annotations"][0]["edge_ambiguity"] = None
    index = read(tmp_path, content)
    assert index.edge_ambiguity is not None
    # Sorted by image: annotation 2 belongs to the first, the other four to the second, which do not say.
    assert index.annotation_ids.tolist() == [2, 5, 3, 9, 7]
    assert index.edge_ambiguity[0].tolist() == [0, 1.5, 2, 0.25]
    assert np.isnan(index.edge_ambiguity[1:]).all()
    assert index.with_classes(("cat", "dog", "motorcycle", "toothbrush")).edge_ambiguity is index.edge_ambiguity


@pytest.mark.parametrize("wrong", [[1, 2, 3], [1, 2, 3, -0.5], [1, 2, 3, math.inf], [1, 2, 3, math.nan], 1.0])
def test_broken_ambiguity_is_named(tmp_path: Path, wrong: Any) -> None:
    content = changed("annotations", 1, "edge_ambiguity", to=wrong)
    with pytest.raises(BrokenInputError, match=r"annotation 2 .*edge_ambiguity"):
        read(tmp_path, content)
    index = read(tmp_path, content, skip_broken=True)
    assert index.annotation_ids.tolist() == [5, 3, 9, 7]
    assert index.edge_ambiguity is None


@pytest.mark.parametrize("skip", [False, True])
def test_checking_annotations_changes_none(skip: bool) -> None:
    """The arrays are read-only: a check that converts or fills in anything fails here."""
    images = [ImageRecord(id=i, file_name=f"{i}.png", width=20, height=10) for i in (1, 2)]
    annotations = Annotations(3)
    where = {"category_id": 4, "edge_ambiguity": (0, 1, 2, 3)}
    annotations.add(
        [
            AnnotationRecord(image_id=2, bbox=(1, 2, 3, 4), **where),
            AnnotationRecord(image_id=1, bbox=(5, 6, -7 if skip else 7, 8), area=2.5, **where),
            AnnotationRecord(image_id=1, bbox=(0, 0, 1, 2), **where),
        ]
    )
    before = copy.deepcopy(vars(annotations))
    arrays = [array for array in vars(annotations).values() if isinstance(array, np.ndarray)]
    assert len(arrays) == 10
    for array in arrays:
        array.flags.writeable = False
    checked = check_annotations(annotations, images, np.array([4]), Path("a.json"), Problems(skip))
    for name, array in before.items():
        assert np.array_equal(getattr(annotations, name), array, equal_nan=name in ("area", "ambiguity")), name
    assert np.asarray(checked.rows).tolist() == ([2, 0] if skip else [1, 2, 0])
    assert checked.box_start.tolist() == ([0, 1, 2] if skip else [0, 2, 3])

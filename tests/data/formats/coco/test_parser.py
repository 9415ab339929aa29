"""Reading a COCO file in parts: what is read and said is the same whatever the parts, and memory stays small."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gfocal.data.formats.coco import parser
from gfocal.data.formats.coco.parser import Annotations, parse
from gfocal.data.formats.coco.reader import read_coco
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.errors import GfocalError, UsageError


def content(images: int = 3, per: int = 4) -> dict[str, Any]:
    records = [{"id": 5 * i + 2, "file_name": f"{i}.png", "width": 64, "height": 48} for i in range(images)]
    annotations = [
        {"id": n, "image_id": 5 * (n % images) + 2, "category_id": 7, "bbox": [0.1 * n, 0.7, 9.3, 8.25], "area": n}
        for n in range(1, images * per + 1)
    ]
    return {"annotations": annotations, "images": records, "categories": [{"id": 7, "name": "cup"}]}


def write(folder: Path, text: bytes | dict[str, Any]) -> Path:
    for i in range(3):
        Image.new("RGB", (64, 48)).save(folder / f"{i}.png")
    file = folder / "a.json"
    file.write_bytes(json.dumps(text).encode() if isinstance(text, dict) else text)
    return file


def arrays(index: DataIndex) -> dict[str, Any]:
    named = ("image_ids", "box_start", "boxes", "labels", "crowd", "ignore", "area", "annotation_ids", "name_bytes")
    return {name: np.asarray(getattr(index, name)).tolist() for name in named} | {"skipped": index.skipped}


def result(file: Path, skip: bool) -> Any:
    try:
        return arrays(read_coco(file, file.parent, skip_broken=skip))
    except GfocalError as error:
        return type(error).__name__, str(error)


CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "nan": {"bbox": [1, math.nan, 3, 4]},
    "infinity": {"area": -math.inf},
    "floats for integers": {"image_id": 2.0, "id": 5.0},
    "text": {"bbox": "1, 2, 3, 4"},
    "no such picture": {"image_id": 4},
    "negative": {"bbox": [1, 2, -3, 4]},
    "repeated id": {"id": 1},
    "no id": {"id": None, "bbox": [100, 2, 3, 4]},
    "ambiguity": {"edge_ambiguity": [1, 2, 3, 4]},
}


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_parts_do_not_change_anything(change: str, skip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = content()
    data["annotations"][5] |= CHANGES[change]
    data["annotations"][9] |= CHANGES[change] | {"note": "NaN, {Infinity}"}
    file = write(tmp_path, data)
    whole = result(file, skip)
    for size in (1, 4, 5):
        monkeypatch.setattr(parser, "_CHUNK", size)
        assert result(file, skip) == whole
    if skip:
        assert len(whole["annotation_ids"]) + len(whole["skipped"]) == 12


def test_a_broken_record_is_counted_from_the_start_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = content()
    data["annotations"][7] = "nothing"
    monkeypatch.setattr(parser, "_CHUNK", 3)
    with pytest.raises(GfocalError, match="annotation at position 7: expected 'object', got 'str'"):
        read_coco(write(tmp_path, data), tmp_path)


def test_only_records_near_a_broken_one_are_read_slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slowly: list[bytes] = []
    loads = json.loads
    monkeypatch.setattr(parser, "_CHUNK", 4)
    monkeypatch.setattr(json, "loads", lambda text, **options: (slowly.append(text), loads(text, **options))[1])
    read_coco(write(tmp_path, content()), tmp_path)
    assert slowly == []
    data = content()
    data["annotations"][6]["area"] = math.nan
    read_coco(write(tmp_path, data), tmp_path)
    assert [loads(text)["id"] for text in slowly] == [5, 6, 7, 8]


def test_numbers_that_are_no_json_stay_what_they_are_in_names(tmp_path: Path) -> None:
    data = content()
    data["images"][0]["file_name"] = "NaN Infinity.png"
    data["annotations"][0]["area"] = math.nan
    data["categories"][0]["name"] = "NaN"
    Image.new("RGB", (64, 48)).save(tmp_path / "NaN Infinity.png")
    index = read_coco(write(tmp_path, data), tmp_path)
    assert index.file_name(0) == "NaN Infinity.png"
    assert index.names == ("NaN",)
    assert index.area[index.annotation_ids == 1].tolist() == [9.3 * 8.25]


def test_objects_within_a_record_do_not_divide_it(tmp_path: Path) -> None:
    data = content()
    data["annotations"][3]["attributes"] = [{"a": "}, {"}, {"b": [{}, {"image_id": 99}]}]
    assert arrays(read_coco(write(tmp_path, data), tmp_path)) == arrays(read_coco(write(tmp_path, content()), tmp_path))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_other_encodings_of_json(encoding: str, tmp_path: Path) -> None:
    plain = arrays(read_coco(write(tmp_path, content()), tmp_path))
    file = write(tmp_path, json.dumps(content()).encode(encoding))
    assert arrays(read_coco(file, tmp_path)) == plain


@pytest.mark.parametrize("wrong", [b"-NaN", b"01", b"0x1", b"nan", b"1.", b"'a'"])
def test_what_stands_for_a_number_and_is_none(wrong: bytes, tmp_path: Path) -> None:
    file = write(tmp_path, json.dumps(content()).encode().replace(b"8.25", wrong, 1))
    with pytest.raises(UsageError, match=r"a\.json is not JSON: .*line 1 column"):
        read_coco(file, tmp_path, skip_broken=True)


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    text = json.dumps(content()).encode()
    for end in (10, len(text) // 2, len(text) - 1):
        with pytest.raises(UsageError, match=r"is not JSON"):
            read_coco(write(tmp_path, text[:end]), tmp_path)


def test_a_zero_has_no_sign(tmp_path: Path) -> None:
    data = content()
    data["annotations"][0]["bbox"] = [-0.0, -0.0, 2, 3]
    index = read_coco(write(tmp_path, data), tmp_path)
    assert not np.signbit(index.boxes[0]).any()


def test_columns_of_annotations_grow_by_parts(tmp_path: Path) -> None:
    data = content()
    del data["annotations"][2]["id"]
    data["annotations"][4]["bbox"] = None
    found = parse(write(tmp_path, data), Problems(skip=True)).annotations
    assert isinstance(found, Annotations)
    assert (len(found), len(found.boxes), len(found.ids)) == (11, 11, 11)
    assert found.ids.tolist() == [1, 2, 0, 4, 6, 7, 8, 9, 10, 11, 12]
    assert np.flatnonzero(~found.has_id).tolist() == [2]
    assert found.ambiguity is None


CHILD = """
import re, sys
from pathlib import Path
from gfocal.data.formats.coco.reader import read_coco
def peak():  # Not getrusage: its peak begins with that of the parent.
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
index = read_coco(Path(sys.argv[1]), Path(sys.argv[1]).parent)
print(len(index), len(index.boxes), index.nbytes, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
@pytest.mark.parametrize("broken", [False, True])
def test_memory_of_a_million_boxes(tmp_path: Path, broken: bool) -> None:
    """100,000 images and 1,000,000 boxes, about 140 MB; Python's objects of them alone would take twice that."""
    images, per = 100_000, 10
    rng = np.random.default_rng(0)
    corners, sides = (rng.integers(0, most, (images * per, 2)).tolist() for most in (40_000, 8_000))
    file = tmp_path / "a.json"
    with file.open("w", encoding="utf-8") as text:
        text.write('{"annotations": [')
        for n, ((x, y), (width, height)) in enumerate(zip(corners, sides, strict=True)):
            area = math.nan if broken and n == 500_000 else width * height / 1e4
            record = {"id": n + 1, "image_id": n // per, "category_id": 1 + n % 80}
            record |= {"bbox": [x / 100, y / 100, width / 100, height / 100], "area": area, "iscrowd": 0}
            text.write((", " if n else "") + json.dumps(record))
        names = [f"{i:012d}.jpg" for i in range(images)]
        records = [{"id": i, "file_name": name, "width": 640, "height": 480} for i, name in enumerate(names)]
        categories = [{"id": 1 + c, "name": str(c)} for c in range(80)]
        text.write(f'], "images": {json.dumps(records)}, "categories": {json.dumps(categories)}}}')
    for name in names:
        (tmp_path / name).touch()
    told = subprocess.run([sys.executable, "-c", CHILD, str(file)], capture_output=True, text=True, check=True).stdout
    read_images, boxes, held, grown = map(int, told.split())
    size = file.stat().st_size
    assert (read_images, boxes) == (images, images * per)
    assert held / boxes < 40
    # The file, its records, the columns before they are packed; another copy of the file where it is not JSON.
    assert grown < (3.5 if broken else 2.5) * size
    index = read_coco(file, tmp_path)
    assert index.boxes[123_456].tolist() == [
        corners[123_456][0] / 100,
        corners[123_456][1] / 100,
        corners[123_456][0] / 100 + sides[123_456][0] / 100,
        corners[123_456][1] / 100 + sides[123_456][1] / 100,
    ]

"""Parts of the check: cut-off JPEG files, boxes that are there twice, copies and look-alikes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gfocal.data.checks.boxes import same_boxes
from gfocal.data.checks.check import check_data
from gfocal.data.checks.images import examine_image, examine_images
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import SAME_IOU
from helpers.planted import encoded, huge_png


def photo(width: int = 97, height: int = 83) -> Image.Image:
    small = np.random.default_rng(4).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


FLAT = Image.new("RGB", (96, 80), (128, 128, 128))  # What missing data look like.
JPEGS = {
    "baseline": encoded(photo()),
    "progressive": encoded(photo(), progressive=True),
    "grey": encoded(photo().convert("L")),
    "CMYK": encoded(photo().convert("CMYK")),
    "restart markers": encoded(photo(), restart_marker_rows=1),
    "no subsampling": encoded(photo(), subsampling=0, quality=95),
    "flat": encoded(FLAT),
    "flat, progressive": encoded(FLAT, progressive=True),
}


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["open", "closed"])
def test_a_jpeg_file_is_cut_off_or_whole(name: str, end: bytes, tmp_path: Path) -> None:
    data, path = JPEGS[name], tmp_path / "a.jpg"
    path.write_bytes(data + b"what some cameras add")
    assert examine_image(path).fault is None
    scan = data.find(b"\xff\xda") + 14
    for share in (0.2, 0.5, 0.8):
        path.write_bytes(data[: scan + int((len(data) - scan) * share)] + end)
        fault = examine_image(path).fault
        assert fault is not None, share
        assert fault.kind == "picture-truncated"


def test_a_progressive_file_that_ends_between_two_scans_is_cut_off(tmp_path: Path) -> None:
    data = JPEGS["progressive"]
    last = data.rfind(b"\xff\xda")
    # The table of the last scan stands before it.
    table = data.rfind(b"\xff\xc4", 0, last)
    (tmp_path / "a.jpg").write_bytes(data[:table] + b"\xff\xd9")
    assert examine_image(tmp_path / "a.jpg").fault == (
        "picture-truncated",
        "is cut off and closed again: the rest of the picture is missing",
    )


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_what_a_file_is_called_says_nothing_of_what_is_wrong_with_it(kind: str, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    data = bytearray(encoded(noise, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {})))
    if kind == "JPEG":
        data[data.find(b"\xff\xc4") + 5] = 255  # a table of codes that cannot be
    else:
        data[400:600] = b"\xff" * 200
    faults = []
    for name in ("scan", "scan (truncated)", "incomplete"):
        (tmp_path / name).write_bytes(data)
        faults.append(examine_image(tmp_path / name).fault)
    assert faults[0] is not None
    assert faults[0].kind == "picture-unreadable"
    assert faults == [faults[0]] * 3


def test_a_image_that_claims_to_be_enormous_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(huge_png())
    (facts,) = examine_images([tmp_path / "a.png"])
    assert facts.fault is not None
    assert facts.fault.kind == "picture-too-large"
    assert facts.refused


def index_of(boxes: list[list[float]], labels: list[int], images: list[int]) -> DataIndex:
    count = max(images) + 1
    return DataIndex.build(
        images_dir=Path("."),
        annotations=Path("a.json"),
        image_ids=range(count),
        file_names=[f"{i}.png" for i in range(count)],
        widths=[1000] * count,
        heights=[1000] * count,
        box_start=np.searchsorted(images, np.arange(count + 1)),
        boxes=boxes,
        labels=labels,
        names=["a", "b", "c"],
    )


def brute_force(index: DataIndex) -> list[tuple[int, int]]:
    """The first of its own class, else the first of all, by looking at every pair."""
    found = []
    boxes, labels = np.asarray(index.boxes), np.asarray(index.labels)
    for i in range(len(index)):
        rows = range(int(index.box_start[i]), int(index.box_start[i + 1]))
        for second in rows:
            same = []
            for first in range(rows.start, second):
                a, b = boxes[first], boxes[second]
                shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
                union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
                if shared / union > SAME_IOU:
                    same.append((labels[first] != labels[second], first))
            if same:
                found.append((min(same)[1], second))
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 3)] * 4, st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=14))
def test_boxes_that_are_there_twice(rows: list[tuple[int, ...]]) -> None:
    # Corners a fraction of a pixel apart: IoU on both sides of 0.99.
    ordered = sorted(rows, key=lambda row: row[5])
    boxes = [[10 + x * 0.4, 20 + y * 0.4, 110 + w * 0.4, 90 + h * 0.4] for x, y, w, h, _, _ in ordered]
    index = index_of(boxes, [row[4] for row in ordered], [row[5] for row in ordered])
    assert same_boxes(index) == sorted(brute_force(index))


def test_twenty_thousand_copies_of_a_box_take_seconds() -> None:
    boxes = np.tile([[3.0, 4.0, 50.0, 60.0]], (20_000, 1))
    index = index_of(boxes.tolist(), [0] * len(boxes), [0] * len(boxes))
    assert len(same_boxes(index)) == len(boxes) - 1


def test_what_is_found_does_not_depend_on_the_threads(tmp_path: Path) -> None:
    from gfocal.data.scenes.generate import make_scenes

    make_scenes(tmp_path / "data", train=12, val=6, size=64, seed=8)
    one, three = (check_data(tmp_path / "data", workers=workers) for workers in (1, 3))
    assert one.to_dict() == three.to_dict()
    assert one.facts == three.facts

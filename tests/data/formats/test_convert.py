"""Writing data sets in other formats, and what comes back."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gfocal.data.formats.convert import write_dataset
from gfocal.data.formats.open import open_dataset, open_splits
from gfocal.data.formats.sidecar import NAME
from gfocal.data.formats.writers import sides
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.errors import UsageError
from gfocal.utils.files import DiskFull

COLUMNS = [
    "image_ids",
    "widths",
    "heights",
    "box_start",
    "boxes",
    "labels",
    "crowd",
    "ignore",
    "area",
    "annotation_ids",
    "category_ids",
]


def index_of(folder: Path, **changes: Any) -> DataIndex:
    """Three images, five boxes of three classes, one class without any; what formats cannot hold is there."""
    names = ["b ä.png", "a.png", "sub/a.png"]
    for name, size in zip(names, ((40, 30), (20, 10), (20, 10)), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            Image.new("RGB", size, (len(name), 0, 0)).save(folder / name)
    columns: dict[str, Any] = {
        "images_dir": folder,
        "annotations": folder / "made",
        "image_ids": [30, 10, 20],
        "file_names": names,
        "widths": [40, 20, 20],
        "heights": [30, 10, 10],
        "box_start": [0, 2, 2, 5],
        "boxes": [
            [0.1, 0.2, 10.3, 20.7],
            [1 / 3, 2 / 3, 39.9, 29.99],
            [-5, -5, 10, 5],
            [15, 5, 25, 15],
            [1, 1, 1, 4],
        ],
        "labels": [2, 0, 0, 3, 3],
        "crowd": [0, 0, 1, 0, 0],
        "ignore": [0, 0, 0, 1, 0],
        "area": [7.5, 800.0, 60.0, 100.0, 0.0],
        "annotation_ids": [5, 2, 3, 9, 7],
        "category_ids": [4, 17, 90, 91],
        "names": ["no", "zebra crossing", "<b> & c", "ölig"],
        "edge_ambiguity": [[np.nan] * 4, [1, 2, 3, 4.5], [np.nan] * 4, [np.nan] * 4, [np.nan] * 4],
    }
    return DataIndex.build(**{**columns, **changes})


def same(a: DataIndex, b: DataIndex, columns: list[str] = COLUMNS) -> None:
    for column in columns:
        assert np.array_equal(np.asarray(getattr(a, column)), np.asarray(getattr(b, column))), column
    assert a.names == b.names
    assert [a.file_name(i) for i in range(len(a))] == [b.file_name(i) for i in range(len(b))]


def read(path: Path, split: Any = "train") -> tuple[DataIndex, list[str]]:
    problems = Problems(False)
    return open_dataset(path, split, problems=problems), problems.notes


@pytest.mark.parametrize("fmt", ["coco", "yolo", "voc"])
def test_all_of_it_comes_back(tmp_path: Path, fmt: Any) -> None:
    # VOC has one file a name, whatever the image's folder and ending; all these differ.
    index = index_of(tmp_path / "in")
    write_dataset({"train": index}, tmp_path / "out", fmt)
    back, notes = read(tmp_path / "out")
    same(index, back)
    assert notes == []
    assert index.edge_ambiguity is not None
    assert back.edge_ambiguity is not None
    assert np.array_equal(np.asarray(index.edge_ambiguity), np.asarray(back.edge_ambiguity), equal_nan=True)
    for i in range(len(index)):
        assert index.path(i).read_bytes() == back.path(i).read_bytes()


def test_round_and_round(tmp_path: Path, shared: Path) -> None:
    first = open_dataset(shared / "data" / "coco_mini", "val")
    index = first
    for step, fmt in enumerate(("yolo", "voc", "coco")):
        write_dataset({"val": index}, tmp_path / f"{step}", fmt, copy=False)  # type: ignore[arg-type]
        index, notes = read(tmp_path / f"{step}", "val")
        same(first, index)
        assert notes == []
    # Not only the same numbers: written as they were.
    written = json.loads((tmp_path / "2" / "annotations" / "val.json").read_text())["annotations"]
    raw = json.loads((shared / "data" / "coco_mini" / "annotations" / "val.json").read_text())["annotations"]
    wanted = {annotation["id"]: annotation["bbox"] for annotation in raw}
    assert all(annotation["bbox"] == wanted[annotation["id"]] for annotation in written)


def test_without_the_sidecar(tmp_path: Path) -> None:
    index = index_of(tmp_path / "in")
    lost = {fmt: write_dataset({"train": index}, tmp_path / fmt, fmt) for fmt in ("yolo", "voc")}  # type: ignore[arg-type]
    for fmt in lost:
        (tmp_path / fmt / NAME).unlink()
    yolo, _ = read(tmp_path / "yolo")
    assert [yolo.file_name(i) for i in range(3)] == ["a.png", "b ä.png", "sub/a.png"]
    assert yolo.names == index.names
    assert np.asarray(yolo.labels).tolist() == [2, 0, 3]  # without the crowd and the ignored one
    wanted = np.asarray(index.boxes)[[0, 1, 4]]
    assert np.abs(np.asarray(yolo.boxes) - wanted).max() < 1e-6
    voc, _ = read(tmp_path / "voc")
    assert voc.names == ("<b> & c", "no", "ölig")
    assert np.asarray(voc.ignore).tolist() == [False, False, True, True, False]
    clipped = np.asarray(index.boxes).copy()
    clipped[2], clipped[3] = (0, 0, 10, 5), (15, 5, 20, 10)
    assert np.array_equal(np.asarray(voc.boxes), clipped)
    both = ("area of 3 boxes", "2 boxes reach beyond", "edge_ambiguity", "ids of pictures, boxes, classes")
    for fmt, own in {
        "yolo": ("1 crowds: not in the label files", "1 ignored boxes: not in", "last digits"),
        "voc": ("1 crowds: become difficult", "order of the classes", "1 classes without boxes: zebra crossing"),
    }.items():
        assert len(lost[fmt]) == len(both + own), lost[fmt]
        assert all(any(text in line for line in lost[fmt]) for text in both + own)


@pytest.mark.parametrize("fmt", ["yolo", "voc"])
def test_a_label_file_that_was_changed_counts(tmp_path: Path, fmt: Any) -> None:
    index = index_of(tmp_path / "in")
    write_dataset({"train": index}, tmp_path / "out", fmt)
    if fmt == "yolo":
        (tmp_path / "out/labels/train/sub/a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    else:
        file = tmp_path / "out/Annotations/sub/a.xml"
        head, *_ = file.read_text(encoding="utf-8").split("  <object>")
        box = "<bndbox><xmin>5</xmin><ymin>2.5</ymin><xmax>15</xmax><ymax>7.5</ymax></bndbox>"
        file.write_text(f"{head}<object><name>zebra crossing</name>{box}</object></annotation>", encoding="utf-8")
    back, notes = read(tmp_path / "out")
    assert np.asarray(back.image_ids).tolist() == [30, 10, 20]
    assert np.asarray(back.box_start).tolist() == [0, 2, 2, 3]
    assert np.asarray(back.boxes)[2].tolist() == [5, 2.5, 15, 7.5]
    assert np.asarray(back.labels)[2] == 1
    assert np.asarray(back.annotation_ids).tolist() == [5, 2, 6]
    assert len(notes) == 1
    assert "1 picture changed after it was written" in notes[0]
    assert "sub/a.png" in notes[0]


def test_new_and_removed_images(tmp_path: Path) -> None:
    write_dataset({"train": index_of(tmp_path / "in")}, tmp_path / "out", "yolo")
    folder = tmp_path / "out"
    (folder / "images/train/a.png").unlink()
    (folder / "labels/train/a.txt").unlink()
    Image.new("RGB", (8, 8)).save(folder / "images/train/0.png")
    (folder / "labels/train/0.txt").write_text("3 0.5 0.5 1 1\n")
    back, notes = read(folder)
    assert notes == []
    assert [back.file_name(i) for i in range(3)] == ["b ä.png", "sub/a.png", "0.png"]
    assert np.asarray(back.image_ids).tolist() == [30, 20, 31]
    assert np.asarray(back.category_ids)[np.asarray(back.labels)].tolist() == [90, 4, 4, 91, 91, 91]


def test_renamed_classes_end_the_sidecar(tmp_path: Path) -> None:
    write_dataset({"train": index_of(tmp_path / "in")}, tmp_path / "out", "yolo")
    yaml = tmp_path / "out" / "data.yaml"
    yaml.write_text(yaml.read_text(encoding="utf-8").replace("zebra crossing", "zebra"), encoding="utf-8")
    back, notes = read(tmp_path / "out")
    assert "zebra" in back.names
    assert not np.asarray(back.crowd).any()
    assert len(notes) == 1
    assert "classes were changed" in notes[0]


@pytest.mark.parametrize(
    "text",
    ["{", '{"gfocal_sidecar": 2}', '{"gfocal_sidecar":1,"format":"yolo","names":[],"category_ids":[1],"splits":{}}'],
)
def test_a_damaged_sidecar_is_named(tmp_path: Path, text: str) -> None:
    write_dataset({"train": index_of(tmp_path / "in")}, tmp_path / "out", "yolo")
    (tmp_path / "out" / NAME).write_text(text)
    with pytest.raises(UsageError, match=r"gfocal\.json is damaged .*remove it"):
        read(tmp_path / "out")


@pytest.mark.parametrize("fmt", ["coco", "yolo", "voc"])
def test_splits_share_classes_and_names_do_not_clash(tmp_path: Path, fmt: Any) -> None:
    train = index_of(tmp_path / "in")
    val = index_of(tmp_path / "other", names=["ölig", "no", "new", "<b> & c"], category_ids=[1, 2, 4, 5])
    write_dataset({"train": train, "val": val}, tmp_path / "out", fmt)
    back = open_splits(tmp_path / "out")
    assert list(back) == ["train", "val"]
    assert back["train"].names == back["val"].names == ("no", "zebra crossing", "<b> & c", "ölig", "new")
    for split, index in (("train", train), ("val", val)):
        assert len(back[split]) == 3
        of = [np.array(one.names)[np.asarray(one.labels)].tolist() for one in (index, back[split])]
        assert of[0] == of[1]
        assert [index.path(i).read_bytes() for i in range(3)] == [back[split].path(i).read_bytes() for i in range(3)]


def test_names_that_differ_in_the_ending_only(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "A.bmp"):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.new("RGB", (40, 30)).save(tmp_path / "in" / name)
    names = ["a.png", "a.jpg", "A.bmp"]
    index = index_of(tmp_path / "in", file_names=names, widths=[40] * 3, heights=[30] * 3)
    for fmt in ("yolo", "voc"):
        lost = write_dataset({"train": index}, tmp_path / fmt, fmt)  # type: ignore[arg-type]
        back, _ = read(tmp_path / fmt)
        for column in COLUMNS:
            assert np.array_equal(np.asarray(getattr(index, column)), np.asarray(getattr(back, column)))
        assert [back.file_name(i) for i in range(3)] == ["a.png", "a_2.jpg", "A_3.bmp"]
        assert any("2 pictures are renamed" in line for line in lost)


def test_names_from_outside_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "out.png")
    Image.new("RGB", (20, 10)).save(tmp_path / "abs.png")
    Image.new("RGB", (20, 10)).save(tmp_path / "in" / "C_x.png")
    index = index_of(tmp_path / "in", file_names=["../out.png", str(tmp_path / "abs.png"), "C_x.png"])
    write_dataset({"train": index}, tmp_path / "new", "coco")
    back, _ = read(tmp_path / "new")
    assert [back.file_name(i) for i in range(3)] == ["out.png", "abs.png", "C_x.png"]


def test_it_is_all_or_nothing(tmp_path: Path) -> None:
    index = index_of(tmp_path / "in")
    index.path(2).unlink()
    with pytest.raises(UsageError, match=r"sub/a\.png cannot be copied"):
        write_dataset({"train": index}, tmp_path / "out", "yolo")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize("where", ["pictures", "labels"])
def test_a_full_disk_is_told_and_leaves_nothing(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_of(tmp_path / "in")

    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "pictures":
        monkeypatch.setattr("gfocal.data.formats.convert.shutil.copyfile", full)
    else:
        monkeypatch.setattr("gfocal.data.formats.writers.write_sidecar", full)
    with pytest.raises(DiskFull, match=rf"no room on the disk for {tmp_path / 'out'}; .* are free"):
        write_dataset({"train": index}, tmp_path / "out", "yolo")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    index = index_of(tmp_path / "in")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        write_dataset({"train": index}, tmp_path / "full", "yolo")
    with pytest.raises(UsageError, match="is a file"):
        write_dataset({"train": index}, tmp_path / "full" / "x", "yolo")
    with pytest.raises(UsageError, match="no pictures"):
        write_dataset({}, tmp_path / "none", "yolo")
    with pytest.raises(UsageError, match="must be one of coco, yolo, voc"):
        write_dataset({"train": index}, tmp_path / "none", "csv")  # type: ignore[arg-type]
    (tmp_path / "empty").mkdir()
    write_dataset({"train": index}, tmp_path / "empty", "yolo")
    assert (tmp_path / "empty" / "data.yaml").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full", "in"]


def test_links_take_no_room(tmp_path: Path) -> None:
    index = index_of(tmp_path / "in")
    done: list[tuple[int, int]] = []
    write_dataset(
        {"train": index}, tmp_path / "out", "coco", copy=False, progress=lambda count, of: done.append((count, of))
    )
    assert done == [(1, 3), (2, 3), (3, 3)]
    back, _ = read(tmp_path / "out")
    assert all(back.path(i).samefile(index.path(i)) for i in range(3))


def test_a_class_that_xml_cannot_name(tmp_path: Path) -> None:
    index = index_of(tmp_path / "in", names=["a", "b\x01", "c", "d"])
    with pytest.raises(UsageError, match="cannot be written as XML"):
        write_dataset({"train": index}, tmp_path / "out", "voc")
    assert not (tmp_path / "out").exists()


def test_yolo_turns_what_exif_turns(tmp_path: Path) -> None:
    """Images annotated as they are stored: with the sidecar right, without it a line warns."""
    index = index_of(tmp_path / "in")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "in" / "b ä.png", exif=exif)
    lost = write_dataset({"train": index}, tmp_path / "out", "yolo")
    assert any("1 picture is annotated as stored" in line for line in lost)
    back, _ = read(tmp_path / "out")
    assert (int(back.widths[0]), int(back.heights[0])) == (40, 30)
    (tmp_path / "out" / NAME).unlink()
    back, _ = read(tmp_path / "out")
    assert (int(back.widths[1]), int(back.heights[1])) == (30, 40)


def test_sides_restore_the_far_edges() -> None:
    rng = np.random.default_rng(0)
    xywh = np.round(rng.uniform(0, 500, (20_000, 4)), 2)
    boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
    assert np.array_equal(sides(boxes), xywh[:, 2:])
    xywh = rng.uniform(0, 500, (20_000, 4))
    boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
    assert np.array_equal(boxes[:, :2] + sides(boxes), boxes[:, 2:])

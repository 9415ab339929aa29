"""Every fault of YOLO and VOC data is named with its file and place, and left out where that is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gfocal.data.formats.open import open_dataset
from gfocal.data.problems import Problem, Problems
from gfocal.errors import BrokenInputError, GfocalError, UsageError
from helpers.layouts import CONTENT, LAYOUTS, boxes_of, image, voc_xml, yolo_text

WANTED = {name: boxes for name, (_, boxes) in CONTENT.items()}
A, B = WANTED["a.jpg"]


def made(root: Path, layout: str) -> Path:
    root.mkdir(exist_ok=True)
    LAYOUTS[layout][1](root)
    return root


def strict_and_skipped(root: Path) -> tuple[str, list[Problem], dict[str, Any]]:
    """(message when it stops, faults when it goes on, the boxes that are left)."""
    with pytest.raises(BrokenInputError) as stopped:
        open_dataset(root, "train")
    assert str(stopped.value).endswith("or leave it out with --skip-broken")
    assert str(stopped.value).startswith(f"{stopped.value.path}: {stopped.value.reason}; ")
    found: list[Problem] = []
    index = open_dataset(root, "train", problems=Problems(True, found.append))
    assert index.skipped == [str(problem) for problem in found]
    assert np.isfinite(np.asarray(index.boxes)).all()
    return str(stopped.value), found, boxes_of(index)


# Label Studio's YOLO: what line 2 of a.txt becomes.
@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("1 0.5 0.5 0.5", "record-broken", r"line 2: 4 numbers; a line is: class x y width height"),
        ("1 0.5 0.5 0.5 0.5 0.5 0.5 0.5", "record-broken", "line 2: 8 numbers"),
        ("1", "record-broken", "line 2: 1 numbers"),
        ("dog 0.5 0.5 0.5 0.5", "record-broken", "line 2: 'dog 0.5 0.5 0.5 0.5' has something that is not a number"),
        ("1 0,5 0,5 0,5 0,5", "record-broken", "line 2: .* has something that is not a number"),
        ("1, 0.5, 0.5, 0.5, 0.5", "record-broken", "has something that is not a number"),
        ("\x00\x01", "record-broken", "has something that is not a number"),
        ("2 0.5 0.5 0.5 0.5", "class-unknown", "line 2: unknown class 2; known are 0 to 1"),
        ("-1 0.5 0.5 0.5 0.5", "class-unknown", "class -1 is not a class number"),
        ("0.5 0.5 0.5 0.5 0.5", "class-unknown", "class 0.5 is not a class number"),
        ("1e30 0.5 0.5 0.5 0.5", "class-unknown", "is not a class number"),
        ("nan 0.5 0.5 0.5 0.5", "box-not-finite", "not finite"),
        ("1 nan 0.5 0.5 0.5", "box-not-finite", "line 2: a number is not finite: class 1, x y width height nan 0.5"),
        ("1 0.5 0.5 inf 0.5", "box-not-finite", "not finite"),
        ("1 0.5 0.5 -0.5 0.5", "box-negative", "line 2: box has a negative width or height"),
        ("1 0.5 0.5 0.5 -0.1", "box-negative", "negative"),
        ("1 20 15 10 10", "box-outside", "shares of its width and height are wanted, 0 to 1"),
        ("1 20 15 40 30", "box-outside", "shares of its width and height are wanted"),
        ("1 1.5 0.5 0.5 0.5", "box-outside", "line 2: box lies outside its picture"),
        ("1 -0.5 0.5 0.5 0.5", "box-outside", "lies outside"),
    ],
)
def test_a_broken_line(tmp_path: Path, line: str, kind: str, message: str) -> None:
    root = made(tmp_path, "label_studio_yolo")
    good = yolo_text("a.jpg").splitlines()
    (root / "labels/a.txt").write_text(f"{good[0]}\n{line}\n{good[1]}\n")
    stopped, found, left = strict_and_skipped(root)
    assert f"{root / 'labels' / 'a.txt'}: " in stopped
    assert [(problem.kind, problem.image) for problem in found] == [(kind, "a.jpg")]
    with pytest.raises(BrokenInputError, match=message):
        open_dataset(root, "train")
    assert left == WANTED, "the lines around it stay"


def test_lines_that_are_right_after_all(tmp_path: Path) -> None:
    root = made(tmp_path, "label_studio_yolo")
    lines = [
        "0.0 0.5 0.5 1.0000001 1.0000001",  # a whole number as pandas writes it, and rounding
        "1\t0.25   0.5 0.5 0.5 ",
        "",
        "0 1 1 0.5 0.5",  # partly outside is no fault
        "1 5e-1 .5 0 0.5",  # without width: kept, as in COCO
    ]
    (root / "labels/a.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    boxes = boxes_of(open_dataset(root, "train"))["a.jpg"]
    assert [name for name, _ in boxes] == ["cat", "dog", "cat", "dog"]
    assert boxes[1][1] == (0, 7.5, 20, 22.5)
    assert boxes[2][1] == (30, 22.5, 50, 37.5)


def test_polygons_scores_and_key_points(tmp_path: Path) -> None:
    root = made(tmp_path, "label_studio_yolo")
    (root / "labels/a.txt").write_text("0 0.1 0.2 0.5 0.1 0.3 0.6\n1 0.25 0.1 1 0.1 1 1 0.25 1\n")
    (root / "labels/b c.txt").write_text("1 0.375 0.5 0.75 1 0.9\n")
    problems = Problems(False)
    boxes = boxes_of(open_dataset(root, "train", problems=problems))
    assert boxes["a.jpg"] == [("cat", (4, 3, 20, 18)), B]
    assert boxes["b c.jpg"] == WANTED["b c.jpg"]
    assert [note.split(": ")[1] for note in problems.notes] == [
        "2 polygons are read as the boxes around them",
        "1 lines end with a sixth number (a score?), which is not read",
    ]
    posed = made(tmp_path / "posed", "ultralytics")
    (posed / "toys.yaml").write_text((posed / "toys.yaml").read_text() + "kpt_shape: [2, 3]\n")
    text = "".join(line + " 0.1 0.1 2 0.2 0.2 0\n" for line in yolo_text("a.jpg").splitlines())
    (posed / "labels/train/a.txt").write_text(text)
    problems = Problems(False)
    assert boxes_of(open_dataset(posed, "train", problems=problems)) == WANTED
    assert ["key points are not read" in note for note in problems.notes] == [True]


def test_label_files_without_a_image(tmp_path: Path) -> None:
    root = made(tmp_path, "label_studio_yolo")
    (root / "labels/lost.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    stopped, found, left = strict_and_skipped(root)
    assert "lost.txt: this label file has no picture in" in stopped
    assert [problem.kind for problem in found] == ["picture-missing"]
    assert left == WANTED


def test_unreadable_label_files_and_images(tmp_path: Path) -> None:
    root = made(tmp_path, "label_studio_yolo")
    (root / "labels/a.txt").write_bytes(b"\xff\xfe0\x00")
    stopped, found, left = strict_and_skipped(root)
    assert "a.txt: is not text" in stopped
    assert [problem.kind for problem in found] == ["record-broken"]
    root = made(tmp_path / "two", "label_studio_yolo")
    (root / "images/a.jpg").write_bytes(b"no picture")
    stopped, found, left = strict_and_skipped(root)
    assert "a.jpg: is damaged or not a picture" in stopped
    assert [problem.kind for problem in found] == ["picture-unreadable"]
    assert left == {name: boxes for name, boxes in WANTED.items() if name != "a.jpg"}


def test_listed_images_that_are_missing(tmp_path: Path) -> None:
    root = made(tmp_path, "cvat_yolo")
    with (root / "train.txt").open("a", encoding="utf-8") as file:
        file.write("data/obj_train_data/gone.jpg\ndata/obj_train_data/a.jpg\n")
    stopped, _, left = strict_and_skipped(root)
    assert "train.txt: line 4: picture data/obj_train_data/gone.jpg does not exist" in stopped
    assert left == WANTED
    problems = Problems(True)
    open_dataset(root, "train", problems=problems)
    assert any("listed more than once" in note for note in problems.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [cat\ntrain: images/train", "is not YAML"),
        ("- cat\n", "holds no keys"),
        ("", "holds no keys"),
        ("names: [cat, dog]\n", "none of the keys train, val and test"),
        ("train: images/train\nnames: {a: cat}", "has the key 'a'; class numbers are whole"),
        ("train: images/train\nnames: {0: [cat]}", "must be a list of class names"),
        ("train: images/train\nnames: cat", "'names' is 'cat'; give the class names as a list"),
        ("train: images/train\nnc: 3\nnames: [cat, dog]", "nc is 3, but 'names' has 2"),
        ("train: images/gone\nnames: [cat, dog]", "train: images/gone does not exist beside it"),
        ("val: images/val\nnames: [cat, dog]", "no train annotations in"),
        ("train: empty\nnames: [cat, dog]", "no pictures in"),
    ],
)
def test_a_broken_yaml(tmp_path: Path, text: str, message: str) -> None:
    root = made(tmp_path, "ultralytics")
    (root / "empty").mkdir()
    (root / "data.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        open_dataset(root / "data.yaml", "train")


def test_classes_by_number_and_without_names(tmp_path: Path) -> None:
    root = made(tmp_path, "ultralytics")
    yaml = root / "toys.yaml"
    plain = yaml.read_text().split("names:")[0]
    yaml.write_text(plain + "names: {1: no, 0: 7}\n")
    assert open_dataset(root, "train").names == ("7", "no"), "YAML would make them a number and a bool"
    yaml.write_text(plain + "names: {0: cat, 1: dog, 5: cow}\n")
    index = open_dataset(root, "train")
    assert np.asarray(index.category_ids).tolist() == [0, 1, 5]
    yaml.unlink()
    problems = Problems(False)
    index = open_dataset(root, "train", problems=problems)
    assert index.names == ("0", "1")
    assert any("nothing names the classes" in note for note in problems.notes)
    (root / "classes.txt").write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"classes\.txt cannot be read as UTF-8"):
        open_dataset(root, "train")


OBJECT = "<object>{}</object>"
BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


@pytest.mark.parametrize(
    ("extra", "kind", "message"),
    [
        (OBJECT.format(BOX.format(1, 1, 5, 5)), "record-broken", "object 3: has no name"),
        (OBJECT.format("<name> </name>" + BOX.format(1, 1, 5, 5)), "record-broken", "object 3: has no name"),
        (OBJECT.format("<name>cat</name>"), "record-broken", r"object 3 \(cat\): bndbox needs the numbers .* nothing"),
        (
            OBJECT.format("<name>cat</name>" + BOX.format(1, "", 5, 5)),
            "record-broken",
            r"object 3 \(cat\): bndbox needs the numbers xmin, ymin, xmax, ymax; it has '1', ''",
        ),
        (OBJECT.format("<name>cat</name>" + BOX.format(1, "x", 5, 5)), "record-broken", "it has '1', 'x', '5', '5'"),
        (OBJECT.format("<name>cat</name>" + BOX.format(1, "nan", 5, 5)), "box-not-finite", "box is not finite"),
        (OBJECT.format("<name>cat</name>" + BOX.format(1, 1, "inf", 5)), "box-not-finite", "box is not finite"),
        (OBJECT.format("<name>cat</name>" + BOX.format(9, 1, 5, 5)), "box-negative", "negative width or height"),
        (OBJECT.format("<name>cat</name>" + BOX.format(1, 9, 5, 5)), "box-negative", "negative width or height"),
        (OBJECT.format("<name>cat</name>" + BOX.format(50, 1, 60, 5)), "box-outside", "outside its picture, 40x30"),
        (OBJECT.format("<name>cat</name>" + BOX.format(-9, 1, -5, 5)), "box-outside", "outside its picture"),
    ],
)
def test_a_broken_object(tmp_path: Path, extra: str, kind: str, message: str) -> None:
    root = made(tmp_path, "label_studio_voc")
    file = root / "Annotations/a.xml"
    file.write_text(voc_xml("a.jpg", extra=extra))
    stopped, found, left = strict_and_skipped(root)
    assert f"{file}: object 3" in stopped
    assert [(problem.kind, problem.image) for problem in found] == [(kind, "a.jpg")]
    with pytest.raises(BrokenInputError, match=message):
        open_dataset(root, "train")
    assert left == WANTED


def cut(root: Path) -> None:
    file = root / "Annotations/a.xml"
    file.write_text(file.read_text()[:200])


def bomb(root: Path) -> None:
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "ha" * 10}">' for i in range(10))
    text = voc_xml("a.jpg").replace("<folder>x<", "<folder>&e9;<")
    (root / "Annotations/a.xml").write_text(f"<!DOCTYPE annotation [{entities}]>{text}")


def no_image(root: Path) -> None:
    (root / "images/a.jpg").unlink()


def not_a_image(root: Path) -> None:
    (root / "images/ü.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("damage", "kind", "message", "lost"),
    [
        (cut, "record-broken", r"a\.xml: is not well-formed XML: .*line 1", "a.jpg"),
        (bomb, "record-broken", r"a\.xml: is refused: EntitiesForbidden", "a.jpg"),
        (lambda root: (root / "Annotations/a.xml").write_bytes(b""), "record-broken", "not well-formed", "a.jpg"),
        (lambda root: (root / "Annotations/a.xml").write_bytes(b"\xff\xfe<"), "record-broken", "not well-fo", "a.jpg"),
        (no_image, "picture-missing", r"a\.xml: has no picture in", "a.jpg"),
        (not_a_image, "picture-unreadable", r"ü\.png: is damaged or not a picture .*; replace it, or leave", "ü.png"),
    ],
)
def test_a_broken_file(tmp_path: Path, damage: Callable[[Path], object], kind: str, message: str, lost: str) -> None:
    root = made(tmp_path, "label_studio_voc")
    damage(root)
    _, found, left = strict_and_skipped(root)
    assert [problem.kind for problem in found] == [kind]
    with pytest.raises(BrokenInputError, match=message):
        open_dataset(root, "train")
    assert left == {name: boxes for name, boxes in WANTED.items() if name != lost}, "not background: left out"


def test_voc_lists(tmp_path: Path) -> None:
    root = made(tmp_path, "voc")
    (root / "ImageSets/Main/val.txt").write_text("a.jpg\ngone\n")
    (root / "ImageSets/Main/train.txt").write_text("b c\n")
    with pytest.raises(BrokenInputError, match=r"val\.txt: picture gone does not exist in"):
        open_dataset(root, "val")
    index = open_dataset(root, "val", problems=(problems := Problems(True)))
    assert boxes_of(index) == {"a.jpg": [A, B]}
    assert [note.split(": ")[1] for note in problems.notes] == [
        "1 XML files are in none of its lists and belong to no split"
    ]
    assert index.names == ("cat", "dog"), "the names of all files, so that splits agree"
    assert open_dataset(root, "train").names == ("cat", "dog")


def test_trainval_without_train(tmp_path: Path) -> None:
    root = made(tmp_path, "voc")
    (root / "ImageSets/Main/train.txt").unlink()
    (root / "ImageSets/Main/val.txt").write_text("a\n")
    assert sorted(boxes_of(open_dataset(root, "train"))) == ["b c.jpg", "ü.png"]


def test_images_are_found_by_the_name_of_the_xml_file_first(tmp_path: Path) -> None:
    root = made(tmp_path, "label_img_voc")
    # A copy that still names another file, as people make them, and one whose image has another name.
    (root / "a2.xml").write_text(voc_xml("a.jpg"))
    image(root / "a2.jpg", CONTENT["a.jpg"][0])
    (root / "other.xml").write_text(voc_xml("b c.jpg").replace("b c.jpg", "C:\\photos\\Renamed.JPG"))
    image(root / "Renamed.JPG", CONTENT["b c.jpg"][0])
    left = boxes_of(open_dataset(root, "train"))
    assert left == {**WANTED, "a2.jpg": [A, B], "Renamed.JPG": WANTED["b c.jpg"]}
    (root / "again.xml").write_text(voc_xml("a.jpg"))
    with pytest.raises(BrokenInputError, match=r"again\.xml: belongs to the picture a\.jpg, as a\.xml does"):
        open_dataset(root, "train")


@pytest.mark.parametrize(
    "size", ["", "<size><width>0</width><height>0</height></size>", "<size><width>x</width></size>"]
)
def test_a_size_that_is_not_written_is_the_image_s(tmp_path: Path, size: str) -> None:
    root = made(tmp_path, "label_studio_voc")
    text = voc_xml("a.jpg")
    start, end = text.index("<size>"), text.index("</size>") + len("</size>")
    (root / "Annotations/a.xml").write_text(text[:start] + size + text[end:])
    index = open_dataset(root, "train")
    assert [(int(index.widths[i]), int(index.heights[i])) for i in range(3)] == [size for size, _ in CONTENT.values()]


def test_images_of_one_name(tmp_path: Path) -> None:
    root = made(tmp_path, "label_studio_voc")
    image(root / "images" / "a.png", (40, 30))
    problems = Problems(False)
    assert boxes_of(open_dataset(root, "train", problems=problems)) == WANTED
    assert [note.split(": ")[1] for note in problems.notes] == ["a.png is not read, since a.jpg has its name"]


def test_difficult_objects_are_ignored(tmp_path: Path) -> None:
    root = made(tmp_path, "label_studio_voc")
    extra = OBJECT.format("<name>cat</name><difficult>1</difficult>" + BOX.format(1, 2, 3, 4))
    (root / "Annotations/a.xml").write_text(voc_xml("a.jpg", extra=extra))
    index = open_dataset(root, "train")
    assert np.asarray(index.ignore).tolist() == [False, False, True, False]


def test_the_challenge_counts_from_one(tmp_path: Path) -> None:
    """1..W is the whole image there; a tool of today writes 0..W."""
    for database, wanted in (("The VOC2007 Database", (0, 0, 40, 30)), ("Unknown", (1, 1, 40, 30))):
        root = made(tmp_path / database, "label_studio_voc")
        extra = OBJECT.format("<name>cat</name>" + BOX.format(1, 1, 40, 30))
        (root / "Annotations/a.xml").write_text(voc_xml("a.jpg", database=database, extra=extra))
        problems = Problems(False)
        assert boxes_of(open_dataset(root, "train", problems=problems))["a.jpg"][-1][1] == wanted
        assert len(problems.notes) == (database != "Unknown")


TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
NUMBER = st.floats() | st.integers(-3, 3)
LINE = st.lists(NUMBER, max_size=8).map(lambda values: " ".join(map(str, values))) | TEXT


@settings(max_examples=150, deadline=None)
@given(lines=st.lists(LINE, max_size=4), skip=st.booleans())
def test_any_label_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], skip: bool
) -> None:
    root = tmp_path_factory.getbasetemp() / "yolo"
    if not root.is_dir():
        made(root, "label_studio_yolo")
    (root / "labels/a.txt").write_text("\n".join(lines), encoding="utf-8")
    with contextlib.suppress(GfocalError):
        index = open_dataset(root, "train", skip_broken=skip)
        assert np.isfinite(np.asarray(index.boxes)).all()
        assert len(index) == 3


@settings(max_examples=150, deadline=None)
@given(
    words=st.lists(TEXT | NUMBER.map(str), min_size=6, max_size=6),
    skip=st.booleans(),
    plain=st.booleans(),
)
def test_any_xml_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], skip: bool, plain: bool
) -> None:
    root = tmp_path_factory.getbasetemp() / "voc"
    if not root.is_dir():
        made(root, "label_studio_voc")
    name, difficult, *box = words
    one = f"<name>{name}</name><difficult>{difficult}</difficult>" + BOX.format(*box)
    text = voc_xml("a.jpg", extra=OBJECT.format(one))
    (root / "Annotations/a.xml").write_text(text if plain else "".join(words), encoding="utf-8")
    with contextlib.suppress(GfocalError):
        index = open_dataset(root, "train", skip_broken=skip)
        assert np.isfinite(np.asarray(index.boxes)).all()


def test_absolute_and_relative_entries_of_a_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("one", "two"):
        image(tmp_path / folder / "images" / f"{folder}.jpg", (40, 30))
        (tmp_path / folder / "labels").mkdir()
        (tmp_path / folder / "labels" / f"{folder}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    text = f"train: [one/images, {tmp_path / 'two' / 'images'}]\nnames: [cat]\n"
    (tmp_path / "data.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    index = open_dataset("data.yaml", "train")
    assert boxes_of(index).keys() == {"one.jpg", "two.jpg"}
    assert len(index.boxes) == 2


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("café".encode("iso-8859-1"), "café"), (b"<![CDATA[a & b]]>", "a & b"), (b"a &amp; b", "a & b")],
)
def test_class_names_are_those_of_the_parsed_file(tmp_path: Path, name: bytes, wanted: str) -> None:
    root = made(tmp_path, "voc")
    file = next(root.rglob("a.xml"))
    head = b'<?xml version="1.0" encoding="ISO-8859-1"?>'
    file.write_bytes(head + voc_xml("a.jpg").encode("ascii").replace(b"<name>cat<", b"<name>" + name + b"<"))
    assert open_dataset(root, "train").names == tuple(sorted(["dog", wanted]))


def test_an_object_without_a_name_takes_none_of_the_next(tmp_path: Path) -> None:
    root = made(tmp_path, "voc")
    file = next(root.rglob("a.xml"))
    unnamed = "<object><bndbox/></object><other><name>tail</name></other>"
    file.write_text(voc_xml("a.jpg", extra=unnamed))
    assert open_dataset(root, "train", skip_broken=True).names == ("cat", "dog")

"""Broken YOLO and VOC data sets and archives; see :mod:`helpers.broken_inputs`."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from helpers.broken_inputs import BYTES, NAMES, TEXT, WHOLE, Case, dead_link, own_link, replaced, text, write_coco

LINES = "0 0.3 0.34375 0.5 0.5\n1 0.6 0.625 0.3 0.625\n"
YAML = "path: .\ntrain: images/train\nnames:\n  0: cat\n  1: dog\n"


def write_yolo(root: Path) -> None:
    for kind in ("images", "labels"):
        (root / kind / "train").mkdir(parents=True)
    for name, data in BYTES.items():
        (root / "images" / "train" / name).write_bytes(data)
        (root / "labels" / "train" / f"{Path(name).stem}.txt").write_text(LINES)
    (root / "data.yaml").write_text(YAML)


LABEL = "labels/train/a.txt"
SECOND = LINES.splitlines()[1] + "\n"
yolo = partial(Case, write=write_yolo)
YOLO = [
    yolo(f"YOLO line: {name}", text(first + "\n" + SECOND, LABEL), "a.txt", fault, (4, 7))
    for name, first, fault in [
        ("4 numbers", "0 0.3 0.3 0.5", "line 1: 4 numbers"),
        ("1 number", "0", "line 1: 1 number"),
        ("8 numbers", "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "line 1: 8 numbers"),
        ("words", "cat 0.3 0.3 0.5 0.5", "line 1: .*not a number"),
        ("commas", "0,0.3,0.3,0.5,0.5", "line 1: .*not a number"),
        ("decimal commas", "0 0,3 0,3 0,5 0,5", "line 1: .*not a number"),
        ("JSON", '{"class": 0, "box": [1, 2, 3, 4]}', "line 1: .*not a number"),
        ("class out of range", "2 0.3 0.3 0.5 0.5", "line 1: unknown class 2"),
        ("class -1", "-1 0.3 0.3 0.5 0.5", "line 1: class -1"),
        ("class 0.5", "0.5 0.3 0.3 0.5 0.5", "line 1: class 0.5"),
        ("class of 30 digits", "1" * 30 + " 0.3 0.3 0.5 0.5", "line 1: class 1"),
        ("NaN", "0 nan 0.3 0.5 0.5", "line 1: .*not finite"),
        ("infinite", "0 0.3 0.3 inf 0.5", "line 1: .*not finite"),
        ("1e400", "0 0.3 0.3 1e400 0.5", "line 1: .*not finite"),
        ("1e308", "0 0.3 0.3 1e308 1e308", "line 1: .*outside"),
        ("negative width", "0 0.3 0.3 -0.5 0.5", "line 1: .*negative"),
        ("pixels", "0 12 11 20 16", "line 1: .*outside"),
        ("outside", "0 1.6 0.3 0.5 0.5", "line 1: .*outside"),
    ]
]
YOLO += [
    yolo(
        "YOLO label in UTF-16",
        text(LINES.encode("utf-16"), LABEL),
        "a.txt",
        "not text|not a number",
        (4, 6),
    ),
    yolo("YOLO label of zeros", text(b"\0" * 64, LABEL), "a.txt", "not a number", (4, 6)),
    yolo("YOLO label is a folder", replaced(LABEL, Path.mkdir), "a.txt", "cannot be read", (3, 6)),
    yolo(
        "YOLO label is a broken link", replaced(LABEL, dead_link), "a.txt", "cannot be read", (3, 6), write=write_yolo
    ),
    yolo(
        "YOLO label is a link to itself", replaced(LABEL, own_link), "a.txt", "cannot be read", (3, 6), write=write_yolo
    ),
    yolo(
        "YOLO label without a picture",
        text(LINES, "labels/train/e.txt"),
        "e.txt",
        "no picture",
        WHOLE,
    ),
    yolo("YOLO empty label", text("", LABEL), "a", "no boxes", (4, 6), refused=False),
    yolo("YOLO line with a score", text(LINES.replace("0.5\n", "0.5 0.9\n"), LABEL), "", "", WHOLE, False),
    yolo(
        "YOLO picture is text",
        text("sorry", "images/train/a.png"),
        "a.png",
        "cannot be read|picture",
        (3, 6),
    ),
]
YOLO += [
    yolo(f"data.yaml: {name}", text(content, "data.yaml"), "data.yaml", fault)
    for name, content, fault in [
        ("cut off", YAML[:-8] + "{", "YAML"),
        ("a list", "- a\n- b\n", "YAML|mapping|names|train"),
        ("words", "my data", "YAML|mapping|names|train"),
        ("random bytes", bytes(range(128, 256)), "YAML|text|utf"),
        ("zeros", b"\0" * 64, "YAML"),
        ("names is a number", YAML[: YAML.index("names")] + "names: 7\n", "names"),
        ("a name is missing", "train: images/train\nnames:\n  0: cat\n  x: dog\n", "names"),
        ("no such folder", YAML.replace("images/train", "images/gone"), "images/gone|exist"),
        ("a path out of the folder", YAML.replace("images/train", "../../../etc/none"), "exist|none"),
        ("train is a number", YAML.replace("images/train", "5"), "train|5"),
        (
            "laughs a billion times",
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{q}: &{q} [{','.join(['*' + p] * 9)}]\n" for p, q in zip("abcdefgh", "bcdefghi", strict=True))
            + "train: images/train\nnames: *i\n",
            "names|alias|YAML",
        ),
    ]
]


def voc(image: str, objects: str, head: str = "") -> str:
    size = "<size><width>40</width><height>32</height><depth>3</depth></size>"
    return f"{head}<annotation><filename>{image}</filename>{size}{objects}</annotation>"


def voc_object(name: str = "cat", box: str = "2 3 22 19") -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=True)
    inside = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
    return f"<object><name>{name}</name><bndbox>{inside}</bndbox></object>"


DOG = voc_object("dog", "18 10 30 30")
GOOD = voc("a.png", voc_object() + DOG)
LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {q} "{f"&{p};" * 10}">' for p, q in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>"
)
OUTSIDE = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
XML = "Annotations/a.xml"


def write_voc(root: Path) -> None:
    for folder in ("Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    for name, data in BYTES.items():
        (root / "JPEGImages" / name).write_bytes(data)
        (root / "Annotations" / f"{Path(name).stem}.xml").write_text(voc(name, voc_object() + DOG))


one_voc = partial(Case, write=write_voc)
VOC = [
    one_voc(f"VOC {name}", text(content, XML), "a.xml", fault, (3, 6))
    for name, content, fault in [
        ("of no bytes", "", "not well-formed"),
        ("cut off", GOOD[: len(GOOD) // 2], "not well-formed"),
        ("that is text", "no boxes today", "not well-formed"),
        ("that is JSON", "{}", "not well-formed"),
        ("of zeros", b"\0" * 99, "not well-formed"),
        ("with a bare &", GOOD.replace("cat", "cats & dogs"), "not well-formed"),
        ("entity bomb", voc("a.png", voc_object("&i;") + DOG, LAUGHS), "refused"),
        ("entity of a file", voc("a.png", voc_object("&f;") + DOG, OUTSIDE), "refused"),
    ]
]
VOC += [
    one_voc(
        f"VOC {name}", text((head + GOOD.replace("cat", "Kätzchen")).encode("latin-1"), XML), "a.xml", fault, (4, 7)
    )
    for name, head, fault in [
        ("Latin-1 of an unknown encoding", '<?xml version="1.0" encoding="klingon"?>', "cannot be read.*klingon"),
        ("Latin-1 called UTF-8", "", "cannot be read"),
    ]
]
VOC += [
    one_voc(f"VOC object {name}", text(voc("a.png", first + DOG), XML), "a.xml", fault, (4, 7))
    for name, first, fault in [
        ("without a box", "<object><name>cat</name></object>", "bndbox"),
        ("without a name", voc_object(""), "no name"),
        ("with words", voc_object(box="two 3 22 19"), "bndbox.*'two'"),
        ("with NaN", voc_object(box="nan 3 22 19"), "not finite"),
        ("infinite", voc_object(box="2 3 inf 19"), "not finite"),
        ("upside down", voc_object(box="2 19 22 3"), "negative"),
        ("outside", voc_object(box="50 3 60 19"), "outside"),
    ]
]
VOC += [
    one_voc("VOC size 0", text(GOOD.replace("<width>40", "<width>0"), XML), "", "", WHOLE, False),
    one_voc("VOC without a size", text(GOOD.replace("size>", "sighs>"), XML), "", "", WHOLE, False),
    one_voc("VOC of an unknown encoding", text('<?xml version="1.0" encoding="x"?>' + GOOD, XML), "", "", WHOLE, False),
    one_voc("VOC in UTF-16", text(GOOD.encode("utf-16"), XML), "", "", WHOLE, False),
    one_voc(
        "VOC of another size",
        text(GOOD.replace("<width>40", "<width>44"), XML),
        "a.png",
        "44x32",
        (3, 6),
        write=write_voc,
    ),
    one_voc(
        "VOC without its picture",
        replaced("JPEGImages/a.png", lambda _: None),
        "a.xml",
        "picture",
        (3, 6),
        write=write_voc,
    ),
    one_voc("VOC file is a folder", replaced(XML, Path.mkdir), "a", "", (4, 6), refused=False),
    one_voc("VOC file is a link to itself", replaced(XML, own_link), "a.xml", "cannot be read", (3, 6)),
]


def archive(change: Callable[[zipfile.ZipFile], Any] | None = None) -> Callable[[Path], None]:
    """Pack the COCO data set into ``data.zip``."""

    def write(root: Path) -> None:
        write_coco(root / "loose")
        with zipfile.ZipFile(root / "data.zip", "w") as packed:
            for name in NAMES:
                packed.write(root / "loose" / "images" / name, f"images/{name}")
            packed.writestr("annotations/train.json", TEXT)
            if change is not None:
                change(packed)

    return write


def link_entry(packed: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo("images/link.png")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    packed.writestr(entry, "/etc/passwd")


def bomb(packed: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo("images/big.bmp")
    entry.compress_type = zipfile.ZIP_DEFLATED
    with packed.open(entry, "w") as file:
        for _ in range(300):
            file.write(bytes(1 << 20))


def spoiled(where: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        file = root / "data.zip"
        data = bytearray(file.read_bytes())
        if where == "cut":
            data = data[: len(data) // 2]
        elif where == "encrypted":
            at = data.find(b"PK\x01\x02")
            data[at + 8] |= 1
            data[6] |= 1
        else:
            at = data.find(BYTES["a.png"]) + 100
            data[at : at + 20] = b"\x55" * 20
        file.write_bytes(bytes(data))

    return spoil


def keep(root: Path) -> None:
    """Nothing: the data set was written broken."""


def packed(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive_:
        for name in names:
            archive_.writestr(name, b"")
    return file.getvalue()


ZIPS = [
    Case(f"zip: {name}", break_it, "data.zip", fault, write=write, place="data.zip")
    for name, write, break_it, fault in [
        ("text", archive(), text("PK? no", "data.zip"), "not a zip"),
        ("of no bytes", archive(), text("", "data.zip"), "not a zip"),
        ("cut off", archive(), spoiled("cut"), "not a zip|damaged"),
        ("a damaged picture", archive(), spoiled("data"), "damaged|CRC"),
        ("encrypted", archive(), spoiled("encrypted"), "encrypted"),
        ("empty", archive(), text(packed(), "data.zip"), "no data set"),
        ("only empty folders", archive(), text(packed("images/", "labels/"), "data.zip"), "no "),
        ("a way out", archive(lambda p: p.writestr("../../evil.png", b"x")), keep, "outside its folder"),
        ("a way out by backslashes", archive(lambda p: p.writestr("..\\evil.png", b"x")), keep, "outside its folder"),
        ("an absolute name", archive(lambda p: p.writestr("/tmp/evil.png", b"x")), keep, "outside its folder"),
        ("a drive", archive(lambda p: p.writestr("C:/evil.png", b"x")), keep, "outside its folder"),
        ("a link", archive(link_entry), keep, "link"),
        ("a bomb", archive(bomb), keep, "would unpack to"),
    ]
]
place = partial(Case, write=Path.mkdir)
PLACES = [
    place("nothing there", lambda root: None, "gone", "does not exist", place="gone"),
    place("an empty folder", lambda root: None, "/data;", "no data set"),
    place(
        "a folder of folders",
        lambda root: (root / "a" / "b" / "c").mkdir(parents=True),
        "/data;",
        "no data set",
        write=Path.mkdir,
    ),
    place("only pictures", text(BYTES["a.png"], "a.png"), "/data;", "no data set"),
    place("a picture", text(BYTES["a.png"], "a.png"), "a.png", "JSON|no data set", place="a.png"),
    place("a csv file", text("a,b\n", "a.csv"), "a.csv", "no data set", place="a.csv"),
    place("a tar", text("x", "a.tar"), "a.tar", "no data set", place="a.tar"),
]
CASES = [*YOLO, *VOC, *ZIPS, *PLACES]

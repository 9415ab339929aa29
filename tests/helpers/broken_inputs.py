"""Data sets of four tiny images, each broken in one way, and what must be said about it."""

from __future__ import annotations

import copy
import io
import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.planted import encoded, huge_png, with_orientation

SIZE = (40, 32)
NAMES = ("a.png", "b.jpg", "c.png", "d.jpg")
WHOLE = (4, 8)
"""Images and boxes of the data set before it is broken."""


def image(k: int) -> Image.Image:
    """Smooth noise: no two alike, and small as a file."""
    small = np.random.default_rng(k).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(SIZE, Image.Resampling.BICUBIC)


BYTES = {name: encoded(image(k), "PNG" if name.endswith("png") else "JPEG") for k, name in enumerate(NAMES)}
BOXES = ([2, 3, 20, 16], [18, 10, 12, 20])  # x, y, width, height; class 1 and 2
COCO: dict[str, Any] = {
    "images": [{"id": k, "file_name": name, "width": 40, "height": 32} for k, name in enumerate(NAMES, 1)],
    "annotations": [
        {"id": 2 * k + c, "image_id": k + 1, "category_id": c, "bbox": bbox, "area": 240, "iscrowd": 0}
        for k in range(4)
        for c, bbox in enumerate(BOXES, 1)
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
}


def write_coco(root: Path) -> None:
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    for name, data in BYTES.items():
        (root / "images" / name).write_bytes(data)
    (root / "annotations" / "train.json").write_text(json.dumps(COCO))


Breaker = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """One broken input.

    Attributes:
        name: of the test.
        break_it: changes a whole data set.
        file: what the message must name.
        fault: a word of it, whatever the capitals; several with | between.
        left: images and boxes that ``--skip-broken`` keeps; None: nothing can be done.
        refused: training without ``--skip-broken`` refuses it; False: it is odd, but can be used.
        write: makes the whole data set.
        images: whether ``predict`` reads what is broken.
        place: what of it is given, relative to its folder.
    """

    name: str
    break_it: Breaker
    file: str
    fault: str
    left: tuple[int, int] | None = None
    refused: bool = True
    write: Breaker = write_coco
    images: bool = False
    place: str = ""

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def text(content: str | bytes, file: str = "annotations/train.json") -> Breaker:
    data = content.encode() if isinstance(content, str) else content
    return lambda root: (root / file).write_bytes(data) and None


def changed(*path: Any, **values: Any) -> Breaker:
    """COCO with a value set (``to=``), or without it."""

    def break_it(root: Path) -> None:
        content = copy.deepcopy(COCO)
        place: Any = content
        for key in path[:-1]:
            place = place[key]
        if "to" in values:
            place[path[-1]] = values["to"]
        else:
            del place[path[-1]]
        (root / "annotations" / "train.json").write_text(json.dumps(content))

    return break_it


def replaced(file: str, by: Callable[[Path], Any]) -> Breaker:
    """Something else in place of a file."""

    def break_it(root: Path) -> None:
        (root / file).unlink()
        by(root / file)

    return break_it


def gone(file: str) -> Breaker:
    return lambda root: (root / file).unlink()


def dead_link(path: Path) -> None:
    path.symlink_to("gone")


def own_link(path: Path) -> None:
    path.symlink_to(path.name)


def raw(old: str, new: str) -> Breaker:
    """The annotation file with some of its text replaced, the first time it occurs."""
    return text(json.dumps(COCO).replace(old, new, 1))


def many(*breakers: Breaker) -> Breaker:
    return lambda root: [each(root) for each in breakers] and None


JSON = "train.json"
TEXT = json.dumps(COCO)
DEEP = "[" * 100_000 + "]" * 100_000
FILES = [
    Case("no bytes", text(""), JSON, "not JSON|empty"),
    Case("only blanks", text(" \n\n"), JSON, "not JSON|empty"),
    Case("cut in the middle", text(TEXT[: len(TEXT) // 2]), JSON, "not JSON"),
    Case("cut by one byte", text(TEXT[:-1]), JSON, "not JSON"),
    Case("null", text("null"), JSON, "no object"),
    Case("a list", text("[]"), JSON, "no object"),
    Case("a number", text("42"), JSON, "no object"),
    Case("words", text("these are my annotations"), JSON, "not JSON"),
    Case("two documents", text(TEXT + TEXT), JSON, "not JSON"),
    Case("a line for each record", text('{"id": 1}\n{"id": 2}\n'), JSON, "not JSON"),
    Case("random bytes", text(bytes(np.random.default_rng(0).integers(0, 256, 999, dtype=np.uint8))), JSON, "not JSON"),
    Case("zeros, as after a power cut", text(b"\0" * 4096), JSON, "not JSON"),
    Case("Latin-1", text(TEXT.replace("cat", "kÄtze").encode("latin-1")), JSON, "not JSON|utf-8"),
    Case("a picture", text(BYTES["a.png"]), JSON, "not JSON"),
    Case("brackets a hundred thousand deep", text(DEEP), JSON, "not JSON|deep"),
    Case("deep inside a record", raw('"area": 240', f'"area": 240, "more": {DEEP}'), JSON, "not JSON|deep"),
    Case("a number of 5,000 digits", raw("240", "1" * 5000), JSON, "not JSON|digits|area"),
    Case("no images", changed("images"), JSON, "lacks the key 'images'"),
    Case("no annotations", changed("annotations"), JSON, "lacks the key 'annotations'"),
    Case("no categories", changed("categories"), JSON, "lacks the key 'categories'"),
    Case("images is an object", changed("images", to={}), JSON, "no list under the key 'images'"),
    Case("annotations is null", changed("annotations", to=None), JSON, "no list under the key 'annotations'"),
    Case("categories is text", changed("categories", to="cat"), JSON, "no list under the key 'categories'"),
    Case("images is empty", changed("images", to=[]), JSON, "no picture"),
    Case("categories is empty", changed("categories", to=[]), JSON, "'categories' is empty"),
    Case("a class id twice", changed("categories", 1, "id", to=1), JSON, "category id 1 is there twice"),
    Case("a class without a name", changed("categories", 1, "name"), JSON, "lacks the key 'name'"),
    Case("a class name that is a number", changed("categories", 1, "name", to=7), JSON, "category 2"),
    Case("a class id that is text", changed("categories", 1, "id", to="2"), JSON, "category '2'"),
    Case("no picture exists", many(*(gone(f"images/{name}") for name in NAMES)), "a.png", "missing|exist"),
    Case("a folder in place of the file", replaced("annotations/train.json", Path.mkdir), "annotations", "no |not "),
    Case("a broken link", replaced("annotations/train.json", dead_link), "annotations", "no |not"),
    Case("a link to itself", replaced("annotations/train.json", own_link), "annotations", "no |not"),
    Case("no picture folder", lambda root: (root / "images").rename(f"{root}-images"), "a.png", "missing|exist"),
    Case(
        "a file in place of the picture folder",
        many(lambda root: (root / "images").rename(f"{root}-images"), text("", "images")),
        "a.png",
        "missing|exist",
    ),
]

ODD = [  # Can be used as they are.
    Case(
        "a folder of another name", lambda root: (root / "images").rename(root / "else"), "", "", WHOLE, refused=False
    ),
    Case("a byte order mark", text(TEXT.encode("utf-8-sig")), JSON, "", WHOLE, refused=False),
    Case("UTF-16", text(TEXT.encode("utf-16")), JSON, "", WHOLE, refused=False),
    Case("negative ids", changed("annotations", 0, "id", to=-5), JSON, "", WHOLE, refused=False),
    Case("ids as 3.0", changed("annotations", 0, "category_id", to=1.0), JSON, "", WHOLE, refused=False),
    Case("a box id twice", changed("annotations", 1, "id", to=1), JSON, "id 1 .*twice", WHOLE, refused=False),
    Case(
        "a box of no width", changed("annotations", 0, "bbox", to=[2, 2, 0, 9]), JSON, "side is 0", WHOLE, refused=False
    ),
    Case("a box of 1e308", changed("annotations", 0, "bbox", to=[0, 0, 1e308, 1e308]), JSON, "beyond", WHOLE, False),
    Case(
        "a box from -1e308", changed("annotations", 0, "bbox", to=[-9e307, 0, 1e308, 9]), JSON, "beyond", WHOLE, False
    ),
    Case("the same box twice", changed("annotations", 0, "category_id", to=2), JSON, "", WHOLE, refused=False),
    Case(
        "one picture listed twice", changed("images", 1, "file_name", to="a.png"), JSON, "more than once", WHOLE, False
    ),
    Case("no boxes at all", changed("annotations", to=[]), JSON, "none of its 4 pictures", (4, 0), refused=False),
]

RECORDS = [
    Case(f"annotation {name}", changed("annotations", 0, **change), JSON, fault, (4, 7))
    for name, change, fault in [
        ("is a list", {"to": [1, 2]}, "position 0"),
        ("is text", {"to": "box"}, "position 0"),
        ("is null", {"to": None}, "position 0"),
        ("is empty", {"to": {}}, "position 0"),
    ]
]
RECORDS += [
    Case(f"annotation {key} = {str(value)[:30]}", changed("annotations", 0, key, to=value), JSON, fault, (4, 7))
    for key, value, fault in [
        ("bbox", [2, 3, 20], "length 4"),
        ("bbox", [2, 3, 20, 16, 5], "length 4"),
        ("bbox", [], "length 4"),
        ("bbox", None, "bbox"),
        ("bbox", "2 3 20 16", "bbox"),
        ("bbox", {"x": 2}, "bbox"),
        ("bbox", [[2, 3], [20, 16]], "bbox"),
        ("bbox", ["2", "3", "20", "16"], "bbox"),
        ("bbox", [2, float("nan"), 20, 16], "not finite"),
        ("bbox", [2, 3, float("inf"), 16], "not finite"),
        ("bbox", [2, 3, -20, 16], "negative"),
        ("bbox", [2, 3, 20, -1e-9], "negative"),
        ("bbox", [41, 3, 20, 16], "outside"),
        ("bbox", [2, -17, 20, 16], "outside"),
        ("bbox", [1e300, 1e300, 5, 5], "outside"),
        ("category_id", 3, "unknown category id 3"),
        ("category_id", -1, "unknown category id -1"),
        ("category_id", "cat", "category_id"),
        ("category_id", None, "category_id"),
        ("category_id", 1.5, "category_id"),
        ("category_id", 2**70, "category_id"),
        ("image_id", 99, "no image has the id 99"),
        ("image_id", "a.png", "image_id"),
        ("image_id", None, "image_id"),
        ("area", "large", "area"),
        ("area", [240], "area"),
        ("iscrowd", "no", "iscrowd"),
        ("id", "first", "id"),
        ("id", 2**64, "id"),
    ]
]
RECORDS += [
    Case(f"annotation without {key}", changed("annotations", 0, key), JSON, f"lacks the key '{key}'", (4, 7))
    for key in ("bbox", "category_id", "image_id")
]
RECORDS += [
    Case(f"image {key} = {str(value)[:30]!r}", changed("images", 0, key, to=value), JSON, fault, left)
    for key, value, fault, left in [
        ("width", 0, "width", (3, 6)),
        ("width", -40, "width", (3, 6)),
        ("width", 40.5, "width", (3, 6)),
        ("width", "40", "width", (3, 6)),
        ("height", None, "height", (3, 6)),
        ("height", 2**31, "height", (3, 6)),
        ("file_name", 7, "file_name", (3, 6)),
        ("file_name", "", "file_name", (3, 6)),
        ("file_name", None, "file_name", (3, 6)),
        ("file_name", "gone.png", "gone.png", (3, 6)),
        ("file_name", "a\0b.png", "missing|exist", (3, 6)),
        ("file_name", "\ud800.png", "missing|exist", (3, 6)),
        ("file_name", "x" * 300 + ".png", "missing|exist", (3, 6)),
        ("file_name", "../../etc/nothing.png", "nothing.png", (3, 6)),
        ("file_name", "/no/such/folder/x.png", "x.png", (3, 6)),
        ("id", 2, "id 2 .*twice", (3, 6)),
        ("id", "one", "id", (3, 6)),
        ("id", None, "id", (3, 6)),
    ]
]
RECORDS += [
    Case(f"image without {key}", changed("images", 0, key), JSON, f"lacks the key '{key}'", (3, 6))
    for key in ("id", "file_name", "width", "height")
]


def header_of(file: str, count: int) -> bytes:
    return BYTES[file][:count]


def huge_jpeg() -> bytes:
    """A JPEG file whose header says 65,500 x 65,500 pixels."""
    data = bytearray(BYTES["b.jpg"])
    at = data.find(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    return bytes(data)


def huge_gif() -> bytes:
    data = bytearray(encoded(image(0).quantize(16), "GIF"))
    data[6:10] = struct.pack("<HH", 65000, 65000)
    return bytes(data)


def huge_bmp() -> bytes:
    data = bytearray(encoded(image(0), "BMP"))
    data[18:26] = struct.pack("<ii", 100_000, 100_000)
    return bytes(data)


def spliced(data: bytes, at: int, by: bytes) -> bytes:
    return data[:at] + by + data[at + len(by) :]


def as_tiff(compression: str) -> bytes:
    return encoded(image(1), "TIFF", compression=compression)


CUT = "cut off|ends after|truncated|damaged"
ZIP = b"PK\x03\x04" + b"\0" * 60
BAD_FILES: list[tuple[str, str, bytes, str]] = [
    ("of 0 bytes", "a.png", b"", "empty"),
    ("signature only", "a.png", header_of("a.png", 8), CUT),
    ("JPEG header only", "b.jpg", header_of("b.jpg", 20), CUT),
    ("JPEG without data", "b.jpg", BYTES["b.jpg"][: BYTES["b.jpg"].find(b"\xff\xda") + 14], CUT),
    ("PNG cut", "a.png", header_of("a.png", 600), CUT),
    ("JPEG cut", "b.jpg", BYTES["b.jpg"][:-40], CUT),
    ("JPEG without its end", "b.jpg", BYTES["b.jpg"][:-2], CUT),
    ("WebP cut", "a.png", encoded(image(0), "WEBP")[:-60], CUT),
    ("GIF cut", "a.png", encoded(image(0).quantize(64), "GIF")[:-200], CUT),
    ("BMP cut", "a.png", encoded(image(0), "BMP")[:-200], CUT),
    ("TIFF cut", "a.png", as_tiff("raw")[:-400], CUT),
    ("text named .jpg", "b.jpg", b"not a picture, sorry", "text|picture"),
    ("an HTML page", "b.jpg", b"<!doctype html><title>403</title>", "text|picture"),
    (
        "a git-lfs pointer",
        "b.jpg",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "text|pic",
    ),
    ("JSON", "a.png", b'{"error": "no such key"}', "text|picture"),
    ("a PDF", "b.jpg", b"%PDF-1.7\n" + b"\xe2\xe3" * 99, "PDF|picture"),
    ("a HEIC picture", "b.jpg", b"\0\0\0\x18ftypheic" + b"\0" * 300, "HEIC|picture"),
    ("an SVG drawing", "a.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG|picture"),
    ("PostScript", "a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript|picture"),
    ("a zip", "a.png", ZIP, "zip|picture"),
    ("random bytes", "a.png", bytes(np.random.default_rng(1).integers(0, 256, 999, dtype=np.uint8)), "picture"),
    ("zeros, as after a power cut", "b.jpg", b"\0" * 2000, "picture"),
    ("signature and zeros", "b.jpg", b"\xff\xd8\xff\xe0" + b"\0" * 2000, CUT),
    ("PNG with damaged data", "a.png", spliced(BYTES["a.png"], 120, b"\x55" * 40), "damaged"),
    ("PNG of no width", "a.png", huge_png(0, 10), CUT),
    ("PNG of 100,000 x 100,000", "a.png", huge_png(), "178,956,970|pixels"),
    ("PNG of 2 billion wide", "a.png", huge_png(2**31 - 1, 1), "178,956,970|pixels"),
    ("JPEG of 65,500 x 65,500", "b.jpg", huge_jpeg(), "178,956,970|pixels"),
    ("GIF of 65,000 x 65,000", "a.png", huge_gif(), "178,956,970|pixels"),
    ("BMP of 100,000 x 100,000", "a.png", huge_bmp(), "178,956,970|pixels"),
    ("of another size", "a.png", encoded(image(0).resize((41, 32)), "PNG"), "41x32"),
    ("of one pixel", "a.png", encoded(image(0).resize((1, 1)), "PNG"), "1x1"),
    ("lying, by EXIF", "b.jpg", with_orientation(image(1).resize((30, 40)), 6), "40x30"),
]
IMAGES = [
    Case(f"picture: {name}", text(data, f"images/{file}"), file, fault, (3, 6), images=True)
    for name, file, data, fault in BAD_FILES
]
IMAGES += [
    Case(
        f"picture: {name}",
        replaced("images/a.png", by),
        "a.png",
        "exist|missing|no file|picture|read",
        (3, 6),
        images=True,
    )
    for name, by in [
        ("a folder", Path.mkdir),
        ("a broken link", dead_link),
        ("a link to itself", own_link),
        ("a pipe that nobody fills", lambda p: os.mkfifo(p)),
    ]
]


GREY = np.asarray(image(0).convert("L"))


def animated() -> bytes:
    file = io.BytesIO()
    frames = [image(k).quantize(32) for k in range(3)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


ODD_IMAGES = [
    Case(f"picture: {name}", text(data, f"images/{file}"), file, fault, WHOLE, refused=False, images=True)
    for name, file, data, fault in [
        ("PNG named .jpg", "b.jpg", BYTES["a.png"], "PNG"),
        ("an animated GIF", "a.png", animated(), "frames"),
        ("CMYK", "b.jpg", encoded(image(1).convert("CMYK")), "CMYK"),
        (
            "16 bits",
            "a.png",
            encoded(Image.fromarray(np.asarray(image(0).convert("L"), np.uint16) * 257), "PNG"),
            "16",
        ),
        ("transparent", "a.png", encoded(image(0).convert("RGBA"), "PNG"), "transparency"),
        ("grey with alpha", "a.png", encoded(image(0).convert("LA"), "PNG"), "grey"),
        ("black and white", "a.png", encoded(image(0).convert("1"), "PNG"), "grey"),
        ("upside down, by EXIF", "b.jpg", with_orientation(image(1), 3), "EXIF"),
        ("JPEG cut off and closed again", "b.jpg", BYTES["b.jpg"][:-220] + b"\xff\xd9", "cut off"),
        ("broken EXIF", "b.jpg", encoded(image(1), exif=b"Exif\0\0MM\0*\0\0\xff\xff"), ""),
    ]
]

CASES = [*FILES, *ODD, *RECORDS, *IMAGES, *ODD_IMAGES]

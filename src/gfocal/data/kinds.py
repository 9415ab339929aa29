"""What ``gfocal data check`` can find: how bad each kind is, what it means, what ``--fix`` does about it.

``docs/data-check.md`` shows this table; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

EDGE_TOLERANCE = 1.0
"""Pixels that a box may reach beyond its image before it is reported: tools round, and some count from 1."""
TINY_SIDE = 2.0
"""A box with a shorter side below this many pixels of the image file is tiny."""
SAME_IOU = 0.99
"""Boxes that overlap more than this are the same box."""
FEW_BOXES = 10
"""A class with fewer boxes in train has too few."""
LONG_TAIL = 100
"""A split is long-tailed where its commonest class has this many times the boxes of its rarest one with any."""
LARGE_PIXELS = 25_000_000
"""An image of more pixels takes longer to read than to learn from."""
SMALL_SIDE = 32
"""Pixels: an image with a shorter side is smaller than one cell of the coarsest level of a pyramid."""
LONG_RATIO = 4.0
"""An image that is this many times longer than wide is squeezed hard by a square resize."""


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        severity: "error" makes the exit code 1.
        meaning: one line.
        remedy: what ``--fix`` does, one line.
    """

    severity: Severity
    meaning: str
    remedy: str


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: a key of :data:`KINDS`, or another reader's own kind, which counts as an error.
        split: "train" or "val".
        file: the file to look at.
        message: what is wrong there, without the name of the file.
        image: the image concerned, as the data set writes it; None where it is none.
        class_name: the class concerned; None where it is none.
        other: the image that it is compared with, as ``split: file name``.
    """

    kind: str
    split: str
    file: Path
    message: str
    image: str | None = None
    class_name: str | None = None
    other: str | None = None

    @property
    def severity(self) -> Severity:
        return kind_of(self.kind).severity


_LEFT_OUT = "left out"
_KEPT = "nothing: look at it"
_AS_IT_IS = "kept as it is"

KINDS: dict[str, Kind] = {
    # Files and records; the readers find these, and --skip-broken leaves them out.
    "annotations-broken": Kind("error", "an annotation file cannot be read at all", "nothing: fix the file"),
    "record-broken": Kind("error", "a record lacks something, or has the wrong type", _LEFT_OUT),
    "image-id-twice": Kind("error", "two pictures share an id", "the second is left out"),
    "image-unknown": Kind("error", "a box belongs to a picture that is not in the file", _LEFT_OUT),
    "class-unknown": Kind("error", "a box has a class that is not in the file", _LEFT_OUT),
    "picture-twice": Kind("error", "two annotation files belong to one picture", "the second is left out"),
    "picture-missing": Kind("error", "there is no such picture file", "left out with its boxes"),
    "box-not-finite": Kind("error", "a box has a coordinate that is not a finite number", _LEFT_OUT),
    "box-negative": Kind("error", "a box has a negative width or height", _LEFT_OUT),
    "box-outside": Kind("error", "a box lies outside its picture", _LEFT_OUT),
    # Image files.
    "picture-unreadable": Kind("error", "a picture is damaged, empty or may not be read", "left out with its boxes"),
    "picture-truncated": Kind("error", "a picture file is cut off; some decoders fill it with grey", "left out"),
    "picture-not-a-picture": Kind("error", "the file is not a picture", "left out with its boxes"),
    "picture-unsupported": Kind("error", "a picture of a format that is not read", "left out: save it as JPEG or PNG"),
    "picture-too-large": Kind("error", "a picture has more than 178,956,970 pixels, or says so", "left out"),
    "size-wrong": Kind(
        "error",
        "a picture has another size than its annotation says",
        "the size is corrected; boxes are scaled where the shape is the same, else they must fit, else it is left out",
    ),
    "picture-listed-twice": Kind("error", "one picture file is listed twice in a split", "listed once, with all boxes"),
    "picture-wrong-suffix": Kind("warning", "the content is of another format than the name says", "renamed"),
    "exif-stored": Kind(
        "warning", "boxes fit the stored pixels, other programs turn the picture by EXIF", "saved without the EXIF turn"
    ),
    "exif-ambiguous": Kind(
        "warning", "EXIF turns the picture; its size does not tell whether the boxes follow", "saved upright, as read"
    ),
    "exif-turned": Kind("note", "EXIF turns the picture upright, and the boxes fit that", "saved upright"),
    "picture-animated": Kind("warning", "a picture has several frames, the first one counts", _AS_IT_IS),
    "picture-grey": Kind("note", "a grey picture, read as RGB", _AS_IT_IS),
    "picture-alpha": Kind("note", "transparency, which is dropped", _AS_IT_IS),
    "picture-16-bit": Kind("note", "16 bits a channel, read as 8", _AS_IT_IS),
    "picture-cmyk": Kind("note", "colours for printing, turned into RGB", _AS_IT_IS),
    "picture-large": Kind("note", "more than 25 million pixels: slow to read", _AS_IT_IS),
    "picture-small": Kind("note", "a side below 32 pixels", _AS_IT_IS),
    "picture-long": Kind("note", "one side is over 4 times the other: squeezed by a square resize", _AS_IT_IS),
    "picture-unlisted": Kind("note", "a file in the picture folder that no annotation knows", "not copied"),
    "picture-without-boxes": Kind("note", "no box that is learnt: background, and used as such", _AS_IT_IS),
    # Boxes.
    "annotation-id-twice": Kind("warning", "two boxes share an id: they are renumbered", "renumbered"),
    "box-empty": Kind("warning", "a box has a side of 0: never learnt", _LEFT_OUT),
    "box-beyond-edge": Kind("warning", "a box reaches over 1 pixel beyond its picture", "clipped"),
    "box-tiny": Kind("warning", "the shorter side of a box is below 2 pixels of the picture file", _AS_IT_IS),
    "box-duplicate": Kind("warning", "a box is there twice: one class, IoU above 0.99", "the later one is left out"),
    "box-two-classes": Kind("warning", "one box has two classes: IoU above 0.99", _KEPT),
    # Classes.
    "no-boxes": Kind("error", "a split has no box to learn or to measure", "nothing"),
    "class-not-in-train": Kind("error", "val has boxes of a class that train does not name", "named in both"),
    "class-untrained": Kind("warning", "val has boxes of a class that has none in train", "nothing: label some"),
    "class-few": Kind("warning", "a class has fewer than 10 boxes in train", "nothing: label more"),
    "class-id-differs": Kind("warning", "a class has another id in the other split", "train's id in both"),
    "class-name-differs": Kind("warning", "one id stands for two classes, one per split", "train's id in both"),
    "class-name-twice": Kind("warning", "two classes of a split have one name", "made one class"),
    "class-name-alike": Kind("warning", "class names differ only in capitals or blanks", "made one class"),
    "class-not-named": Kind("note", "a class without boxes is not named in the other split", "named in both"),
    "class-empty": Kind("note", "a class has no boxes in any split", _AS_IT_IS),
    "long-tail": Kind("note", "the commonest class has 100 times the boxes of the rarest", _AS_IT_IS),
    # The same image more than once.
    "leak-exact": Kind("error", "a picture of val is in train too, pixel for pixel", "left out of train"),
    "leak-similar": Kind("warning", "a picture of val looks like one in train", _KEPT),
    "picture-duplicate": Kind("warning", "a picture is in a split twice, pixel for pixel", "one is left out"),
    "picture-similar": Kind("note", "a picture looks like another one of its split", _KEPT),
}

_OTHER = Kind("error", "a record is broken", _LEFT_OUT)


def kind_of(name: str) -> Kind:
    """The kind of a name; a reader's own kind that is not in the table is a broken record."""
    return KINDS.get(name, _OTHER)

"""What can be wrong or odd about a data set: how bad each kind is, what it means, what ``--fix`` does about it.

``docs/data-check.md`` shows this table; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, NamedTuple, Self

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


_LEFT_OUT = "left out"
_KEPT = "nothing: look at it"
_AS_IT_IS = "kept as it is"


class Kind(StrEnum):
    """A kind of finding; its value is the name that reports and JSON have.

    Attributes:
        severity: "error" makes the exit code 1.
        meaning: one line.
        remedy: what ``--fix`` does, one line.
    """

    severity: Severity
    meaning: str
    remedy: str

    def __new__(cls, name: str, severity: Severity, meaning: str, remedy: str) -> Self:
        kind = str.__new__(cls, name)
        kind._value_ = name
        kind.severity, kind.meaning, kind.remedy = severity, meaning, remedy
        return kind

    # Files and records; the readers find these, and --skip-broken leaves them out.
    ANNOTATIONS_BROKEN = (
        "annotations-broken",
        "error",
        "an annotation file cannot be read at all",
        "nothing: fix the file",
    )
    SPLIT_WITHOUT_IMAGES = (
        "split-without-pictures",
        "error",
        "the path of a split leads nowhere, or to no picture",
        "nothing: correct the path",
    )
    RECORD_BROKEN = "record-broken", "error", "a record lacks something, or has the wrong type", _LEFT_OUT
    IMAGE_ID_TWICE = "image-id-twice", "error", "two pictures share an id", "the second is left out"
    IMAGE_UNKNOWN = "image-unknown", "error", "a box belongs to a picture that is not in the file", _LEFT_OUT
    CLASS_UNKNOWN = "class-unknown", "error", "a box has a class that is not in the file", _LEFT_OUT
    IMAGE_TWICE = "picture-twice", "error", "two annotation files belong to one picture", "the second is left out"
    LABEL_UNCLEAR = (
        "label-unclear",
        "error",
        "a picture may have several label files, or share one: none is chosen",
        "left out",
    )
    IMAGE_MISSING = "picture-missing", "error", "there is no such picture file", "left out with its boxes"
    BOX_NOT_FINITE = "box-not-finite", "error", "a box has a coordinate that is not a finite number", _LEFT_OUT
    BOX_NEGATIVE = "box-negative", "error", "a box has a negative width or height", _LEFT_OUT
    BOX_OUTSIDE = "box-outside", "error", "a box lies outside its picture", _LEFT_OUT
    # Image files.
    IMAGE_UNREADABLE = (
        "picture-unreadable",
        "error",
        "a picture is damaged, empty or may not be read",
        "left out with its boxes",
    )
    IMAGE_TRUNCATED = (
        "picture-truncated",
        "error",
        "a picture file is cut off; some decoders fill it with grey",
        "left out",
    )
    NOT_AN_IMAGE = "picture-not-a-picture", "error", "the file is not a picture", "left out with its boxes"
    IMAGE_UNSUPPORTED = (
        "picture-unsupported",
        "error",
        "a picture of a format that is not read",
        "left out: save it as JPEG or PNG",
    )
    IMAGE_TOO_LARGE = (
        "picture-too-large",
        "error",
        "a picture has more than 178,956,970 pixels, or says so",
        "left out",
    )
    SIZE_WRONG = (
        "size-wrong",
        "error",
        "a picture has another size than its annotation says",
        "the size is corrected; boxes are scaled where the shape is the same, else they must fit, else it is left out",
    )
    IMAGE_LISTED_TWICE = (
        "picture-listed-twice",
        "error",
        "one picture file is listed twice in a split",
        "listed once, with all boxes",
    )
    IMAGE_WRONG_SUFFIX = (
        "picture-wrong-suffix",
        "warning",
        "the content is of another format than the name says",
        "renamed",
    )
    EXIF_STORED = (
        "exif-stored",
        "warning",
        "boxes fit the stored pixels, other programs turn the picture by EXIF",
        "saved without the EXIF turn",
    )
    EXIF_AMBIGUOUS = (
        "exif-ambiguous",
        "warning",
        "EXIF turns the picture; its size does not tell whether the boxes follow",
        "saved upright, as read",
    )
    EXIF_TURNED = "exif-turned", "note", "EXIF turns the picture upright, and the boxes fit that", "saved upright"
    IMAGE_ANIMATED = (
        "picture-animated",
        "warning",
        "a picture has several frames or pages, the first one counts",
        _AS_IT_IS,
    )
    IMAGE_GREY = "picture-grey", "note", "a grey picture, read as RGB", _AS_IT_IS
    IMAGE_ALPHA = "picture-alpha", "note", "transparency, which is dropped", _AS_IT_IS
    IMAGE_16_BIT = "picture-16-bit", "note", "more than 8 bits a channel, read as 8", _AS_IT_IS
    IMAGE_RANGE = (
        "picture-range",
        "warning",
        "pictures of more than 8 bits use a part of their range, or of no known one: set data.range",
        _AS_IT_IS,
    )
    IMAGE_CMYK = "picture-cmyk", "note", "colours for printing, turned into RGB", _AS_IT_IS
    IMAGE_LARGE = "picture-large", "note", "more than 25 million pixels: slow to read", _AS_IT_IS
    IMAGE_SMALL = "picture-small", "note", "a side below 32 pixels", _AS_IT_IS
    IMAGE_LONG = "picture-long", "note", "one side is over 4 times the other: squeezed by a square resize", _AS_IT_IS
    IMAGE_UNLISTED = "picture-unlisted", "note", "a file in the picture folder that no annotation knows", "not copied"
    LABEL_UNCLAIMED = "label-unclaimed", "warning", "a label file that belongs to no picture", "not copied"
    IMAGE_WITHOUT_BOXES = (
        "picture-without-boxes",
        "note",
        "no box that is learnt: background, and used as such",
        _AS_IT_IS,
    )
    # Boxes.
    ANNOTATION_ID_TWICE = "annotation-id-twice", "warning", "two boxes share an id: they are renumbered", "renumbered"
    BOX_EMPTY = "box-empty", "warning", "a box has a side of 0: never learnt", _LEFT_OUT
    BOX_BEYOND_EDGE = "box-beyond-edge", "warning", "a box reaches over 1 pixel beyond its picture", "clipped"
    BOX_TINY = "box-tiny", "warning", "the shorter side of a box is below 2 pixels of the picture file", _AS_IT_IS
    BOX_DUPLICATE = (
        "box-duplicate",
        "warning",
        "a box is there twice: one class, IoU above 0.99",
        "the later one is left out",
    )
    BOX_TWO_CLASSES = "box-two-classes", "warning", "one box has two classes: IoU above 0.99", _KEPT
    MANY_OBJECTS = (
        "many-objects",
        "warning",
        "more objects in a picture than predict.max_detections finds, or COCO's AP counts: 100",
        "nothing: set the limit",
    )
    # Classes.
    NO_BOXES = "no-boxes", "error", "a split has no box to learn or to measure", "nothing"
    CLASS_NOT_IN_TRAIN = (
        "class-not-in-train",
        "error",
        "val has boxes of a class that train does not name",
        "named in both",
    )
    CLASS_UNTRAINED = (
        "class-untrained",
        "warning",
        "val has boxes of a class that has none in train",
        "nothing: label some",
    )
    CLASS_FEW = "class-few", "warning", "a class has fewer than 10 boxes in train", "nothing: label more"
    CLASS_ID_DIFFERS = "class-id-differs", "warning", "a class has another id in the other split", "train's id in both"
    CLASS_NAME_DIFFERS = (
        "class-name-differs",
        "warning",
        "one id stands for two classes, one per split",
        "train's id in both",
    )
    CLASS_NAME_TWICE = "class-name-twice", "warning", "two classes of a split have one name", "made one class"
    CLASS_NAME_ALIKE = "class-name-alike", "warning", "class names differ only in capitals or blanks", "made one class"
    CLASS_NOT_NAMED = (
        "class-not-named",
        "note",
        "a class without boxes is not named in the other split",
        "named in both",
    )
    CLASS_EMPTY = "class-empty", "note", "a class has no boxes in any split", _AS_IT_IS
    LONG_TAIL = "long-tail", "note", "the commonest class has 100 times the boxes of the rarest", _AS_IT_IS
    # The same image more than once.
    SPLITS_SHARED = (
        "splits-shared",
        "error",
        "most pictures of a split are in another one too",
        "left out of the earlier split. If that would lose most, left out of the later one",
    )
    LEAK_EXACT = (
        "leak-exact",
        "error",
        "a picture of val is in train too, pixel for pixel",
        "left out of train. If train would lose most, left out of val",
    )
    LEAK_SIMILAR = "leak-similar", "warning", "a picture of val looks like one in train", _KEPT
    IMAGE_DUPLICATE = (
        "picture-duplicate",
        "warning",
        "a picture is in a split twice, pixel for pixel",
        "one is left out",
    )
    IMAGE_SIMILAR = "picture-similar", "note", "a picture looks like another one of its split", _KEPT


OF_SPLITS = (Kind.ANNOTATIONS_BROKEN, Kind.SPLIT_WITHOUT_IMAGES)
"""What is wrong with a whole split: no record can be left out."""


class Fault(NamedTuple):
    """What is wrong with one thing, apart from where it stands."""

    kind: Kind
    message: str


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: what was found.
        split: "train" or "val".
        file: the file to look at.
        message: what is wrong there, without the name of the file.
        image: the image concerned, as the data set writes it; None where it is none.
        class_name: the class concerned; None where it is none.
        other: the image that it is compared with, as ``split: file name``.
    """

    kind: Kind
    split: str
    file: Path
    message: str
    image: str | None = None
    class_name: str | None = None
    other: str | None = None

    @property
    def severity(self) -> Severity:
        return self.kind.severity

"""Reading a COCO JSON file: every record is of the right form, or named in one message.

A file of 1 GB holds some ten million annotations, which take several times its size as objects of Python. So the file
is first taken apart into records without looking into them; then some thousand at a time become objects, and rows of
arrays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from gfocal.data.kinds import Kind
from gfocal.data.problems import Problems
from gfocal.errors import BrokenInputError, UsageError

_EMPTY = rb'(?!null|""|"none"|\[\s*\]|\{\s*\})'
_KEYS = {
    "segmentation": "masks",
    "keypoints": "lists of key points",
    "attributes": "attributes",
    "score": "scores",
    "supercategory": "supercategories",
    "license": "licences of pictures",
    "licenses": "list of licences",
    "captions": "captions",
}

_Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Side = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class ImageRecord(msgspec.Struct, gc=False, kw_only=True, omit_defaults=True):
    """One entry of ``images``; without ``file_name``, as LVIS has it, ``coco_url`` names the file."""

    id: _Id
    file_name: str = ""
    width: _Side
    height: _Side
    coco_url: Any = None

    def __post_init__(self) -> None:
        if not self.file_name:
            if not (isinstance(self.coco_url, str) and self.coco_url):
                raise ValueError("Object missing required field `file_name`, or it is empty")
            self.file_name = self.coco_url


class AnnotationRecord(msgspec.Struct, gc=False):
    """One entry of ``annotations``; ``bbox`` is x, y, width, height. What is not named here is not read."""

    image_id: _Id
    category_id: _Id
    bbox: tuple[float, float, float, float]
    id: _Id | None = None
    area: float | None = None
    iscrowd: int | bool | None = 0
    ignore: int | bool | None = 0
    edge_ambiguity: tuple[float, float, float, float] | None = (
        None  # of generated scenes, see gfocal.data.scenes.generate
    )


class CategoryRecord(msgspec.Struct, gc=False):
    """One entry of ``categories``."""

    id: _Id
    name: str


_Record = TypeVar("_Record", ImageRecord, AnnotationRecord, CategoryRecord)
_CHUNK = 1 << 14  # Records that are objects at the same time.
_LET_GO = msgspec.Raw()  # In the place of a record that was read.


class Annotations:
    """The annotations of a file as columns, in its order; M of at most ``room`` so far.

    Attributes:
        image_ids: (M,) int64.
        category_ids: (M,) int64.
        boxes: (M, 4) float64 x, y, width, height.
        area: (M,) float64, NaN where there is none.
        crowd: (M,) bool.
        ignore: (M,) bool.
        ids: (M,) int64, 0 where there is none.
        has_id: (M,) bool.
        ambiguity: (M, 4) float64, NaN where there is none; None where no annotation has one.
        has_ambiguity: (M,) bool.
    """

    def __init__(self, room: int) -> None:
        self._room, self._count = room, 0
        self.image_ids, self.category_ids, self.ids = (np.empty(room, np.int64) for _ in range(3))
        self.boxes, self.area = np.empty((room, 4)), np.empty(room)
        self.crowd, self.ignore, self.has_id, self.has_ambiguity = (np.zeros(room, bool) for _ in range(4))
        self.ambiguity: np.ndarray | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, records: list[AnnotationRecord]) -> None:
        rows = slice(self._count, self._count + len(records))
        self._count = rows.stop
        self.image_ids[rows] = [record.image_id for record in records]
        self.category_ids[rows] = [record.category_id for record in records]
        numbers = np.fromiter(chain.from_iterable([record.bbox for record in records]), np.float64, 4 * len(records))
        self.boxes[rows] = numbers.reshape(-1, 4) + 0.0  # Of -0 and 0 it makes 0: no file means the sign.
        self.area[rows] = [np.nan if record.area is None else record.area for record in records]
        self.crowd[rows] = [bool(record.iscrowd) for record in records]
        self.ignore[rows] = [bool(record.ignore) for record in records]
        self.ids[rows] = [record.id or 0 for record in records]
        self.has_id[rows] = [record.id is not None for record in records]
        known = np.array([record.edge_ambiguity is not None for record in records], bool)
        if known.any():
            if self.ambiguity is None:
                self.ambiguity = np.full((self._room, 4), np.nan)
            self.ambiguity[rows][known] = [r.edge_ambiguity for r in records if r.edge_ambiguity is not None]
            self.has_ambiguity[rows] = known

    def trim(self) -> None:
        """Let go of the room that was not needed."""
        for name, column in vars(self).items():
            if isinstance(column, np.ndarray):
                setattr(self, name, column[: self._count])


@dataclass
class CocoFile:
    """What a file holds."""

    images: list[ImageRecord]
    annotations: Annotations
    categories: list[CategoryRecord]


class _Frame(msgspec.Struct, gc=False):
    """The records of a file, not looked into."""

    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]


def parse(file: Path, problems: Problems) -> CocoFile:
    try:
        raw = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise UsageError(f"annotation file {file} {reason}") from None
    framed, frame = raw, _framed(raw)
    if frame is None:
        # Python's json writes NaN and Infinity, which are no JSON. Numbers of the same length keep every record in its
        # place; the records themselves are read from the file as it is.
        framed = raw.replace(b"NaN", b"0.0").replace(b"Infinity", b"0.000000")
        frame = _framed(framed)
    if frame is None:
        return _parse_whole(file, raw, problems)

    def records(raws: list[msgspec.Raw], kind: type[_Record], problems: Problems) -> Iterator[list[_Record]]:
        return _records(raws, kind, raw, _address(framed), file, problems)

    try:
        categories = _all_of(chain.from_iterable(records(frame.categories, CategoryRecord, Problems(skip=False))))
        images = list(chain.from_iterable(records(frame.images, ImageRecord, problems)))
        annotations = Annotations(len(frame.annotations))
        for some in records(frame.annotations, AnnotationRecord, problems):
            annotations.add(some)
    except _NotJsonError:
        return _parse_whole(file, raw, problems)
    annotations.trim()
    return CocoFile(images, annotations, categories)


def _all_of(categories: Iterable[CategoryRecord]) -> list[CategoryRecord]:
    """All classes: none can be left out, so that nothing says how.

    Raises:
        UsageError: one is broken.
    """
    try:
        return list(categories)
    except BrokenInputError as error:
        raise UsageError(f"{error.path}: {error.reason}; correct it, no class can be left out") from None


def _framed(text: bytes) -> _Frame | None:
    try:
        return msgspec.json.decode(text, type=_Frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class _NotJsonError(Exception):
    """What stands in the place of a record is no JSON."""


def _address(text: bytes | msgspec.Raw) -> int:
    return int(np.frombuffer(text, np.uint8).__array_interface__["data"][0])


def _records(
    raws: list[msgspec.Raw], kind: type[_Record], raw: bytes, origin: int, file: Path, problems: Problems
) -> Iterator[list[_Record]]:
    """Objects of the records, some at a time; the records are let go of on the way.

    Args:
        raws: the records, which stand in a text of the length of ``raw``.
        kind: of the objects.
        raw: the text to read them from.
        origin: address of the text that ``raws`` are parts of.
        file: for messages.
        problems: collects each record that is broken; it is left out.

    Raises:
        _NotJsonError: a record is no JSON, not even Python's.
    """
    for first in range(0, len(raws), _CHUNK):
        some = raws[first : first + _CHUNK]
        raws[first : first + _CHUNK] = [_LET_GO] * len(some)
        start, last = _address(some[0]) - origin, _address(some[-1]) - origin
        try:
            yield msgspec.json.decode(b"[%b]" % raw[start : last + memoryview(some[-1]).nbytes], type=list[kind])  # type: ignore[valid-type]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # Something is wrong, or Python's json wrote NaN, or ids are written as 1.0. Record by record it takes
            # longer, but each broken one can be named and left out.
            starts = [_address(record) - origin for record in some]
            texts = (raw[at : at + memoryview(record).nbytes] for at, record in zip(starts, some, strict=True))
            yield list(_converted(map(_loaded, texts), kind, first, file, problems))


def _loaded(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _NotJsonError from None


def _parse_whole(file: Path, raw: bytes, problems: Problems) -> CocoFile:
    """A file that cannot be taken apart: it is no COCO file, as mostly, or in an encoding of its own."""
    _check_outline(file, raw)
    content = json.loads(raw)
    categories = _all_of(_converted(content["categories"], CategoryRecord, 0, file, Problems(skip=False)))
    images = list(_converted(content["images"], ImageRecord, 0, file, problems))
    annotations = Annotations(len(content["annotations"]))
    annotations.add(list(_converted(content["annotations"], AnnotationRecord, 0, file, problems)))
    annotations.trim()
    return CocoFile(images, annotations, categories)


def _check_outline(file: Path, raw: bytes) -> None:
    """Refuse what is no JSON, or lacks one of the lists, without making objects of its content."""
    lists, nothing = ("images", "annotations", "categories"), dict[str, object]()

    def outline(pairs: list[tuple[str, object]]) -> dict[str, object]:
        return {key: value for key, value in pairs if key in lists} or nothing

    try:
        content = json.loads(raw, object_pairs_hook=outline)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"annotation file {file} is not JSON: {error}; give a COCO JSON file") from None
    if not isinstance(content, dict):
        raise UsageError(f"annotation file {file} holds no object with images, annotations and categories")
    for key in lists:
        if not isinstance(content.get(key), list):
            fault = f"has no list under the key '{key}'" if key in content else f"lacks the key '{key}'"
            raise UsageError(
                f"annotation file {file} {fault}; a COCO detection file has images, annotations and categories"
            )


_WHOLE = ("id", "image_id", "category_id", "width", "height", "iscrowd", "ignore")


def _with_integers(record: object) -> object:
    """The record with 3 where a whole number was written as 3.0, as pandas does with columns that have gaps."""
    if not isinstance(record, dict):
        return record
    whole = {key: int(record[key]) for key in _WHOLE if isinstance(record.get(key), float) and record[key].is_integer()}
    return record | whole if whole else record


_WORDS: dict[type, str] = {CategoryRecord: "category", ImageRecord: "image", AnnotationRecord: "annotation"}


def _converted(
    records: Iterable[object], kind: type[_Record], first: int, file: Path, problems: Problems
) -> Iterator[_Record]:
    """Those that are right; ``first`` is the position of the first one in the file."""
    word = _WORDS[kind]
    for position, record in enumerate(map(_with_integers, records), first):
        try:
            yield msgspec.convert(record, kind)
        except msgspec.ValidationError as error:
            identity = record.get("id") if isinstance(record, dict) else None
            where = f"{word} at position {position}" if identity is None else f"{word} {identity!r}"
            if word == "annotation" and isinstance(record, dict) and "image_id" in record:
                where += f" (image {record['image_id']!r})"
            problems.report(Kind.RECORD_BROKEN, file, f"{where}: {_plain(str(error))}")
            if word == "image" and type(identity) is int:
                problems.left_out.add(identity)


def _plain(message: str) -> str:
    """Msgspec's message in the words of a COCO file."""
    message = re.sub(r"^Object missing required field `(.*?)`", r"lacks the key '\1'", message)
    message = re.sub(r" - at `\$\.(\w+)(.*?)`$", r" (key '\1')", message)
    return (message[0].lower() + message[1:]).replace("`", "'")


def note_unread(file: Path, problems: Problems) -> None:
    """Count what the reader drops, by its keys; empty values do not count.

    The bytes are searched, since objects of all records would take several times the size of the file.
    """
    raw = file.read_bytes()
    for key, what in _KEYS.items():
        pattern = rb'"%b"\s*:\s*+' % key.encode() + _EMPTY
        if count := sum(1 for _ in re.finditer(pattern, raw)):
            problems.lose(file, f"{count:,} {what}")

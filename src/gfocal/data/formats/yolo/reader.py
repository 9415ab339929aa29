"""Reading YOLO data sets: one text file a picture, a line an object, in shares of the picture's sides."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gfocal.data.formats.common import Listings, pictures_in
from gfocal.data.formats.image_size import picture_sizes
from gfocal.data.formats.sidecar import Sidecar, read_sidecar
from gfocal.data.formats.yolo.split import YoloPlace, locate
from gfocal.data.index.build import Record, to_index
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.errors import UsageError
from gfocal.images.io import PICTURE_SUFFIXES

_BEYOND = 1.0
"""By how many sides of the picture a box may reach beyond it; pixels in place of shares reach farther."""


@dataclass
class _Reading:
    """One split while it is read."""

    place: YoloPlace
    problems: Problems
    listings: Listings = field(default_factory=Listings)
    polygons: int = 0
    scored: int = 0
    largest: int = -1  # class number, where no names are given


def read_yolo(place: YoloPlace, split: str, problems: Problems) -> DataIndex:
    """Read one split and check all of it.

    A picture without a label file is background. Polygons become the boxes around them. Sizes are those of the
    pictures as their EXIF orientation turns them, which is how YOLO programs look at them.

    Args:
        place: where it is.
        split: its name, for the sidecar.
        problems: who is told of faults: record-broken, class-unknown, box-not-finite, box-negative, box-outside,
            picture-missing (a label file without a picture, a listed picture that is not there), picture-unreadable.

    Raises:
        BrokenInputError: a record is broken, and faults are not skipped.
        UsageError: there are no pictures.
    """
    reading = _Reading(place, problems)
    pictures = _pictures(reading)
    if not pictures:
        raise UsageError(f"no pictures in {', '.join(map(str, place.entries))}; named by {place.marker}")
    folder, file_names = _common(pictures)
    labels = [_label_file(picture, reading.listings) for picture in pictures]
    _report_orphans(pictures, labels, reading)
    sidecar = read_sidecar(place.root, "yolo", split, place.names, problems)
    if sidecar is not None and place.names is None:
        reading.place = replace(place, names=sidecar.names, class_ids=tuple(range(len(sidecar.names))))
    records = list(_records(pictures, labels, file_names, sidecar, reading))
    names, ids = _classes(place, sidecar, reading)
    _tell(reading, sidecar)
    return to_index(
        records, pictures_dir=folder, annotations=place.marker, names=names, category_ids=ids, problems=problems
    )


def _common(pictures: Sequence[Path]) -> tuple[Path, list[str]]:
    """The folder around all pictures, and their names in it."""
    if len({picture.is_absolute() for picture in pictures}) > 1:  # one entry of a yaml file may be, another not
        pictures = [Path(os.path.abspath(picture)) for picture in pictures]
    try:
        folder = Path(os.path.commonpath([picture.parent for picture in pictures]))
    except ValueError:  # drives of Windows: all names get their whole path
        return Path(), [picture.absolute().as_posix() for picture in pictures]
    return folder, [picture.relative_to(folder).as_posix() for picture in pictures]


def _tell(reading: _Reading, sidecar: Sidecar | None) -> None:
    note, lose, marker = reading.problems.note, reading.problems.lose, reading.place.marker
    if reading.polygons:
        note(f"{marker}: {reading.polygons} polygons are read as the boxes around them")
        lose(marker, f"{reading.polygons} polygons (only the boxes around them)")
    if reading.scored:
        lose(marker, f"{reading.scored} sixth numbers (scores?)")
        note(f"{marker}: {reading.scored} lines end with a sixth number (a score?), which is not read")
    if reading.place.keypoints:
        lose(marker, "key points")
        note(f"{marker}: key points are not read, only boxes")
    if reading.place.names is None:
        note(f"{reading.place.root}: nothing gives the names of the classes: they are called by their numbers")
    if sidecar is not None:
        sidecar.tell(reading.problems)


def _classes(place: YoloPlace, sidecar: Sidecar | None, reading: _Reading) -> tuple[Sequence[str], Sequence[int]]:
    if sidecar is not None:
        return sidecar.names, sidecar.category_ids
    if place.names is not None:
        return place.names, place.class_ids
    count = max(reading.largest + 1, 1)
    return [str(i) for i in range(count)], range(count)


def _pictures(reading: _Reading) -> list[Path]:
    """The files of all entries, each once."""
    found: dict[Path, None] = {}
    for entry in reading.place.entries:
        if entry.is_dir():
            found.update((entry / name, None) for name in pictures_in(entry))
        elif entry.suffix.lower() in PICTURE_SUFFIXES:
            found[entry] = None
        else:
            found.update((picture, None) for picture in _listed(entry, reading))
    return list(found)


def _listed(file: Path, reading: _Reading) -> Iterator[Path]:
    bases = list(dict.fromkeys([file.parent, reading.place.root]))
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError):
        raise UsageError(f"{file} cannot be read as UTF-8 text; it should name a picture a line") from None
    base, seen = "", set()
    for number, line in enumerate(lines, 1):
        if not (text := line.strip()):
            continue
        # What was added to or taken from the first name fits the others, and saves looking.
        quick = Path(base + text)
        where = quick if base and reading.listings.has(quick) else locate(text, bases)
        if where is None or not where.is_file():
            message = f"line {number}: picture {text} does not exist"
            reading.problems.report("picture-missing", file, message, picture=text, hint="correct the path")
            continue
        if where.as_posix().endswith(f"/{text}"):
            base = where.as_posix()[: -len(text)]
        if where in seen:
            reading.problems.note(f"{file}: some pictures are listed more than once (first {text}); each is read once")
        seen.add(where)
        yield where


def label_path(picture: Path) -> Path:
    """Where the label file of a picture belongs: the last folder ``images`` becomes ``labels``, else beside it."""
    parts = list(picture.parent.parts)
    for i in range(len(parts) - 1, -1, -1):
        if parts[i].lower() == "images":
            parts[i] = {"images": "labels", "Images": "Labels", "IMAGES": "LABELS"}.get(parts[i], "labels")
            break
    return Path(*parts, picture.stem + ".txt")


def _label_file(picture: Path, listings: Listings) -> Path | None:
    beside = picture.parent / f"{picture.stem}.txt"
    return next((file for file in (label_path(picture), beside) if listings.has(file)), None)


def _report_orphans(pictures: Sequence[Path], labels: Sequence[Path | None], reading: _Reading) -> None:
    """Label files that no picture stands beside: their objects would be lost without a word."""
    folders = {(label_path(picture).parent, picture.parent) for picture in pictures}
    used = {label for label in labels if label is not None}
    # A folder of labels may belong to several folders of pictures, of which only some are in this split.
    for folder, beside in sorted(folders):
        if folder == beside and folder == reading.place.root:
            continue  # lists, notes and class names lie there, too
        stems = {Path(name).stem for name in reading.listings.names(beside) if name.lower().endswith(PICTURE_SUFFIXES)}
        for name in sorted(reading.listings.names(folder)):
            file = folder / name
            known = name == "classes.txt" or file in used or file.stem in stems
            if name.lower().endswith(".txt") and not name.startswith(".") and not known:
                message = f"this label file has no picture in {beside}"
                reading.problems.report("picture-missing", file, message, picture=file.stem, hint="remove it")


def _records(
    pictures: Sequence[Path],
    labels: Sequence[Path | None],
    names: Sequence[str],
    sidecar: Sidecar | None,
    reading: _Reading,
) -> Iterator[Record]:
    """The record of every picture that can be used; sizes are read only where no record has them."""
    root = Path(os.path.abspath(reading.place.root))
    pending: list[tuple[Path, str, bytes, Path | None, tuple[int | None, int]]] = []
    for picture, label, name in zip(pictures, labels, names, strict=True):
        try:
            content = b"" if label is None else label.read_bytes()
        except OSError as error:
            message = f"the label file cannot be read: {error.strerror}"
            reading.problems.report("record-broken", label or picture, message, picture=name)
            continue
        identity: tuple[int | None, int] = (None, 1 << 62)
        if sidecar is not None:
            file = Path(os.path.relpath(os.path.abspath(picture), root)).as_posix()
            record = sidecar.record(file, name, content)
            if record is not None:
                yield record
                continue
            identity = sidecar.identity(file)
        pending.append((picture, name, content, label, identity))
    for (picture, name, content, label, (number, rank)), size in zip(
        pending, picture_sizes(picture for picture, *_ in pending), strict=True
    ):
        if isinstance(size, str):
            reading.problems.report("picture-unreadable", picture, "cannot be read: " + size, picture=name)
            continue
        rows = _rows(content, label or picture, name, reading)
        labels_, boxes = _boxes(rows, size, label or picture, name, reading)
        yield Record(name, *size, labels_, boxes, id=number, rank=rank)


_Row = tuple[int, list[float]]  # line number, class and box


def _rows(content: bytes, file: Path, name: str, reading: _Reading) -> list[_Row]:
    """The lines that hold numbers, as class, centre and size in shares."""
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        reading.problems.report("record-broken", file, "is not text", picture=name)
        return []
    rows = []
    for number, line in enumerate(lines, 1):
        if not (words := line.split()):
            continue
        try:
            values = [float(word) for word in words]
        except ValueError:
            message = f"line {number}: {_short(line)} has what is no number; a line is: class x y width height"
            reading.problems.report("record-broken", file, message, picture=name)
            continue
        box = _box_of(values, reading)
        if box is None:
            message = f"line {number}: {len(values)} numbers; a line is: class x y width height, or class and corners"
            reading.problems.report("record-broken", file, message, picture=name)
        else:
            rows.append((number, [values[0], *box]))
    return rows


def _short(line: str) -> str:
    return repr(line[:40] + ("..." if len(line) > 40 else ""))


def _box_of(values: Sequence[float], reading: _Reading) -> list[float] | None:
    count = len(values) - 1
    if count == 4 or (reading.place.keypoints and count > 4):
        return list(values[1:5])
    if count == 5:
        reading.scored += 1
        return list(values[1:5])
    if count < 6 or count % 2:
        return None
    reading.polygons += 1
    (left, right), (top, bottom) = ((min(v), max(v)) for v in (values[1::2], values[2::2]))
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def _boxes(
    rows: Sequence[_Row], size: tuple[int, int], file: Path, name: str, reading: _Reading
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and boxes (N, 4) in pixels of the lines without fault."""
    ids = reading.place.class_ids
    label_of = {number: label for label, number in enumerate(ids)}
    labels, boxes = [], []
    for line, (number, x, y, width, height) in rows:
        fault = _fault(number, (x, y, width, height), None if reading.place.names is None else label_of)
        if fault is not None:
            reading.problems.report(fault[0], file, f"line {line}: {fault[1]}", picture=name)
            continue
        reading.largest = max(reading.largest, int(number))
        labels.append(label_of.get(int(number), int(number)))
        boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    sides = np.array([*size, *size], np.float64)
    return np.array(labels, np.int64), np.array(boxes, np.float64).reshape(-1, 4) * sides


def _fault(number: float, box: Sequence[float], label_of: dict[int, int] | None) -> tuple[str, str] | None:
    x, y, width, height = box
    text = "x y width height " + " ".join(f"{value:g}" for value in box)
    if not np.isfinite([number, *box]).all():
        return "box-not-finite", f"a number is not finite: class {number:g}, {text}"
    if number != int(number) or number < 0 or number > 1 << 20:
        return "class-unknown", f"class {number:g} is no class number; they are whole, from 0 on"
    if label_of is not None and int(number) not in label_of:
        known = f"0 to {len(label_of) - 1}" if max(label_of) == len(label_of) - 1 else ", ".join(map(str, label_of))
        return "class-unknown", f"unknown class {int(number)}; known are {known}"
    if width < 0 or height < 0:
        return "box-negative", f"box has a negative width or height: {text}"
    outside = f"box lies outside its picture: {text}"
    low, high = (x - width / 2, y - height / 2), (x + width / 2, y + height / 2)
    if max(high) > 1 + _BEYOND or min(low) < -_BEYOND:
        return "box-outside", f"{outside} (shares of its width and height are wanted, 0 to 1)"
    if max(low) >= 1 or min(high) <= 0:
        return "box-outside", outside
    return None

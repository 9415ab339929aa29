"""Reading YOLO data sets: one text file an image, a line an object, in shares of the image's sides."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gfocal.data.formats.common import Listings, images_in
from gfocal.data.formats.image_size import image_sizes
from gfocal.data.formats.sidecar import Sidecar, read_sidecar
from gfocal.data.formats.yolo.label_lines import Meaning, Row, fault_of, read_rows
from gfocal.data.formats.yolo.pairing import label_path, pair, read_all_labels
from gfocal.data.formats.yolo.pairing_report import report_pairing
from gfocal.data.formats.yolo.poses import UnclearLinesError, find_poses
from gfocal.data.formats.yolo.split import YoloSplit, locate
from gfocal.data.formats.yolo.tree import folded
from gfocal.data.index.build import Record, to_index
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import Kind
from gfocal.data.problems import Problems
from gfocal.errors import BrokenInputError, EmptySplitError, UsageError
from gfocal.images.file_types import IMAGE_SUFFIXES
from gfocal.utils.text import counted


@dataclass
class _Reading:
    """One split while it is read."""

    place: YoloSplit
    split: str
    problems: Problems
    listings: Listings = field(default_factory=Listings)
    meaning: Meaning = field(default_factory=lambda: Meaning(False))
    largest: int = -1  # class number, where no names are given


def read_yolo(place: YoloSplit, split: str, problems: Problems) -> DataIndex:
    """Read one split and check all of it.

    An image without a label file is background. Polygons become the boxes around them. Sizes are those of the
    images as their EXIF orientation turns them, which is how YOLO programs look at them.

    Args:
        place: where it is.
        split: its name, for the sidecar.
        problems: collects faults: record-broken, class-unknown, box-not-finite, box-negative, box-outside,
            picture-missing (a label file without an image, a listed image that is not there), picture-unreadable.

    Raises:
        BrokenInputError: a record is broken, and faults are not skipped.
        EmptySplitError: there are no images.
    """
    reading = _Reading(place, split, problems)
    images = _images(reading)
    if not images:
        raise EmptySplitError(f"no pictures in {', '.join(map(str, place.entries))}; named by {place.marker}")
    folder, file_names = _common(images)
    pairing = pair(images, place, reading.listings)
    report_pairing(pairing, images, file_names, place, split, problems)
    if pairing.unclear:
        kept = [i for i in range(len(images)) if i not in pairing.unclear]
        images, file_names = [images[i] for i in kept], [file_names[i] for i in kept]
        pairing.files = [pairing.files[i] for i in kept]
    labels = pairing.files
    _report_orphans(images, labels, pairing.taken, reading)
    sidecar = read_sidecar(place.root, "yolo", split, place.names, problems)
    if sidecar is not None and place.names is None:
        reading.place = replace(place, names=sidecar.names, class_ids=tuple(range(len(sidecar.names))))
    records = list(_records(images, labels, file_names, sidecar, reading))
    names, ids = _classes(place, sidecar, reading)
    _note_reading(reading, sidecar)
    return to_index(
        records, images_dir=folder, annotations=place.marker, names=names, category_ids=ids, problems=problems
    )


def _common(images: Sequence[Path]) -> tuple[Path, list[str]]:
    """The folder around all images, and their names in it."""
    if len({image.is_absolute() for image in images}) > 1:  # one entry of a yaml file may be, another not
        images = [Path(os.path.abspath(image)) for image in images]
    try:
        folder = Path(os.path.commonpath([image.parent for image in images]))
    except ValueError:  # drives of Windows: all names get their whole path
        return Path(), [image.absolute().as_posix() for image in images]
    return folder, [image.relative_to(folder).as_posix() for image in images]


def _note_reading(reading: _Reading, sidecar: Sidecar | None) -> None:
    note, lose, marker = reading.problems.note, reading.problems.lose, reading.place.marker
    found = reading.meaning
    where = f"{marker}: {reading.split}" if len(reading.place.splits) > 1 else f"{marker}"
    if found.polygons:
        note(f"{where}: {found.polygons} polygons are read as the boxes around them")
        lose(marker, f"{found.polygons} polygons (only the boxes around them)")
    if found.scored:
        lose(marker, f"{found.scored} sixth numbers (scores?)")
        note(f"{where}: {found.scored} lines end with a sixth number (a score?), which is not read")
    if reading.place.keypoints or found.with_points:
        lose(marker, "key points")
        what = "key points are not read, only boxes"
        if not reading.place.keypoints:
            what = f"{counted(found.with_points, 'line')} with key points, as their numbers show: only boxes are read"
        note(f"{where if found.with_points else marker}: {what}")
    if reading.place.names is None:
        note(f"{reading.place.root}: nothing names the classes: gfocal calls them by their numbers")
    if sidecar is not None:
        sidecar.report_changed(reading.problems)


def _classes(place: YoloSplit, sidecar: Sidecar | None, reading: _Reading) -> tuple[Sequence[str], Sequence[int]]:
    if sidecar is not None:
        return sidecar.names, sidecar.category_ids
    if place.names is not None:
        return place.names, place.class_ids
    count = max(reading.largest + 1, 1)
    return [str(i) for i in range(count)], range(count)


def _images(reading: _Reading) -> list[Path]:
    """The files of all entries, each once."""
    found: dict[Path, None] = {}
    for entry in reading.place.entries:
        if entry.is_dir():
            found.update((entry / name, None) for name in images_in(entry))
        elif entry.suffix.lower() in IMAGE_SUFFIXES:
            found[entry] = None
        else:
            found.update((image, None) for image in _listed(entry, reading))
    return list(found)


def _listed(file: Path, reading: _Reading) -> Iterator[Path]:
    bases = list(dict.fromkeys([file.parent, reading.place.root]))
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError):
        raise UsageError(f"{file} cannot be read as UTF-8 text; it should name one picture per line") from None
    base, seen = "", set()
    for number, line in enumerate(lines, 1):
        if not (text := line.strip()):
            continue
        # What was added to or taken from the first name fits the others, and saves looking.
        quick = Path(base + text)
        where = quick if base and reading.listings.has(quick) else locate(text, bases, reading.split)
        if where is None or not where.is_file():
            message = f"line {number}: picture {text} does not exist"
            reading.problems.report(Kind.IMAGE_MISSING, file, message, image=text, hint="correct the path")
            continue
        if where.as_posix().endswith(f"/{text}"):
            base = where.as_posix()[: -len(text)]
        if where in seen:
            reading.problems.note(f"{file}: some pictures are listed more than once (first {text}); each is read once")
        seen.add(where)
        yield where


def _report_orphans(
    images: Sequence[Path], labels: Sequence[Path | None], elsewhere: Set[Path], reading: _Reading
) -> None:
    """Label files that no image stands beside: their objects would be lost without a word."""
    folders = {(label_path(image).parent, image.parent) for image in images}
    used = {*elsewhere, *(label for label in labels if label is not None)}
    # A folder of labels may belong to several folders of images, of which only some are in this split.
    for folder, beside in sorted(folders):
        if folder == beside and folder == reading.place.root:
            continue  # lists, notes and class names lie there, too
        names = [name for name in reading.listings.names(beside) if name.lower().endswith(IMAGE_SUFFIXES)]
        # Also a.jpg.txt, and names in other capitals: those that hold labels were paired, the others are empty.
        known = {folded(name) for name in names} | {folded(Path(name).stem) for name in names}
        for name in sorted(reading.listings.names(folder)):
            file = folder / name
            unknown = name != "classes.txt" and file not in used and folded(file.stem) not in known
            if name.lower().endswith(".txt") and not name.startswith(".") and unknown:
                message = f"this label file has no picture in {beside}"
                reading.problems.report(Kind.IMAGE_MISSING, file, message, image=file.stem, hint="remove it")


def _records(
    images: Sequence[Path],
    labels: Sequence[Path | None],
    names: Sequence[str],
    sidecar: Sidecar | None,
    reading: _Reading,
) -> Iterator[Record]:
    """The record of every image that can be used; sizes are read only where no record has them."""
    root = Path(os.path.abspath(reading.place.root))
    pending: list[tuple[Path, str, bytes, Path | None, tuple[int | None, int]]] = []
    for image, label, name in zip(images, labels, names, strict=True):
        try:
            content = b"" if label is None else label.read_bytes()
        except OSError as error:
            message = f"the label file cannot be read: {error.strerror}"
            reading.problems.report(Kind.RECORD_BROKEN, label or image, message, image=name)
            continue
        identity: tuple[int | None, int] = (None, 1 << 62)
        if sidecar is not None:
            file = Path(os.path.relpath(os.path.abspath(image), root)).as_posix()
            record = sidecar.record(file, name, content)
            if record is not None:
                yield record
                continue
            identity = sidecar.identity(file)
        pending.append((image, name, content, label, identity))
    reading.meaning = _meaning(reading.place, (content for _, _, content, _, _ in pending), images)
    for (image, name, content, label, (number, rank)), size in zip(
        pending, image_sizes(image for image, *_ in pending), strict=True
    ):
        if isinstance(size, BrokenInputError):
            reading.problems.report(Kind.IMAGE_UNREADABLE, image, size.reason, image=name, hint="replace it")
            continue
        rows = read_rows(content, label or image, name, reading.meaning, reading.problems)
        labels_, boxes = _boxes(rows, size, label or image, name, reading)
        yield Record(name, *size, labels_, boxes, id=number, rank=rank)


def _meaning(place: YoloSplit, contents: Iterable[bytes], images: Sequence[Path]) -> Meaning:
    """How lines of more than five numbers are to be understood: as the yaml file says, else as all of them look."""
    if place.keypoints is not None:
        return Meaning(place.keypoints)
    try:
        return Meaning(find_poses(contents))
    except UnclearLinesError:
        pass
    try:  # The other splits may tell.
        return Meaning(find_poses(read_all_labels(images, place)))
    except UnclearLinesError as error:
        raise UsageError(f"{place.marker}: {error}") from None


def _boxes(
    rows: Sequence[Row], size: tuple[int, int], file: Path, name: str, reading: _Reading
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and boxes (N, 4) in pixels of the lines without fault."""
    ids = reading.place.class_ids
    label_of = {number: label for label, number in enumerate(ids)}
    labels, boxes = [], []
    for line, (number, x, y, width, height) in rows:
        fault = fault_of(number, (x, y, width, height), None if reading.place.names is None else label_of)
        if fault is not None:
            reading.problems.report(fault.kind, file, f"line {line}: {fault.message}", image=name)
            continue
        reading.largest = max(reading.largest, int(number))
        labels.append(label_of.get(int(number), int(number)))
        boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    sides = np.array([*size, *size], np.float64)
    return np.array(labels, np.int64), np.array(boxes, np.float64).reshape(-1, 4) * sides

"""Reading Pascal VOC data sets: one XML file an image.

Where a coordinate lies: the files of the VOC challenge count pixels from 1 and name the last one inside
("The PASCAL Visual Object Classes Challenge 2012 Development Kit"), so that
xmin..xmax = 1..W is the whole image and a box begins at xmin - 1. Tools of today write the edges themselves, 0..W. A
file is taken as one of the challenge's if its ``source`` says so, as all of theirs do ("The VOC2007 Database", "PASCAL
VOC2007").
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from gfocal.data.formats.common import Listings, images_in, portable, walk
from gfocal.data.formats.image_size import image_size
from gfocal.data.formats.sidecar import Sidecar, read_sidecar
from gfocal.data.formats.voc.split import VocSplit
from gfocal.data.formats.voc.xml import LOST, Annotation, XmlError, parse_annotation
from gfocal.data.index.build import Record, to_index
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import Fault, Kind
from gfocal.data.problems import Problems
from gfocal.errors import BrokenInputError, EmptySplitError
from gfocal.images.file_types import IMAGE_SUFFIXES
from gfocal.utils.text import counted, join_some

_OWN = re.compile(r"VOC\s?20\d\d", re.IGNORECASE)

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_UNREAD = ("polygon", "segm", "part", "attributes", "actions", "pose", "truncated", "occluded")
"""What an object may have beside its name, box and ``difficult``."""


@dataclass
class _Reading:
    """One split while it is read."""

    place: VocSplit
    problems: Problems
    listings: Listings = field(default_factory=Listings)
    names: list[str] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    from_one: int = 0  # files of the challenge
    several: int = 0  # objects with more than one box
    encodings: dict[tuple[str, bool], list[Path]] = field(default_factory=dict)  # what is declared wrongly, and where
    unread: Counter[str] = field(default_factory=Counter)

    def label(self, name: str) -> int:
        """The first class of a name; a new one is added behind the others."""
        if name not in self.labels:
            self.labels[name] = len(self.names)
            self.names.append(name)
        return self.labels[name]


@dataclass(frozen=True)
class _Pair:
    image: str  # relative to the folder of the images
    xml: Path | None


def read_voc(place: VocSplit, split: str, problems: Problems) -> DataIndex:
    """Read one split and check all of it.

    An image without an XML file is background; ``difficult`` objects are ignored in training and evaluation. Classes
    are those of the sidecar, or all names in the data set in alphabetical order, with ids from 1 on.

    Args:
        place: where it is.
        split: its name, for the sidecar.
        problems: collects faults: record-broken, box-not-finite, box-negative, box-outside, picture-missing,
            picture-twice, picture-unreadable.

    Raises:
        BrokenInputError: a record is broken, and faults are not skipped.
        EmptySplitError: there are no images.
    """
    reading = _Reading(place, problems)
    pairs = list(_pairs(reading))
    if not pairs:
        raise EmptySplitError(f"no pictures in {place.listed or place.images}; nothing can be done")
    sidecar = read_sidecar(place.root, "voc", split, None, problems)
    reading.names += sidecar.names if sidecar is not None else ()
    reading.labels |= {name: label for label, name in reversed(list(enumerate(reading.names)))}
    for name in sorted(_names(place.class_folders)):
        reading.label(name)
    records = [record for pair in pairs if (record := _record(pair, sidecar, reading)) is not None]
    names = reading.names or ["object"]
    ids = list(sidecar.category_ids) if sidecar is not None else []
    following = max(ids, default=0) + 1
    ids += range(following, following + len(names) - len(ids))
    _note_reading(reading)
    for what, times in reading.unread.items():
        problems.lose(place.labels, f"{times} objects' {what}")
    if sidecar is not None:
        sidecar.report_changed(problems)
    return to_index(
        records, images_dir=place.images, annotations=place.listed or place.labels, names=names, category_ids=ids,
        problems=problems,
    )  # fmt: skip


def _note_reading(reading: _Reading) -> None:
    note, labels = reading.problems.note, reading.place.labels
    if reading.from_one:
        note(f"{labels}: boxes of the VOC challenge count pixels from 1: left and top are lowered by 1")
    if reading.several:
        objects = counted(reading.several, "object")
        note(f"{labels}: {objects} with more than one bndbox: each bndbox is read as an object of that name")
    for (declared, damaged), files in reading.encodings.items():
        says = f"not in the declared encoding {declared!r}" if declared else "not in UTF-8, and without a declaration"
        read = "letters outside ASCII are lost, boxes are read" if damaged else "read as the UTF-8 that they are"
        names = join_some([file.name for file in files], 3)
        note(f"{labels}: {counted(len(files), 'XML file')} {says}: {read} ({names})")


def _names(folders: Sequence[Path]) -> set[str]:
    """All class names; what cannot be read is left to the reading of its split, which reports it."""
    found: set[str] = set()
    for folder in folders:
        for name in walk(folder, ".xml"):
            try:
                annotation = parse_annotation((folder / name).read_bytes())
            except (OSError, XmlError):
                continue
            names = (_name(one, annotation) for one in annotation.objects())
            found.update(name for name in names if not isinstance(name, Fault))
    return found


def _pairs(reading: _Reading) -> Iterator[_Pair]:
    """Every image of the split with its XML file; what lacks an image is reported."""
    place, problems = reading.place, reading.problems
    files = {portable(name)[:-4]: place.labels / name for name in walk(place.labels, ".xml")}
    images = _by_stem(reading)
    if place.stems is None:
        wanted = list(dict.fromkeys([*images, *files]))
    else:
        wanted = list(dict.fromkeys(_known_stem(given, files, images) for given in place.stems))
    # An XML file without an image of its name may name another one, which then is no background.
    names = {stem: _named_image(files[stem], images) for stem in wanted if stem in files and stem not in images}
    claims = {name: stem for stem, name in reversed(names.items()) if name is not None}
    for stem in wanted:
        xml, image = files.get(stem), images.get(stem) or names.get(stem)
        if image is None:
            message = "has no picture" if xml is not None else f"picture {stem} does not exist"
            where = xml or place.listed or place.labels
            problems.report(Kind.IMAGE_MISSING, where, f"{message} in {place.images}", image=stem)
            continue
        own = os.path.splitext(image)[0]
        owner = own if own in files else claims.get(image, own)
        if owner == stem:
            yield _Pair(image, xml)
        elif xml is not None:
            problems.report(Kind.IMAGE_TWICE, xml, f"belongs to the picture {image}, as {owner}.xml does")


def _by_stem(reading: _Reading) -> dict[str, str]:
    """The images by their names without ending."""
    found: dict[str, str] = {}
    for name in images_in(reading.place.images):
        first = found.setdefault(os.path.splitext(name)[0], name)
        if first != name:
            reading.problems.note(f"{reading.place.images}: {name} is not read, since {first} has its name")
    return found


def _known_stem(given: str, files: dict[str, Path], images: dict[str, str]) -> str:
    """The name without ending that a line of a list means; some write the ending, or a number behind the name."""
    without = given[: given.rfind(".")] if given.lower().endswith(IMAGE_SUFFIXES) else given
    tries = (given, without, re.sub(r"\s+-?[01]$", "", given))
    return next((name for name in tries if name in files or name in images), given)


def _named_image(xml: Path, images: dict[str, str]) -> str | None:
    """What ``filename`` says, where no image is called like the XML file."""
    try:
        root = parse_annotation(xml.read_bytes()).root
    except (XmlError, OSError):
        return None
    name = os.path.splitext(portable(root.findtext("filename") or "").rsplit("/", 1)[-1])[0].strip()
    return images.get(name)


def _record(pair: _Pair, sidecar: Sidecar | None, reading: _Reading) -> Record | None:
    """What the XML file of an image says; None if the image has to be left out."""
    problems, image = reading.problems, reading.place.images / pair.image
    try:
        content = b"" if pair.xml is None else pair.xml.read_bytes()
    except OSError as error:
        problems.report(Kind.RECORD_BROKEN, pair.xml or image, f"cannot be read: {error.strerror}", image=pair.image)
        return None
    identity: tuple[int | None, int] = (None, 1 << 62)
    if sidecar is not None:
        file = Path(os.path.relpath(image, reading.place.root)).as_posix()
        record = sidecar.record(file, pair.image, content)
        if record is not None:
            return record
        identity = sidecar.identity(file)
    annotation = None
    if pair.xml is not None:
        try:
            annotation = parse_annotation(content)
        except XmlError as error:
            problems.report(Kind.RECORD_BROKEN, pair.xml, str(error), image=pair.image)
            return None
        if annotation.encoding is not None:
            reading.encodings.setdefault((annotation.declared, annotation.damaged), []).append(pair.xml)
    size = _size(annotation)
    try:
        size = size or image_size(image)
    except BrokenInputError as error:
        problems.report(Kind.IMAGE_UNREADABLE, image, error.reason, image=pair.image, hint="replace it")
        return None
    objects: list[_Object] = []
    if annotation is not None and pair.xml is not None:
        objects += _objects(annotation, pair.xml, size, pair.image, reading)
    return Record(
        file_name=pair.image,
        width=size[0],
        height=size[1],
        labels=np.array([label for label, _, _ in objects], np.int64),
        boxes=np.array([box for _, box, _ in objects], np.float64).reshape(-1, 4),
        ignore=np.array([difficult for _, _, difficult in objects], bool),
        id=identity[0],
        rank=identity[1],
    )


def _size(annotation: Annotation | None) -> tuple[int, int] | None:
    """(width, height) as written; None where it is not, or is 0 as some tools write."""
    if annotation is None:
        return None
    try:
        width, height = (int(float(annotation.root.findtext(f"size/{side}") or "")) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if min(width, height) > 0 and max(width, height) < 1 << 31 else None


_Object = tuple[int, tuple[float, float, float, float], bool]  # label, box, difficult


def _objects(
    annotation: Annotation, xml: Path, size: tuple[int, int], image: str, reading: _Reading
) -> Iterator[_Object]:
    """Each object without fault; one with several boxes is as many objects."""
    root = annotation.root
    source = f"{root.findtext('source/database')} {root.findtext('source/annotation')}"
    first = 1.0 if _OWN.search(source) else 0.0
    reading.from_one += bool(first)
    for number, one in enumerate(annotation.objects(), 1):
        name = _name(one, annotation)
        if isinstance(name, Fault):
            reading.problems.report(name.kind, xml, f"object {number}: {name.message}", image=image)
            continue
        corners = one.findall("bndbox")
        reading.several += len(corners) > 1
        for place, each in enumerate(corners or [None], 1):
            box = _box(each, size, first)
            if isinstance(box, Fault):
                label = f"object {number} ({name})" + (f", bndbox {place}" if len(corners) > 1 else "")
                reading.problems.report(box.kind, xml, f"{label}: {box.message}", image=image)
                continue
            reading.unread.update(tag for tag in _UNREAD if _says_something(one.find(tag)))
            difficult = (one.findtext("difficult") or "0").strip().lower() in ("1", "true", "yes")
            yield reading.label(name), box, difficult
    for tag, count in Counter(box.tag for box in annotation.strays()).items():
        boxes = counted(count, tag, "bndboxes") if tag == "bndbox" else counted(count, "box", "boxes") + f" (<{tag}>)"
        message = f"{boxes} in no <object>, so nothing says of which class"
        hint = "write each box as <object><name>...</name><bndbox>...</bndbox></object>"
        reading.problems.report(Kind.RECORD_BROKEN, xml, message, image=image, hint=hint)


def _name(one: Element, annotation: Annotation) -> str | Fault:
    """The class of an object, or why it has none."""
    names = list(dict.fromkeys((name.text or "").strip() for name in one.findall("name")))
    if len(names) > 1:
        return Fault(Kind.RECORD_BROKEN, f"has more than one name: {join_some([repr(name) for name in names])}")
    if not any(names):
        return Fault(Kind.RECORD_BROKEN, "has no name")
    if annotation.damaged and LOST in names[0]:
        declared = f"which it declares ({annotation.declared})" if annotation.declared else "which XML is by default"
        message = f"its name {names[0]!r} has letters that cannot be read: the file is not in the encoding {declared}"
        return Fault(Kind.RECORD_BROKEN, f"{message}; save it as UTF-8")
    return names[0]


def _says_something(element: Element | None) -> bool:
    if element is None:
        return False
    return len(element) > 0 or (element.text or "").strip().lower() not in ("", "0", "unspecified")


def _box(corners: Element | None, size: tuple[int, int], first: float) -> Fault | tuple[float, float, float, float]:
    """Xyxy in pixels from the image's corner, or what is wrong with it."""
    written = [[] if corners is None else [e.text or "" for e in corners.findall(key)] for key in _CORNERS]
    if twice := next((key for key, given in zip(_CORNERS, written, strict=True) if len(set(given)) > 1), None):
        return Fault(Kind.RECORD_BROKEN, f"bndbox has more than one {twice}")
    texts = [given[0] if given else None for given in written]
    try:
        left, top, right, bottom = (float(text) for text in texts if text is not None)
    except ValueError:
        has = ", ".join("nothing" if text is None else repr(text) for text in texts)
        return Fault(Kind.RECORD_BROKEN, f"bndbox needs the numbers {', '.join(_CORNERS)}; it has {has}")
    box = (left - first, top - first, right, bottom)
    text = f"bndbox {left:g} {top:g} {right:g} {bottom:g}"
    if not np.isfinite(box).all():
        return Fault(Kind.BOX_NOT_FINITE, f"box is not finite: {text}")
    if box[2] < box[0] or box[3] < box[1]:
        return Fault(Kind.BOX_NEGATIVE, f"box has a negative width or height: {text} (xmin ymin xmax ymax)")
    if box[0] >= size[0] or box[1] >= size[1] or box[2] <= 0 or box[3] <= 0:
        return Fault(Kind.BOX_OUTSIDE, f"box lies outside its picture, {size[0]}x{size[1]}: {text}")
    return box

"""Which label file belongs to which image: the one where YOLO programs look, else the only one that fits."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from gfocal.data.formats.common import SPLITS, Listings
from gfocal.data.formats.yolo.region import regions
from gfocal.data.formats.yolo.split import YoloSplit
from gfocal.data.formats.yolo.tree import (
    Folder,
    folded,
    is_of_results,
    label_files,
    meaning_of,
    scan,
)
from gfocal.images.file_types import IMAGE_SUFFIXES

_NAME_FILES = ("classes.txt",)
_Key = tuple[str, str]  # a folder without links, and a name in it


@dataclass(frozen=True)
class Label:
    """A label file that no image claims.

    Attributes:
        path: the file.
        meaning: of its folder, see :func:`gfocal.data.formats.yolo.tree.meaning_of`.
        is_result: its folder is one that programs write what they predicted into.
    """

    path: Path
    meaning: tuple[str, ...]
    is_result: bool


@dataclass
class _Place:
    """Where an image is, whatever its ending: ``image`` is one of its paths."""

    image: Path
    meanings: set[tuple[str, ...]] = field(default_factory=set)
    claimed: bool = False
    labels: list[Label] = field(default_factory=list)
    doubtful: list[Label] = field(default_factory=list)


@dataclass
class Pairing:
    """The label files of images.

    Attributes:
        files: of each image; None: it has none.
        found: (label file, image) of those that are not where YOLO programs look, of this split.
        unclear: for the rows of images that may have several label files, or share one, these files.
        rivals: the images that each unclear label file may belong to.
        taken: all label files that an image of any split has in places where YOLO programs do not look.
        spare: label files of images that have another one, and what programs wrote as their results.
        orphans: label files of no image.
    """

    files: list[Path | None]
    found: list[tuple[Path, Path]] = field(default_factory=list)
    unclear: dict[int, list[Path]] = field(default_factory=dict)
    rivals: dict[Path, list[Path]] = field(default_factory=dict)
    taken: set[Path] = field(default_factory=set)
    spare: list[Label] = field(default_factory=list)
    orphans: list[Label] = field(default_factory=list)


def label_folder(folder: str) -> str:
    """Where the label files of the images in a folder belong: its last part ``images`` becomes ``labels``."""
    parts = folder.replace("\\", "/").split("/") if os.sep == "\\" else folder.split("/")
    for i in range(len(parts) - 1, -1, -1):
        if parts[i].lower() == "images":
            parts[i] = {"images": "labels", "Images": "Labels", "IMAGES": "LABELS"}.get(parts[i], "labels")
            return "/".join(parts)
    return folder


def label_path(image: Path) -> Path:
    """Where the label file of an image belongs: the last folder ``images`` becomes ``labels``, else beside it."""
    return Path(label_folder(os.fspath(image.parent)), image.stem + ".txt")


def pair(images: Sequence[Path], place: YoloSplit, listings: Listings) -> Pairing:
    """Find the label file of each image of a split.

    Where YOLO programs look comes first: in ``labels`` for ``images``, then beside the image. Every other text file of
    the data set that holds labels belongs to the image of its name: to the one in the folder of the same meaning
    (``imgs/train`` and ``Label/train2017``), else to the only one whose folder says more, or less (``imgs/train`` and
    ``labels``). Where that leaves a choice between images, or between files of different content, none is made.
    """
    result = Pairing([_where_expected(image, listings) for image in images])
    folders = {image.parent for image in images}
    reals = {folder: os.path.realpath(folder) for folder in folders}
    for root, starts in regions(folders, place):
        places = _pair_within(scan(starts), root, listings, result)
        for row, image in enumerate(images) if places else ():
            one = places.get((reals[image.parent], image.stem))
            if result.files[row] is None and one is not None:
                _take(row, image, one, result)
    return result


def _pair_within(
    folders: Mapping[str, Folder], root: Path, listings: Listings, result: Pairing
) -> Mapping[_Key, _Place]:
    """The places of images with the label files that are not where YOLO programs look; {} where there are none."""
    claimed = _claimed(folders, listings)
    labels = list(_labels(folders, claimed, root))
    if not labels:
        return {}
    places = _places(folders, listings, root)
    by_name: dict[str, list[_Place]] = defaultdict(list)
    for (_, stem), own in places.items():
        by_name[folded(stem)].append(own)
    # One folder of images and one of labels belong together, whatever they are called.
    meanings = {meaning for own in places.values() for meaning in own.meanings}
    single = not claimed and len(meanings) == len({label.meaning for label in labels}) == 1
    for label in labels:
        _assign(label, by_name, result, single)
    for own in places.values():
        _settle(own, result)
    return places


def read_all_labels(images: Sequence[Path], place: YoloSplit) -> Iterator[bytes]:
    """What all label files of a data set hold, those of other splits too; ``images``: of one split."""
    for _, starts in regions({image.parent for image in images}, place):
        for path, own in scan(starts).items():
            for name in label_files(path, sorted(own.texts)):
                yield _content(Path(path, name))


def _where_expected(image: Path, listings: Listings) -> Path | None:
    beside = image.parent / f"{image.stem}.txt"
    return next((file for file in (label_path(image), beside) if listings.has(file)), None)


def _expected(own: Folder, folders: Mapping[str, Folder], listings: Listings) -> list[tuple[str, Set[str]]]:
    """The folders where YOLO programs look for the labels of the images in one, and the files in each."""
    home = label_folder(own.path)
    there = folders.get(home)
    first = (there.real, {*there.texts}) if there else (os.path.realpath(home), listings.names(home))
    return [first, (own.real, {*own.texts})]


def _claimed(folders: Mapping[str, Folder], listings: Listings) -> set[_Key]:
    """The label files that are where YOLO programs look for those of any image."""
    claimed: set[_Key] = set()
    for own in folders.values():
        left = {f"{os.path.splitext(image)[0]}.txt" for image in own.images}
        for real, texts in _expected(own, folders, listings) if left else ():
            claimed |= {(real, name) for name in left & texts}
            left -= texts
    return claimed


def _places(folders: Mapping[str, Folder], listings: Listings, root: Path) -> dict[_Key, _Place]:
    """Where images are."""
    places: dict[_Key, _Place] = {}
    for own in folders.values():
        expected = [texts for _, texts in _expected(own, folders, listings)] if own.images else []
        meaning = meaning_of(Path(own.path).relative_to(root).parts)
        for image in own.images:
            stem = os.path.splitext(image)[0]
            one = places.setdefault((own.real, stem), _Place(Path(own.path, image)))
            one.meanings.add(meaning)
            one.claimed |= any(f"{stem}.txt" in texts for texts in expected)
    return places


def _labels(folders: Mapping[str, Folder], claimed: Set[_Key], root: Path) -> Iterator[Label]:
    """The text files that hold labels and that no image claims; each once, also where links lead to it."""
    seen = set(claimed)
    for path, own in sorted(folders.items()):
        names = [name for name in own.texts if (own.real, name) not in seen and name.lower() not in _NAME_FILES]
        seen |= {(own.real, name) for name in names}
        parts = Path(path).relative_to(root).parts
        for name in label_files(path, sorted(names)):
            yield Label(Path(path, name), meaning_of(parts), is_of_results(parts))


def _assign(label: Label, by_name: Mapping[str, list[_Place]], result: Pairing, single: bool) -> None:
    """Give a label file to the place it belongs to, or to all that it may belong to."""
    stem = label.path.stem
    named = by_name.get(folded(stem), [])
    if not named and stem.lower().endswith(IMAGE_SUFFIXES):  # a.jpg.txt
        named = by_name.get(folded(os.path.splitext(stem)[0]), [])
    fits = [max(_fit(label.meaning, meaning, single) for meaning in one.meanings) for one in named]
    best = max(fits, default=-1)
    chosen = [one for one, fit in zip(named, fits, strict=True) if fit == best >= 0]
    if not chosen or all(one.claimed for one in chosen) or label.is_result:
        (result.spare if chosen else result.orphans).append(label)
    elif len(chosen) == 1:
        chosen[0].labels.append(label)
    else:
        result.rivals[label.path] = [one.image for one in chosen]
        for one in chosen:
            one.doubtful.append(label)


def _fit(label: Sequence[str], image: Sequence[str], single: bool) -> float:
    """How well two folders fit: -1 not at all, as where they name different splits; the more, the better."""
    if label == image:
        return math.inf
    splits = [{*meaning}.intersection(SPLITS) for meaning in (label, image)]
    short, long = sorted((label, image), key=len)
    rest = iter(long)
    if not (single or all(part in rest for part in short)) or (all(splits) and splits[0] != splits[1]):
        return -1
    return len(short)


def _settle(own: _Place, result: Pairing) -> None:
    """Of several label files of one content the first is it; of different ones none."""
    every = [*own.labels, *own.doubtful]
    if len(every) > 1 and len({_content(label.path) for label in every}) == 1 and own.labels:
        result.spare += every[1:]
        own.labels, own.doubtful = own.labels[:1], []
    elif len(own.labels) > 1 or own.doubtful:
        own.labels, own.doubtful = [], every
    result.taken |= {label.path for label in (*own.labels, *own.doubtful)}


def _content(file: Path) -> bytes:
    try:
        return b"\n".join(file.read_bytes().split(b"\r\n")).strip()
    except OSError:
        return os.fsencode(file)


def _take(row: int, image: Path, own: _Place, result: Pairing) -> None:
    if own.labels:
        result.files[row] = own.labels[0].path
        result.found.append((own.labels[0].path, image))
    elif own.doubtful:
        result.unclear[row] = [label.path for label in own.doubtful]

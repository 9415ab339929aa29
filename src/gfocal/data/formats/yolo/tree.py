"""The images and label files in a folder and all folders inside it, and what the names of folders mean."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gfocal.data.formats.common import is_hidden, split_of
from gfocal.images.file_types import IMAGE_SUFFIXES

IMAGE_WORDS = frozenset(
    (
        "image",
        "images",
        "img",
        "imgs",
        "jpegimages",
        "jpg",
        "jpgs",
        "photo",
        "photos",
        "pic",
        "pics",
        "picture",
        "pictures",
    )
)
LABEL_WORDS = frozenset(
    (
        "label",
        "labels",
        "lbl",
        "txt",
        "txts",
        "yolo",
        "darknet",
        "bbox",
        "bboxes",
        "anno",
        "annos",
        "annotation",
        "annotations",
    )
)
_RESULT_WORDS = frozenset(["runs", "predict", "predictions", "prediction", "preds", "pred", "detections", "results"])
_HEAD = 4096
"""Bytes of a text file that say what it is."""
_TRIES = 50
"""So many text files of a folder that are no label files, one after the other: it holds none."""


@dataclass
class Folder:
    """What one folder holds.

    Attributes:
        path: as it was reached.
        real: without links.
        images: names of image files.
        texts: names of text files.
    """

    path: str
    real: str
    images: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


def scan(starts: Iterable[Path], most: int | None = None) -> dict[str, Folder]:
    """Some folders and those inside them by path: through links as well, but not round in circles.

    Args:
        starts: the folders.
        most: stop after so many.
    """
    found: dict[str, Folder] = {}
    waiting: list[tuple[str, str, tuple[str, ...]]] = [
        (os.fspath(start), os.path.realpath(start), ()) for start in starts
    ]
    while waiting and len(found) != most:
        path, real, above = waiting.pop()
        own = found[path] = Folder(path, real)
        inside: list[tuple[str, str, tuple[str, ...]]] = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if is_hidden(entry.name):
                        continue
                    lower = entry.name.lower()
                    if lower.endswith(".txt"):
                        own.texts.append(entry.name)
                    elif lower.endswith(IMAGE_SUFFIXES):
                        own.images.append(entry.name)
                    elif _is_folder(entry):
                        target = os.path.realpath(entry.path) if entry.is_symlink() else f"{real}{os.sep}{entry.name}"
                        if target != real and target not in above:
                            inside.append((entry.path, target, (*above, real)))
        except OSError:  # may not be read
            continue
        waiting += sorted(inside, reverse=True)
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def words_of(name: str) -> list[str]:
    """Its words and numbers: "Train_images-2" has train, images and 2."""
    return re.findall(r"[^\W\d_]+|\d+", unicodedata.normalize("NFC", name).casefold())


def folded(name: str) -> str:
    """A name as one that differs in capitals, or in how a system writes accents, has it too."""
    return unicodedata.normalize("NFC", name).casefold()


def meaning_of(parts: Sequence[str]) -> tuple[str, ...]:
    """What is left of the parts of a path without words for images and labels: splits by their own name.

    ``images/train2017`` and ``labels/train`` are both ``("train",)``.
    """
    left = []
    for part in parts:
        split = split_of(part)
        words = [split_of(word) or word for word in words_of(part) if word not in IMAGE_WORDS | LABEL_WORDS]
        if split or words:
            left.append(split or "-".join(words))
    return tuple(left)


def is_of_results(parts: Sequence[str]) -> bool:
    """Whether a folder is one that programs write what they predicted into."""
    return any(word in _RESULT_WORDS for part in parts for word in words_of(part))


def label_files(folder: str, names: Sequence[str]) -> Iterator[str]:
    """Those of some text files that hold labels, by their content."""
    misses = 0
    for name in names:
        if holds_labels(os.path.join(folder, name)):
            misses = 0
            yield name
        elif (misses := misses + 1) >= _TRIES:
            return


def holds_labels(file: str) -> bool:
    """Whether the first lines of a file are a class number and four or more shares each; an empty file holds none."""
    try:
        with open(file, "rb") as opened:
            head = opened.read(_HEAD)
    except OSError:
        return False
    lines = head.removeprefix(b"\xef\xbb\xbf").splitlines()
    if len(head) == _HEAD and len(lines) > 1:
        lines.pop()  # cut off
    rows = [words for line in lines if (words := line.split())]
    return bool(rows) and all(map(_is_label, rows))


def _is_label(words: Sequence[bytes]) -> bool:
    try:
        values = [float(word) for word in words]
    except ValueError:
        return False
    number = values[0]
    return len(values) >= 5 and number >= 0 and number.is_integer() and all(-1 <= value <= 2 for value in values[1:])


def has_labels(root: Path) -> bool:
    """Whether any text file in a folder or the folders inside holds labels."""
    folders = scan([root]).values()
    return any(next(label_files(own.path, sorted(own.texts)), None) is not None for own in folders)

"""Which folders belong to a data set, and are looked through for its label files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from gfocal.data.formats.common import SPLITS, folders_in
from gfocal.data.formats.yolo.split import YoloSplit
from gfocal.data.formats.yolo.tree import IMAGE_WORDS, LABEL_WORDS, holds_labels, meaning_of, scan, words_of

_SAMPLES = 5
"""Text files of a folder that say whether it holds labels."""
_FOLDERS = 50
"""Folders in one beside a data set that are looked into: it may be anything."""


def regions(folders: Set[Path], place: YoloSplit) -> Iterator[tuple[Path, Sequence[Path]]]:
    """The folders around some folders of images, and what in each is to be looked through.

    A yaml file may lie beside other things, as in a home folder, and name folders of several disks: what is around
    them all may be a whole disk.

    Args:
        folders: of the images of one split.
        place: the split.
    """
    if place.marker.is_dir():
        yield place.root, [place.root]
        return
    root = Path(os.path.abspath(place.root))
    paths = {Path(os.path.abspath(folder)) for folder in (*folders, *filter(Path.is_dir, place.around))}
    inside = {path for path in paths if path.is_relative_to(root)}
    tops = {_top(path, path.parts) for path in paths - inside}
    if inside:
        common = Path(os.path.commonpath(inside))
        around = _top(common, common.relative_to(root).parts)
        while around != root and _holds_label_folder(around.parent, around):
            around = around.parent
        tops.add(around)
    for top in sorted(tops):
        if any(top != other and top.is_relative_to(other) for other in tops):
            continue
        starts = [top]
        if Path(os.path.expanduser("~")).is_relative_to(top):  # it, or all of the disk
            starts = [top / part for part in {path.relative_to(top).parts[0] for path in paths if path != top}]
            starts += [other for other in folders_in(top) if other not in starts and _is_of_labels(other)]
        # Messages name paths as they were given.
        yield _as_given(top, place), [_as_given(start, place) for start in starts]


def _as_given(folder: Path, place: YoloSplit) -> Path:
    return folder if place.root.is_absolute() else Path(os.path.relpath(folder))


def _top(folder: Path, parts: Sequence[str]) -> Path:
    """The folder above the last of its ``parts`` that is named after images, else after a split; else it itself."""
    marks = [bool(IMAGE_WORDS & {*words_of(part)}) for part in parts]
    if not any(marks):
        marks = [bool({*meaning_of([part])}.intersection(SPLITS)) for part in parts]
    return folder.parents[marks[::-1].index(True)] if any(marks) else folder


def _is_of_labels(folder: Path) -> bool:
    return bool(LABEL_WORDS & {*words_of(folder.name)})


def _holds_label_folder(folder: Path, but: Path) -> bool:
    """Whether a folder has labels, or a folder inside that is named after them or holds some and no images."""
    others = [inside for inside in folders_in(folder) if inside != but]
    return any(map(_is_of_labels, others)) or _holds_labels_alone(folder, 1) or any(map(_holds_labels_alone, others))


def _holds_labels_alone(folder: Path, most: int = _FOLDERS) -> bool:
    """Whether some folders have labels and no images: with images they are another data set."""
    inside = scan([folder], most).values()
    samples = (os.path.join(own.path, name) for own in inside for name in own.texts[:_SAMPLES])
    return not any(own.images for own in inside) and any(map(holds_labels, samples))

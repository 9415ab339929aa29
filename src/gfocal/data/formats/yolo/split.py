"""Where one split of a YOLO data set lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gfocal.data.formats.common import (
    portable,
)


@dataclass(frozen=True)
class YoloSplit:
    """Where one split is.

    Attributes:
        root: the folder of the data set.
        marker: what messages name: the yaml file, or a folder.
        entries: folders of images, and text files that list images.
        names: class names, None where nothing gives them.
        class_ids: the number of each in the label files, ascending.
        keypoints: the label lines end with key points, which are not read.
    """

    root: Path
    marker: Path
    entries: tuple[Path, ...]
    names: tuple[str, ...] | None
    class_ids: tuple[int, ...] = ()
    keypoints: bool = False


def locate(entry: str, bases: Sequence[Path]) -> Path | None:
    """The file or folder that a data set means by a path, which other programs and machines read otherwise.

    Tried are the path itself from each base; without a leading ``../`` or ``./`` (Roboflow writes ``../train/images``
    for ``train/images`` beside the file); and its ends of two and more parts (``/home/me/set/train/images`` and
    ``data/obj_train_data/1.jpg`` of CVAT), the longest first.
    """
    plain = portable(entry.strip())
    for base in bases:
        if (base / plain).exists():
            return base / plain
    parts = [part for part in PurePosixPath(plain).parts if part not in ("..", ".", "/") and not part.endswith(":")]
    shortest = 1 if plain.startswith(("..", "./", "data/")) else 2
    for first in range(max(1, len(parts) - shortest + 1)):
        for base in bases:
            if parts and (base / Path(*parts[first:])).exists():
                return base / Path(*parts[first:])
    return None

"""Where one split of a YOLO data set lies, and what the paths in its files mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from gfocal.data.formats.common import files_in, folders_in, portable, split_of
from gfocal.utils.files import real_path


@dataclass(frozen=True)
class YoloSplit:
    """Where one split is.

    Attributes:
        root: the folder of the data set.
        marker: what messages name: the yaml file, or a folder.
        entries: folders of images, and text files that list images.
        names: class names, None where nothing gives them.
        class_ids: the number of each in the label files, ascending.
        keypoints: whether the label lines end with key points, which are not read; None where nothing says so.
        splits: names of all splits of the data set, this one too.
        around: the entries of all splits.
    """

    root: Path
    marker: Path
    entries: tuple[Path, ...]
    names: tuple[str, ...] | None
    class_ids: tuple[int, ...] = ()
    keypoints: bool | None = None
    splits: tuple[str, ...] = ()
    around: tuple[Path, ...] = ()


def parts_of(entry: str) -> list[str]:
    """The parts of a path as a data set writes it, without what leads to another folder or drive."""
    parts = PurePosixPath(portable(entry.strip())).parts
    return [part for part in parts if part not in ("..", ".", "/") and not part.endswith(":")]


def locate(entry: str, bases: Sequence[Path], split: str | None = None) -> Path | None:
    """The file or folder that a data set means by a path, which other programs and machines read otherwise.

    Tried are the path itself from each base; without a leading ``../`` or ``./`` (Roboflow writes ``../train/images``
    for ``train/images`` beside the file); and its ends of two and more parts (``/home/me/set/train/images`` and
    ``data/obj_train_data/1.jpg`` of CVAT), the longest first.

    Args:
        entry: the path.
        bases: folders.
        split: a part that is named after it is kept in all ends: ``../valid/images`` is not the ``images`` beside
            the file, which are those of another split.
    """
    plain = portable(entry.strip())
    for base in bases:
        if (base / plain).exists():
            return base / plain
    parts = parts_of(entry)
    shortest = 1 if plain.startswith(("..", "./", "data/")) else 2
    last = max(0, len(parts) - shortest)
    if split is not None:
        own = [i for i, part in enumerate(parts) if split_of(Path(part).stem) == split]
        last = min([last, *own[-1:]])
    for first in range(last + 1):
        for base in bases:
            if parts and (base / Path(*parts[first:])).exists():
                return base / Path(*parts[first:])
    return None


def siblings(entry: str, bases: Sequence[Path], split: str) -> list[Path]:
    """What is there under another name of the same split: ``valid/images`` for ``val/images``; each once."""
    parts = parts_of(entry)
    named = [i for i, part in enumerate(parts) if split_of(Path(part).stem) == split]
    found: dict[Path, Path] = {}
    for i in reversed(named):
        for folder in (base.joinpath(*parts[start:i]) for base in bases for start in range(i + 1)):
            for other in _named(folder, split):
                place = other.joinpath(*parts[i + 1 :])
                if place.exists():
                    found.setdefault(real_path(place), place)
        if found:
            break
    return list(found.values())


def alike(entry: str, bases: Sequence[Path], split: str) -> Path | None:
    """What the path may be meant to be, with one part written otherwise: ``vla/images`` for ``val/images``."""
    parts = parts_of(entry)
    for base in bases:
        i = next((i for i in range(len(parts)) if not base.joinpath(*parts[: i + 1]).exists()), None)
        if i is None:
            continue
        folder = base.joinpath(*parts[:i])
        there = [name for name in _inside(folder) if split_of(Path(name).stem) in (None, split)]
        there = [name for name in there if folder.joinpath(name, *parts[i + 1 :]).exists()]
        if near := get_close_matches(parts[i], there, 1):
            return folder.joinpath(near[0], *parts[i + 1 :])
    return None


def _inside(folder: Path) -> list[str]:
    return [one.name for one in (*folders_in(folder), *files_in(folder, ".txt"))] if folder.is_dir() else []


def _named(folder: Path, split: str) -> Iterator[Path]:
    """What is in a folder and is named after a split: folders and lists."""
    if folder.is_dir():
        for inside in (*folders_in(folder), *files_in(folder, ".txt")):
            if split_of(inside.stem) == split:
                yield inside

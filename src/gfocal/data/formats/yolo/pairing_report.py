"""What to say of label files that are not where YOLO programs look for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from gfocal.data.formats.common import split_in
from gfocal.data.formats.yolo.pairing import Label, Pairing, label_folder, label_path
from gfocal.data.formats.yolo.split import YoloSplit
from gfocal.data.kinds import Kind
from gfocal.data.problems import Problems
from gfocal.utils.text import counted

_FOLDERS = 5
"""Of more folders only the number is said."""


def report_pairing(
    pairing: Pairing, images: Sequence[Path], names: Sequence[str], place: YoloSplit, split: str, problems: Problems
) -> None:
    """Say which label files were found elsewhere, and report those that are not read.

    Args:
        pairing: of the images.
        images: the files of the split.
        names: as the index names them.
        place: the split.
        split: its name.
        problems: collects label-unclear and label-unclaimed, and takes the notes.

    Raises:
        BrokenInputError: it is unclear which label file belongs to an image, and faults are not skipped.
    """
    expected = {folder for image in {image.parent for image in images} for folder in _expected(image, place)}
    orphans = [label for label in _of_split(pairing.orphans, place, split) if label.path.parent not in expected]
    spare = list(_of_split(pairing.spare, place, split))
    for line in (*_found(pairing, place), *_spare(spare), *_orphans(orphans)):
        problems.note(line)
    for label in orphans:
        problems.remark(Kind.LABEL_UNCLAIMED, label.path, "this label file belongs to no picture of the data set")
    for row, files in pairing.unclear.items():
        _report_unclear(images[row], names[row], files, pairing, problems)


def _expected(folder: Path, place: YoloSplit) -> Iterator[Path]:
    """The folder whose label files without an image are faults, see the reader; lists and notes lie in the root."""
    home = Path(label_folder(os.fspath(folder)))
    if home != place.root:
        yield home


def _of_split(labels: Iterable[Label], place: YoloSplit, split: str) -> Iterator[Label]:
    """Each is said once: by the split that its path names, else by the first one."""
    first = next(iter(place.splits), split)
    for label in labels:
        named = {*place.splits}.intersection(label.meaning)
        if split in (named or {first}):
            yield label


def _grouped(files: Iterable[tuple[Path, Path]], line: Callable[[str, Path, Path], str]) -> list[str]:
    """A line for each pair of folders: of the number of files, and the first two."""
    groups: dict[tuple[Path, Path], list[tuple[Path, Path]]] = {}
    for one, other in files:
        groups.setdefault((one.parent, other.parent), []).append((one, other))
    lines = [line(counted(len(group), "label file"), *group[0]) for group in groups.values()]
    left = len(lines) - _FOLDERS
    return lines if left < 2 else [*lines[:_FOLDERS], f"... and label files in {left} more folders in the same way"]


def _found(pairing: Pairing, place: YoloSplit) -> list[str]:
    def line(count: str, label: Path, image: Path) -> str:
        fix = _fix(label, image, place.marker.name if place.marker.is_file() else None)
        return (
            f"{count} in {label.parent}: read for the pictures in {image.parent}, though YOLO programs look for "
            f"{label_path(image)}: {fix}"
        )

    return _grouped(pairing.found, line)


def _fix(label: Path, image: Path, file: str | None) -> str:
    """What puts a label file where YOLO programs look for it."""
    wanted = label_path(image)
    if label.parent == wanted.parent:
        return f"rename {label.name} to {wanted.name}"
    parts = image.parent.parts
    for i in range(len(parts)):
        if label_folder(os.fspath(Path(*parts[:i], "images", *parts[i + 1 :]))) == os.fspath(label.parent):
            return f"rename {Path(*parts[: i + 1])} to images" + (f", in {file} too" if file else "")
    here, there = label.parent.parts, wanted.parent.parts
    other = [i for i, (one, two) in enumerate(zip(here, there, strict=False)) if one != two]
    if len(here) == len(there) and len(other) == 1 and not Path(*there[: other[0] + 1]).exists():
        return f"rename {Path(*here[: other[0] + 1])} to {there[other[0]]}"
    if wanted.parent == image.parent and (renames := _renames(label.parent, image.parent)):
        return renames + (f", in {file} too" if file else "")
    return f"move what is there to {wanted.parent}"


def _renames(labels: Path, images: Path) -> str | None:
    """What makes two folders ``images`` and ``labels`` of one place; None where one is in the other, or those exist."""
    try:
        around = Path(os.path.commonpath([labels, images]))
    except ValueError:  # One is absolute, the other is not.
        return None
    there, here = labels.parts[len(around.parts) :], images.parts[len(around.parts) :]
    if not there or not here:
        return None
    end = 0  # of equal parts at the ends
    while end + 1 < min(len(there), len(here)) and there[-end - 1] == here[-end - 1]:
        end += 1
    first, second = images.parents[end - 1] if end else images, labels.parents[end - 1] if end else labels
    same = [here[-1]] if here[-1] == there[-1] else [split for split in map(split_in, here) if split][:1]
    homes = [around.joinpath(name, *(() if end else same)) for name in ("images", "labels")]
    moves = [(one, home) for one, home in zip((first, second), homes, strict=True) if one != home]
    if any(home.exists() for _, home in moves):
        return None
    return "rename " + " and ".join(
        f"{one} to {home.name if one.parent == home.parent else home}" for one, home in moves
    )


def _spare(labels: Sequence[Label]) -> list[str]:
    def line(count: str, label: Path, _: Path) -> str:
        why = "they are a program's results" if label in results else "their pictures have others"
        return f"{count} in {label.parent}: not read, {why} (first {label.name})"

    results = {label.path for label in labels if label.is_result}
    return _grouped(((label.path, label.path) for label in labels), line)


def _orphans(labels: Sequence[Label]) -> list[str]:
    def line(count: str, label: Path, _: Path) -> str:
        return (
            f"{count} in {label.parent}: not read, no picture of the data set has this name in a folder that fits "
            f"(first {label.name}): add the pictures, correct the names, or remove these files"
        )

    return _grouped(((label.path, label.path) for label in labels), line)


def _report_unclear(image: Path, name: str, files: Sequence[Path], pairing: Pairing, problems: Problems) -> None:
    first = files[0]
    rivals = pairing.rivals.get(first, [])
    if len(files) > 1:
        message = f"this file and {files[1]} differ, and both may be the labels of {image}"
        hint = "keep the right one"
    else:
        others = [str(other) for other in rivals if other != image]
        message = f"these may be the labels of {image} or of {others[0] if others else 'another picture'}"
        hint = f"put them where they belong: {label_path(image)} is looked at first"
    problems.report(Kind.LABEL_UNCLEAR, first, message, image=name, hint=hint)


def describe_places(images: Iterable[Path]) -> str:
    """Where the label files of images are looked for, as words."""
    folders = dict.fromkeys(folder for image in images for folder in (label_path(image).parent, image.parent))
    shown = list(map(str, folders))
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more folders" if len(shown) > 4 else "")

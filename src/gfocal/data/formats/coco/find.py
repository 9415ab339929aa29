"""Finding COCO data sets: annotation files in the places where programs put them, and the folder of their images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from gfocal.data.formats.coco.reader import read_coco
from gfocal.data.formats.common import (
    SPLITS,
    WHOLE,
    Found,
    files_in,
    folders_in,
    split_folders,
    split_in,
    split_of,
)
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.errors import MissingSplitError, UsageError
from gfocal.utils.text import join_some

LOOKED_FOR = "annotations/train.json, annotations/instances_train2017.json, train/_annotations.coco.json, result.json"
_UNSPLIT = ("instances", "annotations", "labels", "result", "coco", "_annotations.coco")
_NAMED = re.compile(r"(?:instances_)?([a-z]+?)[_-]?(?:\d{4})?(?:[_.-](?:annotations?|coco|labels?))*")
_OTHER_TASKS = re.compile(r"(?:captions|person_keypoints|keypoints|stuff|panoptic|image_info)(?![a-z])")
_IN_FOLDERS = ("annotations", "annotation", "anns", "ann", "labels", "json")
"""Folders beside those of the images that annotation files lie in."""


def find_coco_data(path: Path, images: Path | None = None) -> Found | None:
    """The COCO data set in a folder, or of an annotation file; None if there is none.

    Args:
        path: which.
        images: a folder that holds the images, or one around it; None for where they are by custom.
    """
    if path.is_file():
        inside = path.absolute().parent.name.lower() in _IN_FOLDERS
        root = _above(path.parent) if inside else path.parent
        return Found("coco", path, {WHOLE: partial(_read, path, split_in(path.stem) or "", images or root, images)})
    files = _files_of(path)
    if not files.chosen and not files.unclear:
        return None
    readers = {split: partial(_read, file, split, images or path, images) for split, file in files.chosen.items()}
    passed = files.passed_by
    notes = []
    if passed and files.chosen:
        read = ", ".join(_inside(file, path) for file in dict.fromkeys(files.chosen.values()))
        names = join_some([_inside(file, path) for file in passed])
        notes = [f"{path}: of its COCO files, {read} {'is' if len(files.chosen) == 1 else 'are'} read, not {names}"]
    absent = {split: _unclear(path, split, several) for split, several in files.unclear.items()}
    notes += [message for split, message in absent.items() if files.chosen]
    if WHOLE in absent:
        absent = dict.fromkeys(SPLITS, absent[WHOLE])
    place = min([*files.chosen.values(), *chain.from_iterable(files.unclear.values())])
    return Found("coco", place, readers, absent, tuple(notes))


def _unclear(root: Path, split: str, files: Sequence[Path]) -> str:
    names = join_some([_inside(file, root) for file in files])
    what = "named after a split" if split == WHOLE else f"that is {split}'s for sure"
    return f"{root} has {len(files)} COCO files and none {what}: {names}; give one of them as the data set"


def _inside(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()


def _read(file: Path, split: str, search: Path, images: Path | None, problems: Problems) -> DataIndex:
    folders = image_folders(file, split) if images is None else _folders_below(images, file, split)
    named = split if split in SPLITS else split_in(file.stem)
    return read_coco(file, folders, search=search, split=named, problems=problems)


def find_coco(path: str | Path, split: str) -> tuple[Path, list[Path]]:
    """The annotation file of one split, and the folders where its images may be.

    Args:
        path: a folder in a layout of :func:`coco_files`; or an annotation file, whose images are beside it, in
            ``../images`` or in the folder that it is named after.
        split: "train", "val" or "test".

    Returns:
        (annotation file, folders as :func:`image_folders` gives them).

    Raises:
        MissingSplitError: nothing of the kind; the message lists what was looked for.
        UsageError: there is no such path.
    """
    path = Path(path)
    if path.is_file():
        return path, image_folders(path, split)
    if not path.is_dir():
        raise UsageError(f"data set {path} does not exist; give a folder with annotations/ and images/")
    file = coco_files(path).get(split)
    if file is None:
        raise MissingSplitError(
            f"no {split} annotations in {path}: looked for {', '.join(_places(split))}; or give a COCO JSON file"
        )
    return file, image_folders(file, split)


def _places(split: str) -> list[str]:
    """Where the annotations of a split are looked for first."""
    names = [f"{split}.json", f"instances_{split}2017.json", f"instances_{split}.json"]
    folders = ["valid", "val"] if split == "val" else [split]
    return [f"annotations/{name}" for name in names] + [f"{folder}/_annotations.coco.json" for folder in folders]


@dataclass(frozen=True)
class _Files:
    """The annotation files of a folder.

    Attributes:
        chosen: that of each split, or of "all" where a data set is not split.
        unclear: of a split, or of "all", those of which none can be chosen.
        every: all that look like COCO files.
    """

    chosen: dict[str, Path]
    unclear: dict[str, list[Path]]
    every: list[Path]

    @property
    def passed_by(self) -> list[Path]:
        """Those that are not read, and that no message names yet."""
        known = {*self.chosen.values(), *chain.from_iterable(self.unclear.values())}
        return [file for file in self.every if file not in known]


def coco_files(root: Path) -> dict[str, Path]:
    """The annotation file of each split, or of "all" where a data set is not split.

    Known are a plain layout (``annotations/train.json``), COCO's own and CVAT's (``annotations/instances_Train.json``;
    ``instances_default.json`` is not split), Roboflow's (``train/_annotations.coco.json``, ``valid`` for val), Label
    Studio's (``result.json``), other names with a split in it (``custom_train.json``) where there is one such file, and
    a single COCO file of any name. Those of captions, key points and the like come after all others.
    """
    return _files_of(root).chosen


def _files_of(root: Path) -> _Files:
    chosen: dict[str, Path] = {}
    for split in SPLITS:
        file = next((root / place for place in _places(split) if (root / place).is_file()), None)
        if file is not None:
            chosen[split] = file
    folders = [folder for folder in folders_in(root) if folder.name.lower() == "annotations"]
    inside = [file for folder in folders for file in files_in(folder, ".json")]
    beside = [file for file in files_in(root, ".json") if _looks_like_coco(file)]
    for file in [*inside, *beside]:
        match = _NAMED.fullmatch(file.stem.lower())
        split_name = split_of(match[1]) if match else None
        if split_name and split_name not in chosen:
            chosen[split_name] = file
    coco = [*(file for file in inside if _looks_like_coco(file)), *beside]
    in_splits = {split: files_in(folder, ".json") for split, folder in split_folders(root).items()}
    unclear: dict[str, list[Path]] = {}
    for split in SPLITS:
        own = [file for file in in_splits.get(split, []) if _looks_like_coco(file)]
        _choose(split, [*(file for file in coco if split_in(file.stem) == split), *own], chosen, unclear)
        coco += own
    if set(chosen) - {WHOLE}:
        chosen.pop(WHOLE, None)
    if not chosen and not unclear:
        plain = [file for file in [*inside, *beside] if file.stem.lower() in _UNSPLIT]
        if plain:
            chosen[WHOLE] = plain[0]
        else:
            _choose(WHOLE, [file for file in inside if _looks_like_coco(file)] or beside, chosen, unclear)
    return _Files(chosen, unclear, coco)


def _choose(split: str, files: list[Path], chosen: dict[str, Path], unclear: dict[str, list[Path]]) -> None:
    """The only one of some files, or the only one of detection among them; where there is none, all are unclear."""
    detection = [file for file in files if not _OTHER_TASKS.match(file.stem.lower())] or files
    if split in chosen or not files:
        return
    if len(detection) == 1:
        chosen[split] = detection[0]
    else:
        unclear[split] = detection


def _looks_like_coco(file: Path) -> bool:
    """Whether it begins like an object with COCO's keys."""
    try:
        with file.open("rb") as opened:
            head = opened.read(1 << 16)
            opened.seek(max(0, file.stat().st_size - (1 << 16)))
            ends = head + opened.read()
    except OSError:
        return False
    keys = (b'"images"', b'"annotations"', b'"categories"')
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and sum(key in ends for key in keys) >= 2


def image_folders(annotations: Path, split: str) -> list[Path]:
    """The folders that are there of those where the images of a file may be, the likeliest first; at least one."""
    beside = annotations.parent
    named = _named(annotations)
    candidates = _folders_below(_above(beside), annotations, split)
    near = [beside, beside / "images", beside / "data", beside / named, beside / split]
    exports = annotations.name in ("_annotations.coco.json", "result.json", "labels.json")
    candidates = [*near, *candidates] if exports else [*candidates, *near]
    return [folder for folder in dict.fromkeys(candidates) if folder.is_dir()]


def _above(folder: Path) -> Path:
    """The folder around one, also where that is "." or "..", which no parent is in."""
    return folder.parent if folder.name not in ("", "..") or folder.is_absolute() else folder / ".."


def _named(annotations: Path) -> str:
    return annotations.stem.removeprefix("instances_")


def _folders_below(root: Path, annotations: Path, split: str) -> list[Path]:
    """Where images may be below a folder, which is among them; the likeliest first."""
    named = _named(annotations)
    names = ["images", named, split, f"images/{named}", f"images/{split}", ".", "data", f"data/{named}"]
    return [root / name for name in names if name and (root / name).is_dir()]

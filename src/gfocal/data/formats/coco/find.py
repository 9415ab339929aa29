"""Finding COCO data sets: annotation files in the places where programs put them, and the folder of their images."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from gfocal.data.formats.coco.reader import read_coco
from gfocal.data.formats.common import WHOLE, Found, files_in, folders_in, split_of
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.errors import MissingSplitError, UsageError

LOOKED_FOR = "annotations/train.json, annotations/instances_train2017.json, train/_annotations.coco.json, result.json"
_UNSPLIT = ("instances", "annotations", "labels", "result", "coco", "_annotations.coco")
_NAMED = re.compile(r"(?:instances_)?([a-z]+?)[_-]?(?:\d{4})?(?:[_.-](?:annotations?|coco|labels?))*")


def find_coco_data(path: Path) -> Found | None:
    """The COCO data set in a folder, or of an annotation file; None if there is none."""
    if path.is_file():
        return Found("coco", path, {WHOLE: partial(_read, path, "")})
    files = coco_files(path)
    if not files:
        return None
    return Found("coco", min(files.values()), {split: partial(_read, file, split) for split, file in files.items()})


def _read(file: Path, split: str, problems: Problems) -> DataIndex:
    return read_coco(file, image_folders(file, split), problems=problems)


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


def coco_files(root: Path) -> dict[str, Path]:
    """The annotation file of each split, or of "all" where a data set is not split.

    Known are a plain layout (``annotations/train.json``), COCO's own and CVAT's (``annotations/instances_Train.json``;
    ``instances_default.json`` is not split), Roboflow's (``train/_annotations.coco.json``, ``valid`` for val), Label
    Studio's (``result.json``), and a single COCO file of any name.
    """
    found: dict[str, Path] = {}
    for split in ("train", "val", "test"):
        file = next((root / place for place in _places(split) if (root / place).is_file()), None)
        if file is not None:
            found[split] = file
    folders = [folder for folder in folders_in(root) if folder.name.lower() == "annotations"]
    inside = [file for folder in folders for file in files_in(folder, ".json")]
    beside = [file for file in files_in(root, ".json") if _looks_like_coco(file)]
    for file in [*inside, *beside]:
        match = _NAMED.fullmatch(file.stem.lower())
        split_name = split_of(match[1]) if match else None
        if split_name and split_name not in found:
            found[split_name] = file
    if set(found) - {WHOLE}:
        found.pop(WHOLE, None)
    if not found:
        plain = [file for file in [*inside, *beside] if file.stem.lower() in _UNSPLIT]
        single = plain or [file for file in inside if _looks_like_coco(file)] or beside
        if len(plain) >= 1 or len(single) == 1:
            found[WHOLE] = single[0]
    return found


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
    beside, root = annotations.parent, annotations.parent.parent
    named = annotations.stem.removeprefix("instances_")
    names = ["images", named, split, f"images/{named}", f"images/{split}", ".", "data", f"data/{named}"]
    candidates = [root / name for name in names if name]
    near = [beside, beside / "images", beside / "data", beside / named, beside / split]
    exports = annotations.name in ("_annotations.coco.json", "result.json", "labels.json")
    candidates = [*near, *candidates] if exports else [*candidates, *near]
    return [folder for folder in dict.fromkeys(candidates) if folder.is_dir()]

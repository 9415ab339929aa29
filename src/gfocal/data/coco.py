"""Reading a COCO data set, and finding its files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

from gfocal.data.coco_file import check_annotations, check_categories, check_images, parse
from gfocal.data.index import DataIndex
from gfocal.data.problems import Problems
from gfocal.errors import MissingSplitError, UsageError


def read_coco(
    annotations: Path, pictures_dir: Path, *, skip_broken: bool = False, problems: Problems | None = None
) -> DataIndex:
    """Read a COCO annotation file and check all of it, and that each of its pictures exists.

    Pictures without boxes are kept. Category ids may be any integers; labels follow their order.

    Args:
        annotations: the JSON file.
        pictures_dir: the folder that its file names start from.
        skip_broken: leave broken annotations and pictures out and list them in :attr:`DataIndex.skipped`.

        problems: who is told of what is broken; by default it raises, or skips as ``skip_broken`` says.

    Raises:
        BrokenInputError: a record is broken, and ``skip_broken`` is False.
        UsageError: the file or the folder is missing, or the file is no COCO annotation file.
    """
    annotations, pictures_dir = Path(annotations), Path(pictures_dir)
    if not pictures_dir.is_dir():
        raise UsageError(f"picture folder {pictures_dir} does not exist; give the folder that holds the pictures")
    problems = problems or Problems(skip_broken)
    content = parse(annotations, problems)
    category_ids, names = check_categories(annotations, content.categories)
    images = check_images(content.images, pictures_dir, annotations, problems)
    if not images:
        raise UsageError(f"{annotations}: no picture {'is left' if content.images else 'in it'}; nothing can be done")
    columns = check_annotations(content.annotations, images, category_ids, annotations, problems)
    return DataIndex.build(
        pictures_dir=pictures_dir,
        annotations=annotations,
        image_ids=[image.id for image in images],
        file_names=[image.file_name for image in images],
        widths=[image.width for image in images],
        heights=[image.height for image in images],
        category_ids=category_ids,
        names=names,
        skipped=problems.lines,
        **columns,
    )


def find_coco(path: str | Path, split: Literal["train", "val"]) -> tuple[Path, Path]:
    """The annotation file and the picture folder of one split.

    Args:
        path: a folder with ``annotations/{split}.json`` and ``images/``, with COCO's own names
            (``annotations/instances_{split}2017.json``, ``{split}2017/``), or with Roboflow's
            (``{split}/_annotations.coco.json`` beside the pictures; ``valid`` for val); or an annotation file, whose
            pictures are beside it, in ``../images`` or in the folder that it is named after.
        split: ``train`` or ``val``.

    Returns:
        (annotation file, picture folder).

    Raises:
        MissingSplitError: nothing of the kind; the message lists what was looked for.
        UsageError: there is no such path.
    """
    path = Path(path)
    if path.is_file():
        return path, _picture_folder(path, split)
    if not path.is_dir():
        raise UsageError(f"data set {path} does not exist; give a folder with annotations/ and images/")
    files = [
        f"annotations/{split}.json",
        f"annotations/instances_{split}2017.json",
        f"annotations/instances_{split}.json",
    ]
    files += [f"{folder}/_annotations.coco.json" for folder in (["train"] if split == "train" else ["valid", "val"])]
    for file in files:
        if (path / file).is_file():
            return path / file, _picture_folder(path / file, split)
    raise MissingSplitError(
        f"no {split} annotations in {path}: looked for {', '.join(files)}; or give a COCO JSON file"
    )


def _picture_folder(annotations: Path, split: str) -> Path:
    """Of the folders where pictures may be, the one that holds the first picture of the file."""
    beside, root = annotations.parent, annotations.parent.parent
    named = annotations.stem.removeprefix("instances_")
    candidates = [root / "images", root / named, root / split, root / "images" / named, root / "images" / split, root]
    candidates = [beside, *candidates] if annotations.name == "_annotations.coco.json" else [*candidates, beside]
    existing = [folder for folder in candidates if folder.is_dir()]
    first = _first_file_name(annotations)
    holding = [folder for folder in existing if first and (folder / first).is_file()]
    # Without any, read_coco says which pictures are missing in the likeliest one.
    return (holding or existing)[0]


def _first_file_name(annotations: Path) -> str | None:
    with annotations.open("rb") as file:
        head = file.read(1 << 20)
    found = re.search(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)+")', head)
    try:
        return json.loads(found[1]) if found else None
    except ValueError:
        return None

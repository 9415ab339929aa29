"""A COCO data set as compact arrays, and where its files are."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from gfocal.data.coco_file import Problems, check_annotations, check_categories, check_images, parse
from gfocal.errors import UsageError
from gfocal.structures import Targets


@dataclass(frozen=True, eq=False)
class CocoIndex:
    """A data set of I pictures, N boxes and C classes as arrays: forked workers share them and copy nothing.

    The boxes of picture i are ``box_start[i]:box_start[i + 1]``, in the order of the file. They are kept as they were
    annotated, crowds and ignored ones too; :meth:`targets` gives what a detector should learn.

    Attributes:
        pictures_dir: the folder of the pictures.
        annotations: the annotation file.
        image_ids: (I,) int64 the data set's own ids, in the order of the file.
        widths: (I,) int64 pixels.
        heights: (I,) int64 pixels.
        box_start: (I + 1,) int64.
        boxes: (N, 4) float64 xyxy in pixels of the picture, not clipped.
        labels: (N,) int64 in 0..C-1.
        crowd: (N,) bool.
        ignore: (N,) bool.
        area: (N,) float64: ``area`` of the file, width * height where it has none.
        annotation_ids: (N,) int64, all different: those of the file if they are, 1..N otherwise.
        category_ids: (C,) int64, all different: the data set's id of each label; ascending as read.
        names: C class names.
        name_bytes: (bytes,) uint8: all file names in UTF-8, one after the other.
        name_start: (I + 1,) int64: where each begins.
        skipped: one line for each picture or annotation that was left out.
        edge_ambiguity: (N, 4) float64: how uncertain left, top, right and bottom are by nature, a standard deviation in
            pixels (generated scenes say so); NaN for boxes, None for files, that do not say.
    """

    pictures_dir: Path
    annotations: Path
    image_ids: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    box_start: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray
    area: np.ndarray
    annotation_ids: np.ndarray
    category_ids: np.ndarray
    names: tuple[str, ...]
    name_bytes: np.ndarray
    name_start: np.ndarray
    skipped: list[str] = field(default_factory=list)
    edge_ambiguity: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def without_area(self) -> int:
        """Boxes with a side of 0: kept for evaluation, never learnt."""
        return int((self.boxes[:, 2:] <= self.boxes[:, :2]).any(1).sum())

    def file_name(self, i: int) -> str:
        """Of picture ``i``, as the annotation file writes it."""
        return self.name_bytes[self.name_start[i] : self.name_start[i + 1]].tobytes().decode(errors="surrogatepass")

    def path(self, i: int) -> Path:
        """The file of picture ``i``."""
        return self.pictures_dir / self.file_name(i)

    def targets(self, i: int, include_crowd: bool = False) -> Targets:
        """Boxes of picture ``i`` clipped to it, float32 in its pixels.

        Args:
            i: 0..I-1.
            include_crowd: crowds and ignored boxes too.
        """
        own = slice(self.box_start[i], self.box_start[i + 1])
        width, height = self.widths[i], self.heights[i]
        boxes = np.clip(self.boxes[own], 0, (width, height, width, height)).astype(np.float32)
        keep = (boxes[:, 2:] > boxes[:, :2]).all(1)
        if not include_crowd:
            keep &= ~(self.crowd[own] | self.ignore[own])
        return Targets(torch.from_numpy(boxes[keep]), torch.from_numpy(self.labels[own][keep]))

    def with_classes(self, names: Sequence[str]) -> CocoIndex:
        """The same pictures and boxes with labels that follow ``names``; classes are matched by name.

        A class of ``names`` that the data lack has no boxes and gets a category id that no other one has. A class of
        the data that is not in ``names`` is dropped if it has no boxes. Of several classes of one name the first is
        matched with the first, and so on.

        Raises:
            UsageError: there are boxes, crowds included, of a class that is not in ``names``.
        """
        names = tuple(names)
        if names == self.names:
            return self
        wanted = {key: label for label, key in enumerate(_distinguished(names))}
        new_label = np.array([wanted.get(key, -1) for key in _distinguished(self.names)], np.int64)
        boxes = np.bincount(self.labels, minlength=len(self.names))
        if unknown := [
            f"{self.names[old]} ({boxes[old]} boxes)" for old in np.flatnonzero((new_label < 0) & (boxes > 0))
        ]:
            raise UsageError(
                f"{self.annotations} has different classes: only one of the two has {_some(unknown)}; "
                f"the other has {_some(names)}"
            )
        category_ids: list[int | None] = [None] * len(names)
        for new, category_id in zip(new_label.tolist(), self.category_ids.tolist(), strict=True):
            if new >= 0:
                category_ids[new] = category_id
        taken = set(self.category_ids.tolist())
        free = (number for number in count(1) if number not in taken)
        ids = [next(free) if category_id is None else category_id for category_id in category_ids]
        return replace(self, labels=new_label[self.labels], category_ids=np.array(ids, np.int64), names=names)


def _distinguished(names: Sequence[str]) -> list[tuple[str, int]]:
    """Each name with how often it came before: different even where two classes share a name."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        result.append((name, seen[name]))
        seen[name] += 1
    return result


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:5]) + (", ..." if len(words) > 5 else "")


def read_coco(annotations: Path, pictures_dir: Path, *, skip_broken: bool = False) -> CocoIndex:
    """Read a COCO annotation file and check all of it, and that each of its pictures exists.

    Pictures without boxes are kept. Category ids may be any integers; labels follow their order.

    Args:
        annotations: the JSON file.
        pictures_dir: the folder that its file names start from.
        skip_broken: leave broken annotations and pictures out and list them in :attr:`CocoIndex.skipped`.

    Raises:
        BrokenInputError: a record is broken, and ``skip_broken`` is False.
        UsageError: the file or the folder is missing, or the file is no COCO annotation file.
    """
    annotations, pictures_dir = Path(annotations), Path(pictures_dir)
    if not pictures_dir.is_dir():
        raise UsageError(f"picture folder {pictures_dir} does not exist; give the folder that holds the pictures")
    problems = Problems(annotations, skip_broken)
    content = parse(annotations, problems)
    category_ids, names = check_categories(annotations, content.categories)
    images = check_images(content.images, pictures_dir, problems)
    if not images:
        raise UsageError(f"{annotations}: no picture {'is left' if content.images else 'in it'}; nothing can be done")
    columns = check_annotations(content.annotations, images, category_ids, problems)
    encoded = [image.file_name.encode(errors="surrogatepass") for image in images]
    return CocoIndex(
        pictures_dir=pictures_dir,
        annotations=annotations,
        image_ids=np.array([image.id for image in images], np.int64),
        widths=np.array([image.width for image in images], np.int64),
        heights=np.array([image.height for image in images], np.int64),
        category_ids=category_ids,
        names=names,
        name_bytes=np.frombuffer(b"".join(encoded), np.uint8),
        name_start=np.cumsum([0, *(len(name) for name in encoded)]),
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
        UsageError: nothing of the kind; the message lists what was looked for.
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
    raise UsageError(f"no {split} annotations in {path}: looked for {', '.join(files)}; or give a COCO JSON file")


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

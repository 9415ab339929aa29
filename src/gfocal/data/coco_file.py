"""Reading and checking a COCO JSON file: every record is right, or named in one message."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from gfocal.data.found import portable
from gfocal.data.problems import Problems
from gfocal.errors import UsageError

_Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Side = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class ImageRecord(msgspec.Struct, gc=False):
    """One entry of ``images``."""

    id: _Id
    file_name: Annotated[str, msgspec.Meta(min_length=1)]
    width: _Side
    height: _Side


class AnnotationRecord(msgspec.Struct, gc=False):
    """One entry of ``annotations``; ``bbox`` is x, y, width, height. What is not named here is not read."""

    image_id: _Id
    category_id: _Id
    bbox: tuple[float, float, float, float]
    id: _Id | None = None
    area: float | None = None
    iscrowd: int | bool | None = 0
    ignore: int | bool | None = 0
    edge_ambiguity: tuple[float, float, float, float] | None = None  # of generated scenes, see gfocal.data.scenes


class CategoryRecord(msgspec.Struct, gc=False):
    """One entry of ``categories``."""

    id: _Id
    name: str


class CocoFile(msgspec.Struct, gc=False):
    """What a file holds."""

    images: list[ImageRecord]
    annotations: list[AnnotationRecord]
    categories: list[CategoryRecord]


_Record = TypeVar("_Record", ImageRecord, AnnotationRecord, CategoryRecord)


def parse(file: Path, problems: Problems) -> CocoFile:
    try:
        raw = file.read_bytes()
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise UsageError(f"annotation file {file} {reason}") from None
    try:
        return msgspec.json.decode(raw, type=CocoFile)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Something is wrong, or Python's json wrote NaN, which is no JSON, or ids are written as 1.0. Record by record
        # it takes longer, but each broken one can be named and left out.
        return _parse_slowly(file, raw, problems)


def _parse_slowly(file: Path, raw: bytes, problems: Problems) -> CocoFile:
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"annotation file {file} is not JSON: {error}; give a COCO JSON file") from None
    if not isinstance(content, dict):
        raise UsageError(f"annotation file {file} holds no object with images, annotations and categories")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            fault = f"has no list under the key '{key}'" if key in content else f"lacks the key '{key}'"
            raise UsageError(
                f"annotation file {file} {fault}; a COCO detection file has images, annotations and categories"
            )
    categories = _convert_all(content["categories"], CategoryRecord, "category", file, Problems(skip=False))
    images = _convert_all(content["images"], ImageRecord, "image", file, problems)
    return CocoFile(
        images, _convert_all(content["annotations"], AnnotationRecord, "annotation", file, problems), categories
    )


_WHOLE = ("id", "image_id", "category_id", "width", "height", "iscrowd", "ignore")


def _with_integers(record: Any) -> Any:
    """The record with 3 where a whole number was written as 3.0, as pandas does with columns that have gaps."""
    if not isinstance(record, dict):
        return record
    whole = {key: int(record[key]) for key in _WHOLE if isinstance(record.get(key), float) and record[key].is_integer()}
    return record | whole if whole else record


def _convert_all(records: list[Any], kind: type[_Record], word: str, file: Path, problems: Problems) -> list[_Record]:
    converted = []
    for position, record in enumerate(map(_with_integers, records)):
        try:
            converted.append(msgspec.convert(record, kind))
        except msgspec.ValidationError as error:
            identity = record.get("id") if isinstance(record, dict) else None
            where = f"{word} at position {position}" if identity is None else f"{word} {identity!r}"
            if word == "annotation" and isinstance(record, dict) and "image_id" in record:
                where += f" (image {record['image_id']!r})"
            problems.report("record-broken", file, f"{where}: {_plain(str(error))}")
            if word == "image" and type(identity) is int:
                problems.left_out.add(identity)
    return converted


def _plain(message: str) -> str:
    """Msgspec's message in the words of a COCO file."""
    message = re.sub(r"^Object missing required field `(.*?)`", r"lacks the key '\1'", message)
    message = re.sub(r" - at `\$\.(\w+)(.*?)`$", r" (key '\1')", message)
    return (message[0].lower() + message[1:]).replace("`", "'")


def _duplicates(values: Sequence[int]) -> set[int]:
    unique, counts = np.unique(np.array(values, np.int64), return_counts=True)
    return set(unique[counts > 1].tolist())


def check_categories(file: Path, categories: list[CategoryRecord]) -> tuple[np.ndarray, tuple[str, ...]]:
    if not categories:
        raise UsageError(f"{file}: 'categories' is empty; name at least one class")
    if twice := _duplicates([category.id for category in categories]):
        raise UsageError(f"{file}: category id {min(twice)} stands there twice; give each class its own id")
    ordered = sorted(categories, key=lambda category: category.id)
    return np.array([c.id for c in ordered], np.int64), tuple(c.name for c in ordered)


def check_images(images: list[ImageRecord], folder: Path, file: Path, problems: Problems) -> list[ImageRecord]:
    """The pictures to keep."""
    seen: set[int] = set()
    kept: list[ImageRecord] = []
    twice = _duplicates([image.id for image in images])
    for image in images:
        if image.id in twice and image.id in seen:
            problems.report(
                "image-id-twice",
                file,
                f"image id {image.id} stands there twice, the second time for {image.file_name}",
                picture=image.file_name,
            )
        else:
            kept.append(image)
        if twice:
            seen.add(image.id)
    missing = _missing([image.file_name for image in kept], folder)
    if windows := {name for name in missing if "\\" in name}:
        # Written on Windows: "images\\1.jpg". Elsewhere a backslash may be part of a name, so that one is tried first.
        for image in kept:
            if image.file_name in windows:
                image.file_name = portable(image.file_name)
        missing = _missing([image.file_name for image in kept], folder)
    if missing and not problems.skip:
        first = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        problems.report(
            "picture-missing",
            file,
            f"{len(missing)} of {len(images)} pictures are missing in {folder}: {first}",
            hint="give the folder that the file names start from",
        )
    absent = set(missing)
    for image in kept:
        if image.file_name in absent:
            problems.report(
                "picture-missing",
                file,
                f"image {image.id}: picture {folder / image.file_name} does not exist",
                picture=image.file_name,
            )
            problems.left_out.add(image.id)
    return [image for image in kept if image.file_name not in absent]


def _missing(file_names: list[str], folder: Path) -> list[str]:
    """The names without a file. Each folder is listed once: a stat a picture takes minutes on network disks."""
    listings: dict[str, set[str]] = {}
    missing = []
    for name in file_names:
        parent, base = os.path.split(name)
        if parent not in listings:
            try:
                with os.scandir(folder / parent) as entries:
                    listings[parent] = {entry.name for entry in entries}
            except (OSError, ValueError):  # ValueError: a null character in the name.
                listings[parent] = set()
        if base not in listings[parent]:
            missing.append(name)
    return missing


_KINDS = {
    "unknown image id": "image-unknown",
    "unknown category id": "class-unknown",
    "box is not finite": "box-not-finite",
    "box has a negative width or height": "box-negative",
    "box lies outside its picture": "box-outside",
    "edge_ambiguity has a number that is no standard deviation": "record-broken",
}


def check_annotations(
    annotations: list[AnnotationRecord],
    images: list[ImageRecord],
    category_ids: np.ndarray,
    file: Path,
    problems: Problems,
) -> dict[str, Any]:
    """The annotations as the columns of a :class:`gfocal.data.index.DataIndex`, sorted by picture."""
    image_ids = np.array([image.id for image in images], np.int64)
    sizes = np.array([(image.width, image.height) for image in images], np.float64).reshape(-1, 2)
    own_image = np.array([a.image_id for a in annotations], np.int64)
    own_category = np.array([a.category_id for a in annotations], np.int64)
    xywh = np.array([a.bbox for a in annotations], np.float64).reshape(-1, 4)
    picture, known_picture = _positions(own_image, image_ids)
    label, known_category = _positions(own_category, category_ids)
    faults: dict[str, np.ndarray] = {
        "unknown image id": ~known_picture,
        "unknown category id": ~known_category,
        "box is not finite": ~np.all(np.isfinite(xywh), axis=1),
    }
    with np.errstate(invalid="ignore", over="ignore"):
        boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
        # A side of 0 is no fault: COCO's own train2017 has such a box. It is kept for evaluation and never learnt.
        faults["box has a negative width or height"] = np.any(xywh[:, 2:] < 0, axis=1)
        outside = np.any((boxes[:, :2] >= sizes[picture]) | (boxes[:, 2:] <= 0), axis=1)
        faults["box lies outside its picture"] = known_picture & outside
    unknown = (np.nan,) * 4
    ambiguity = np.array([a.edge_ambiguity or unknown for a in annotations], np.float64).reshape(-1, 4)
    told = np.array([a.edge_ambiguity is not None for a in annotations], bool)
    with np.errstate(invalid="ignore"):
        faults["edge_ambiguity has a number that is no standard deviation"] = told & ~np.all(
            (ambiguity >= 0) & (ambiguity < np.inf), axis=1
        )
    bad: np.ndarray = np.any(np.stack(list(faults.values())), axis=0)
    for i in np.flatnonzero(bad).tolist():
        if annotations[i].image_id not in problems.left_out:
            fault = next(fault for fault, where in faults.items() if where[i])
            problems.report(
                _KINDS[fault],
                file,
                _describe(fault, annotations[i], i, images[picture[i]], category_ids),
                picture=images[picture[i]].file_name if known_picture[i] else None,
            )
    # Stable: within a picture the order of the file stays.
    order = np.flatnonzero(~bad)[np.argsort(picture[~bad], kind="stable")]
    area = np.array([np.nan if a.area is None else a.area for a in annotations], np.float64)
    area = np.where(np.isfinite(area), area, xywh[:, 2] * xywh[:, 3])
    return {
        "box_start": np.searchsorted(picture[order], np.arange(len(images) + 1)),
        "boxes": boxes[order],
        "labels": label[order],
        "crowd": np.array([bool(a.iscrowd) for a in annotations], bool)[order],
        "ignore": np.array([bool(a.ignore) for a in annotations], bool)[order],
        "area": area[order],
        "annotation_ids": _unique_ids(annotations, file, problems)[order],
        "edge_ambiguity": ambiguity[order] if told[order].any() else None,
    }


def _positions(values: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each value stands in ``ids`` (0 if nowhere), and whether it does."""
    order = np.argsort(ids, kind="stable")
    found = order[np.minimum(np.searchsorted(ids, values, sorter=order), len(ids) - 1)]
    known = ids[found] == values
    return np.where(known, found, 0), known


def _unique_ids(annotations: list[AnnotationRecord], file: Path, problems: Problems) -> np.ndarray:
    # Files that were merged, or that number boxes within a picture, repeat ids; evaluation needs different ones.
    ids = [a.id for a in annotations if a.id is not None]
    if len(set(ids)) < len(annotations):
        for number in sorted(_duplicates(ids)):
            problems.remark("annotation-id-twice", file, f"annotation id {number} stands there twice")
        return np.arange(1, len(annotations) + 1)
    return np.array(ids, np.int64)


def _describe(
    fault: str, annotation: AnnotationRecord, position: int, image: ImageRecord, category_ids: np.ndarray
) -> str:
    name = f"annotation at position {position}" if annotation.id is None else f"annotation {annotation.id}"
    where = f"{name} (image {annotation.image_id})"
    if fault == "unknown image id":
        return f"{where}: no image has the id {annotation.image_id}"
    if fault == "unknown category id":
        known = ", ".join(map(str, category_ids[:20].tolist())) + (", ..." if len(category_ids) > 20 else "")
        return f"{where}: unknown category id {annotation.category_id}; known are {known}"
    box = "[" + ", ".join(f"{number:g}" for number in annotation.bbox) + "]"
    size = f", {image.width}x{image.height}" if "outside" in fault else ""
    return f"{where}: {fault}{size}: bbox {box} (x, y, width, height)"

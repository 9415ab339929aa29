"""Suspects for other tools: CSV, COCO annotations with attributes (CVAT), tasks with predictions (Label Studio)."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from gfocal.data.index.data_index import DataIndex
from gfocal.evaluation.audit.suspects import Suspect

COLUMNS = (
    "rank",
    "kind",
    "score",
    "reason",
    "image",
    "image_id",
    "annotation_id",
    "class_name",
    "model_class",
    "label_box",
    "model_box",
    "model_score",
    "twin_id",
)
_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def to_csv(suspects: Sequence[Suspect]) -> str:
    """A line each; boxes as ``x y x y``. No text starts as a formula of a spreadsheet: an apostrophe goes before it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)  # a lone \r would end a line
    writer.writerow(COLUMNS)
    for one in suspects:
        writer.writerow([_cell(getattr(one, name)) for name in COLUMNS])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, tuple):
        value = " ".join(f"{number:g}" for number in value)
    if isinstance(value, str) and value.lstrip(" ").startswith(_STARTS_FORMULA):
        return f"'{value}"
    return "" if value is None else value


def to_coco(index: DataIndex, suspects: Sequence[Suspect]) -> dict[str, Any]:
    """The annotations with attributes, as CVAT and Datumaro read and write them.

    Every annotation says in ``attributes`` whether it is a suspect; one that is has ``suspect_kind``,
    ``suspect_score``, ``suspect_reason`` and ``suspect_rank`` too. Missing labels are added, with ids of their own and
    ``suspect_kind`` "missing": the file is for a look in a tool, not to train on. Of a COCO file all else is kept
    (masks, licences, keypoints).
    """
    content = _source(index)
    of = {one.annotation_id: one for one in suspects if one.annotation_id is not None}
    for annotation in content["annotations"]:
        known = annotation.get("attributes")
        own = of.get(annotation.get("id"))
        annotation["attributes"] = {**(known if isinstance(known, dict) else {}), **_attributes(own)}
    ids = [int(one["id"]) for one in content["annotations"] if isinstance(one.get("id"), int)]
    category = _category_ids(content["categories"], suspects)
    missing = [one for one in suspects if one.kind == "missing"]
    for number, one in enumerate(missing, start=max(ids, default=0) + 1):
        content["annotations"].append(_proposal(one, number, category))
    return content


def _source(index: DataIndex) -> dict[str, Any]:
    """The file itself where it is one of COCO whose ids are those of the index, else what the index knows."""
    wanted = set(np.asarray(index.annotation_ids).tolist())
    if index.annotations.suffix.lower() == ".json" and index.annotations.is_file():
        try:
            content = json.loads(index.annotations.read_bytes(), parse_constant=_refuse)
            ids = [one["id"] for one in content["annotations"]]
            categories = {one["id"]: one["name"] for one in content["categories"]}
        except (ValueError, KeyError, TypeError, OSError):
            return _rebuilt(index)
        used = np.unique(np.asarray(index.labels)).tolist()
        ids_of = np.asarray(index.category_ids).tolist()
        known: dict[str, Any] = content
        same = all(categories.get(ids_of[i]) == index.names[i] for i in used)
        if same and len(set(ids)) == len(ids) and wanted <= set(ids):
            return known
    return _rebuilt(index)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _category_ids(categories: list[dict[str, Any]], suspects: Sequence[Suspect]) -> dict[str, int]:
    """By name; classes that only the model knows are added."""
    known = {str(one["name"]): int(one["id"]) for one in categories}
    for name in dict.fromkeys(one.model_class for one in suspects if one.kind == "missing"):
        if name is not None and name not in known:
            known[name] = max(known.values(), default=0) + 1
            categories.append({"id": known[name], "name": name})
    return known


def _rebuilt(index: DataIndex) -> dict[str, Any]:
    boxes = np.asarray(index.boxes, np.float64).reshape(-1, 4)
    category, rows = np.asarray(index.category_ids).tolist(), np.repeat(np.arange(len(index)), np.diff(index.box_start))
    ids, labels = np.asarray(index.annotation_ids).tolist(), np.asarray(index.labels).tolist()
    annotations = [
        {
            "id": ids[n],
            "image_id": int(index.image_ids[rows[n]]),
            "category_id": category[labels[n]],
            "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
            "area": float((box[2:] - box[:2]).prod()),
            "iscrowd": int(index.crowd[n]),
            **({"ignore": 1} if index.ignore[n] else {}),
        }
        for n, box in enumerate(boxes)
    ]
    images = [
        {
            "id": int(index.image_ids[i]),
            "file_name": index.file_name(i),
            "width": int(index.widths[i]),
            "height": int(index.heights[i]),
        }
        for i in range(len(index))
    ]
    categories = [{"id": number, "name": name} for number, name in zip(category, index.names, strict=True)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _attributes(one: Suspect | None) -> dict[str, Any]:
    if one is None:
        return {"suspect": False}
    return {
        "suspect": True,
        "suspect_kind": one.kind,
        "suspect_score": one.score,
        "suspect_rank": one.rank,
        "suspect_reason": one.reason,
    }


def _proposal(one: Suspect, number: int, category: dict[str, int]) -> dict[str, Any]:
    assert one.model_box is not None
    assert one.model_class is not None
    left, top, right, bottom = one.model_box
    return {
        "id": number,
        "image_id": one.image_id,
        "category_id": category[one.model_class],
        "bbox": [left, top, round(right - left, 2), round(bottom - top, 2)],
        "area": round((right - left) * (bottom - top), 2),
        "iscrowd": 0,
        "attributes": _attributes(one),
    }


def to_label_studio(index: DataIndex, suspects: Sequence[Suspect], model: str) -> list[dict[str, Any]]:
    """A task for each image with a suspect: its labels as a prediction, and what is said of each as a note.

    Positions are percentages of the image's sides, as Label Studio has them. ``data.image`` is the file name: put the
    address of your storage before it. The labelling needs ``<Image name="image">`` and ``<RectangleLabels
    name="label" toName="image">``. Missing labels are among the boxes, with the note "missing".
    """
    by_image: dict[int, list[Suspect]] = defaultdict(list)
    for one in suspects:
        by_image[one.row].append(one)
    return [_task(index, row, own, model) for row, own in by_image.items()]


def _task(index: DataIndex, row: int, own: Sequence[Suspect], model: str) -> dict[str, Any]:
    size = int(index.widths[row]), int(index.heights[row])
    said = {one.label: one for one in own if one.annotation_id is not None}
    start, end = int(index.box_start[row]), int(index.box_start[row + 1])
    boxes = np.asarray(index.boxes[start:end], np.float64).reshape(-1, 4).tolist()
    labels = np.asarray(index.labels[start:end]).tolist()
    regions = [
        _region(f"label-{start + n}", size, box, index.names[label], said.get(start + n))
        for n, (box, label) in enumerate(zip(boxes, labels, strict=True))
    ]
    for one in own:
        if one.model_box is not None and one.model_class is not None and one.annotation_id is None:
            regions.append(_region(f"missing-{one.rank}", size, one.model_box, one.model_class, one))
    return {
        "data": {"image": index.file_name(row), "image_id": int(index.image_ids[row])},
        "predictions": [{"model_version": model, "score": max(one.score for one in own), "result": regions}],
    }


def _region(name: str, size: tuple[int, int], box: Sequence[float], label: str, said: Suspect | None) -> dict[str, Any]:
    width, height = (max(side, 1) for side in size)
    left, top, right, bottom = box
    region: dict[str, Any] = {
        "id": name,
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": size[0],
        "original_height": size[1],
        "image_rotation": 0,
        "value": {
            "x": 100 * left / width,
            "y": 100 * top / height,
            "width": 100 * (right - left) / width,
            "height": 100 * (bottom - top) / height,
            "rotation": 0,
            "rectanglelabels": [label],
        },
    }
    if said is not None:
        region |= {"score": said.score, "meta": {"text": [f"suspect, {said.kind}: {said.reason}"]}}
    return region

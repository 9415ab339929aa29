"""What a run is measured on and by which settings, and whether these are still the same."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

import numpy as np

from gfocal.data.fingerprint import fingerprint, images_fingerprint
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import GfocalError
from gfocal.recipe import Recipe
from gfocal.runs.checkpoint import read_about
from gfocal.utils.text import counted, join_some


class MeasuredData(TypedDict):
    """The data that a run is measured on: the file, the fingerprints; and the recipe's ``predict``, which makes boxes.

    ``predict`` is None where an earlier version, which did not note it, wrote this down.
    """

    annotations: str
    data: str
    pictures: str
    predict: dict[str, object] | None


def measured_data(index: DataIndex | None, recipe: Recipe) -> MeasuredData | None:
    """Of an index; None where nothing is measured."""
    if index is None:
        return None
    return MeasuredData(
        annotations=str(index.annotations),
        data=fingerprint(index),
        pictures=images_fingerprint(index),
        predict=recipe.predict.model_dump(mode="json"),
    )


def read_measured(content: object) -> MeasuredData | None:
    """Read back from plain data; None for what is none."""
    if not isinstance(content, dict):
        return None
    annotations, data, images = (content.get(key) for key in ("annotations", "data", "pictures"))
    if not (isinstance(annotations, str) and isinstance(data, str) and isinstance(images, str)):
        return None
    predict = content.get("predict")
    predict = predict if isinstance(predict, dict) else None
    return MeasuredData(annotations=annotations, data=data, pictures=images, predict=predict)


def differ(before: MeasuredData | None, now: MeasuredData | None) -> bool:
    """Whether AP before and now are of different images or boxes, or of other settings; where they lie is no matter."""
    return _other_data(before, now) or bool(_other_settings(before, now))


def describe_change(before: MeasuredData | None, now: MeasuredData) -> dict[str, object]:
    """What differs, for metrics.jsonl: the files ("before", "now"), settings by key ("predict": [before, now])."""
    settings = _other_settings(before, now)
    found: dict[str, object] = {"before": None if before is None else before["annotations"], "now": now["annotations"]}
    return {**found, "predict": settings} if settings else found


def describe_new_start(before: MeasuredData | None, now: MeasuredData, step: int, aside: Path | None) -> str:
    """The line that tells why the best AP starts again at a step; ``aside`` has the best weights until there."""
    settings = [f"predict.{key} {old} -> {new}" for key, (old, new) in _other_settings(before, now).items()]
    ways, reasons = [], []
    if _other_data(before, now):
        was = "nothing" if before is None else before["annotations"]
        ways.append(f"on other data ({was} before, now {now['annotations']})")
        reasons.append("of different pictures or boxes")
    if settings:
        ways.append(f"by other settings ({', '.join(settings)})")
        reasons.append("of detections that were chosen otherwise")
    kept = "" if aside is None else f"; the best weights until here are {aside}"
    return (
        f"warning: from step {step} on the run is measured {' and '.join(ways)}: AP before and after are "
        f"{' and '.join(reasons)}, so the best AP starts again{kept}. metrics.jsonl marks the place (val_data)"
    )


def _other_data(before: MeasuredData | None, now: MeasuredData | None) -> bool:
    if before is None or now is None:
        return before is not now
    return (before["data"], before["pictures"]) != (now["data"], now["pictures"])


def _other_settings(before: MeasuredData | None, now: MeasuredData | None) -> dict[str, list[object]]:
    """By key of ``predict``, [before, now]; a key that one of them lacks, of an earlier version, claims nothing."""
    old = {} if before is None else before["predict"] or {}
    new = {} if now is None else now["predict"] or {}
    return {key: [old[key], new[key]] for key in old if key in new and old[key] != new[key]}


def other_classes(last: Path, data: str, train: DataIndex, val: DataIndex | None) -> str | None:
    """Why a run that leaves out empty classes would now learn others: what measures it has boxes of other ones.

    Args:
        last: the run's last weights, which name the classes that it learns.
        data: fingerprint of what it learnt from.
        train, val: what it would go on with.

    Returns:
        The reason to refuse that; None where what it learns from is another, or nobody knows.
    """
    with suppress(GfocalError):
        about = read_about(last)
        before = train.with_classes(about.names)
        if about.category_ids is not None:
            before = before.replace(category_ids=np.array(about.category_ids, before.category_ids.dtype))
        if fingerprint(before) == data:
            return _classes_line(last.parent, about.names, train.names, val)
    return None


def _classes_line(run: Path, before: Sequence[str], now: Sequence[str], val: DataIndex | None) -> str | None:
    found = []
    if val is not None and (more := [label for label, name in enumerate(now) if name not in before]):
        count = np.bincount(np.asarray(val.labels), minlength=len(now))
        boxes = join_some([f"{now[label]} ({counted(int(count[label]), 'box', 'boxes')})" for label in more])
        found.append(f"{val.annotations} has objects of classes that {run} left out, since none had a box: {boxes}")
    if fewer := [name for name in before if name not in now]:
        ours = "and now nothing is measured" if val is None else f"and {val.annotations} has none"
        found.append(f"{run} learns classes of which only its val data had boxes, {ours}: {join_some(fewer)}")
    if not found:
        return None
    return (
        f"{'; '.join(found)}. With data.drop_empty_classes a network has the classes of the data that its run begins "
        "with: resume with the same val data, or start a new run with --init"
    )

"""Suspects as a person reads them: which label of which image, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gfocal.data.index.data_index import DataIndex
from gfocal.evaluation.audit.candidates import Candidates, Scale, outside, ranked
from gfocal.evaluation.audit.evidence import Evidence
from gfocal.evaluation.audit.planting import KINDS, Kind
from gfocal.evaluation.audit.suspicion import NONE, Suspicion
from gfocal.evaluation.overlaps import box_ious
from gfocal.utils.text import counted

EDGES = ("left", "top", "right", "bottom")
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Suspect:
    """A label that the detector contradicts, or an object that has none.

    Attributes:
        rank: from 1.
        kind: of :data:`~gfocal.evaluation.audit.planting.KINDS`.
        score: in [0, 1], the chance that it is a fault, if faults are as frequent as those planted.
        reason: in words.
        image: file name, as in the annotations.
        image_id, annotation_id: the data set's own; the latter is None of a missing label.
        class_name: of the label; None of a missing one.
        model_class: of the detection; None without one.
        label_box, model_box: xyxy in pixels of the image.
        model_score: of the detection, in [0, 1].
        twin_id, twin_box: the other label of the object, of a duplicate.
        row: of the image in the index.
        label: row of the label in the index; -1 of a missing one.
    """

    rank: int
    kind: Kind
    score: float
    reason: str
    image: str
    image_id: int
    annotation_id: int | None
    class_name: str | None
    model_class: str | None
    label_box: Box | None
    model_box: Box | None
    model_score: float | None
    twin_id: int | None
    twin_box: Box | None
    row: int
    label: int


def list_suspects(
    index: DataIndex, evidence: Evidence, found: Suspicion, listed: Candidates, scale: Scale, least: float = 0.0
) -> list[Suspect]:
    """Best score first, those of at least ``least``.

    Args:
        index: the data set that the evidence is about.
        evidence, found, listed: of its labels.
        scale: what scores come from.
        least: score.
    """
    scores = scale.scores(listed)
    chosen = [k for k in ranked(listed, scores).tolist() if scores[k] >= least]
    return [_suspect(index, evidence, found, listed, k, rank, scores[k]) for rank, k in enumerate(chosen, start=1)]


def _suspect(
    index: DataIndex, evidence: Evidence, found: Suspicion, listed: Candidates, k: int, rank: int, score: float
) -> Suspect:
    label, by = int(listed.label[k]), int(listed.detection[k])
    kind = KINDS[int(listed.kind[k])]
    row = int(evidence.labels.rows[label] if label != NONE else evidence.rows[by])
    twin = int(found.twin[label]) if kind == "duplicate" else NONE
    names = evidence.labels.names
    return Suspect(
        rank=rank,
        kind=kind,
        score=round(float(score), 4),
        reason=_reason(evidence, found, kind, label, by, index),
        image=index.file_name(row),
        image_id=int(index.image_ids[row]),
        annotation_id=None if label == NONE else _id(index, label),
        class_name=None if label == NONE else names[int(evidence.labels.labels[label])],
        model_class=None if by == NONE else names[int(evidence.classes[by])],
        label_box=None if label == NONE else _box(evidence.labels.boxes[label]),
        model_box=None if by == NONE else _box(evidence.boxes[by]),
        model_score=None if by == NONE else round(float(evidence.scores[by]), 4),
        twin_id=None if twin == NONE else _id(index, twin),
        twin_box=None if twin == NONE else _box(evidence.labels.boxes[twin]),
        row=row,
        label=label,
    )


def _id(index: DataIndex, label: int) -> int:
    return int(np.asarray(index.annotation_ids[label : label + 1])[0])


def _box(values: np.ndarray) -> Box:
    left, top, right, bottom = (round(float(value), 2) for value in values)
    return left, top, right, bottom


def _reason(evidence: Evidence, found: Suspicion, kind: Kind, label: int, by: int, index: DataIndex) -> str:
    names = evidence.labels.names
    model = "" if by == NONE else f"{names[int(evidence.classes[by])]} ({evidence.scores[by]:.2f})"
    if kind == "edge":
        return _edge_reason(evidence, found, label, by)
    if kind == "class":
        own = names[int(evidence.labels.labels[label])]
        return f"labelled {own}; the model finds {model} there, and nothing else of it"
    if kind == "duplicate":
        return (
            f"overlaps label {_id(index, int(found.twin[label]))} of its class with an IoU of "
            f"{_iou(evidence, label, int(found.twin[label])):.2f}; the model finds one object"
        )
    if kind == "missing":
        return f"the model finds {model}, and no label covers it"
    near = f"; the nearest is {model}, which covers little of it" if model else ""
    return f"the model finds little or nothing there, where it finds most objects of that size and class{near}"


def _iou(evidence: Evidence, label: int, other: int) -> float:
    boxes = evidence.labels.clipped
    return float(box_ious(boxes[label : label + 1], boxes[other : other + 1])[0, 0])


def _edge_reason(evidence: Evidence, found: Suspicion, label: int, by: int) -> str:
    """Every edge that is outside, the farthest for its interval first."""
    assert evidence.half_widths is not None
    half, offsets = evidence.half_widths[by], found.offsets[label]
    wrong = np.flatnonzero(outside(evidence, found)[label])
    wrong = wrong[np.argsort(-np.abs(offsets[wrong]) / np.maximum(half[wrong], 1e-6), kind="stable")]
    parts = [
        f"{EDGES[edge]} edge {_pixels(abs(offsets[edge]) - half[edge])} outside its {100 * evidence.level:g} % "
        f"interval (±{_pixels(half[edge])})"
        for edge in wrong.tolist()
    ]
    return "; ".join(parts)


def _pixels(value: float) -> str:
    return f"{value:.0f} px" if value >= 9.5 else f"{value:.1f} px"


def by_kind(suspects: Sequence[Suspect]) -> dict[str, int]:
    """How many of each kind, of those that there are."""
    counts = {kind: sum(one.kind == kind for one in suspects) for kind in KINDS}
    return {kind: count for kind, count in counts.items() if count}


def in_words(suspects: Sequence[Suspect]) -> str:
    """``3 edges, 1 missing``."""
    named = {"edge": "edge", "duplicate": "duplicate", "class": "wrong class", "missing": "missing label"}
    named["spurious"] = "label of nothing"
    many = {"class": "wrong classes", "spurious": "labels of nothing"}
    return ", ".join(counted(count, named[kind], many.get(kind)) for kind, count in by_kind(suspects).items())

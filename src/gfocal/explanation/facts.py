"""From what was found to what is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from gfocal.calibration.edges import intervals
from gfocal.calibration.quantiles import FloatArray
from gfocal.data.index.data_index import DataIndex
from gfocal.evaluation.uncertainty import match_objects
from gfocal.explanation.look import Labels, Look
from gfocal.explanation.records import SIDES, EdgeFacts, Explained, PictureFacts, PointFacts, Span


def labels_of(index: DataIndex, row: int) -> Labels:
    """The objects of an image that detections may find: no crowds, no ignored ones."""
    first, end = int(index.box_start[row]), int(index.box_start[row + 1])
    rows = first + np.flatnonzero(~(np.asarray(index.crowd[first:end]) | np.asarray(index.ignore[first:end])))
    boxes = np.asarray(index.boxes[rows], np.float64).reshape(-1, 4)
    return Labels(boxes, np.asarray(index.labels[rows]), rows)


def picture_facts(
    look: Look,
    *,
    file: str,
    size: tuple[int, int],
    drawing: str,
    level: float,
    top: int,
    numbers: Iterator[int],
    truth: tuple[DataIndex, int] | None,
) -> PictureFacts:
    """All that is told of one image.

    Args:
        look: what was found on it.
        file: as it was given.
        size: (height, width).
        drawing: name of its PNG file.
        level: of intervals.
        top: detections that are told.
        numbers: ids for them.
        truth: a data set and the image's row in it; None where labels are not known.
    """
    pairs: dict[int, int] = {}
    objects = 0
    if truth is not None:
        mine, theirs = match_objects(truth[0], truth[1], look.found)
        pairs = dict(zip(mine.tolist(), theirs.tolist(), strict=True))
        objects = len(labels_of(*truth).rows)
    told = _Told(look, level, size, pairs, truth)
    return PictureFacts(
        file=file,
        width=size[1],
        height=size[0],
        labelled=truth is not None,
        objects=objects,
        missed=objects - len(pairs),
        found=len(look.found),
        detections=tuple(told.one(i, next(numbers)) for i in range(min(top, len(look.found)))),
        drawing=drawing,
    )


class _Told:
    """The detections of one image."""

    def __init__(
        self,
        look: Look,
        level: float,
        size: tuple[int, int],
        pairs: dict[int, int],
        truth: tuple[DataIndex, int] | None,
    ) -> None:
        self.look, self.found, self.pairs, self.truth = look, look.found, pairs, truth
        self.boxes = np.asarray(self.found.boxes, np.float64)
        limits = np.array([size[1], size[0]] * 2, np.float64)
        self.limits = limits
        self.before: FloatArray | None = None
        if self.found.edge_std is not None:
            half = NormalDist().inv_cdf((1 + level) / 2) * np.asarray(self.found.edge_std, np.float64)
            self.before = intervals(self.boxes, half, limits)
        calibration = self.found.calibration
        holds = calibration is not None and not calibration.unfit
        self.after = np.asarray(self.found.edge_interval(level)) if holds else None
        self.chances = np.asarray(self.found.score_calibrated) if holds else None

    def one(self, i: int, number: int) -> Explained:
        look, found = self.look, self.found
        truth = self._truth(i)
        x1, y1, x2, y2 = self.boxes[i].tolist()
        return Explained(
            id=number,
            label=self._name(int(found.labels[i])),
            score=float(found.scores[i]),
            chance=None if self.chances is None else float(self.chances[i]),
            score_parts=look.parts[i] if look.parts else (),
            other_classes=look.rivals[i] if look.rivals else (),
            box=(x1, y1, x2, y2),
            edges=tuple(self._edge(i, side, None if truth is None else float(truth[side])) for side in range(4)),
            point=self._point(i),
            removed=look.removed[i] if look.removed else (),
            removed_count=look.counts[i] if look.counts else 0,
            iou=None if truth is None else _iou(self.boxes[i], truth),
        )

    def _name(self, label: int) -> str:
        return self.found.names[label] if label < len(self.found.names) else f"class {label}"

    def _truth(self, i: int) -> FloatArray | None:
        """Of the object that it found, cut off at the border of the image, as boxes are."""
        if self.truth is None or i not in self.pairs:
            return None
        box: FloatArray = np.clip(np.asarray(self.truth[0].boxes[self.pairs[i]], np.float64), 0, self.limits)
        return box

    def _edge(self, i: int, side: int, label: float | None) -> EdgeFacts:
        look, std = self.look, self.found.edge_std
        position = float(self.boxes[i, side])
        before, after = (None if spans is None else _span(spans[i, side]) for spans in (self.before, self.after))
        known = before if after is None else after
        probs = self.found.edge_probs
        return EdgeFacts(
            side=SIDES[side],
            position=position,
            mean=None if look.means is None else float(look.means[i, side]),
            std=None if std is None else float(std[i, side]),
            bins=() if look.bins is None else tuple(look.bins[i, side].tolist()),
            probs=() if look.bins is None or probs is None else tuple(np.asarray(probs[i, side], float).tolist()),
            before=before,
            after=after,
            label=label,
            error=None if label is None else label - position,
            inside=None if label is None or known is None else known[0] <= label <= known[1],
        )

    def _point(self, i: int) -> PointFacts | None:
        look = self.look
        if not look.points:
            return None
        if not look.assigned:
            return look.points[i]
        own = look.assigned[i]
        words = {-1: "background", -2: "nothing"}
        learns = words.get(own) or ("this object" if own == self.pairs.get(i) else "another object")
        return replace(look.points[i], learns=learns)


def _span(ends: FloatArray) -> Span:
    return float(ends[0]), float(ends[1])


def _iou(one: FloatArray, other: FloatArray) -> float:
    sides = (np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])).clip(min=0)
    shared = float(sides.prod())
    union = float((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()) - shared
    return shared / max(union, 1e-12)

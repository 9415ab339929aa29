"""Which detection found which object, by COCO's rules, kept image by image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gfocal.evaluation.agreement import own_ious
from gfocal.evaluation.ground_truth import BoolArray, FloatArray, GroundTruth, IntArray
from gfocal.evaluation.overlaps import overlaps

IOUS = np.linspace(0.5, 0.95, 10)
"""COCO's thresholds."""
MOST = 100  # detections of a class in an image


@dataclass(frozen=True)
class FoundObjects:
    """The G objects of a data set, crowds and ignored ones too, and what found each of them at an IoU of 0.5.

    Attributes:
        images: (G,) row of the image.
        scores: (G,) of the detection that found it; NaN where none did.
        ious: (G,) of that detection with this object; NaN where none did.
    """

    images: IntArray
    scores: FloatArray
    ious: FloatArray

    def only(self, kept: BoolArray) -> FoundObjects:
        """Those of the images ``kept`` (I,), as if there were no others."""
        mine = kept[self.images]
        return FoundObjects((np.cumsum(kept) - 1)[self.images[mine]], self.scores[mine], self.ious[mine])


@dataclass(frozen=True)
class Matches:
    """D detections of I images, best score first; T IoU thresholds; objects of all sizes.

    Attributes:
        images: (D,) row of the image.
        labels: (D,) class.
        right: (T, D): it found an object that no better one had found.
        ignored: (T, D): it lies in a crowd or on an ignored box: neither right nor wrong.
        objects: (I, C) how many there are to find.
        scores: (D,) in [0, 1].
        ious: (D,) in [0, 1]: with the object of its class that it overlaps most, whether another detection found that
            one or not (:func:`~gfocal.evaluation.agreement.own_ious`).
        found: by which detection each object was found; None if it was not kept.
    """

    images: IntArray
    labels: IntArray
    right: BoolArray
    ignored: BoolArray
    objects: IntArray
    scores: FloatArray
    ious: FloatArray
    found: FoundObjects | None = None

    def only(self, kept: BoolArray) -> Matches:
        """Those of the images ``kept`` (I,), as if there were no others."""
        mine = kept[self.images]
        row = np.cumsum(kept) - 1
        return Matches(
            row[self.images[mine]],
            self.labels[mine],
            self.right[:, mine],
            self.ignored[:, mine],
            self.objects[kept],
            self.scores[mine],
            self.ious[mine],
            None if self.found is None else self.found.only(kept),
        )


def match_detections(
    index: GroundTruth,
    rows: IntArray,
    boxes: FloatArray,
    scores: FloatArray,
    labels: IntArray,
    *,
    ious: FloatArray | None = None,
) -> Matches:
    """Match as COCO's evaluation does: in the order of the scores each takes the free object that it overlaps most.

    Args:
        index: the ground truth; boxes marked ``ignore`` count as crowds.
        rows: (N,) row of each detection's image.
        boxes: (N, 4) xyxy in original pixels.
        scores: (N,).
        labels: (N,) in 0..C-1.
        ious: (N,) what :func:`~gfocal.evaluation.agreement.own_ious` says of them, where that is known already.

    Returns:
        Of each class in an image the 100 best detections; those beyond COCO does not look at.
    """
    if ious is None:
        ious = own_ious(index, rows, boxes, labels)
    # Ties between images: by their ids, as COCO has it.
    rank = np.argsort(np.argsort(index.image_ids, kind="stable"), kind="stable")
    order = np.lexsort((rank[rows], -scores))
    order = order[places_in_class(rows[order], labels[order], len(index.names)) < MOST]
    rows, boxes, labels, scores, ious = rows[order], boxes[order], labels[order], scores[order], ious[order]
    right = np.zeros((len(IOUS), len(rows)), bool)
    ignored = np.zeros_like(right)
    truth_labels = np.asarray(index.labels)
    crowd = np.asarray(index.crowd) | np.asarray(index.ignore)
    image_of = np.repeat(np.arange(len(index.image_ids)), np.diff(index.box_start))
    found = FoundObjects(image_of, np.full(len(image_of), np.nan), np.full(len(image_of), np.nan))
    for mine, own, overlap in near_objects(index, rows, boxes, labels):
        right[:, mine], ignored[:, mine], taken = _in_order(overlap, crowd[own])
        mine, overlap, taken = mine[taken >= 0], overlap[taken >= 0], taken[taken >= 0]
        found.scores[own][taken] = scores[mine]
        found.ious[own][taken] = overlap[np.arange(len(mine)), taken]
    objects = np.zeros((len(index.image_ids), len(index.names)), np.int64)
    np.add.at(objects, (image_of[~crowd], truth_labels[~crowd].astype(np.int64)), 1)
    return Matches(rows, labels, right, ignored, objects, scores, ious, found)


def places_in_class(rows: IntArray, labels: IntArray, classes: int) -> IntArray:
    """(D,) how many detections of the same class and image come before each, in the order given."""
    key = rows.astype(np.int64) * max(classes, 1) + labels
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    return places


def near_objects(
    index: GroundTruth, rows: IntArray, boxes: FloatArray, labels: IntArray
) -> Iterator[tuple[IntArray, slice, FloatArray]]:
    """Image by image, the detections that may find an object of their class at some threshold.

    Args:
        index: the ground truth; boxes marked ``ignore`` count as crowds.
        rows: (D,) row of each detection's image.
        boxes: (D, 4) float64 xyxy in original pixels.
        labels: (D,) in 0..C-1.

    Yields:
        (K,) these detections in the order given, the objects of the image, and (K, G) how far they overlap: 0 with
        those of another class.
    """
    truth_labels = np.asarray(index.labels)
    crowd = np.asarray(index.crowd) | np.asarray(index.ignore)
    by_image = np.argsort(rows, kind="stable")
    starts = np.flatnonzero(np.diff(rows[by_image], prepend=-1))
    for mine in np.split(by_image, starts[1:]) if len(rows) else []:
        image = rows[mine[0]]
        own = slice(int(index.box_start[image]), int(index.box_start[image + 1]))
        truth = np.asarray(index.boxes[own], np.float64)
        if not len(truth):
            continue
        overlap = overlaps(boxes[mine], truth, crowd[own])
        overlap[labels[mine][:, None] != truth_labels[own]] = 0
        near = overlap.max(1) >= IOUS[0]  # all others found nothing at any threshold
        yield mine[near], own, overlap[near]


def _in_order(overlap: FloatArray, crowd: BoolArray) -> tuple[BoolArray, BoolArray, IntArray]:
    """(T, D) right and (T, D) ignored of the detections of one image, best score first.

    And (D,) the object that each found at the first threshold; -1 for none.
    """
    right = np.zeros((len(IOUS), len(overlap)), bool)
    ignored = np.zeros_like(right)
    objects = np.full(len(overlap), -1)
    free = np.tile(~crowd, (len(IOUS), 1))
    least = np.minimum(IOUS, 1 - 1e-10)[:, None]
    last = overlap.shape[1] - 1
    for d, ious in enumerate(overlap):
        reached = ious >= least
        taken = np.where(free & reached, ious, -1.0)
        best = last - taken[:, ::-1].argmax(1)  # of equal ones the last, as in COCO's loop
        found = taken[np.arange(len(IOUS)), best] >= 0
        right[:, d] = found
        free[found, best[found]] = False
        objects[d] = best[0] if found[0] else -1
        ignored[:, d] = ~found & (reached & crowd).any(1)
    return right, ignored, objects

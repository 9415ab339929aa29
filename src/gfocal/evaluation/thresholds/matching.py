"""Detections and objects paired at one IoU, best score first, by COCO's rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gfocal.evaluation.ground_truth import BoolArray, IntArray
from gfocal.evaluation.overlaps import overlaps
from gfocal.evaluation.thresholds.findings import Findings

IOU = 0.5
"""From where on a box has found an object, here and in AP50."""
_NONE = -1


@dataclass(frozen=True)
class Pairs:
    """P pairs of a detection and an object of its image that overlap by at least :data:`IOU`, of whatever classes.

    The best detection of an image comes first, and its best object: of equal IoUs the last, as in COCO's loop. With a
    crowd the share of the detection's own area takes the place of the IoU.

    Attributes:
        detection: (P,) row among the detections.
        object: (P,) row among the boxes of the ground truth.
    """

    detection: IntArray
    object: IntArray

    def only(self, chosen: BoolArray) -> Pairs:
        return Pairs(self.detection[chosen], self.object[chosen])


@dataclass(frozen=True)
class Matching:
    """What each of D detections found among G boxes of the ground truth, crowds and ignored ones among them.

    Attributes:
        object: (D,) row of the object of its class that it found; -1 for none. Each object is found once.
        ignored: (D,) it found none, but lies in a crowd or on an ignored box of its class: neither right nor wrong.
        to_find: (G,) objects that count: no crowds, not ignored, not of an image that was left out.
        pairs: of whatever classes.
    """

    object: IntArray
    ignored: BoolArray
    to_find: BoolArray
    pairs: Pairs

    @property
    def right(self) -> BoolArray:
        """(D,) it found an object."""
        return self.object >= 0


def match(findings: Findings) -> Matching:
    """Match as COCO does at an IoU of 0.5: in the order of the scores each takes the free object it overlaps most.

    All detections are matched, not only the 100 best of a class in an image. What those above some score find does
    not depend on those below: the matching holds for every threshold.
    """
    index = findings.index
    labels = np.asarray(index.labels).astype(np.int64)
    counted = ~(np.asarray(index.crowd) | np.asarray(index.ignore))
    pairs = _pairs(findings, counted)
    own = findings.labels[pairs.detection] == labels[pairs.object]
    real = counted[pairs.object]
    found = take_in_order(pairs.only(own & real), len(findings.rows), len(labels))
    ignored = np.zeros(len(found), bool)
    ignored[pairs.detection[own & ~real]] = True
    kept = np.repeat(findings.kept, np.diff(index.box_start))
    return Matching(found, ignored & (found < 0), counted & kept, pairs)


def take_in_order(pairs: Pairs, detections: int, objects: int) -> IntArray:
    """(D,) the object that each detection takes, in the order of ``pairs``; -1 for none."""
    found, taken = [_NONE] * detections, [False] * objects
    for detection, thing in zip(pairs.detection.tolist(), pairs.object.tolist(), strict=True):
        if found[detection] == _NONE and not taken[thing]:
            found[detection], taken[thing] = thing, True
    return np.array(found, np.int64)


def _pairs(findings: Findings, counted: BoolArray) -> Pairs:
    index, rows = findings.index, findings.rows
    order = np.lexsort((-findings.scores, rows))  # stable: of equal scores the first is the better
    starts = np.flatnonzero(np.diff(rows[order], prepend=-1))
    detections, objects = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for mine in np.split(order, starts[1:]) if len(order) else []:
        first, last = index.box_start[rows[mine[0]]], index.box_start[rows[mine[0]] + 1]
        if first == last:
            continue
        overlap = overlaps(findings.boxes[mine], np.asarray(index.boxes[first:last], np.float64), ~counted[first:last])
        one, other = np.nonzero(overlap >= min(IOU, 1 - 1e-10))
        best_first = np.lexsort((-other, -overlap[one, other], one))
        detections.append(mine[one[best_first]])
        objects.append(first + other[best_first])
    return Pairs(np.concatenate(detections), np.concatenate(objects))

"""Boxes of a split: beyond their image, empty, tiny, there twice."""

from __future__ import annotations

from collections import Counter

import numpy as np

from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import EDGE_TOLERANCE, SAME_IOU, TINY_SIDE, Fault, Finding, Kind

_LOOK_AHEAD = 100
"""Boxes at one location that are compared with each other; more of them are copies of their neighbours."""
_WEIGHTS = np.sqrt([1.0, 2.0, 3.0, 5.0])


def images_of_boxes(index: DataIndex) -> np.ndarray:
    """(N,) the image of each box."""
    return np.repeat(np.arange(len(index)), np.diff(np.asarray(index.box_start)))


def clipped_boxes(index: DataIndex) -> np.ndarray:
    """(N, 4) float64 boxes clipped to the annotated size of their images."""
    sides = np.stack([index.widths, index.heights, index.widths, index.heights], 1).astype(np.float64)
    return np.clip(np.asarray(index.boxes), 0, sides[images_of_boxes(index)])


def learnt_boxes(index: DataIndex) -> np.ndarray:
    """(N,) bool: neither crowd nor ignored nor empty."""
    boxes = clipped_boxes(index)
    return (boxes[:, 2:] > boxes[:, :2]).all(1) & ~np.asarray(index.crowd) & ~np.asarray(index.ignore)


def box_findings(split: str, index: DataIndex) -> list[Finding]:
    """What is to say of the boxes that the reader kept, in the order of their images."""
    with np.errstate(all="ignore"):  # Any finite number may stand in a file: 1e308 too.
        return _box_findings(split, index) if len(index.boxes) else []


def _box_findings(split: str, index: DataIndex) -> list[Finding]:
    boxes, clipped = np.asarray(index.boxes), clipped_boxes(index)
    beyond = np.abs(boxes - clipped).max(1)
    side = (clipped[:, 2:] - clipped[:, :2]).min(1)
    empty = (boxes[:, 2:] <= boxes[:, :2]).any(1)
    labels, ids = np.asarray(index.labels), np.asarray(index.annotation_ids)
    faults: list[tuple[int, Fault]] = []
    for n in np.flatnonzero(empty).tolist():
        faults.append((n, Fault(Kind.BOX_EMPTY, "has no area: a side is 0")))
    for n in np.flatnonzero((beyond > EDGE_TOLERANCE) & ~empty).tolist():
        faults.append((n, Fault(Kind.BOX_BEYOND_EDGE, f"reaches {beyond[n]:.4g} pixels beyond its picture")))
    for n in np.flatnonzero((side < TINY_SIDE) & ~empty).tolist():
        faults.append((n, Fault(Kind.BOX_TINY, f"its shorter side is {side[n]:.3g} pixels")))
    for first, second in same_boxes(index):
        same_class = labels[first] == labels[second]
        other = ids[first]
        if same_class:
            faults.append((second, Fault(Kind.BOX_DUPLICATE, f"is the same as box {other}")))
        else:
            names = f"{index.names[labels[first]]} and {index.names[labels[second]]}"
            faults.append(
                (second, Fault(Kind.BOX_TWO_CLASSES, f"and box {other} are one box with two classes, {names}"))
            )
    image = images_of_boxes(index)
    faults.sort(key=lambda fault: (fault[0], fault[1].kind))
    return [_finding(fault, split, index, int(image[n]), n) for n, fault in faults]


def _finding(fault: Fault, split: str, index: DataIndex, i: int, n: int) -> Finding:
    corners = ", ".join(f"{number:.6g}" for number in np.asarray(index.boxes[n : n + 1])[0])
    name = index.names[index.labels[n]]
    message = f"box {index.annotation_ids[n]} ({name}, corners {corners}) {fault.message}"
    return Finding(fault.kind, split, index.annotations, message, image=index.file_name(i))


def same_boxes(index: DataIndex) -> list[tuple[int, int]]:
    """Pairs of boxes of one image with an IoU above 0.99; crowds and empty boxes aside.

    Returns:
        (first, second) by position, first < second; each second once, with the first of its own class if there is one.
    """
    boxes, labels = np.asarray(index.boxes), np.asarray(index.labels)
    usable = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1) & ~np.asarray(index.crowd))
    image, own = images_of_boxes(index)[usable], boxes[usable]
    # With an IoU above t every edge lies within (1 - t) / t of a side from its twin: those are neighbours in the order
    # of any sum of the edges. With these weights boxes in rows and columns do not fall together.
    key = own @ _WEIGHTS
    sides = own[:, 2:] - own[:, :2]
    reach = sides @ (_WEIGHTS[:2] + _WEIGHTS[2:]) * (1 - SAME_IOU) / SAME_IOU * 1.01 + 1e-6
    order = np.lexsort((usable, key, image))
    usable, image, own, key, reach = (each[order] for each in (usable, image, own, key, reach))
    nothing = 2 * len(boxes)
    best = np.full(len(boxes), nothing)  # The first one's position, plus N where its class is another one.
    here = np.arange(len(usable))
    for gap in range(1, _LOOK_AHEAD):
        here = here[here + gap < len(usable)]
        here = here[(image[here] == image[here + gap]) & (key[here + gap] - key[here] <= reach[here])]
        if not len(here):
            break
        pairs = here[_iou(own[here], own[here + gap]) > SAME_IOU]
        first = np.minimum(usable[pairs], usable[pairs + gap])
        second = np.maximum(usable[pairs], usable[pairs + gap])
        np.minimum.at(best, second, first + len(boxes) * (labels[first] != labels[second]))
    found = np.flatnonzero(best < nothing)
    return sorted(zip((best[found] % len(boxes)).tolist(), found.tolist(), strict=True))


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    sides = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None)
    shared = sides.prod(1)
    return shared / ((a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared)


def content_findings(split: str, index: DataIndex) -> list[Finding]:
    """Images without boxes, a split without any, and images that are listed twice."""
    learnt = np.bincount(images_of_boxes(index)[learnt_boxes(index)], minlength=len(index))
    found = []
    if len(index) and not learnt.any():
        message = f"none of its {len(index)} pictures has a box that can be learnt"
        found.append(Finding(Kind.NO_BOXES, split, index.annotations, message))
    seen: Counter[str] = Counter()
    for i in range(len(index)):
        name = index.file_name(i)
        seen[name] += 1
        if seen[name] == 2:
            message = f"picture {name} is listed more than once; each entry has only its own boxes"
            found.append(Finding(Kind.IMAGE_LISTED_TWICE, split, index.annotations, message, image=name))
        if not learnt[i]:
            boxes = int(index.box_start[i + 1] - index.box_start[i])
            what = f"none of its boxes ({boxes}) is learnt" if boxes else "no boxes"
            found.append(Finding(Kind.IMAGE_WITHOUT_BOXES, split, index.annotations, f"{name}: {what}", image=name))
    return found

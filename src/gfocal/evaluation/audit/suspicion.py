"""How much a detector contradicts each label, and each place without one, kind by kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gfocal.evaluation.audit.evidence import Evidence
from gfocal.evaluation.ground_truth import BoolArray, FloatArray, IntArray
from gfocal.evaluation.overlaps import box_ious
from gfocal.evaluation.thresholds.matching import IOU, Pairs, take_in_order

NONE = -1
NEAR = 0.3
"""From this IoU on a detection of its class is about a label, whose edges may be wrong."""
SHIFTS = np.linspace(0.1, 0.6, 11)
"""Of the side of its box: how far a wrong edge is thought to be off, either way, each as likely as the others."""
_TAIL = 3.0  # degrees of freedom of Student's t: errors of edges are small, and seldom large
_T_90 = 2.353  # its 95 % quantile: how many scales a half-width of 90 % is
_UNHEARD = 0.05  # the chance that an object is of another class, where no detection says so
_ALIKE = 200  # labels of like size that tell how well such objects are found
_PRIOR = 20  # labels of a class that its own share of found objects must outweigh


@dataclass(frozen=True)
class Suspicion:
    """Of N labels and D detections, each the larger the likelier the fault; 0 where nothing speaks for it.

    Attributes:
        edge: (N,) how many times likelier the offsets are if one edge is wrong, by the width of each edge's interval
            and the detection's chance; 1 where nothing is known.
        edge_by: (N,) that detection; -1 for none.
        offsets: (N, 4) pixels, edge of the label less edge of that detection; 0 without one.
        wrong_class: (N,) the chance that a detection of another class is right there, and that none of its own is.
        class_by: (N,) that detection; -1 for none.
        duplicate: (N,) largest IoU with another label of its class, where the detector found one object at most.
        twin: (N,) that label; -1 for none.
        weaker: (N,) the detector supports it less than its twin; of equal ones the later.
        spurious: (N,) how well objects of its size and class are found, by how little of it was.
        near: (N,) the detection that supports it most; -1 for none.
        missing: (D,) the chance that there is an object, by how little a label covers it.
    """

    edge: FloatArray
    edge_by: IntArray
    offsets: FloatArray
    wrong_class: FloatArray
    class_by: IntArray
    duplicate: FloatArray
    twin: IntArray
    weaker: BoolArray
    spurious: FloatArray
    near: IntArray
    missing: FloatArray


@dataclass(frozen=True)
class _Overlaps:
    """Labels and detections of one image that overlap: P pairs."""

    label: IntArray
    detection: IntArray
    iou: FloatArray
    same: BoolArray
    chance: FloatArray

    def only(self, chosen: BoolArray) -> _Overlaps:
        return _Overlaps(*(values[chosen] for values in vars(self).values()))

    def best(self, worth: FloatArray, count: int) -> tuple[FloatArray, IntArray]:
        """(N,) the most worth of each label's pairs, 0 without, and (N,) its detection."""
        most, by = np.zeros(count), np.full(count, NONE)
        order = np.argsort(worth, kind="stable")  # the last one written is the best
        most[self.label[order]], by[self.label[order]] = worth[order], self.detection[order]
        return most, by


def suspicion(evidence: Evidence) -> Suspicion:
    """See :class:`Suspicion`; crowds, ignored labels and images that were not looked at have none."""
    labels = evidence.labels
    asked = labels.real & evidence.kept[labels.rows]
    pairs = _overlaps(evidence)
    about = pairs.only(asked[pairs.label])
    partner = _partners(evidence, about)
    offsets, edge = _edges(evidence, partner)
    wrong_class, class_by = _wrong_class(evidence, about)
    support, near = about.best(about.chance * about.iou, len(labels))
    duplicate, twin, weaker = _duplicates(evidence, asked, about, support)
    return Suspicion(
        edge=np.where(asked, edge, 0),
        edge_by=partner,
        offsets=offsets,
        wrong_class=np.where(asked, wrong_class, 0),
        class_by=class_by,
        duplicate=duplicate,
        twin=twin,
        weaker=weaker,
        spurious=np.where(asked, _spurious(evidence, asked, support), 0),
        near=near,
        missing=_missing(evidence, pairs, partner),
    )


def _overlaps(evidence: Evidence) -> _Overlaps:
    """All pairs of an image, crowds and ignored labels among them."""
    labels, images = evidence.labels, len(evidence.kept)
    starts, ends = labels.box_start, np.searchsorted(evidence.rows, np.arange(images + 1))
    boxes = labels.clipped
    label, detection, iou = list[IntArray](), list[IntArray](), list[FloatArray]()
    for row in range(images):
        ious = box_ious(boxes[starts[row] : starts[row + 1]], evidence.boxes[ends[row] : ends[row + 1]])
        one, other = np.nonzero(ious)
        label.append(one + starts[row])
        detection.append(other + ends[row])
        iou.append(ious[one, other])
    none = np.zeros(0, np.int64)
    which, by = np.concatenate([none, *label]), np.concatenate([none, *detection])
    same = labels.labels[which] == evidence.classes[by]
    return _Overlaps(which, by, np.concatenate([np.zeros(0), *iou]), same, evidence.chances[by])


def _partners(evidence: Evidence, about: _Overlaps) -> IntArray:
    """(N,) the detection whose edges each label is compared with: the likeliest and nearest first, each once."""
    near = about.only((about.iou >= NEAR) & about.same)
    order = np.argsort(-near.chance * near.iou, kind="stable")
    pairs = Pairs(near.detection[order], near.label[order])
    taken = take_in_order(pairs, len(evidence.rows), len(evidence.labels))
    partner = np.full(len(evidence.labels), NONE)
    found = np.flatnonzero(taken >= 0)
    partner[taken[found]] = found
    return partner


def _edges(evidence: Evidence, partner: IntArray) -> tuple[FloatArray, FloatArray]:
    """Offsets, and the likelihood of the offsets with one edge shifted over that without, each edge as likely."""
    offsets, suspected = np.zeros((len(partner), 4)), np.ones(len(partner))
    has = np.flatnonzero(partner >= 0)
    by = partner[has]
    offsets[has] = evidence.labels.clipped[has] - evidence.boxes[by]
    if evidence.half_widths is None or not len(has):
        return offsets, suspected
    half = evidence.half_widths[by]
    known = np.isfinite(half)
    scale = np.where(known, np.maximum(half, 1e-3) / _T_90, 1.0)
    sides = evidence.boxes[by, 2:] - evidence.boxes[by, :2]

    def likelihood(off: FloatArray) -> FloatArray:
        density: FloatArray = (1 + (off / scale) ** 2 / _TAIL) ** (-(_TAIL + 1) / 2)
        return density

    steps = [sign * far * np.tile(sides, 2) for far in SHIFTS for sign in (-1, 1)]
    shifted = np.mean([likelihood(offsets[has] - step) for step in steps], 0)
    ratio = np.where(known, shifted / likelihood(offsets[has]), 1.0).mean(1)
    suspected[has] = evidence.chances[by] * ratio + 1 - evidence.chances[by]
    return offsets, suspected


def _wrong_class(evidence: Evidence, about: _Overlaps) -> tuple[FloatArray, IntArray]:
    """A detection that found a label of its own class says nothing of others."""
    near = about.only(about.iou >= IOU)
    count = len(evidence.labels)
    own, _ = near.only(near.same).best(near.chance[near.same], count)
    explained = np.zeros(len(evidence.rows), bool)
    explained[near.detection[near.same]] = True
    others = near.only(~near.same & ~explained[near.detection])
    worth = others.chance * others.iou
    order = np.argsort(-worth, kind="stable")
    pairs = Pairs(others.detection[order], others.label[order])
    taken = take_in_order(pairs, len(evidence.rows), count)  # one object has one class: it speaks of one label
    mine = taken[others.detection] == others.label
    other, by = others.only(mine).best(worth[mine], count)
    return (other + _UNHEARD) * (1 - own) / (1 + _UNHEARD), by


def _duplicates(
    evidence: Evidence, asked: BoolArray, about: _Overlaps, support: FloatArray
) -> tuple[FloatArray, IntArray, BoolArray]:
    labels, starts = evidence.labels, evidence.labels.box_start
    suspected, twin, weaker = np.zeros(len(labels)), np.full(len(labels), NONE), np.zeros(len(labels), bool)
    second = _second_chances(evidence, about)
    for row in np.flatnonzero(evidence.kept).tolist():
        mine = np.arange(starts[row], starts[row + 1])
        mine = mine[asked[mine]]
        if len(mine) < 2:
            continue
        boxes = labels.clipped[mine]
        ious = box_ious(boxes, boxes) * (labels.labels[mine][:, None] == labels.labels[mine])
        np.fill_diagonal(ious, 0)
        both = np.minimum(second[mine][:, None], second[mine][None])
        ious *= 1 - both
        best = mine[ious.argmax(1)]
        suspected[mine] = ious.max(1)
        twin[mine] = np.where(ious.max(1) > 0, best, NONE)
        weaker[mine] = (support[mine] < support[best]) | ((support[mine] == support[best]) & (mine > best))
    return suspected, twin, weaker & (twin >= 0)


def _second_chances(evidence: Evidence, about: _Overlaps) -> FloatArray:
    """(N,) the chance of the detection of its class that each label takes for itself: none is left for a duplicate."""
    near = about.only((about.iou >= IOU) & about.same)
    order = np.argsort(-near.chance * near.iou, kind="stable")
    taken = take_in_order(Pairs(near.detection[order], near.label[order]), len(evidence.rows), len(evidence.labels))
    chances = np.zeros(len(evidence.labels))
    found = np.flatnonzero(taken >= 0)
    chances[taken[found]] = evidence.chances[found]
    return chances


def _spurious(evidence: Evidence, asked: BoolArray, support: FloatArray) -> FloatArray:
    """Where objects of like size and class are found, and this one is not."""
    labels = evidence.labels
    suspected = np.zeros(len(labels))
    order = np.flatnonzero(asked)
    order = order[np.argsort(labels.area[order], kind="stable")]
    if not len(order):
        return suspected
    sums, count = np.cumsum([0, *support[order]]), len(order)
    low = np.clip(np.arange(count) - _ALIKE // 2, 0, max(count - _ALIKE, 0))
    high = np.minimum(low + _ALIKE, count)
    usual = (sums[high] - sums[low]) / (high - low)
    own = np.bincount(labels.labels[order], support[order], len(labels.names))
    wanted = np.bincount(labels.labels[order], usual, len(labels.names))
    by_class = (own + _PRIOR * usual.mean()) / (wanted + _PRIOR * max(usual.mean(), 1e-12))
    expected = np.clip(usual * by_class[labels.labels[order]], 0, 1)
    suspected[order] = expected * np.clip(1 - support[order] / np.maximum(expected, 1e-12), 0, 1)
    return suspected


def _missing(evidence: Evidence, pairs: _Overlaps, partner: IntArray) -> FloatArray:
    """Neither what a label is compared with, nor what a better detection covers, is an object without a label."""
    covered = np.zeros(len(evidence.rows))
    np.maximum.at(covered, pairs.detection, pairs.iou)
    regions = ~evidence.labels.real[pairs.label]
    np.maximum.at(covered, pairs.detection[regions], _share_inside(evidence, pairs.only(regions)))
    chances = evidence.chances * (1 - covered)
    chances[partner[partner >= 0]] = 0
    ends = np.searchsorted(evidence.rows, np.arange(len(evidence.kept) + 1))
    for row in range(len(evidence.kept)):
        mine = np.arange(ends[row], ends[row + 1])
        mine = mine[np.argsort(-evidence.chances[mine], kind="stable")]
        ious = box_ious(evidence.boxes[mine], evidence.boxes[mine])
        hidden = np.zeros(len(mine), bool)
        for i in range(len(mine)):
            if not hidden[i]:
                hidden[i + 1 :] |= ious[i, i + 1 :] >= IOU
        chances[mine[hidden]] = 0
    return chances


def _share_inside(evidence: Evidence, pairs: _Overlaps) -> FloatArray:
    """(P,) share of each detection's own area inside a region."""
    label, found = evidence.labels.clipped[pairs.label], evidence.boxes[pairs.detection]
    sides = np.minimum(label[:, 2:], found[:, 2:]) - np.maximum(label[:, :2], found[:, :2])
    return sides.clip(min=0).prod(1) / np.maximum((found[:, 2:] - found[:, :2]).prod(1), 1e-12)

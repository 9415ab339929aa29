"""Which detection found which object where only objects of some size count, by COCO's rules."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gfocal.evaluation.ground_truth import BoolArray, FloatArray, IntArray
from gfocal.evaluation.matches import IOUS, MOST, Matches, near_objects, places_in_class
from gfocal.evaluation.thresholds.findings import Findings

AREAS: Mapping[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "s": (0.0, 32.0**2),
    "m": (32.0**2, 96.0**2),
    "l": (96.0**2, 1e10),
}
"""COCO's sizes of objects, pixels²; both ends belong to them."""


def match_in_areas(findings: Findings) -> dict[str, tuple[Matches, IntArray]]:
    """Matches at each of :data:`AREAS`, of the images that were kept, as if there were no others.

    An object of another size, a crowd or an ignored box is never missed, and a detection on it is neither right nor
    wrong; nor is one that found nothing and has another size itself.

    Returns:
        By area, the matches, and (D,) the place of each detection among those of its class in its image, 0 the best.
    """
    index = findings.index
    rank = np.argsort(np.argsort(index.image_ids, kind="stable"), kind="stable")
    order = np.lexsort((rank[findings.rows], -findings.scores))  # ties between images: by their ids, as COCO has it
    rows, labels = findings.rows[order], findings.labels[order]
    places = places_in_class(rows, labels, len(index.names))
    chosen = findings.kept[rows] & (places < MOST)
    order, rows, labels, places = order[chosen], rows[chosen], labels[chosen], places[chosen]
    boxes, scores = np.asarray(findings.boxes[order], np.float64), findings.scores[order]
    right, ignored = _match(findings, rows, labels, boxes)
    row = np.cumsum(findings.kept) - 1
    result = {}
    for number, area in enumerate(AREAS):
        objects = _objects(findings, AREAS[area])[findings.kept]
        unknown = np.full(len(rows), np.nan)
        own = Matches(row[rows], labels, right[number], ignored[number], objects, scores, unknown)
        result[area] = own, places
    return result


def _objects(findings: Findings, area: tuple[float, float]) -> IntArray:
    """(I, C) how many there are to find."""
    index = findings.index
    image_of = np.repeat(np.arange(len(index.image_ids)), np.diff(index.box_start))
    sizes = np.asarray(index.area, np.float64)
    counted = ~(np.asarray(index.crowd) | np.asarray(index.ignore)) & (sizes >= area[0]) & (sizes <= area[1])
    objects = np.zeros((len(index.image_ids), len(index.names)), np.int64)
    np.add.at(objects, (image_of[counted], np.asarray(index.labels)[counted].astype(np.int64)), 1)
    return objects


def _match(findings: Findings, rows: IntArray, labels: IntArray, boxes: FloatArray) -> tuple[BoolArray, BoolArray]:
    """(A, T, D) right and ignored."""
    index = findings.index
    limits = np.array(list(AREAS.values()))
    own_area = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(1)
    outside = (own_area < limits[:, :1]) | (own_area > limits[:, 1:])
    right = np.zeros((len(AREAS), len(IOUS), len(rows)), bool)
    ignored = np.repeat(outside[:, None], len(IOUS), 1)
    crowd = np.asarray(index.crowd) | np.asarray(index.ignore)
    sizes = np.asarray(index.area, np.float64)
    for mine, own, overlap in near_objects(index, rows, boxes, labels):
        other = crowd[own] | (sizes[own] < limits[:, :1]) | (sizes[own] > limits[:, 1:])
        found, on_other = _in_order(overlap, crowd[own], other)
        right[:, :, mine] = found
        ignored[:, :, mine] = (ignored[:, :, mine] & ~found) | on_other
    return right, ignored


def _in_order(overlap: FloatArray, crowd: BoolArray, other: BoolArray) -> tuple[BoolArray, BoolArray]:
    """(A, T, D) right, and on what does not count, of the detections of one image, best score first.

    Args:
        overlap: (D, G).
        crowd: (G,).
        other: (A, G) the object does not count at that area.
    """
    areas, steps, count = len(other), len(IOUS), overlap.shape[1]
    right = np.zeros((areas, steps, len(overlap)), bool)
    ignored = np.zeros_like(right)
    free = np.ones((areas, steps, count), bool)
    least = np.minimum(IOUS, 1 - 1e-10)[:, None]
    place = np.arange(count)[::-1]
    area, step = np.ogrid[:areas, :steps]
    for d, ious in enumerate(overlap):
        possible = (free | crowd) & (ious >= least)
        counted = possible & ~other[:, None]
        # What counts goes before what does not; of equal overlaps the last one, as in COCO's loop.
        value = np.where(counted, ious + 2, np.where(possible, ious, -1.0))
        best = place[value[..., ::-1].argmax(2)]
        found = counted[area, step, best]
        taken = possible[area, step, best]
        right[:, :, d], ignored[:, :, d] = found, taken & ~found
        free[area, step, best] &= ~taken
    return right, ignored

"""Where labels go: near their own box, over no other label, over as little of other boxes as can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rectangle = tuple[float, float, float, float]
Rectangles = NDArray[np.float64]

_LABELS = 4.0  # what covering a whole label costs; covering a whole box costs 1
_OWN = 0.5  # a label inside its own box hides some of it too
_LATER = 0.004  # for each place of the list that comes before


@dataclass(frozen=True)
class Placed:
    """Where a label goes.

    Attributes:
        place: xyxy in pixels of the image.
        shared: share of it, in [0, 1], that a label placed before covers, or the most that one of several does.
    """

    place: Rectangle
    shared: float


def place_labels(
    boxes: Sequence[Sequence[float]],
    labels: Sequence[tuple[int, tuple[float, float]]],
    image: tuple[int, int],
    *,
    line: float,
) -> list[Placed]:
    """A place for each label, the most important first.

    Of twelve places at its box each takes the one that covers least: of labels placed before, and of boxes, each
    measured by its own area, so that a corner of a large box is cheap and a whole small one is not.

    Args:
        boxes: N times xyxy in pixels of the image, those without a label too.
        labels: L times which box a label belongs to, and its (width, height).
        image: (width, height); labels lie inside as far as they fit.
        line: width of the boxes' lines.
    """
    all_boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    areas = np.maximum((all_boxes[:, 2:] - all_boxes[:, :2]).clip(min=0).prod(1), 1.0)
    taken, placed = np.zeros((len(labels), 4)), []
    for number, (box, (width, height)) in enumerate(labels):
        places = _candidates(all_boxes[box], width, height, line)
        room = np.maximum(np.array(image) - (width, height), 0)
        inside = np.concatenate([places.clip(0, room), places], 1)
        inside[:, 2:] = inside[:, :2] + (width, height)
        weights = 1 / areas
        weights[box] *= _OWN
        shared = _common(inside, taken[:number]) / max(width * height, 1)
        cost = _common(inside, all_boxes) @ weights + _LABELS * shared.sum(1) + _LATER * np.arange(len(places))
        best = int(cost.argmin())
        taken[number] = inside[best]
        x1, y1, x2, y2 = inside[best].tolist()
        placed.append(Placed((x1, y1, x2, y2), float(shared[best].max(initial=0.0))))
    return placed


def _candidates(box: NDArray[np.float64], width: float, height: float, line: float) -> Rectangles:
    """Corners of a label, the most usual place first: above, below, beside, then inside."""
    x1, y1, x2, y2 = box
    half = line / 2
    left, right, middle = x1 - half, x2 + half - width, (x1 + x2 - width) / 2
    above, below, centre = y1 - half - height, y2 + half, (y1 + y2 - height) / 2
    corners = [(left, above), (right, above), (left, below), (right, below), (middle, above), (middle, below)]
    corners += [(x2 + half, y) for y in (y1 - half, centre)] + [(x1 - half - width, y) for y in (y1 - half, centre)]
    corners += [(x1 + half, y1 + half), (x2 - half - width, y2 - half - height)]
    return np.array(corners)


def _common(some: Rectangles, others: Rectangles) -> Rectangles:
    """(A, B) areas that rectangles (A, 4) and (B, 4) have in common."""
    low = np.maximum(some[:, None, :2], others[None, :, :2])
    high = np.minimum(some[:, None, 2:], others[None, :, 2:])
    return (high - low).clip(min=0).prod(2)

"""Findings without a detector or a file."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from gfocal.evaluation import Findings

Box = tuple[float, float, float, float]


def findings(index: Any, found: tuple[np.ndarray, ...], kept: Sequence[bool] | None = None) -> Findings:
    """Of what :func:`helpers.made_detections.data_set` makes."""
    rows, boxes, scores, labels = found
    return Findings(index, rows, boxes, scores, labels, np.array(kept or [True] * len(index.image_ids), bool))


def by_hand(
    names: Sequence[str],
    images: Sequence[tuple[Sequence[tuple[Box, int]], Sequence[tuple[Box, int, float]]]],
    *,
    crowd: Sequence[int] = (),
    kept: Sequence[bool] | None = None,
) -> Findings:
    """From (objects, detections) an image: (box, class) each, (box, class, score) each; ``crowd``: rows of boxes."""
    objects = [thing for own, _ in images for thing in own]
    boxes = np.array([box for box, _ in objects], np.float64).reshape(-1, 4)
    index = SimpleNamespace(
        image_ids=np.arange(1, len(images) + 1),
        box_start=np.cumsum([0, *(len(own) for own, _ in images)]),
        boxes=boxes,
        labels=np.array([label for _, label in objects], np.int64),
        crowd=np.isin(np.arange(len(objects)), crowd),
        ignore=np.zeros(len(objects), bool),
        area=(boxes[:, 2:] - boxes[:, :2]).prod(1),
        names=tuple(names),
    )
    found = [(row, *one) for row, (_, own) in enumerate(images) for one in own]
    return findings(
        index,
        (
            np.array([row for row, *_ in found], np.int64),
            np.array([box for _, box, _, _ in found], np.float64).reshape(-1, 4),
            np.array([score for *_, score in found], np.float64),
            np.array([label for _, _, label, _ in found], np.int64),
        ),
        kept,
    )

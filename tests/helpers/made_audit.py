"""Labels and detections of an audit, written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gfocal.data.index.data_index import DataIndex
from gfocal.detections import Detections
from gfocal.evaluation.audit.evidence import Evidence
from gfocal.evaluation.audit.labels import Labels

Box = tuple[float, float, float, float]
NAMES = ("cat", "dog")
SIZE = (200, 100)


def made_labels(
    images: Sequence[Sequence[tuple[Box, int]]],
    *,
    crowd: Sequence[int] = (),
    ignore: Sequence[int] = (),
    names: tuple[str, ...] = NAMES,
    file_names: Sequence[str] | None = None,
    folder: Path = Path("nowhere"),
) -> DataIndex:
    """A data set of (box, class) an image, of 200 x 100 pixels each; ids of labels begin at 101."""
    things = [thing for own in images for thing in own]
    count = np.arange(len(things))
    return DataIndex.build(
        images_dir=folder,
        annotations=folder / "labels.json",
        image_ids=np.arange(1, len(images) + 1),
        file_names=file_names or [f"{i}.png" for i in range(len(images))],
        widths=[SIZE[0]] * len(images),
        heights=[SIZE[1]] * len(images),
        box_start=np.cumsum([0, *(len(own) for own in images)]),
        boxes=np.array([box for box, _ in things], np.float64).reshape(-1, 4),
        labels=np.array([label for _, label in things], np.int64),
        names=names,
        crowd=np.isin(count, crowd),
        ignore=np.isin(count, ignore),
        annotation_ids=count + 101,
    )


def made_evidence(
    labels: Labels,
    found: Mapping[int, Sequence[tuple[Box, int, float]]],
    *,
    half: float | None = 2.0,
    kept: Sequence[bool] | None = None,
) -> Evidence:
    """Of (box, class, chance) by row of the image; all edges have one half-width."""
    rows = [row for row in sorted(found) for _ in found[row]]
    things = [thing for row in sorted(found) for thing in found[row]]
    chances = np.array([chance for *_, chance in things], np.float64)
    return Evidence(
        labels=labels,
        kept=np.array(kept or [True] * len(labels.image_ids), bool),
        rows=np.array(rows, np.int64),
        boxes=np.array([box for box, *_ in things], np.float64).reshape(-1, 4),
        scores=chances,
        classes=np.array([label for _, label, _ in things], np.int64),
        chances=chances,
        half_widths=None if half is None else np.full((len(things), 4), half),
        level=0.9,
        intervals="by hand",
    )


def random_case(
    seed: int, images: int = 60, classes: int = 3, *, std: bool = True, noise: float = 0.03
) -> tuple[DataIndex, dict[int, Detections]]:
    """Labels, and detections of a detector that finds nine of ten and invents some; errors follow ``edge_std``."""
    random = np.random.default_rng(seed)
    names = tuple("abcdefgh"[:classes])
    labels: list[list[tuple[Box, int]]] = []
    found = {}
    for image in range(images):
        own: list[tuple[Box, int]] = []
        for x in range(int(random.integers(0, 5))):
            side = random.uniform(12, 36, 2)
            corner = np.array([40 * x, 0]) + random.uniform(0, [3, 60])
            box = tuple(np.concatenate([corner, corner + side]).tolist())
            own.append((box, int(random.integers(classes))))  # type: ignore[arg-type]
        labels.append(own)
        boxes = np.array([box for box, _ in own if random.random() < 0.9]).reshape(-1, 4)
        kinds = [next(label for known, label in own if known == tuple(box)) for box in boxes.tolist()]
        spread = noise * np.tile(boxes[:, 2:] - boxes[:, :2], 2) * random.uniform(0.5, 2, boxes.shape)
        extra = random.uniform(0, 60, (int(random.integers(0, 3)), 2))
        boxes = np.concatenate(
            [boxes + spread * random.normal(size=boxes.shape), np.tile(extra, 2) + np.array([0, 0, 20, 20])]
        )
        spread = np.concatenate([spread, np.full((len(extra), 4), 3.0)])
        scores = np.concatenate([random.uniform(0.5, 0.95, len(kinds)), random.uniform(0.05, 0.4, len(extra))])
        kinds += random.integers(0, classes, len(extra)).tolist()
        order = np.argsort(-scores)
        found[image + 1] = Detections(
            boxes=boxes[order],  # type: ignore[arg-type]
            scores=scores[order],  # type: ignore[arg-type]
            labels=np.array(kinds, np.int64)[order],  # type: ignore[arg-type]
            names=names,
            edge_std=spread[order] if std else None,  # type: ignore[arg-type]
            image_size=(SIZE[1], SIZE[0]),
        )
    return made_labels(labels, names=names), found

"""Calibrations, and data that a small detector finds the objects of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gfocal.calibration import Calibration, EdgeFeatures, EdgeSamples, ScoreSamples, fit_edges, fit_scores
from gfocal.calibration.scale import ScaleKind
from gfocal.detections import Detections
from gfocal.prediction.open import load


@dataclass(frozen=True)
class Reach:
    """What :class:`gfocal.detections.Calibrated` is: intervals of as many pixels to either side of every edge."""

    reach: float
    level: float = 0.9
    unfit: str = ""

    def used_with(self, *, tile: int | None = None) -> Reach:
        return self

    def resized_by(self, rule: Mapping[str, Any]) -> Reach:
        return self

    def edge_interval(self, found: Detections, level: float | None = None, *, whole_box: bool = False) -> np.ndarray:
        boxes = np.asarray(found.boxes, np.float64)
        return np.stack([boxes - self.reach, boxes + self.reach], -1)

    def chances(self, found: Detections) -> np.ndarray:
        return np.asarray(found.scores, np.float64)


RESIZE = {"kind": "square", "size": 64, "short_side": 800, "long_side": 1333, "fill": [0, 0, 0]}


def edge_samples(count: int = 300, seed: int = 0, names: tuple[str, ...] = ("cat", "dog")) -> EdgeSamples:
    """Boxes whose errors follow edge_std."""
    random = np.random.default_rng(seed)
    corner, sides = random.uniform(0, 300, (count, 2)), np.exp(random.normal(4, 0.6, (count, 2)))
    std = np.tile(sides, 2) * random.uniform(0.02, 0.3, (count, 4))
    features = EdgeFeatures(
        boxes=np.concatenate([corner, corner + sides], 1),
        edge_std=std,
        edge_probs=random.dirichlet(np.ones(8), (count, 4)),
        scores=random.uniform(0.05, 0.95, count),
        levels=random.integers(0, 3, count),
        image_size=np.tile([900.0, 800.0], (count, 1)),
    )
    errors = 0.3 * std * random.normal(size=std.shape)
    return EdgeSamples(features, errors, np.arange(count) // 3, random.integers(0, len(names), count), names)


def score_samples(count: int = 600, seed: int = 0) -> ScoreSamples:
    """A score of s is right with the chance s squared."""
    random = np.random.default_rng(seed)
    scores = random.uniform(0, 1, count)
    ious = np.where(random.random(count) < scores**2, random.uniform(0.5, 1, count), 0)
    return ScoreSamples(scores, ious, np.arange(count) // 10, random.integers(0, 2, count), np.full(count // 10, 5))


def calibration(kind: ScaleKind | None = None, **changes: Any) -> Calibration:
    """A calibration of those; of a kind of scale, or the best."""
    found = Calibration(
        edges=fit_edges(edge_samples(), kinds=None if kind is None else [kind]),
        scores=fit_scores(score_samples(), resamples=20),
        level=0.9,
        images=100,
        objects=400,
        data="0123456789abcdef",
        annotations="val.json",
        split="val",
        date="2026-01-02T03:04:05+00:00",
        resize=RESIZE,
        tile=None,
        gfocal="0",
    )
    return replace(found, **changes)


def data_for(
    model: Path, folder: Path, *, images: int = 24, seed: int = 0, spread: float = 0.04, pictures: int = 0
) -> Path:
    """Images, and objects near what a detector finds on them: edges are off by ``spread`` of a side.

    ``pictures``: seed of the images, so that two data sets may have the same ones.
    """
    random, detector = np.random.default_rng(seed), load(model)
    paint = np.random.default_rng(pictures)
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    entries, annotations = [], []
    for i in range(images):
        small = paint.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        file = folder / "images" / f"{i}.png"
        Image.fromarray(small).resize((128, 96), Image.Resampling.BICUBIC).save(file)
        entries.append({"id": i + 1, "file_name": file.name, "width": 128, "height": 96})
        found = detector.predict(file).numpy()
        wide = (found.boxes[:, 2:] - found.boxes[:, :2]).min(1) > 8
        for row in np.flatnonzero(wide)[:12]:
            box = found.boxes[row].astype(float)
            box += random.normal(size=4) * spread * np.tile(box[2:] - box[:2], 2)
            box = np.clip(box, 0, [128, 96, 128, 96])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": int(found.labels[row]) + 1,
                    "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
                }
            )
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(detector.names)]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "annotations" / "val.json").write_text(json.dumps(content))
    return folder

"""Tiles in numpy: the same detections as torch's part of gfocal makes of the same ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gfocal.detections import Detections
from gfocal.exported.tiles import find_in_tiles
from gfocal.images.tiling import Tiling
from gfocal.models import tiled_prediction
from helpers.calibrated import calibration


def finder(seed: int, most: int, *, extra: bool = True) -> Callable[[Sequence[np.ndarray]], list[Detections]]:
    """Boxes anywhere in an image, some over its borders, many nearly alike; the same for the same calls."""
    random = np.random.default_rng(seed)

    def find(images: Sequence[np.ndarray]) -> list[Detections]:
        found = []
        for image in images:
            height, width = image.shape[:2]
            count = int(random.integers(0, most + 1))
            centre = random.integers(0, 4, (count, 2)) * [width / 3, height / 3] + random.normal(0, 2, (count, 2))
            sides = random.choice([8.0, 30.0, 70.0, 140.0], (count, 2)) * random.uniform(0.9, 1.1, (count, 2))
            boxes = np.concatenate([centre - sides / 2, centre + sides / 2], 1)
            found.append(
                Detections(
                    boxes.clip(0, [width, height] * 2).astype(np.float32),
                    random.permutation(np.linspace(0.05, 0.95, max(count, 1)))[:count].astype(np.float32),
                    random.integers(0, 3, count),
                    ("a", "b", "c"),
                    random.uniform(0, 5, (count, 4)).astype(np.float32) if extra else None,
                    levels=random.integers(0, 3, count) if extra else None,
                )
            )
        return found

    return find


def by_torch(found: Callable[[Sequence[np.ndarray]], list[Detections]]) -> Callable[[Any], list[Any]]:
    def find(images: Any) -> list[Any]:
        arrays = [image.permute(1, 2, 0).numpy() for image in images]
        return [one.map(lambda values: torch.from_numpy(np.ascontiguousarray(values))) for one in found(arrays)]

    return find


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize(
    ("tiling", "size"),
    [
        (Tiling(96, 0.3), (200, 310)),
        (Tiling(96, 0.0, whole=False), (200, 310)),
        (Tiling(64, 0.5), (64, 500)),
        (Tiling(400), (200, 310)),
        (Tiling(150, 0.2), (1, 700)),
    ],
)
def test_what_torch_makes_of_them(tiling: Tiling, size: tuple[int, int], batch_size: int, agnostic: bool) -> None:
    options: dict[str, Any] = {"nms_iou": 0.6, "class_agnostic": agnostic, "batch_size": batch_size}
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    many = 0
    for seed in range(4):
        one = find_in_tiles(image, tiling, finder(seed, 40), **options)
        other = tiled_prediction.find_in_tiles(pixels, tiling, by_torch(finder(seed, 40)), **options).numpy()
        for name in ("boxes", "scores", "labels", "edge_std", "levels"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert one.image_size == other.image_size
        assert one.names == other.names
        many += len(one)
    assert many > 4


def test_tiles_are_what_the_image_shows_there() -> None:
    seen: list[np.ndarray] = []

    def find(images: Sequence[np.ndarray]) -> list[Detections]:
        seen.extend(images)
        return finder(0, 0)(images)

    image = np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8)
    tiling = Tiling(64, 0.25)
    assert len(find_in_tiles(image, tiling, find, nms_iou=0.5, class_agnostic=False, batch_size=2)) == 0
    for part, (x1, y1, x2, y2) in zip(seen, tiling.windows(100, 150).tolist(), strict=True):
        np.testing.assert_array_equal(part, image[y1:y2, x1:x2])


def test_what_only_some_parts_have_is_left_out() -> None:
    turns = iter([True, False] * 100)

    def find(images: Sequence[np.ndarray]) -> list[Detections]:
        return finder(1, 10, extra=next(turns))(images)

    image = np.zeros((100, 150, 3), np.uint8)
    found = find_in_tiles(image, Tiling(64), find, nms_iou=0.5, class_agnostic=False, batch_size=1)
    assert len(found) > 0
    assert found.edge_std is None
    assert found.levels is None


def test_a_calibration_knows_that_there_were_tiles() -> None:
    def find(images: Sequence[np.ndarray]) -> list[Detections]:
        return [replace(one, calibration=calibration()) for one in finder(1, 10)(images)]

    image = np.zeros((100, 150, 3), np.uint8)
    for side in (64, 400):
        found = find_in_tiles(image, Tiling(side), find, nms_iou=0.5, class_agnostic=False, batch_size=1)
        assert found.calibration == calibration().used_with(tile=side)

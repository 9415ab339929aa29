"""From files to batches on one core."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gfocal.data.augment.mosaic import Mosaic
from gfocal.data.augment.transforms import EvalTransform, TrainTransform
from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.data.loading.loader import DetectionDataset, collate
from gfocal.data.scenes.generate import make_scenes
from gfocal.images.io import Resize
from gfocal.models import PixelNorm
from gfocal.structures import Batch
from harness import Candidate, Row, compare

BATCH, SOURCE, SIDE = 16, 640, 320
MEAN, STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)


def float_pipeline(index: DataIndex) -> Tensor:
    """Pillow, then float32 from there on: what many training scripts do; (16, 3, 320, 320) normalised BGR."""
    images = []
    for i in range(BATCH):
        with Image.open(index.path(i)) as opened:
            resized = opened.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        array = np.asarray(resized, np.float32)[:, :, ::-1]
        array = (array - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        images.append(torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1))))
    return torch.stack(images)


def batch_of(dataset: DetectionDataset) -> Batch:
    batch = collate([dataset[(i, 0, i)] for i in range(BATCH)])
    assert isinstance(batch, Batch)
    return batch


def rows(repeats: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "scenes"
        make_scenes(data, train=BATCH, val=1, size=SOURCE)
        index = open_dataset(data, "train")
        resize, norm = Resize("square", SIDE), PixelNorm(MEAN, STD, "bgr")
        plain = DetectionDataset(index, EvalTransform(resize), seed=0)
        full = DetectionDataset(index, TrainTransform(resize, flip=0.5, photometric=0.5, scale=(0.6, 1.4)), seed=0)
        mosaics = DetectionDataset(index, full.transform, seed=0, mosaic=Mosaic(1.0, epochs=1))
        timed: dict[str, tuple[Callable[[], Tensor], bool]] = {
            "Pillow, float32, normalised in the loader": (lambda: float_pipeline(index), False),
            "gfocal, uint8, and PixelNorm": (lambda: norm(batch_of(plain).images), True),
            "gfocal with gfl_nano's augmentation, and PixelNorm": (lambda: norm(batch_of(full).images), True),
            "gfocal, mosaics only, and PixelNorm": (lambda: norm(batch_of(mosaics).images), True),
        }
        # Two ways to decode and to resize: not the same bits.
        difference = float((timed["gfocal, uint8, and PixelNorm"][0]() - float_pipeline(index)).abs().mean())
        candidates = [
            Candidate(
                name,
                call,
                ours,
                f"mean difference {difference:.1e} of a std" if name.endswith("uint8, and PixelNorm") else "",
            )
            for name, (call, ours) in timed.items()
        ]
        case = f"{BATCH} JPEG pictures {SOURCE} x {SOURCE} to a float batch of {SIDE} x {SIDE}"
        found = compare(case, candidates, repeats=repeats)
    for row in found:
        row.more["pictures/s"] = f"{1e3 * BATCH / row.ms:.0f}"
    return found

"""gfl_nano's training: the network alone, the whole step, and the whole pipeline; wall-clock time, all cores."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from gfocal.data.augment.transforms import EvalTransform
from gfocal.data.formats.open import open_dataset
from gfocal.data.loading.loader import DetectionDataset, collate
from gfocal.data.scenes.generate import make_scenes
from gfocal.recipe import load_recipe
from gfocal.structures import Batch
from gfocal.training.optimizer import make_optimizer
from gfocal.training.train import train
from gfocal.utils.allocation import kept_memory
from gfocal.zoo import build_detector
from harness import Candidate, Row, compare

BATCH = 32


def rows(repeats: int) -> list[Row]:
    batches = 3 * repeats
    recipe = load_recipe("gfl_nano", ["schedule.epochs=1", "schedule.warmup_steps=0", f"schedule.batch_size={BATCH}"])
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "scenes"
        make_scenes(data, train=BATCH * batches, val=1, size=320)
        index = open_dataset(data, "train")
        detector = build_detector(recipe, index.names).to(memory_format=torch.channels_last).train()
        optimizer = make_optimizer(detector, recipe.optim)
        dataset = DetectionDataset(index, EvalTransform(detector.resize), seed=0)
        batch = collate([dataset[(i, 0, i)] for i in range(BATCH)])
        assert isinstance(batch, Batch)
        images, targets = batch.images, batch.targets

        def network() -> None:
            detector.zero_grad()
            out = detector(images)
            (out.class_logits.mean() + out.box.mean()).backward()

        def step() -> None:
            optimizer.zero_grad()
            out = detector(images)
            losses = detector.losses(out, detector.assign_batch(images, targets, out), (320, 320))
            sum(losses.values()).backward()  # type: ignore[union-attr]
            optimizer.step()

        case = f"gfl_nano, batches of {BATCH} at 320 x 320, fp32, {torch.get_num_threads()} threads"
        candidates = [
            Candidate("forward and backward alone", network),
            Candidate("with assignment, losses, optimizer", step, True),
        ]
        with kept_memory():  # as in training
            found = compare(case, candidates, repeats=repeats, warmup=1, clock=time.perf_counter)
        done = train(recipe, index, None, Path(folder) / "run", progress=False)
        spent = 1e3 * BATCH / done.images_per_second
        whole = "gfocal train: reading, augmentation, averaged weights too"
        found.append(Row(case, whole, spent, 0.0, found[0].ms / spent, True, f"mean of {done.steps} steps"))
    for row in found:
        row.more["pictures/s"] = f"{1e3 * BATCH / row.ms:.1f}"
    return found

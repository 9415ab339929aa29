"""Training steps of the small networks beside gfl_nano: with and without an assistant, and what each part takes.

    OMP_NUM_THREADS=1 python benchmarks/small.py --sizes 192 320

One core, processor time, interleaved in one process; a step is forward and backward pass, assignment, losses, optimizer
and averaged weights, on 16 generated scenes. Prints a table and writes benchmarks/results/small.json.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

import harness
from gfocal.data.augment.transforms import EvalTransform
from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.data.loading.loader import DetectionDataset, collate
from gfocal.data.scenes.generate import make_scenes
from gfocal.recipe import load_recipe
from gfocal.runtime.layout import in_layout
from gfocal.structures import Batch
from gfocal.training.optimizer import AveragedWeights, make_optimizer
from gfocal.training.step import make_accelerator, optimizer_step
from gfocal.utils.allocation import kept_memory
from gfocal.zoo import add_assistant, build_detector

RESULTS = Path(__file__).parent / "results" / "small.json"
BATCH = 16
AGM, NONE = "model.assistant.kind=agm", "model.assistant.kind=none"
PLUS = ["model.assigner.static_epochs=0"]  # the assigner of all later epochs from the first step on
BASELINE = "gfl_nano"
CANDIDATES: dict[str, tuple[str, list[str]]] = {
    BASELINE: ("gfl_nano", []),
    "nanodet_plus_m, no assistant": ("nanodet_plus_m", [*PLUS, NONE]),
    "nanodet_plus_m, agm": ("nanodet_plus_m", [*PLUS, AGM]),
    "nanodet_plus_m, agm, detached": ("nanodet_plus_m", [*PLUS, AGM, "model.assistant.detach_after=0"]),
    "nanodet_plus_m, assigned by atss": ("nanodet_plus_m", [*PLUS, NONE, "model.assigner.kind=atss"]),
    "gfl_nano on nanodet_plus_m's head": ("gfl_nano", ["model.head=depthwise_5x5"]),
    "picodet_s": ("picodet_s", []),
}


def step_of(recipe_name: str, overrides: list[str], size: int, index: DataIndex) -> Callable[[], object]:
    """A function that takes a training step."""
    recipe = load_recipe(recipe_name, [f"data.resize.size={size}", *overrides])
    torch.manual_seed(0)
    detector = build_detector(recipe, index.names)
    add_assistant(detector, recipe)
    detector = in_layout(detector, channels_last=True)
    accelerator = make_accelerator("fp32")
    model, optimizer = accelerator.prepare(detector, make_optimizer(detector, recipe.optim))
    average = AveragedWeights(detector, recipe.schedule.ema)
    dataset = DetectionDataset(index, EvalTransform(detector.resize), seed=0)
    batch = collate([dataset[(i, 0, i)] for i in range(BATCH)])
    assert isinstance(batch, Batch)

    def step() -> None:
        optimizer_step(detector, model, optimizer, accelerator, [batch], lr=1e-4, clip_norm=35)
        average.update(detector)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[192, 320], help="pixels")
    parser.add_argument("--repeats", type=int, default=9, help="rounds")
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES), metavar="NAME")
    options = parser.parse_args()
    torch.set_num_threads(1)
    harness.pin()
    about, rows = harness.machine(), []
    with tempfile.TemporaryDirectory() as folder:
        make_scenes(Path(folder) / "scenes", train=BATCH, val=1, size=320)
        index = open_dataset(Path(folder) / "scenes", "train")
        for size in options.sizes:
            names = [BASELINE, *(name for name in options.only if name != BASELINE)]
            candidates = [
                harness.Candidate(name, step_of(*CANDIDATES[name], size, index), name != BASELINE) for name in names
            ]
            case = f"{BATCH} images of {size} x {size}, fp32, channels last, one thread"
            with kept_memory():  # as in training
                rows += harness.compare(case, candidates, repeats=options.repeats)
    for row in rows:
        row.more["images_per_second"] = round(1000 * BATCH / row.ms, 1)
    print(harness.table(rows))
    RESULTS.write_text(harness.dumps({"machine": about, "rows": [asdict(row) for row in rows]}), encoding="utf-8")


if __name__ == "__main__":
    main()

"""How long a step, a validation and a saved state of a run take here: measured before it begins, on a copy."""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import mean

import numpy as np
import torch

from gfocal.data.index.data_index import DataIndex
from gfocal.data.pipeline import batches_from, images_per_epoch
from gfocal.detector import DenseDetector
from gfocal.errors import GfocalError
from gfocal.evaluation.evaluator import evaluate, measured_by
from gfocal.recipe import Recipe
from gfocal.runs.checkpoint import save_state
from gfocal.runtime.distributed import Processes
from gfocal.runtime.layout import in_layout
from gfocal.structures import Batch
from gfocal.training.optimizer import AveragedWeights, make_optimizer
from gfocal.training.step import make_accelerator, optimizer_step
from gfocal.training.step_plan import StepPlan

_STEPS = 10  # that count
_LEAST_STEPS = 3


@dataclass(frozen=True)
class Pace:
    """Seconds that the parts of a run take; of several processes those of the slowest.

    Attributes:
        step: an optimizer step, and the wait for its images.
        validation: a whole validation; 0 where there is none.
        saving: a saved state.
        steps: how many steps were measured.
    """

    step: float
    validation: float
    saving: float
    steps: int


def measure_pace(
    recipe: Recipe,
    detector: DenseDetector,
    train_index: DataIndex,
    val_index: DataIndex | None,
    *,
    out: Path,
    limit: float,
    processes: Processes,
    skip_broken: bool = False,
) -> Pace:
    """Take steps with the run's own images, measure a part of the validation, and save a state that is removed again.

    Neither the detector nor any random number changes.

    Args:
        recipe: of the run, its layout chosen.
        detector: that will be trained; a copy of it takes the steps.
        train_index: see :func:`gfocal.data.pipeline.in_tiles`.
        val_index: what the run is measured on, or None.
        out: the run folder, which may not be there yet.
        limit: seconds after which the steps and the validation each go no further than they must.
        processes: that train together.
        skip_broken: put the next readable image in the place of a broken one.
    """
    with torch.random.fork_rng():
        own = in_layout(copy.deepcopy(detector), recipe.runtime.channels_last)
        accelerator = make_accelerator(recipe.runtime.precision)
        model, optimizer = accelerator.prepare(own, make_optimizer(own, recipe.optim))
        average = AveragedWeights(own, recipe.schedule.ema) if recipe.schedule.ema else None

        def step(batches: list[Batch]) -> None:
            # A learning rate of 0: what it learns is not wanted, and must not end in numbers that are none.
            clip = recipe.optim.clip_norm
            optimizer_step(own, model, optimizer, accelerator, batches, lr=0.0, clip_norm=clip, processes=processes)
            if average is not None:
                average.update(own)

        taken = _step_times(recipe, own, train_index, step, limit, processes, skip_broken)
        state = {"model": own.state_dict(), "optimizer": optimizer.state_dict()}
        saving = _saving(state | ({"average": average.state_dict()} if average else {}), out) if processes.main else 0.0
        validation = 0.0 if val_index is None else _validation(recipe, own, val_index, limit, processes, skip_broken)
        accelerator.free_memory()
    parts = (usual(taken, _ahead(recipe)), validation, saving)
    step_time, validation, saving = (max(each) for each in zip(*processes.gather(parts), strict=True))
    return Pace(step_time, validation, saving, len(taken))


def _step_times(
    recipe: Recipe,
    detector: DenseDetector,
    index: DataIndex,
    step: Callable[[list[Batch]], None],
    limit: float,
    processes: Processes,
    skip_broken: bool,
) -> list[float]:
    """Seconds of the first steps, each with the wait for its images; as many in all processes."""
    plan = StepPlan.of(recipe.schedule, images_per_epoch(recipe, index), processes.count)
    most = _ahead(recipe) + _STEPS
    longer = recipe.schedule.model_copy(update={"epochs": math.ceil(most / plan.an_epoch)})
    share = {"rank": processes.rank, "processes": processes.count}
    endless = recipe.model_copy(update={"schedule": longer})
    batches = iter(batches_from(endless, index, detector.resize, 0, plan.an_epoch, skip_broken, **share))
    taken: list[float] = []
    started = time.perf_counter()
    while len(taken) < most:
        begin = time.perf_counter()
        step(list(islice(batches, recipe.schedule.accumulate)))
        taken.append(time.perf_counter() - begin)
        if processes.any(len(taken) >= _LEAST_STEPS and time.perf_counter() - started > limit):
            break
    return taken  # its worker processes end with the loader


def usual(taken: list[float], ahead: int) -> float:
    """Seconds of a step in the long run, from those of the first ones.

    The first ``ahead`` are left out, or as many of them as leave two: in them kernels are chosen, and images were read
    ahead. Of the others the mean without the slowest and the quickest; sizes may differ from step to step.
    """
    kept = sorted(taken[min(ahead, max(len(taken) - 2, 0)) :])
    return mean(kept[1:-1] if len(kept) > 4 else kept)


def _ahead(recipe: Recipe) -> int:
    """Steps whose images the loader's workers read while the first one is taken, and the first one."""
    return 1 + min(-(-2 * recipe.data.workers // recipe.schedule.accumulate), 6)


def _validation(
    recipe: Recipe,
    detector: DenseDetector,
    val_index: DataIndex,
    limit: float,
    processes: Processes,
    skip_broken: bool,
) -> float:
    """Seconds of a whole validation: by what a few images take, and what more of them add."""
    whole = len(val_index)

    def seconds(count: int) -> float:
        begin = time.perf_counter()
        evaluate(
            detector,
            val_index.take(np.linspace(0, whole - 1, count).round().astype(int)),  # from everywhere
            batch_size=recipe.schedule.batch_size,
            skip_broken=skip_broken,
            processes=processes,
            **measured_by(recipe, detector),
        )
        return time.perf_counter() - begin

    few = min(whole, recipe.schedule.batch_size * processes.count)
    first = seconds(few)
    more = min(whole, 4 * few)
    if more == few:
        return first
    if processes.any(4 * first > max(limit, 2.0)):
        return first / few * whole
    second = seconds(more)
    each = max((second - first) / (more - few), 0.25 * second / more)
    return second + each * (whole - more)


def _saving(state: dict[str, object], out: Path) -> float:
    """Seconds to write a state where the run will be; 0 where that cannot be: the run itself will say why."""
    there = next((folder for folder in (out, *out.parents) if folder.is_dir()), Path())
    with suppress(OSError, GfocalError), tempfile.TemporaryDirectory(dir=there, prefix=".gfocal-") as folder:
        begin = time.perf_counter()
        save_state(Path(folder) / "state.pt", state)
        return time.perf_counter() - begin
    return 0.0

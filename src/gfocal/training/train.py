"""From a recipe and data to a trained, measured detector in a run folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from gfocal.catalogue.resolve import model_path, planned_path
from gfocal.data.index.data_index import DataIndex
from gfocal.data.pipeline import in_tiles, with_used_classes
from gfocal.data.split import HeldOut
from gfocal.detector import DenseDetector
from gfocal.errors import GfocalError, UsageError
from gfocal.recipe import Recipe
from gfocal.runs.checkpoint import STATE
from gfocal.runs.folder import Run, SavedRun, TrainResult
from gfocal.runs.initial_weights import check_same_start, check_start, start_weights
from gfocal.runs.replacement import check_unused
from gfocal.runs.transfer import PARTS
from gfocal.runtime.determinism import deterministic, no_deterministic_form
from gfocal.runtime.distributed import Processes, processes_of, synchronise_batch_norm
from gfocal.runtime.failures import explained_failures
from gfocal.runtime.layout import in_layout
from gfocal.runtime.memory import out_of_memory
from gfocal.training.early_stopping import check_patience
from gfocal.training.fitting.choices import Choices, Machine, choose, chosen_before, full_plan
from gfocal.training.norm_statistics import complete_norms
from gfocal.training.step import make_accelerator
from gfocal.training.trainer import Trainer
from gfocal.utils.allocation import kept_memory
from gfocal.utils.locks import locked_folder
from gfocal.zoo import add_assistant, build_detector


def train(
    recipe: Recipe | Choices,
    train_index: DataIndex,
    val_index: DataIndex | None,
    out: str | Path,
    *,
    resume: bool = False,
    init: str | Path | None = None,
    init_parts: Sequence[str] = PARTS,
    skip_broken: bool = False,
    progress: bool = True,
    held_out: HeldOut | None = None,
    plots: bool = True,
) -> TrainResult:
    """Train a detector into the folder ``out``.

    Args:
        recipe: everything that decides the run; :class:`~gfocal.training.fitting.choices.Choices` where somebody has
            measured already, so that nothing is chosen here.
        train_index: what it learns from; where the recipe has ``data.tile``, it is cut into tiles here.
        val_index: what it is measured on, or None.
        out: run folder; made here. Without ``resume`` it must not hold a run.
        resume: go on from ``out``'s saved state.
        init: run folder, checkpoint or name (see :func:`gfocal.load`) whose weights it starts from; class outputs of
            other class names start new. With ``resume`` it must be where the run began.
        init_parts: which of backbone, neck and head take weights from ``init``.
        skip_broken: put the next readable image in the place of a broken one, and list them.
        progress: show a bar on standard error.
        held_out: what was set apart from the data to measure on, for run.json.
        plots: at the end draw ``curves.png``, and into the folder ``evaluation`` what the best weights find, see
            :func:`gfocal.evaluation.write_evaluation`.

    Raises:
        UsageError: for what cannot be trained: no images, fp16 on a CPU, a state of another recipe, a frozen
            backbone of random values; or another process writes into the folder.
        GfocalError: a loss that is not finite.
    """
    started, out, notes = time.perf_counter(), Path(out), []
    recipe, before = (recipe.recipe, recipe) if isinstance(recipe, Choices) else (recipe, None)
    if resume and init is not None:  # as in the command that is repeated
        notes, init = [check_same_start(out, planned_path(init), init_parts)], None
    if not resume and init is None:
        check_start(recipe.model)
    before = chosen_before(recipe, SavedRun.load(out / STATE)) if resume else before
    recipe = recipe if before is None else before.recipe
    _check_data(recipe, train_index, val_index)
    if recipe.runtime.threads:
        torch.set_num_threads(recipe.runtime.threads)
    accelerator = make_accelerator(recipe.runtime.precision)
    torch.manual_seed(recipe.runtime.seed)
    train_index, val_index = with_used_classes(recipe, train_index, val_index)
    train_index = in_tiles(recipe, train_index)
    detector = build_detector(recipe, train_index.names, pretrained=not resume and init is None)
    start = start_weights(detector, recipe, model_path(init), init_parts) if init is not None else None
    processes = processes_of(accelerator)
    careful = partial(_careful, recipe, detector, processes, out / STATE)
    with _held(out, processes), kept_memory(accelerator.device.type == "cpu"):  # before the long work
        if start is not None:
            with careful():
                found = complete_norms(detector, recipe, train_index, accelerator.device, skip_broken=skip_broken)
            start = replace(start, statistics=found)
        add_assistant(detector, recipe)
        if before is None:
            say = _standard_error if progress and processes.main else None
            machine = Machine(accelerator.device, processes, started, skip_broken, say)
            before = _choose(recipe, detector, train_index, val_index, out, machine, careful)
            accelerator = make_accelerator(recipe.runtime.precision)  # what was measured went through the other one
        recipe = before.recipe
        detector = in_layout(detector, recipe.runtime.channels_last)
        run = Run(out, recipe, train_index, val_index, processes=processes, held_out=held_out, asked=before.asked)
        if recipe.runtime.sync_batch_norm:
            synchronise_batch_norm(detector, processes)
        trainer = Trainer(run, detector, accelerator, skip_broken=skip_broken, progress=progress, plots=plots)
        with careful():
            return trainer.run_all(resume=resume, start=start, notes=notes)


@contextmanager
def _held(out: Path, processes: Processes) -> Iterator[None]:
    """Hold the run folder for all processes; where another command has it, all of them are refused."""
    error = None
    with ExitStack() as stack:
        if processes.main:
            try:
                stack.enter_context(locked_folder(out))
            except GfocalError as problem:
                error = problem
        processes.raise_from_main(error)
        yield


def _choose(
    recipe: Recipe,
    detector: DenseDetector,
    train_index: DataIndex,
    val_index: DataIndex | None,
    out: Path,
    machine: Machine,
    careful: Callable[[], AbstractContextManager[None]],
) -> Choices:
    check_unused(out)
    plan = full_plan(recipe, train_index, machine.processes)
    with careful():
        return choose(recipe, detector, train_index, val_index, plan=plan, out=out, machine=machine)


@contextmanager
def _careful(recipe: Recipe, detector: DenseDetector, processes: Processes, state: Path) -> Iterator[None]:
    """Steps inside are deterministic where the recipe says so, and what goes wrong is explained."""
    oom = partial(out_of_memory, recipe=recipe, detector=detector, saved=state)
    strict = deterministic(recipe.runtime.deterministic)
    with strict, processes.own_errors(), explained_failures(oom, no_deterministic_form):
        yield


def _check_data(recipe: Recipe, train_index: DataIndex, val_index: DataIndex | None) -> None:
    """Refuse data that nothing can be learnt from, or not as the recipe says."""
    check_patience(recipe.schedule.patience, val_index)
    if len(train_index) == 0:
        raise UsageError(f"{train_index.annotations} lists no pictures: there is nothing to train on")


def _standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

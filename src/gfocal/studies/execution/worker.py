"""One run of a study in a process of its own: ``python -m gfocal.studies.execution.worker FOLDER RUNNER``.

A run that is killed takes nothing else with it, and its memory comes back whole. The folder holds ``job.json``, which
the runner wrote; at the end it holds what :mod:`gfocal.studies.execution.run_metrics` reads.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from gfocal.data.index.data_index import DataIndex
from gfocal.errors import GfocalError, UsageError
from gfocal.evaluation import Matches
from gfocal.evaluation.evaluator import evaluate, measured_by
from gfocal.evaluation.positives import Positives, find_positives
from gfocal.prediction.load import open_model, usual_batch
from gfocal.recipe import Recipe, build_recipe
from gfocal.recipe.values import with_values
from gfocal.runs.card import CARD
from gfocal.runs.checkpoint import BEST, LAST, STATE, kept_weights
from gfocal.runtime.environment import host, versions
from gfocal.studies.execution.plan import measured_steps, open_study_data
from gfocal.studies.execution.run_metrics import (
    AT,
    MEASURED,
    FirstWeights,
    Measurement,
    RunFacts,
    at_step,
    summarize_positives,
    write_measured,
)
from gfocal.training.train import train
from gfocal.utils.locks import locked_folder
from gfocal.utils.records import from_json, named, to_json
from gfocal.utils.signals import Stopped, exit_code
from gfocal.utils.text import visible

JOB = "job.json"
METRICS = "metrics.jsonl"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Job:
    """What a run is, in ``job.json``.

    Attributes:
        recipe: all of it, as JSON.
        base: name of the recipe that it changes.
        changes: the row's overrides.
        rows: (table, row key) of all rows that it stands for.
        data: the data set.
        val: other data to measure on; None for the val split.
        start: the file of its first weights.
        start_from: what those are.
        images_dir: the folder of the images; None for near the annotations.
    """

    recipe: dict[str, Any]
    base: str
    changes: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    data: str
    val: str | None
    start: str
    start_from: FirstWeights
    images_dir: str | None = None


def main() -> None:
    """Do the run of the folder that is named; one line on standard error and 1 or 2 where it fails."""
    folder = Path(sys.argv[1])
    _end_with(int(sys.argv[2]))
    try:
        with locked_folder(folder, wait=True):  # for one whose runner is gone, until it has noticed
            do_run(folder)
    except KeyboardInterrupt as error:
        sys.exit(exit_code(error))
    except GfocalError as error:
        # Nothing before it: the last line of the log is the reason that the runner tells.
        print(visible(" ".join(str(error).split())), file=sys.stderr, flush=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)


def do_run(folder: Path) -> None:
    """Train from where it stopped, or from the start; measure; write the results."""
    if (folder / MEASURED).is_file():
        return
    job = from_json(Job, json.loads((folder / JOB).read_text(encoding="utf-8")))
    recipe = build_recipe(job.recipe, (), str(folder / JOB))
    val, images_dir = (None if path is None else Path(path) for path in (job.val, job.images_dir))
    data = open_study_data(Path(job.data), val, images_dir=images_dir)
    train_index, val_index = data.of_run(recipe)
    # Training does not see what is measured on, and would leave out the classes that only those images have.
    settled = with_values(recipe, {"data.drop_empty_classes": False})
    resume = (folder / STATE).is_file()
    if not resume:  # cut off before the first state: nothing to go on with
        for name in (BEST, LAST, METRICS, CARD):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / AT, ignore_errors=True)
    start = None if resume else Path(job.start)
    result = train(settled, train_index, None, folder, resume=resume, init=start, progress=False, plots=False)
    if result.interrupted:
        raise Stopped(result.signal or signal.SIGINT)
    begin = time.perf_counter()
    *before, _ = measured_steps(recipe, result.steps)
    for step in before:
        if not (at_step(folder, step) / MEASURED).is_file():
            measurement, matches, positives = _measured(kept_weights(folder, step), recipe, val_index)
            write_measured(at_step(folder, step), measurement, matches, positives)
    measurement, matches, positives = _measured(folder / LAST, recipe, val_index)
    last, epoch = _last_line(folder, "train", _Step), _last_line(folder, "epoch", _Epoch)
    images = last.step * recipe.schedule.batch_size * recipe.schedule.accumulate
    facts = RunFacts(
        seed=recipe.runtime.seed,
        measurement=measurement,
        steps=last.step,
        images_per_second=last.images_per_second,
        train_seconds=round(images / last.images_per_second, 2),  # all, however often it was cut off, at the last rate
        truncated_share=epoch.truncated_share,
        missed_share=epoch.missed_share,
        measure_seconds=round(time.perf_counter() - begin, 2),
        data=data.fingerprint,
        versions=versions(),
        host=to_json(host()),
        start=job.start_from,
    )
    write_measured(folder, facts, matches, positives)
    for file in (folder / STATE, folder / BEST, *(kept_weights(folder, step) for step in recipe.schedule.keep_steps)):
        file.unlink(missing_ok=True)  # what only a continuation needs


def _measured(weights: Path, recipe: Recipe, index: DataIndex) -> tuple[Measurement, Matches, Positives | None]:
    """What weights come to: the metrics, which detection found which object, and the positives of whole images."""
    detector, _, _ = open_model(str(weights), ())
    batch, how = usual_batch(recipe), measured_by(recipe, detector)
    measured = evaluate(detector, index, batch_size=batch, keep_matches=True, **how)
    assert measured.matches is not None
    positives = None
    if detector.tiling is None:  # of tiles nothing is learnt as whole images are
        positives = find_positives(detector, index, batch_size=batch, **how)
    return Measurement(measured, summarize_positives(positives)), measured.matches, positives


@dataclass(frozen=True)
class _Step:
    step: int
    images_per_second: float = field(metadata=named("pictures_per_second"))


@dataclass(frozen=True)
class _Epoch:
    truncated_share: float
    missed_share: float


def _last_line(folder: Path, what: str, kind: type[_T]) -> _T:
    """What the log of the training says last, of its steps or of its epochs."""
    lines = map(json.loads, (folder / METRICS).read_text(encoding="utf-8").splitlines())
    *_, last = (line for line in lines if line["kind"] == what)
    return from_json(kind, last)


def _end_with(parent: int) -> None:
    """End when the runner is gone: a run that nobody waits for would go on beside the one that takes its place.

    ``parent`` is told and not asked for: by the time that all is imported the runner may be gone.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    if hasattr(os, "getppid") and os.name == "posix":
        threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    torch.set_num_interop_threads(1)
    main()

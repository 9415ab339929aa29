"""What a study would do: its runs, what each changes, and how long they may take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from gfocal.engine.casting import autocast, real_precision
from gfocal.engine.memory import largest_size, synthetic_loss
from gfocal.engine.run import flat
from gfocal.engine.show import counted
from gfocal.errors import GfocalError
from gfocal.recipe import Recipe, load_recipe
from gfocal.studies.measured import read_measured
from gfocal.studies.plan import RunPlan
from gfocal.studies.runner import RUNS, is_done, steps_done, threads_a_run
from gfocal.studies.study import Study
from gfocal.zoo import build_detector

_MEASURING = 0.35  # of a training step's time for a picture, a picture that is measured takes


def dry_run(study: Study) -> dict[str, Any]:
    """Every run, what its recipe changes, what is left of it, and how long that may take on this machine.

    The pace of a detector is that of its runs that are done; of one without, that of a training step measured now, on
    pictures of the size of the run's, reading not included.
    """
    out, runs = study.settings.out, study.plan.runs
    left = {run.name: run.steps - steps_done(out, run) for run in runs}
    paces = {run.base: seconds for run in study.related if (seconds := _pace_of_done(out, run)) is not None}
    entries = []
    for run in runs:
        if left[run.name] and run.base not in paces:
            paces[run.base] = seconds_a_picture(run.recipe, study.data.train.names, threads_a_run(study.jobs))
        measured = 0 if is_done(out, run) else len(study.data.val_index) * _MEASURING
        pictures = left[run.name] * run.pictures / run.steps + measured
        entries.append({**_described(run, study), "hours": pictures * paces.get(run.base, 0.0) / 3600})
    hours = sum(entry["hours"] for entry in entries)
    return {"runs": entries, "hours": hours / study.jobs, "jobs": study.jobs, "seconds_a_picture": paces}


def _pace_of_done(out: Path, run: RunPlan) -> float | None:
    """Seconds a picture of a finished run; None of one that is not, or whose results cannot be read."""
    with suppress(GfocalError):
        measured = read_measured(out / RUNS / run.name)
        return None if measured is None else float(measured.facts["train_seconds"]) / run.pictures
    return None


def _described(run: RunPlan, study: Study) -> dict[str, Any]:
    done = steps_done(study.settings.out, run)
    state = "done" if is_done(study.settings.out, run) else "begun" if done else "to do"
    return {
        "name": run.name,
        "rows": [f"{table} {row}" for table, row in run.rows],
        "recipe": run.base,
        "changes": list(run.changes),
        "budget_changes": differences(run, study),
        "seed": run.seed,
        "state": state,
        "steps": run.steps,
        "steps_done": done,
    }


def differences(run: RunPlan, study: Study) -> list[str]:
    """What differs from the published row beside the seed, as overrides: [] says that it is exactly that row."""
    ours, theirs = flat(run.recipe.to_dict()), flat(load_recipe(run.base, run.changes).to_dict())
    return [f"{key}={ours[key]}" for key in ours if ours[key] != theirs.get(key) and key != "runtime.seed"]


def seconds_a_picture(recipe: Recipe, names: Sequence[str], threads: int, steps: int = 3) -> float:
    """A training step's time for each of its pictures on this machine, the quickest of a few; reading not included."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng():
        detector = build_detector(recipe, names, pretrained=False).to(device).train()
    batch = min(recipe.schedule.batch_size, 16 if device.type == "cuda" or recipe.data.resize.kind == "square" else 1)
    before, taken = torch.get_num_threads(), []
    torch.set_num_threads(threads or before)
    try:
        for _ in range(steps):
            begin = time.perf_counter()
            with autocast(device, real_precision(recipe.runtime.precision)):
                loss = synthetic_loss(detector, largest_size(recipe.data), batch)
            loss.backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            taken.append((time.perf_counter() - begin) / batch)
    finally:
        torch.set_num_threads(before)
    return min(taken)


def told_plan(content: Mapping[str, Any]) -> list[str]:
    """What :func:`dry_run` gave, for a terminal."""
    runs = content["runs"]
    shared = set.intersection(*(set(run["budget_changes"]) for run in runs)) if runs else set()
    lines = []
    for run in runs:
        own = [*run["changes"], *(change for change in run["budget_changes"] if change not in shared)]
        state = f"{run['state']}, {run['steps_done']:,} of " if run["state"] == "begun" else f"{run['state']}, "
        lines += [
            f"{run['name']}: {state}{counted(run['steps'], 'step')}, {told_hours(run['hours'])}",
            f"    for {', '.join(run['rows'])}",
            f"    {run['recipe']}{', ' if own else ' as it is'}{', '.join(own)}",
        ]
    if shared:
        lines.append(f"all runs: {', '.join(sorted(shared))}")
    left = sum(run["state"] != "done" for run in runs)
    lines.append(
        f"{counted(len(runs), 'run')}, {left} of them to do, {content['jobs']} at a time: about "
        f"{told_hours(content['hours'])} on this machine"
    )
    return lines


def told_hours(hours: float) -> str:
    """5 s, 12 min, 3.5 h, 12 days."""
    if hours >= 72:
        return f"{hours / 24:.0f} days"
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{60 * hours:.0f} min" if hours >= 2 / 60 else f"{3600 * hours:.0f} s"


def about(study: Study) -> str:
    """One line before a study starts: how much there is to do, and how long that may take."""
    out, runs = study.settings.out, study.plan.runs
    done = sum(is_done(out, run) for run in runs)
    if done == len(runs):
        return f"all {counted(done, 'run')} are done, in {out}"
    hours = told_hours(dry_run(study)["hours"])
    before = f", {done} of them done" if done else ""
    return f"{counted(len(runs), 'run')}{before}, {study.jobs} at a time, about {hours} to go on this machine; in {out}"

"""What a study would do: its runs, what each changes, and how long they may take."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gfocal.errors import GfocalError
from gfocal.recipe import load_recipe
from gfocal.recipe.values import flat
from gfocal.studies.execution.pace import paces
from gfocal.studies.execution.plan import RunPlan
from gfocal.studies.execution.run_metrics import read_run
from gfocal.studies.execution.runner import RUNS, is_done, steps_done, threads_a_run
from gfocal.studies.execution.study import Study
from gfocal.utils.records import named
from gfocal.utils.text import counted

_MEASURING = 0.6  # of a training step's time for an image, an image that is measured takes: it is looked at twice
_STARTING = 8  # seconds in which a run loads libraries and data


@dataclass(frozen=True)
class RunOutlook:
    """What a run would do.

    Attributes:
        name: folder below the study's ``runs``.
        rows: "table row" of all that it stands for.
        recipe: name of the recipe that it changes.
        changes: the row's overrides.
        budget_changes: see :func:`differences`.
        seed: of the run.
        state: how far it is.
        steps: optimizer steps in all.
        steps_done: that are behind it.
        hours: that the rest may take; None where no pace is known.
    """

    name: str
    rows: tuple[str, ...]
    recipe: str
    changes: tuple[str, ...]
    budget_changes: tuple[str, ...]
    seed: int
    state: Literal["done", "begun", "to do"]
    steps: int
    steps_done: int
    hours: float | None


@dataclass(frozen=True)
class Outlook:
    """What a study would do.

    Attributes:
        runs: in the order in which they would start.
        hours: of all together; None where that of some is not known.
        jobs: runs at a time.
        seconds_per_image: of training, by recipe.
    """

    runs: tuple[RunOutlook, ...]
    hours: float | None
    jobs: int
    seconds_per_image: Mapping[str, float] = field(metadata=named("seconds_a_picture"))


def dry_run(study: Study) -> Outlook:
    """Every run, what its recipe changes, what is left of it, and how long that may take on this machine.

    The pace of a detector is that of its runs that are done; of one without, that of a training step measured now, on
    images of the size of the run's, reading not included.
    """
    out, runs = study.settings.out, study.plan.runs
    left = {run.name: run.steps - steps_done(out, run) for run in runs if not is_done(out, run)}
    pace = {run.base: seconds for run in study.related if (seconds := _pace_of_done(out, run)) is not None}
    unknown = {run.base: run.recipe for run in runs if run.name in left and run.base not in pace}
    classes = len(study.data.of_run(runs[0].recipe)[0].names)  # --set is of all runs
    pace |= paces(unknown, classes, threads_a_run(study.jobs))
    entries: list[RunOutlook] = []
    for run in runs:
        hours: float | None = 0.0
        if run.name in left:
            measured = len(run.measured_steps) * len(study.data.val_index)
            images = left[run.name] * run.images / run.steps + measured * _MEASURING
            hours = (images * pace[run.base] + _STARTING) / 3600 if run.base in pace else None
        entries.append(_outlook(run, study, hours))
    known = [entry.hours for entry in entries if entry.hours is not None]
    whole = sum(known) / max(min(study.jobs, len(left)), 1) if len(known) == len(entries) else None
    return Outlook(tuple(entries), whole, study.jobs, pace)


def _pace_of_done(out: Path, run: RunPlan) -> float | None:
    """Seconds an image of a finished run; None of one that is not, or whose results cannot be read."""
    with suppress(GfocalError):
        done = read_run(out / RUNS / run.name)
        return None if done is None else done.facts.train_seconds / run.images
    return None


def _outlook(run: RunPlan, study: Study, hours: float | None) -> RunOutlook:
    done = steps_done(study.settings.out, run)
    return RunOutlook(
        name=run.name,
        rows=tuple(f"{table} {row}" for table, row in run.rows),
        recipe=run.base,
        changes=run.changes,
        budget_changes=tuple(differences(run, study)),
        seed=run.seed,
        state="done" if is_done(study.settings.out, run) else "begun" if done else "to do",
        steps=run.steps,
        steps_done=done,
        hours=hours,
    )


def differences(run: RunPlan, study: Study) -> list[str]:
    """What differs from the published row beside the seed, as overrides: [] says that it is exactly that row."""
    ours, theirs = flat(run.recipe.to_dict()), flat(load_recipe(run.base, run.changes).to_dict())
    return [f"{key}={ours[key]}" for key in ours if ours[key] != theirs.get(key) and key != "runtime.seed"]


def describe_plan(outlook: Outlook) -> list[str]:
    """What :func:`dry_run` gave, for a terminal."""
    runs = outlook.runs
    shared = set.intersection(*(set(run.budget_changes) for run in runs)) if runs else set()
    lines = []
    for run in runs:
        own = [*run.changes, *(change for change in run.budget_changes if change not in shared)]
        state = f"{run.state}, {run.steps_done:,} of " if run.state == "begun" else f"{run.state}, "
        lines += [
            f"{run.name}: {state}{counted(run.steps, 'step')}, {describe_hours(run.hours)}",
            f"    for {', '.join(run.rows)}",
            f"    {run.recipe}{', ' if own else ' as it is'}{', '.join(own)}",
        ]
    if shared:
        lines.append(f"all runs: {', '.join(sorted(shared))}")
    left = sum(run.state != "done" for run in runs)
    lines.append(
        f"{counted(len(runs), 'run')}, {left} of them to do, {outlook.jobs} at a time: about "
        f"{describe_hours(outlook.hours)} on this machine"
    )
    return lines


def describe_hours(hours: float | None) -> str:
    """5 s, 12 min, 3.5 h, 12 days."""
    if hours is None:
        return "an unknown time"
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
    hours = describe_hours(dry_run(study).hours)
    before = f", {done} of them done" if done else ""
    return f"{counted(len(runs), 'run')}{before}, {study.jobs} at a time, about {hours} to go on this machine; in {out}"

"""What the runs of a study come to: the content of ``results.json``, which the report shows."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gfocal.errors import GfocalError
from gfocal.studies.comparison.compare import SeedNoise, seed_noise
from gfocal.studies.comparison.moment import Moment, by_seed, learnt, moment_of, spread
from gfocal.studies.execution.plan import RunPlan
from gfocal.studies.execution.run_metrics import Measured, read_measured
from gfocal.studies.execution.runner import RUNS, Outcome
from gfocal.studies.execution.study import Study
from gfocal.studies.execution.worker import METRICS
from gfocal.studies.paper.published import COLUMNS
from gfocal.studies.paper.tables import Row, Table

CURVE_POINTS = 200

_SMALL_SPEED = (
    "The speed is that of the small network, in which the bins of the boxes weigh more than in the paper's ResNet-50: "
    "4 % of the FLOPs instead of 1.5 %."
)

Finished = dict[str, Measured]
"""Finished runs by name."""


def read_finished(study: Study) -> tuple[Finished, dict[str, str]]:
    """All finished runs of a study and those related to it, and one line for each whose results cannot be read."""
    found: Finished = {}
    failures: dict[str, str] = {}
    for run in {run.name: run for run in (*study.plan.runs, *study.related)}.values():
        try:
            measured = read_measured(study.settings.out / RUNS / run.name)
        except GfocalError as error:
            failures[run.name] = str(error)
            continue
        if measured is not None:
            found[run.name] = measured
    return found, failures


def collect(
    study: Study, table: Table, outcome: Outcome, speed: dict[str, Any] | None = None, command: str = ""
) -> dict[str, Any]:
    """The results of a table, as JSON types.

    Args:
        study: whose runs were done, or some of them.
        table: one of its tables.
        outcome: how its runs ended.
        speed: see :func:`gfocal.studies.speed.speed.measure_rows`; None where it was not measured.
        command: what a person types to get this.
    """
    finished, unreadable = read_finished(study)
    failures = {**outcome.failures, **unreadable}
    rows = study.rows(table)
    last = _moment(study, table, finished)
    entries = [_row(study, table, row, last, finished, failures) for row in rows]
    small = study.settings.budget.pyramid == "nano"
    own = {run.name for row in rows for run in study.plan.of_row[table.name, row.key]}
    return {
        "table": table.name,
        "title": table.title,
        "source": table.source,
        "note": " ".join(part for part in (table.note, _SMALL_SPEED if speed and small else "") if part),
        "settings": {**_settings(study, table, finished), "command": command},
        "columns": list(table.columns),
        "rows": entries,
        "claims": last.claims(table.name, speed),
        "agreement": {"judged_by": last.judged_by, "objects": dict(last.objects)},
        "schedule": _over_the_schedule(study, table, finished, last),
        "speed": speed,
        "failures": [f"{name}: {line}" for name, line in failures.items() if name in own],
        "finished": own <= finished.keys(),
    }


def _moment(study: Study, table: Table, finished: Finished) -> Moment:
    """The table as its finished runs have it."""
    rows = study.rows(table)
    runs = {row.key: _finished(study.plan.of_row[table.name, row.key], finished) for row in rows}
    return moment_of(rows, runs, lambda measure: _noise(study, finished, measure))


def _finished(runs: Sequence[RunPlan], finished: Finished) -> dict[int, Measured]:
    return {run.seed: finished[run.name] for run in runs if run.name in finished}


def _noise(study: Study, finished: Finished, measure: str) -> SeedNoise | None:
    """Pooled over the rows of all tables with these settings, each run once.

    Rows that learnt next to nothing do not move with the seed either: they would make the others look steady.
    """
    alike: dict[tuple[str, tuple[str, ...]], dict[int, Measured]] = {}
    for run in study.related:
        if run.name in finished:
            alike.setdefault((run.base, run.changes), {})[run.seed] = finished[run.name]
    return seed_noise(by_seed(runs, measure) for runs in alike.values() if learnt(by_seed(runs, "AP")))


def _over_the_schedule(study: Study, table: Table, finished: Finished, last: Moment) -> list[dict[str, Any]]:
    """The table at each step at which its runs were measured, the end included; [] where that is all there is."""
    own = [run for row in last.rows for run in study.plan.of_row[table.name, row.key] if run.name in finished]
    steps = sorted({step for run in own for step in finished[run.name].before})
    if not steps:
        return []
    moments = []
    for step in steps:
        then = {name: run.before[step] for name, run in finished.items() if step in run.before}
        moments.append((step, _moment(study, table, then)))
    return [_told(step, moment, table) for step, moment in [*moments, (max(run.steps for run in own), last)]]


def _told(step: int, moment: Moment, table: Table) -> dict[str, Any]:
    """A moment of the schedule; how long a detector takes does not change with training."""
    return {
        "step": step,
        "rows": {
            row.key: {
                "AP": spread([run.value for run in moment.measures["AP"][row.key].values()]),
                "difference": moment.difference(row),
                "agreement": moment.agreement(row),
                "per_class": moment.per_class(row),
            }
            for row in moment.rows
        },
        "claims": [
            claim
            for claim in moment.claims(table.name, None)
            if any(part["measure"] != "time" for part in claim["parts"])
        ],
    }


def _row(
    study: Study,
    table: Table,
    row: Row,
    last: Moment,
    finished: Finished,
    failures: Mapping[str, str],
) -> dict[str, Any]:
    runs = study.plan.of_row[table.name, row.key]
    done = [finished[run.name].facts for run in runs if run.name in finished]
    return {
        "key": row.key,
        "title": row.title,
        "group": row.group,
        "baseline": row.baseline,
        "recipe": runs[0].base,
        "changes": list(row.changes),
        "box_weight": runs[0].recipe.model.box_weight,
        "published": row.figures,
        "published_difference": row.published_difference,
        "measured": {name: spread([facts["metrics"][name] for facts in done]) for name in COLUMNS} if done else None,
        "difference": last.difference(row),
        "correlation": spread([facts["metrics"]["score_iou_correlation"] for facts in done]),
        "agreement": last.agreement(row),
        "per_class": last.per_class(row),
        "truncated_share": statistics.fmean(facts["truncated_share"] for facts in done) if done else None,
        "runs": [_run(run, finished, failures) for run in runs],
        "curve": _curve(study.settings.out / RUNS / runs[0].name / METRICS) if runs[0].name in finished else None,
    }


def _run(run: RunPlan, finished: Finished, failures: Mapping[str, str]) -> dict[str, Any]:
    facts = finished[run.name].facts if run.name in finished else None
    seconds = None if facts is None else round(facts["train_seconds"] + facts["measure_seconds"], 1)
    state = "done" if facts is not None else "failed" if run.name in failures else "missing"
    return {
        "seed": run.seed,
        "state": state,
        "error": failures.get(run.name),
        "folder": f"{RUNS}/{run.name}",
        "seconds": seconds,
    }


def _curve(file: Path) -> dict[str, list[float]] | None:
    """The loss over the steps, means of as many steps as make :data:`CURVE_POINTS` points."""
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        points = [(line["step"], line["loss"]) for line in lines if line["kind"] == "train"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    every = -(-len(points) // CURVE_POINTS)
    groups = [points[i : i + every] for i in range(0, len(points), every)] if points else []
    return {
        "step": [group[-1][0] for group in groups],
        "loss": [round(statistics.fmean(loss for _, loss in group), 5) for group in groups],
    }


def _settings(study: Study, table: Table, finished: Finished) -> dict[str, Any]:
    own, data = study.settings, study.data
    runs = {run.base: run for row in reversed(study.rows(table)) for run in study.plan.of_row[table.name, row.key]}
    first, *others = (_schedule(run, len(data.train)) for run in reversed(runs.values()))
    names = [name for name in reversed(runs) if name]
    made = [finished[run.name].facts for run in study.plan.runs if run.name in finished]
    return {
        "data": data.name,
        "train_pictures": len(data.train),
        "val_pictures": len(data.val_index),
        "classes": len(data.train.names),
        "pyramid": own.budget.pyramid,
        **first,
        "unlike_the_others": [
            f"{name}: {describe_schedule(one)}" for name, one in zip(names[1:], others, strict=True) if one != first
        ],
        "seeds": list(range(own.seeds)),
        "init": None if own.init is None else f"{own.init.stem} (backbone, neck)",
        "pretrained": own.init is None and any(run.recipe.model.pretrained for run in runs.values()),
        "budget": own.budget.name,
        "overrides": list(own.overrides),
        "versions": _different([facts["versions"] for facts in made]),
        "host": _different([facts["host"] for facts in made if "host" in facts]),
        "data_fingerprint": data.fingerprint,
    }


def _schedule(run: RunPlan, images: int) -> dict[str, Any]:
    resize, schedule = run.recipe.data.resize, run.recipe.schedule
    return {
        "picture": f"{resize.size} x {resize.size}"
        if resize.kind == "square"
        else f"short side {resize.short_side}, long side at most {resize.long_side}",
        "iterations": run.steps,
        "epochs": schedule.epochs,
        "pictures_a_step": min(schedule.batch_size, images) * schedule.accumulate,
    }


def describe_schedule(one: Mapping[str, Any]) -> str:
    """How large images and schedule of a row are, in words."""
    return (
        f"{one['picture']} pixels, {one['iterations']:,} steps of {one['pictures_a_step']} pictures "
        f"({one['epochs']} epochs)"
    )


def _different(facts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the runs say of themselves; where they differ, all that they say."""
    names = dict.fromkeys(name for one in facts for name in one)
    values = {name: dict.fromkeys(str(one[name]) for one in facts if one.get(name) not in (None, [])) for name in names}
    return {name: " and ".join(own) for name, own in values.items() if own}

"""What the runs of a study come to: the content of ``results.json``, which the report shows."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gfocal.errors import GfocalError
from gfocal.studies.comparison.compare import RunMeasure, SeedNoise, difference, seed_noise
from gfocal.studies.comparison.verdicts import LEAST_AP, judge
from gfocal.studies.execution.plan import RunPlan
from gfocal.studies.execution.run_metrics import Measured, read_measured
from gfocal.studies.execution.runner import RUNS, Outcome
from gfocal.studies.execution.study import Study
from gfocal.studies.execution.worker import METRICS
from gfocal.studies.paper.published import COLUMNS
from gfocal.studies.paper.tables import Row, Table

CURVE_POINTS = 200
MEASURES = ("AP", "correlation")

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
    measures = {
        row.key: {measure: _by_seed(study.plan.of_row[table.name, row.key], finished, measure) for measure in MEASURES}
        for row in rows
    }
    noise = {measure: _noise(study, finished, measure) for measure in MEASURES}
    entries = [_row(study, table, row, measures, noise["AP"], finished, failures) for row in rows]
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
        "claims": judge(
            table.name,
            {measure: {key: own_runs[measure] for key, own_runs in measures.items()} for measure in MEASURES},
            speed,
            published={row.key: row.figures for row in rows},
            noise=noise,
            rows={row.key for row in rows},
        ),
        "speed": speed,
        "failures": [f"{name}: {line}" for name, line in failures.items() if name in own],
        "finished": own <= finished.keys(),
    }


def _by_seed(runs: Sequence[RunPlan], finished: Finished, measure: str) -> dict[int, RunMeasure]:
    """The finished runs of a row."""
    key = "AP" if measure == "AP" else "score_iou_correlation"
    return {
        run.seed: RunMeasure(finished[run.name].facts["metrics"][key], finished[run.name].resampled[measure])
        for run in runs
        if run.name in finished
    }


def _noise(study: Study, finished: Finished, measure: str) -> SeedNoise | None:
    """Pooled over the rows of all tables with these settings, each run once.

    Rows that learnt next to nothing do not move with the seed either: they would make the others look steady.
    """
    alike: dict[tuple[str, tuple[str, ...]], dict[str, dict[int, RunMeasure]]] = {}
    for run in study.related:
        if run.name in finished:
            own = alike.setdefault((run.base, run.changes), {"AP": {}, measure: {}})
            for name in own:
                own[name].update(_by_seed([run], finished, name))
    return seed_noise(runs[measure] for runs in alike.values() if _best(runs["AP"]) >= LEAST_AP)


def _best(runs: Mapping[int, RunMeasure]) -> float:
    return max((run.value for run in runs.values() if run.value is not None and run.known), default=0.0)


def _row(
    study: Study,
    table: Table,
    row: Row,
    measures: Mapping[str, Mapping[str, dict[int, RunMeasure]]],
    noise: SeedNoise | None,
    finished: Finished,
    failures: Mapping[str, str],
) -> dict[str, Any]:
    runs = study.plan.of_row[table.name, row.key]
    done = [finished[run.name].facts for run in runs if run.name in finished]
    own = measures[row.key]["AP"]
    # A row that --rows brought in as a baseline may have one of its own that it did not.
    base = measures.get(row.baseline or "")
    apart = None if base is None else difference(own, base["AP"], noise)
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
        "difference": None if apart is None else apart.to_dict(),
        "correlation": spread([facts["metrics"]["score_iou_correlation"] for facts in done]),
        "truncated_share": statistics.fmean(facts["truncated_share"] for facts in done) if done else None,
        "runs": [_run(run, finished, failures) for run in runs],
        "curve": _curve(study.settings.out / RUNS / runs[0].name / METRICS) if runs[0].name in finished else None,
    }


def spread(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Mean and standard deviation over the seeds for which there is a value; None where there is none."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.fmean(known), "spread": deviation, "runs": known}


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

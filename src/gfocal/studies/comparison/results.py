"""What the runs of a study come to: the content of ``results.json``, which the report shows."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from gfocal.errors import GfocalError
from gfocal.studies.comparison.compare import SeedNoise, seed_noise
from gfocal.studies.comparison.content import (
    AgreementBasis,
    Curve,
    MomentResult,
    RowMoment,
    RowResult,
    RunResult,
    Schedule,
    StudyResults,
    WhatWasRun,
)
from gfocal.studies.comparison.moment import Measure, Moment, by_seed, learnt, moment_of, spread
from gfocal.studies.execution.plan import RunPlan
from gfocal.studies.execution.run_metrics import FinishedRun, Measured, read_run
from gfocal.studies.execution.runner import RUNS, Outcome
from gfocal.studies.execution.study import Study
from gfocal.studies.execution.worker import METRICS
from gfocal.studies.paper.published import COLUMNS
from gfocal.studies.paper.tables import Row, Table
from gfocal.studies.speed.records import SpeedResult

CURVE_POINTS = 200

_SMALL_SPEED = (
    "The speed is that of the small network, in which the bins of the boxes weigh more than in the paper's ResNet-50: "
    "4 % of the FLOPs instead of 1.5 %."
)

Finished = dict[str, FinishedRun]
"""Finished runs by name."""


def read_finished(study: Study) -> tuple[Finished, dict[str, str]]:
    """All finished runs of a study and those related to it, and one line for each whose results cannot be read."""
    found: Finished = {}
    failures: dict[str, str] = {}
    for run in {run.name: run for run in (*study.plan.runs, *study.related)}.values():
        try:
            done = read_run(study.settings.out / RUNS / run.name)
        except GfocalError as error:
            failures[run.name] = str(error)
            continue
        if done is not None:
            found[run.name] = done
    return found, failures


def collect(
    study: Study, table: Table, outcome: Outcome, speed: SpeedResult | None = None, command: str = ""
) -> StudyResults:
    """The results of a table.

    Args:
        study: whose runs were done, or some of them.
        table: one of its tables.
        outcome: how its runs ended.
        speed: of its rows; None where it was not measured.
        command: what a person types to get this.
    """
    finished, unreadable = read_finished(study)
    failures = {**outcome.failures, **unreadable}
    rows = study.rows(table)
    last = _moment(study, table, {name: run.last for name, run in finished.items()})
    small = study.settings.budget.pyramid == "nano"
    own = {run.name for row in rows for run in study.plan.of_row[table.name, row.key]}
    return StudyResults(
        table=table.name,
        title=table.title,
        source=table.source,
        note=" ".join(part for part in (table.note, _SMALL_SPEED if speed and small else "") if part),
        settings=_settings(study, table, finished, command),
        columns=table.columns,
        rows=tuple(_row(study, table, row, last, finished, failures) for row in rows),
        claims=tuple(last.claims(table.name, speed)),
        agreement=AgreementBasis(last.judged_by, {group: tuple(counts) for group, counts in last.objects.items()}),
        schedule=tuple(_over_the_schedule(study, table, finished, last)),
        speed=speed,
        failures=tuple(f"{name}: {line}" for name, line in failures.items() if name in own),
        finished=own <= finished.keys(),
    )


def _moment(study: Study, table: Table, measured: Mapping[str, Measured]) -> Moment:
    """The table as some of its runs have it, at the end or on the way."""
    rows = study.rows(table)
    runs = {
        row.key: {
            run.seed: measured[run.name] for run in study.plan.of_row[table.name, row.key] if run.name in measured
        }
        for row in rows
    }
    return moment_of(rows, runs, lambda measure: _noise(study, measured, measure))


def _noise(study: Study, measured: Mapping[str, Measured], measure: Measure) -> SeedNoise | None:
    """Pooled over the rows of all tables with these settings, each run once.

    Rows that learnt next to nothing do not move with the seed either: they would make the others look steady.
    """
    alike: dict[tuple[str, tuple[str, ...]], dict[int, Measured]] = {}
    for run in study.related:
        if run.name in measured:
            alike.setdefault((run.base, run.changes), {})[run.seed] = measured[run.name]
    return seed_noise(by_seed(runs, measure) for runs in alike.values() if learnt(by_seed(runs, "AP")))


def _over_the_schedule(study: Study, table: Table, finished: Finished, last: Moment) -> list[MomentResult]:
    """The table at each step at which its runs were measured, the end included; [] where that is all there is."""
    own = [run for row in last.rows for run in study.plan.of_row[table.name, row.key] if run.name in finished]
    steps = sorted({step for run in own for step in finished[run.name].before})
    if not steps:
        return []
    moments = []
    for step in steps:
        then = {name: run.before[step] for name, run in finished.items() if step in run.before}
        moments.append((step, _moment(study, table, then)))
    return [_moment_result(step, moment, table) for step, moment in [*moments, (max(run.steps for run in own), last)]]


def _moment_result(step: int, moment: Moment, table: Table) -> MomentResult:
    rows = {
        row.key: RowMoment(
            ap=spread([run.value for run in moment.measures["AP"][row.key].values()]),
            difference=moment.difference(row),
            agreement=moment.agreement(row),
            per_class=moment.per_class(row),
        )
        for row in moment.rows
    }
    claims = moment.claims(table.name, None)
    return MomentResult(step, rows, tuple(one for one in claims if any(part.measure != "time" for part in one.parts)))


def _row(
    study: Study,
    table: Table,
    row: Row,
    last: Moment,
    finished: Finished,
    failures: Mapping[str, str],
) -> RowResult:
    runs = study.plan.of_row[table.name, row.key]
    done = [finished[run.name].facts for run in runs if run.name in finished]
    results = [facts.measurement.metrics.result for facts in done]
    return RowResult(
        key=row.key,
        title=row.title,
        group=row.group,
        baseline=row.baseline,
        recipe=runs[0].base,
        changes=row.changes,
        box_weight=runs[0].recipe.model.box_weight,
        published=row.figures,
        published_difference=row.published_difference,
        measured={name: spread([result.stats[name] for result in results]) for name in COLUMNS} if done else None,
        difference=last.difference(row),
        correlation=spread([result.score_iou_correlation for result in results]),
        agreement=last.agreement(row),
        per_class=last.per_class(row),
        truncated_share=statistics.fmean(facts.truncated_share for facts in done) if done else None,
        runs=tuple(_run(run, finished, failures) for run in runs),
        curve=_curve(study.settings.out / RUNS / runs[0].name / METRICS) if runs[0].name in finished else None,
    )


def _run(run: RunPlan, finished: Finished, failures: Mapping[str, str]) -> RunResult:
    facts = finished[run.name].facts if run.name in finished else None
    return RunResult(
        seed=run.seed,
        state="done" if facts is not None else "failed" if run.name in failures else "missing",
        error=failures.get(run.name),
        folder=f"{RUNS}/{run.name}",
        seconds=None if facts is None else round(facts.train_seconds + facts.measure_seconds, 1),
    )


def _curve(file: Path) -> Curve | None:
    """The loss over the steps, means of as many steps as make :data:`CURVE_POINTS` points."""
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        points = [(line["step"], line["loss"]) for line in lines if line["kind"] == "train"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    every = -(-len(points) // CURVE_POINTS)
    groups = [points[i : i + every] for i in range(0, len(points), every)] if points else []
    return Curve(
        step=tuple(group[-1][0] for group in groups),
        loss=tuple(round(statistics.fmean(loss for _, loss in group), 5) for group in groups),
    )


def _settings(study: Study, table: Table, finished: Finished, command: str) -> WhatWasRun:
    own, data = study.settings, study.data
    runs = {run.base: run for row in reversed(study.rows(table)) for run in study.plan.of_row[table.name, row.key]}
    first, *others = (_schedule(run, len(data.train)) for run in reversed(runs.values()))
    names = [name for name in reversed(runs) if name]
    made = [finished[run.name].facts for run in study.plan.runs if run.name in finished]
    return WhatWasRun(
        data=data.name,
        train_images=len(data.train),
        val_images=len(data.val_index),
        classes=len(data.of_run(study.plan.runs[0].recipe)[0].names),
        pyramid=own.budget.pyramid,
        schedule=first,
        unlike_the_others=tuple(
            f"{name}: {one.describe()}" for name, one in zip(names[1:], others, strict=True) if one != first
        ),
        seeds=tuple(range(own.seeds)),
        init=None if own.init is None else f"{own.init.stem} (backbone, neck)",
        pretrained=own.init is None and any(run.recipe.model.pretrained for run in runs.values()),
        budget=own.budget.name,
        overrides=own.overrides,
        versions=_different([facts.versions for facts in made]),
        host=_different([facts.host for facts in made if facts.host is not None]),
        data_fingerprint=data.fingerprint,
        command=command,
    )


def _schedule(run: RunPlan, images: int) -> Schedule:
    resize, schedule = run.recipe.data.resize, run.recipe.schedule
    return Schedule(
        image=f"{resize.size} x {resize.size}"
        if resize.kind == "square"
        else f"short side {resize.short_side}, long side at most {resize.long_side}",
        iterations=run.steps,
        epochs=schedule.epochs,
        images_per_step=min(schedule.batch_size, images) * schedule.accumulate,
    )


def _different(facts: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """What the runs say of themselves; where they differ, all that they say."""
    names = dict.fromkeys(name for one in facts for name in one)
    values = {name: dict.fromkeys(str(one[name]) for one in facts if one.get(name) not in (None, [])) for name in names}
    return {name: " and ".join(own) for name, own in values.items() if own}

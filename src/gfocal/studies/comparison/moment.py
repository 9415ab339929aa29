"""A table at one moment of its runs' training: what its rows measure, and which claims that bears out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gfocal.studies.comparison.agreement import AGREEMENT, COMMON, DETECTIONS, POSITIVES, RowRuns, common_runs
from gfocal.studies.comparison.compare import RunMeasure, Runs, SeedNoise, difference, seed_noise
from gfocal.studies.comparison.content import Agreement, AgreementMeasure, AgreementSet, ComparedMeasure, Statistic
from gfocal.studies.comparison.findings import ClaimVerdict, Difference
from gfocal.studies.comparison.verdicts import LEAST_AP, judge
from gfocal.studies.execution.run_metrics import Measured, RunMeasureName
from gfocal.studies.paper.tables import Row
from gfocal.studies.speed.records import SpeedResult

Measure = Literal["AP"] | AgreementMeasure
KEPT: dict[Measure, RunMeasureName] = {
    "AP": "AP",
    DETECTIONS: "correlation",
    POSITIVES: "positives",
    "mean_iou": "mean_iou",
}
"""Measures, and what a finished run calls them."""
Noise = Callable[[Measure], SeedNoise | None]


def spread(values: Sequence[float | None]) -> Statistic | None:
    """Mean and standard deviation over the seeds for which there is a value; None where there is none."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return Statistic(statistics.fmean(known), deviation, tuple(known))


def by_seed(runs: Mapping[int, Measured], measure: Measure) -> dict[int, RunMeasure]:
    """One of :data:`KEPT` of a row's runs; those that were not asked for it are left out."""
    name = KEPT[measure]
    return {
        seed: RunMeasure(run.value(name), run.resampled[name]) for seed, run in runs.items() if name in run.resampled
    }


@dataclass(frozen=True)
class Moment:
    """The rows of a table at one moment.

    Attributes:
        rows: of the table.
        runs: of each row.
        measures: by measure and row key.
        noise: between seeds, by measure.
        objects: by group how many objects all of its rows found, one number a seed.
    """

    rows: Sequence[Row]
    runs: RowRuns
    measures: Mapping[Measure, Mapping[str, Runs]]
    noise: Mapping[Measure, SeedNoise | None]
    objects: Mapping[str, list[int]]

    @property
    def judged_by(self) -> AgreementSet:
        """Of which boxes the claim about agreement is asked: of positives, where all runs have looked at theirs."""
        done = [run for runs in self.runs.values() for run in runs.values()]
        return POSITIVES if done and all(POSITIVES in run.resampled for run in done) else DETECTIONS

    def difference(self, row: Row, measure: Measure = "AP") -> Difference | None:
        """Of a row to its baseline; None where there is nothing to say."""
        # A row that --rows brought in as a baseline may have one of its own that it did not.
        base = self.measures[measure].get(row.baseline or "")
        return None if base is None else difference(self.measures[measure][row.key], base, self.noise[measure])

    def measured(self, row: Row, measure: Measure) -> ComparedMeasure | None:
        """Mean and spread over the seeds, with the difference to the baseline; None where it was not measured."""
        found = spread([run.value for run in self.measures[measure][row.key].values()])
        return None if found is None else ComparedMeasure(found, self.difference(row, measure))

    def agreement(self, row: Row) -> Agreement:
        """Correlations of score and IoU over each set of boxes, and the mean IoU of positives."""
        names: tuple[AgreementMeasure, ...] = (*AGREEMENT, "mean_iou")
        return {name: self.measured(row, name) for name in names}

    def per_class(self, row: Row) -> dict[str, Statistic | None]:
        """AP of each class, mean and spread over the seeds."""
        own = [run.measurement.metrics.result.per_class for run in self.runs[row.key].values()]
        return {
            name: spread([one.get(name) for one in own]) for name in dict.fromkeys(name for one in own for name in one)
        }

    def claims(self, table: str, speed: SpeedResult | None) -> list[ClaimVerdict]:
        """See :func:`gfocal.studies.comparison.verdicts.judge`."""
        sources: dict[str, Measure] = {"AP": "AP", "correlation": self.judged_by}
        return judge(
            table,
            {name: self.measures[source] for name, source in sources.items()},
            speed,
            published={row.key: row.figures for row in self.rows},
            noise={name: self.noise[source] for name, source in sources.items()},
            rows={row.key for row in self.rows},
        )


def moment_of(rows: Sequence[Row], runs: RowRuns, noise: Noise) -> Moment:
    """Look at a table.

    Args:
        rows: of the table.
        runs: of each row, by key; none may be there.
        noise: of one of :data:`KEPT`, over all that is known of runs like these.
    """
    measures: dict[Measure, dict[str, Runs]] = {
        name: {row.key: by_seed(runs[row.key], name) for row in rows} for name in KEPT
    }
    measures[COMMON], objects = {}, {}
    for group in dict.fromkeys(row.group for row in rows):
        own, objects[group] = common_runs({row.key: runs[row.key] for row in rows if row.group == group})
        measures[COMMON].update(own)
    pooled: dict[Measure, SeedNoise | None] = {name: noise(name) for name in KEPT}
    # What all rows find depends on the rows: those of other tables have no say.
    return Moment(rows, runs, measures, {**pooled, COMMON: seed_noise(measures[COMMON].values())}, objects)


def learnt(runs: Mapping[int, RunMeasure]) -> bool:
    """Whether a row's AP is more than next to nothing."""
    return max((run.value for run in runs.values() if run.value is not None and run.known), default=0.0) >= LEAST_AP

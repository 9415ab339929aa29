"""A table at one moment of its runs' training: what its rows measure, and which claims that bears out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gfocal.studies.comparison.agreement import AGREEMENT, COMMON, DETECTIONS, POSITIVES, RowRuns, common_runs
from gfocal.studies.comparison.compare import RunMeasure, Runs, SeedNoise, difference, seed_noise
from gfocal.studies.comparison.verdicts import LEAST_AP, judge
from gfocal.studies.paper.tables import Row

KEPT = {"AP": "AP", DETECTIONS: "correlation", POSITIVES: "positives", "mean_iou": "mean_iou"}
"""Measures, and what a finished run calls them."""
Noise = Callable[[str], SeedNoise | None]


def spread(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Mean and standard deviation over the seeds for which there is a value; None where there is none."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.fmean(known), "spread": deviation, "runs": known}


def by_seed(runs: Mapping[int, Any], measure: str) -> dict[int, RunMeasure]:
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
    measures: Mapping[str, Mapping[str, Runs]]
    noise: Mapping[str, SeedNoise | None]
    objects: Mapping[str, list[int]]

    @property
    def judged_by(self) -> str:
        """Of which boxes the claim about agreement is asked: of positives, where all runs have looked at theirs."""
        done = [run for runs in self.runs.values() for run in runs.values()]
        return POSITIVES if done and all(POSITIVES in run.resampled for run in done) else DETECTIONS

    def difference(self, row: Row, measure: str = "AP") -> dict[str, Any] | None:
        """Of a row to its baseline; None where there is nothing to say."""
        # A row that --rows brought in as a baseline may have one of its own that it did not.
        base = self.measures[measure].get(row.baseline or "")
        apart = None if base is None else difference(self.measures[measure][row.key], base, self.noise[measure])
        return None if apart is None else apart.to_dict()

    def measured(self, row: Row, measure: str) -> dict[str, Any] | None:
        """Mean and spread over the seeds, with the difference to the baseline; None where it was not measured."""
        found = spread([run.value for run in self.measures[measure][row.key].values()])
        return None if found is None else {"measured": found, "difference": self.difference(row, measure)}

    def agreement(self, row: Row) -> dict[str, Any]:
        """Correlations of score and IoU over each set of boxes, and the mean IoU of positives."""
        return {name: self.measured(row, name) for name in (*AGREEMENT, "mean_iou")}

    def per_class(self, row: Row) -> dict[str, Any]:
        """AP of each class, mean and spread over the seeds."""
        own = [run.facts["metrics"].get("per_class") or {} for run in self.runs[row.key].values()]
        return {
            name: spread([one.get(name) for one in own]) for name in dict.fromkeys(name for one in own for name in one)
        }

    def claims(self, table: str, speed: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """See :func:`gfocal.studies.comparison.verdicts.judge`."""
        sources = {"AP": "AP", "correlation": self.judged_by}
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
    measures: dict[str, dict[str, Runs]] = {
        name: {row.key: by_seed(runs[row.key], name) for row in rows} for name in KEPT
    }
    measures[COMMON], objects = {}, {}
    for group in dict.fromkeys(row.group for row in rows):
        own, objects[group] = common_runs({row.key: runs[row.key] for row in rows if row.group == group})
        measures[COMMON].update(own)
    pooled = {name: noise(name) for name in KEPT}
    # What all rows find depends on the rows: those of other tables have no say.
    return Moment(rows, runs, measures, {**pooled, COMMON: seed_noise(measures[COMMON].values())}, objects)


def learnt(runs: Mapping[int, RunMeasure]) -> bool:
    """Whether a row's AP is more than next to nothing."""
    return max((run.value for run in runs.values() if run.value is not None and run.known), default=0.0) >= LEAST_AP

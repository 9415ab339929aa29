"""Whether scores agree with IoUs, asked of the same boxes in every row.

What a detector finds above a score is another set of boxes in every row of a table. Two sets are the same: the points
that the assigner gives an object (*positives*), where rows share points and assigner; and the objects that all rows
find, each with the detection that found it (*common*). The first is what the paper's joint score learns, before
anything is suppressed: it answers the claim that joint scores agree best with IoU. The second is what is left of it
among final detections.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Literal

import numpy as np

from gfocal.errors import BrokenInputError
from gfocal.evaluation import Matches, load_matches, resampled_weights, spearman
from gfocal.evaluation.bootstrap import weighted_spearman
from gfocal.studies.comparison.compare import RunMeasure
from gfocal.studies.comparison.content import AgreementSet
from gfocal.studies.comparison.verdicts import LEAST_AP
from gfocal.studies.execution.run_metrics import MATCHES, RESAMPLES, Measured

POSITIVES: Literal["positives"] = "positives"
COMMON: Literal["common"] = "common"
DETECTIONS: Literal["detections"] = "detections"
AGREEMENT: tuple[AgreementSet, ...] = (POSITIVES, COMMON, DETECTIONS)
"""The sets that are asked; detections are those that score at least 0.05 and overlap an object by at least 0.1."""

RowRuns = Mapping[str, Mapping[int, Measured]]
"""Runs of rows at one moment, by key and seed."""


def common_runs(rows: RowRuns) -> tuple[dict[str, dict[int, RunMeasure]], list[int]]:
    """Spearman's correlation of score and IoU over the objects that all rows find, seed by seed.

    Rows that learnt next to nothing are left out: they would leave next to no object.

    Args:
        rows: that are compared with each other.

    Returns:
        The measure of each row, {} of those without any; and how many objects all rows found, one number a seed.
    """
    found: dict[str, dict[int, RunMeasure]] = {key: {} for key in rows}
    counts = []
    for seed in sorted({seed for runs in rows.values() for seed in runs}):
        own = {key: matches for key, runs in rows.items() if (matches := _matches(runs.get(seed))) is not None}
        objects = {key: matches.found for key, matches in own.items() if matches.found is not None}
        if len(objects) < 2:
            continue
        shared = np.all([np.isfinite(one.scores) for one in objects.values()], axis=0)
        counts.append(int(shared.sum()))
        for key, one in objects.items():
            weights = resampled_weights(len(own[key].objects), RESAMPLES)
            pairs = one.scores[shared], one.ious[shared]
            resampled = weighted_spearman(one.images[shared], *pairs, weights)
            found[key][seed] = RunMeasure(spearman(*pairs), resampled)
    return found, counts


def _matches(run: Measured | None) -> Matches | None:
    """None of a run that is missing, learnt next to nothing, or kept no matches."""
    if run is None or (run.value("AP") or 0.0) < LEAST_AP:
        return None
    with suppress(BrokenInputError):
        return load_matches(run.folder / MATCHES)
    return None

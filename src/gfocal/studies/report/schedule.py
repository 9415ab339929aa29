"""What a table's rows measure over their schedule, and how scores agree with IoUs, as the words of a report."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from gfocal.report.numbers import NONE, line, signed_share
from gfocal.studies.comparison.content import (
    AgreementBasis,
    AgreementMeasure,
    AgreementSet,
    MomentResult,
    RowResult,
    StudyResults,
)
from gfocal.studies.comparison.findings import Difference, Verdict
from gfocal.studies.report.numbers import MARKS, SHORT, interval, measured, published, with_spread

Grid = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Head and rows of a table."""

SETS: dict[AgreementSet, str] = {
    "positives": "positives",
    "common": "objects that all rows find",
    "detections": "detections",
}
"""The boxes that are asked whether scores agree with IoUs."""
AGREEMENT = (
    "Spearman's correlation of score and IoU over three sets of boxes. Positives: the points that the assigner gives "
    "an object, each with the score of the object's class and the IoU of its box, before anything is suppressed; rows "
    "with the same points and static assigner have the same ones. Objects that all rows find: each with the detection "
    "that found it, at an IoU of 0.5. Detections: all that score at least 0.05 and overlap an object by at least 0.1, "
    "which is another set in every row. The paper's claim is about the score that a place gets for the box that it "
    "predicts: positives answer it, and the others say what is left of it after suppression."
)
SCHEDULE = (
    "Each run is measured on the way too, with its averaged weights: an early step is one of the whole schedule, with "
    "its learning rate still high, and not the end of a shorter one."
)


def has_agreement(results: StudyResults) -> bool:
    """Whether more than the detections was asked how scores agree."""
    return any(row.agreement.get("positives") for row in results.rows)


def titles(results: StudyResults) -> dict[str, str]:
    """Of each row by its key, with its group where there are several."""
    several = len({row.group for row in results.rows}) > 1
    return {row.key: line(row.name if several else row.title) for row in results.rows}


def steps(results: StudyResults) -> list[str]:
    """In words: 250 steps."""
    return [f"{moment.step:,} steps" for moment in results.schedule]


def difference_grid(results: StudyResults) -> Grid:
    """AP of the baselines and differences to them, with intervals, at each step; the paper's beside them."""
    rows = []
    for row in results.rows:
        own = [moment.rows[row.key] for moment in results.schedule]
        if row.baseline:
            cells = [_difference(one.difference) for one in own]
            rows.append((titles(results)[row.key], *cells, published(row.published_difference, "AP")))
        else:
            rows.append((f"{titles(results)[row.key]}, AP", *(with_spread(one.ap) for one in own), ""))
    return ("Row", *steps(results), "Paper"), rows


def _difference(found: Difference | None) -> str:
    return NONE if found is None else f"{signed_share(found.value)} ({interval(found.low, found.high)})"


def verdict_grid(results: StudyResults) -> Grid:
    """Every claim's verdict at each step."""
    moments = results.schedule
    rows = [
        (
            line(claim.statement),
            *(f"{MARKS[found]} {SHORT[found]}" for found in (_verdict(moment, claim.statement) for moment in moments)),
        )
        for claim in moments[-1].claims
    ]
    return ("Claim of the paper", *steps(results)), rows


def _verdict(moment: MomentResult, statement: str) -> Verdict:
    return next((claim.verdict for claim in moment.claims if claim.statement == statement), "cannot tell")


def agreement_grid(results: StudyResults) -> Grid:
    """At the end of the runs: mean IoU, and each set's correlation, with the difference to the baseline."""
    measures: dict[AgreementMeasure, str] = {"mean_iou": "Mean IoU of positives"}
    measures |= {name: f"Correlation, {words}" for name, words in SETS.items()}
    rows: list[tuple[str, ...]] = []
    for name, words in measures.items():
        for row in results.rows:
            found = row.agreement.get(name)
            here = with_spread(None if found is None else found.measured, "correlation")
            cells = _correlation_cells(None if found is None else found.difference) if row.baseline else ("", "")
            rows.append((f"{words}: {titles(results)[row.key]}", here, *cells))
    return ("Measure and row", "Here", "Difference", "95 % interval"), rows


def _correlation_cells(found: Difference | None) -> tuple[str, str]:
    if found is None:
        return NONE, NONE
    return measured(found.value, "correlation"), interval(found.low, found.high, "correlation")


def agreement_words(told: AgreementBasis) -> str:
    """What the grid shows, and of how many objects."""
    counts = ["/".join(f"{count:,}" for count in own) for own in told.objects.values() if own]
    found = f" All rows find {' and '.join(counts)} objects (by seed)." if counts else ""
    judged = (
        ""
        if told.judged_by == "positives"
        else (" Here some runs have not looked at their positives: the claim is judged by the detections.")
    )
    return f"{AGREEMENT} Differences are to the baseline.{found}{judged}"


def groups(results: StudyResults) -> list[tuple[str, Sequence[RowResult]]]:
    """Rows that are compared with each other, under their heading."""
    return [(name, list(rows)) for name, rows in groupby(results.rows, key=lambda row: row.group)]

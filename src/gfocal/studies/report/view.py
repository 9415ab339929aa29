"""The results of a table as the words that every form of the report shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from gfocal.report.numbers import NONE, line, points, share, signed, signed_share
from gfocal.studies.comparison.content import Curve, RowResult, StudyResults
from gfocal.studies.comparison.findings import Basis, PartVerdict
from gfocal.studies.report.numbers import (
    MARKS,
    SHORT,
    SPREADS,
    VERDICTS,
    interval,
    measured,
    printed,
    published,
    with_spread,
)
from gfocal.utils.text import counted, listed, rounded_duration

_NOTABLE = 1e-3  # truncated edges: as much as training warns about


@dataclass(frozen=True)
class Line:
    """One row of the table, in words.

    Attributes:
        title: what the table calls it.
        here: measured mean and spread, one a column; None: nothing is measured.
        paper: the paper's figures, one a column; None: the paper has no such row.
        difference: AP to the baseline, in points; "baseline" for the one that others are compared with.
        limits: 95 % of that difference.
        over: what the interval comes from; "" where that is said once for all rows.
        paper_difference: the same in the paper.
        correlation: Spearman of score and IoU.
        truncated: share of the edges learnt that no box of this row reaches.
        recipe: its name.
        changes: its overrides.
        box_weight: what weights the box loss.
        seeds: AP of every seed.
        time: of its runs together.
        loss: at the begin and at the end.
        curve: points of a polyline in a box of 120 x 28.
        problem: what is missing, and why.
    """

    title: str
    here: tuple[str, ...] | None
    paper: tuple[str, ...] | None
    difference: str
    limits: str
    over: str
    paper_difference: str
    correlation: str
    truncated: str
    recipe: str
    changes: tuple[str, ...]
    box_weight: str
    seeds: tuple[str, ...]
    time: str
    loss: str
    curve: str
    problem: str

    @property
    def interval(self) -> str:
        """The limits, and what they come from."""
        return f"{self.limits} (over {self.over})" if self.over else self.limits


@dataclass(frozen=True)
class Part:
    """What a claim rests on: one difference."""

    text: str
    measure: str
    difference: str
    interval: str
    published: str
    verdict: str
    mark: str


@dataclass(frozen=True)
class Claim:
    """What the paper says, and whether the runs show it."""

    statement: str
    verdict: str
    mark: str
    kind: str
    by: str
    basis: str
    published: str
    parts: tuple[Part, ...]


def groups(results: StudyResults) -> list[tuple[str, list[Line]]]:
    """The rows under their headings."""
    mixed = len(spreads(results)) > 1
    return [
        (group, [_line(row, results, mixed) for row in found])
        for group, found in groupby(results.rows, key=lambda row: row.group)
    ]


def spreads(results: StudyResults) -> list[str]:
    """What the intervals of the rows come from."""
    return sorted({SPREADS[row.difference.by] for row in results.rows if row.difference})


def shows_truncated(results: StudyResults) -> bool:
    """Whether the share of truncated edges says something: in the table of n, and where it is not next to nothing."""
    found = [row.truncated_share for row in results.rows if row.truncated_share is not None]
    return bool(found) and (results.table == "table2b" or max(found) >= _NOTABLE)


def _line(row: RowResult, results: StudyResults, say_spread: bool) -> Line:
    columns = results.columns
    found, paper, difference = row.measured, row.published, row.difference
    is_baseline = any(other.baseline == row.key for other in results.rows)
    return Line(
        title=row.title,
        here=None if found is None else tuple(with_spread(found.get(name)) for name in columns),
        paper=None if paper is None else tuple(printed(paper.get(name)) for name in columns),
        difference=signed_share(difference.value) if difference else "baseline" if is_baseline else NONE,
        limits=interval(difference.low, difference.high) if difference else "",
        over=SPREADS[difference.by] if difference and say_spread else "",
        paper_difference=signed(row.published_difference) if row.baseline else "",
        correlation=with_spread(row.correlation, "correlation"),
        truncated=share(row.truncated_share),
        recipe=row.recipe,
        changes=row.changes,
        box_weight=row.box_weight or "none",
        seeds=_seeds(row),
        time=_time(row),
        loss=_loss(row.curve),
        curve=_polyline(row.curve),
        problem=_problem(row, results),
    )


def _time(row: RowResult) -> str:
    seconds = sum(run.seconds or 0 for run in row.runs)
    return rounded_duration(seconds) if seconds else NONE


def _seeds(row: RowResult) -> tuple[str, ...]:
    """AP of each seed: 60.8 (seed 0) and so on."""
    done = [run.seed for run in row.runs if run.state == "done"]
    statistic = (row.measured or {}).get("AP")
    values = statistic.runs if statistic else ()
    if len(done) != len(values):  # AP of a run may be unknown
        return tuple(map(points, values))
    return tuple(f"{points(value)} (seed {seed})" for seed, value in zip(done, values, strict=True))


def _problem(row: RowResult, results: StudyResults) -> str:
    """What is missing of a row, and why; "" of a whole one."""
    reasons = [
        f"seed {run.seed} failed: {line(run.error or 'no reason was kept')}"
        if run.state == "failed"
        else f"seed {run.seed} has not been run"
        for run in row.runs
        if run.state != "done"
    ]
    if row.measured is None and not reasons:
        reasons = ["no run of it is kept"]
    if row.measured is not None and row.baseline and row.difference is None:
        base = next((other for other in results.rows if other.key == row.baseline), None)
        without = base is None or base.measured is None
        reasons.append(
            "its baseline is not measured"
            if without
            else "nothing to compare with its baseline by: they have no seed in common, or the pictures are too few"
        )
    return "; ".join(reasons)


def problems(results: StudyResults) -> list[str]:
    """One line for every row of which something is missing, and what else failed."""
    found = [(row.name, _problem(row, results)) for row in results.rows]
    lines = [f"{name}: {problem}" for name, problem in found if problem]
    # The runs of rows are among those lines; what is not must not be lost.
    told = {run.failure for row in results.rows for run in row.runs}
    return lines + [line(text) for text in results.failures if text not in told]


def _points(curve: Curve | None) -> list[tuple[float, float]]:
    if curve is None:
        return []
    return [(step, loss) for step, loss in zip(curve.step, curve.loss, strict=True) if not math.isnan(loss)]


def _loss(curve: Curve | None) -> str:
    """At the begin, and the mean of the last tenth, since single steps are noisy."""
    losses = [loss for _, loss in _points(curve)]
    if not losses:
        return NONE
    last = losses[-max(1, len(losses) // 10) :]
    return f"{losses[0]:.2f} to {sum(last) / len(last):.2f}"


def _polyline(curve: Curve | None) -> str:
    points = _points(curve)
    if len(points) < 2:
        return ""
    first, last = points[0][0], points[-1][0]
    losses = [loss for _, loss in points]
    low, span = min(losses), (max(losses) - min(losses)) or 1.0
    width = (last - first) or 1.0
    return " ".join(f"{1 + 118 * (x - first) / width:.1f},{27 - 26 * (y - low) / span:.1f}" for x, y in points)


def claims(results: StudyResults) -> list[Claim]:
    """The claims in words."""
    return [
        Claim(
            statement=line(claim.statement),
            verdict=VERDICTS[claim.verdict],
            mark=MARKS[claim.verdict],
            kind=claim.verdict.replace(" ", "-"),
            by=SPREADS[claim.by],
            basis=_basis(claim.by),
            published=line(claim.published),
            parts=tuple(map(_part, claim.parts)),
        )
        for claim in results.claims
    ]


def _basis(by: Basis) -> str:
    return "nothing measured yet" if by == "nothing" else f"interval over {SPREADS[by]}"


def _part(part: PartVerdict) -> Part:
    return Part(
        text=line(part.text),
        measure=part.measure,
        difference=measured(part.difference, part.measure),
        interval=interval(part.low, part.high, part.measure),
        published=published(part.published, part.measure),
        verdict=SHORT[part.verdict],
        mark=MARKS[part.verdict],
    )


_TALLY = {
    "holds": ("holds", "hold"),
    "does-not": ("does not hold", "do not hold"),
    "cannot-tell": ("cannot be told at this budget",) * 2,
}


def tally(found: Sequence[Claim]) -> str:
    """3 claims: 1 holds and 2 cannot be told at this budget."""
    counts = {kind: sum(claim.kind == kind for claim in found) for kind in _TALLY}
    parts = [f"{count} {_TALLY[kind][count != 1]}" for kind, count in counts.items() if count]
    return f"{counted(len(found), 'claim')}: {listed(parts)}" if found else "No claim has been looked at."

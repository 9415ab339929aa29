"""The report as one HTML page: nothing is fetched, no script runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gfocal.report.html import render
from gfocal.report.numbers import line
from gfocal.studies.comparison.content import StudyResults
from gfocal.studies.report import method, schedule, view
from gfocal.studies.report.plot import DESCRIBED, svg_plots
from gfocal.studies.report.schedule_plot import COURSES, DIFFERENCES, svg_schedule
from gfocal.studies.report.speed import speed_tables, speed_words
from gfocal.utils.text import listed


@dataclass(frozen=True)
class _Schedule:
    """The part over the schedule: words, the plots and what they show, and tables of the same numbers."""

    words: str
    differences: Markup
    courses: list[Markup]
    differences_shown: str
    courses_shown: str
    grids: list[schedule.Grid]


@dataclass(frozen=True)
class _Tables:
    """A part of words and tables."""

    words: str
    tables: Sequence[tuple[Sequence[str], Sequence[Sequence[str]]]]


@dataclass(frozen=True)
class _Section:
    """What the templates show of one table."""

    id: str
    title: str
    source: str
    note: str
    place: str
    unfinished: str
    problems: list[str]
    claims: list[view.Claim]
    tally: str
    columns: Sequence[str]
    groups: list[tuple[str, list[view.Line]]]
    truncated: bool
    spreads: str
    plots: list[Markup]
    plots_shown: str
    schedule: _Schedule | None
    agreement: _Tables | None
    speed: _Tables | None
    settings: list[tuple[str, str]]
    command: str


def render_html(results: StudyResults) -> str:
    """One table of the paper beside what was measured."""
    section = _section(results, 1)
    return _render("report.html", title=section.title, section=section)


def overview_html(found: Sequence[StudyResults]) -> str:
    """Several tables in one page, every claim and its verdict first."""
    sections = [_section(results, number) for number, results in enumerate(found, 1)]
    return _render(
        "overview.html", title="Tables of the paper, measured here", introduction=method.OVERVIEW, sections=sections
    )


def _render(template: str, **content: object) -> str:
    words = {"reading": method.READ, "verdict_words": method.VERDICT, "spread_words": method.SPREAD}
    return render("gfocal.studies.report", template, **content, **words)


def _schedule(results: StudyResults) -> _Schedule | None:
    """None of runs that were measured at their end alone."""
    if not results.schedule:
        return None
    differences, courses = svg_schedule(results)
    return _Schedule(
        words=schedule.SCHEDULE,
        differences=_as_wide_as_the_page(differences),
        courses=[_as_wide_as_the_page(one) for one in courses],
        differences_shown=DIFFERENCES,
        courses_shown=COURSES,
        grids=[schedule.difference_grid(results), schedule.verdict_grid(results)],
    )


def _as_wide_as_the_page(drawn: str) -> Markup:
    return Markup(drawn.replace("<svg ", '<svg style="max-width: 100%; height: auto" ', 1))


def _agreement(results: StudyResults) -> _Tables | None:
    if results.agreement is None or not schedule.has_agreement(results):
        return None
    return _Tables(schedule.agreement_words(results.agreement), [schedule.agreement_grid(results)])


def _speed(results: StudyResults) -> _Tables | None:
    if results.speed is None:
        return None
    return _Tables(speed_words(results.speed), speed_tables(results.speed, results))


def _section(results: StudyResults, number: int) -> _Section:
    claims = view.claims(results)
    return _Section(
        id=f"t{number}",
        title=line(results.title),
        source=results.source,
        note=results.note,
        place=method.place(results),
        unfinished="" if results.finished else method.UNFINISHED,
        problems=view.problems(results),
        claims=claims,
        tally=view.tally(claims),
        columns=results.columns,
        groups=view.groups(results),
        truncated=view.shows_truncated(results),
        spreads=listed(view.spreads(results)),
        plots=[Markup(svg) for _, svg in svg_plots(results)],
        plots_shown=DESCRIBED,
        schedule=_schedule(results),
        agreement=_agreement(results),
        speed=_speed(results),
        settings=method.settings(results),
        command=method.command(results),
    )

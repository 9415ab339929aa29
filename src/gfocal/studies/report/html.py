"""The report as one HTML page: nothing is fetched, no script runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from gfocal.report.html import render
from gfocal.report.numbers import line
from gfocal.studies.report import method, schedule, view
from gfocal.studies.report.plot import DESCRIBED, svg_plots
from gfocal.studies.report.schedule_plot import COURSES, DIFFERENCES, svg_schedule
from gfocal.studies.report.speed import speed_tables, speed_words
from gfocal.studies.report.view import Results
from gfocal.utils.text import listed


def render_html(results: Results) -> str:
    """One table of the paper beside what was measured.

    Raises:
        UsageError: these are no results.
    """
    section = _section(view.checked(results), 1)
    return _render("report.html", title=section["title"], section=section)


def overview_html(found: Sequence[Results]) -> str:
    """Several tables in one page, every claim and its verdict first.

    Raises:
        UsageError: these are no results.
    """
    sections = [_section(view.checked(results), number) for number, results in enumerate(found, 1)]
    return _render(
        "overview.html", title="Tables of the paper, measured here", introduction=method.OVERVIEW, sections=sections
    )


def _render(template: str, **content: Any) -> str:
    words = {"reading": method.READ, "verdict_words": method.VERDICT, "spread_words": method.SPREAD}
    return render("gfocal.studies.report", template, **content, **words)


def _schedule(results: Results) -> dict[str, Any] | None:
    """None of runs that were measured at their end alone."""
    if not schedule.has_schedule(results):
        return None
    differences, courses = svg_schedule(results)
    return {
        "words": schedule.SCHEDULE,
        "differences": _as_wide_as_the_page(differences),
        "courses": [_as_wide_as_the_page(one) for one in courses],
        "described": {"differences": DIFFERENCES, "courses": COURSES},
        "grids": [schedule.difference_grid(results), schedule.verdict_grid(results)],
    }


def _as_wide_as_the_page(drawn: str) -> Markup:
    return Markup(drawn.replace("<svg ", '<svg style="max-width: 100%; height: auto" ', 1))


def _agreement(results: Results) -> dict[str, Any] | None:
    if not schedule.has_agreement(results):
        return None
    return {"words": schedule.agreement_words(results), "tables": [schedule.agreement_grid(results)]}


def _section(results: Results, number: int) -> dict[str, Any]:
    """What the templates show of one table."""
    claims = view.claims(results)
    speed = None
    if results.get("speed"):
        speed = {"words": speed_words(results), "tables": speed_tables(results)}
    return {
        "id": f"t{number}",
        "title": line(results["title"]),
        "short": line(results["title"]).partition(":")[0],
        "source": results["source"],
        "note": results.get("note") or "",
        "place": method.place(results),
        "unfinished": "" if results["finished"] else method.UNFINISHED,
        "problems": view.problems(results),
        "claims": claims,
        "tally": view.tally(claims),
        "columns": results["columns"],
        "groups": view.groups(results),
        "truncated": view.shows_truncated(results),
        "spreads": listed(view.spreads(results)),
        "plots": [(name, Markup(svg)) for name, svg in svg_plots(results)],
        "described": DESCRIBED,
        "schedule": _schedule(results),
        "agreement": _agreement(results),
        "speed": speed,
        "settings": method.settings(results),
        "command": method.command(results),
    }

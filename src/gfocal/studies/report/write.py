"""Reports as files, each whole or not there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from gfocal.errors import UsageError
from gfocal.studies.comparison.content import StudyResults
from gfocal.studies.report.html import overview_html, render_html
from gfocal.studies.report.markdown import overview_markdown, render_markdown, schedule_plots
from gfocal.studies.report.plot import write_plot
from gfocal.studies.report.schedule_plot import write_courses, write_differences
from gfocal.utils.files import write_atomically
from gfocal.utils.records import fields_from_json, to_json

RESULTS = "results.json"


def write_study_report(results: StudyResults, folder: Path) -> dict[str, Path]:
    """Write ``report.md``, ``report.html``, ``plot.png`` and ``results.json`` into a folder, which is made.

    Args:
        results: of a table.
        folder: where to; what was there of these names is replaced.

    Returns:
        The files by name: "markdown", "html", "plot", "results"; where the runs were measured on the way too,
        "schedule" and "agreement".

    Raises:
        UsageError: the folder is a file.
        DiskFull: there is no room.
    """
    _refuse_file(folder)
    names = {"markdown": "report.md", "html": "report.html", "plot": "plot.png", "results": RESULTS}
    files = {name: folder / file for name, file in names.items()}
    # Written last, so that results.json never stands beside a report of other results for long.
    markdown, html = render_markdown(results, names["plot"]), render_html(results)
    files |= _write_plots(results, files["plot"])
    _write(files["markdown"], markdown)
    _write(files["html"], html)
    _write(files["results"], json.dumps(to_json(results), indent=1, allow_nan=False) + "\n")
    return files


def write_overview(found: Sequence[StudyResults], folder: Path) -> dict[str, Path]:
    """Write ``overview.md``, ``overview.html`` and a plot for each table into a folder, which is made.

    Args:
        found: of several tables, in the order to show them.
        folder: where to.

    Returns:
        The files by name: "markdown", "html", "plot 1" and so on.

    Raises:
        UsageError: there are none, or the folder is a file.
        DiskFull: there is no room.
    """
    if not found:
        raise UsageError("there are no results to show: run a study first (gfocal study table1a --data ...)")
    _refuse_file(folder)
    plots = [f"overview-{number}-{results.table}.png" for number, results in enumerate(found, 1)]
    files = {"markdown": folder / "overview.md", "html": folder / "overview.html"}
    markdown, html = overview_markdown(found, plots), overview_html(found)
    for number, (name, results) in enumerate(zip(plots, found, strict=True), 1):
        files[f"plot {number}"] = folder / name
        _write_plots(results, folder / name)
    _write(files["markdown"], markdown)
    _write(files["html"], html)
    return files


def _write_plots(results: StudyResults, plot: Path) -> dict[str, Path]:
    """The plot of a table and, beside it, those over its schedule; the latter by name."""
    write_atomically(plot, lambda file: write_plot(results, file))
    if not results.schedule:
        return {}
    differences, courses = (plot.with_name(name) for name in schedule_plots(plot.name))
    write_atomically(differences, lambda file: write_differences(results, file))
    write_atomically(courses, lambda file: write_courses(results, file))
    return {"schedule": differences, "agreement": courses}


def _refuse_file(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"cannot write to {folder}: it is a file; name a folder")


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


def read_results(folder: Path) -> list[StudyResults]:
    """The results of all tables that a study left in its folder, in the order of their names.

    Raises:
        UsageError: there are none, or one cannot be read.
    """
    files = sorted(folder.glob(f"*/{RESULTS}"))
    if not files:
        raise UsageError(f"{folder} holds no results of a table: run `gfocal study TABLE --out {folder}` first")
    found = []
    for file in files:
        try:
            found.append(fields_from_json(StudyResults, json.loads(file.read_text(encoding="utf-8"))))
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"{file} cannot be read ({error}); the command of its study writes it anew") from error
    return found

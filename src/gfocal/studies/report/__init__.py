"""What a study found, for people: Markdown, one HTML page, a plot, lines for a terminal.

The input is :class:`~gfocal.studies.comparison.content.StudyResults`, what a study's ``results.json`` holds. Nothing
is measured or decided here.
"""

from __future__ import annotations

from gfocal.studies.report.html import overview_html, render_html
from gfocal.studies.report.markdown import overview_markdown, render_markdown
from gfocal.studies.report.terminal import describe_results
from gfocal.studies.report.write import read_results, write_overview, write_study_report

__all__ = [
    "describe_results",
    "overview_html",
    "overview_markdown",
    "read_results",
    "render_html",
    "render_markdown",
    "write_overview",
    "write_study_report",
]

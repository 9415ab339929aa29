"""What a study found, for people: Markdown, one HTML page, a plot, lines for a terminal.

The input is the content of a study's ``results.json``, a plain dict. Nothing is measured or decided here.
"""

from __future__ import annotations

from gfocal.report.files import read_results, write_overview, write_report
from gfocal.report.page import overview_html, render_html
from gfocal.report.text import overview_markdown, render_markdown
from gfocal.report.told import told

__all__ = [
    "overview_html",
    "overview_markdown",
    "read_results",
    "render_html",
    "render_markdown",
    "told",
    "write_overview",
    "write_report",
]

"""How the charts of the page are drawn: matplotlib, in the colours of the page, with words and numbers beside them."""

from __future__ import annotations

import html
import warnings
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from gfocal.report.plot import GREEN, HERE, INK, PAGE, PAPER, QUIET, RED, svg
from gfocal.run_report.blocks import Figure, Table

COLOURS = (HERE, PAPER, GREEN, RED, QUIET)
"""Of lines that stand for different things; they differ in their dashes too."""
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
SIZE = (4.7, 3.1)  # inches: what a phone shows at nearly its size


def chart(x: str, y: str, *, size: tuple[float, float] = SIZE) -> tuple[Any, Any]:
    """An empty figure and its panel."""
    from matplotlib.figure import Figure as Drawing

    figure = Drawing(figsize=size, layout="constrained")
    figure.patch.set_facecolor(PAGE)
    panel = figure.subplots()
    style(panel, x, y)
    return figure, panel


def style(panel: Any, x: str, y: str) -> None:
    """Axes as all charts have them."""
    panel.set_xlabel(x, color=INK, fontsize=10)
    panel.set_ylabel(y, color=INK, fontsize=10)
    panel.tick_params(colors=INK, labelsize=9, length=0)
    panel.grid(alpha=0.3, color=QUIET, linewidth=0.6)
    panel.set_axisbelow(True)
    panel.patch.set_alpha(0)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        panel.spines[side].set_color(QUIET)


def legend(panel: Any, **where: Any) -> None:
    """Of the lines that have a label, if any."""
    handles, labels = panel.get_legend_handles_labels()
    if handles:
        found = panel.legend(handles, labels, frameon=False, fontsize=9, labelcolor=INK, **where)
        found.set_in_layout("bbox_to_anchor" in where)


def finished(drawing: Any, title: str, caption: str, numbers: Table) -> Figure:
    """The drawing as a part of the page, with what it shows as its label."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the page has other fonts than matplotlib
        drawn = svg(drawing)
    label = html.escape(f"{title}. {caption}", quote=True)
    return Figure(Markup(drawn.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)), title, caption, numbers)


def sampled(count: int, most: int = 20) -> Sequence[int]:
    """At most so many of the rows of a long table, the first and the last among them."""
    if count <= most:
        return range(count)
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})

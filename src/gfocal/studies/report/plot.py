"""The plot of a table: what each row differs from its baseline, measured and in the paper."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from gfocal.report.numbers import signed
from gfocal.report.plot import HERE, INK, PAGE, PAPER, QUIET, svg, write_png
from gfocal.studies.comparison.content import RowResult, StudyResults
from gfocal.studies.comparison.findings import Difference

_APART = 0.14  # of a row, measured above and paper below its middle
_SIDE_BY_SIDE = 2
_FAR = 5.0  # times as wide as the interval in the middle: it would press all the others together


def panels(results: StudyResults) -> list[tuple[str, list[RowResult]]]:
    """The rows of each plot: one a group, or all in one where there are many groups or none."""
    found = [(name, list(group)) for name, group in groupby(results.rows, key=lambda row: row.group)]
    return found if len(found) == _SIDE_BY_SIDE else [("", list(results.rows))]


def write_plot(results: StudyResults, file: Path) -> None:
    """All panels beside each other as a PNG."""
    write_png(_figure(results, panels(results), legend=True), file)


def svg_plots(results: StudyResults) -> list[tuple[str, str]]:
    """(group, SVG) of each panel, to stand in a page; its colours are the page's variables."""
    return [(name, svg(_figure(results, [(name, rows)], legend=False))) for name, rows in panels(results)]


DESCRIBED = (
    "Difference in AP to the baseline, in points; right of the line is better than the baseline. "
    "Filled dot and bar: measured here, with its 95 % interval. Open diamond: the paper. A bar that is cut off with an "
    "arrow is many times longer than the others; its numbers stand below it."
)
"""What the plot shows, for who cannot see it or wonders what the marks are."""


def _figure(results: StudyResults, shown: Sequence[tuple[str, list[RowResult]]], legend: bool) -> Any:
    from matplotlib.figure import Figure

    deepest = max(len(rows) for _, rows in shown)
    figure = Figure(figsize=(5.4 * len(shown) ** 0.9, 1.15 + 0.42 * deepest + 0.3 * legend), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.06)  # type: ignore[call-arg, union-attr]
    figure.patch.set_facecolor(PAGE)
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    limits = _limits(results.rows)
    for panel, (name, rows) in zip(panels, shown, strict=True):
        _panel(panel, name, rows, limits)
    if legend:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _limits(rows: Sequence[RowResult]) -> tuple[float, float]:
    """The same for all panels of a table, and a point wide at least: tiny differences must look tiny.

    An interval that is many times as wide as most is no measure for the others.
    """
    ends = [_ends(row.difference) for row in rows if row.difference]
    widths = sorted(high - low for _, low, high in ends)
    usual = _FAR * widths[len(widths) // 2] if widths else 0.0
    values = [-0.5, 0.5, *(row.published_difference or 0.0 for row in rows)]
    values += [value for own in ends if own[2] - own[1] <= usual for value in own]
    low, high = min(values), max(values)
    room = 0.08 * (high - low)
    return low - room, high + room


def _ends(difference: Difference) -> tuple[float, float, float]:
    """Value, low and high in points."""
    return 100 * difference.value, 100 * difference.low, 100 * difference.high


def _panel(panel: Any, name: str, rows: Sequence[RowResult], limits: tuple[float, float]) -> None:
    for place, row in enumerate(rows):
        _marks(panel, row, place, limits)
    # Both have a place in the legend, whichever rows have values.
    panel.plot([], [], "o-", color=HERE, markersize=6.5, linewidth=1.8, label="measured here, 95 % interval")
    panel.plot([], [], "D", color=PAPER, markerfacecolor=PAGE, markeredgewidth=1.6, label="paper")
    panel.axvline(0, color=QUIET, linewidth=1)
    for border in range(1, len(rows)):
        panel.axhline(border - 0.5, color=QUIET, linewidth=0.5, alpha=0.4)
    panel.set_xlim(*limits)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_yticks(range(len(rows)), [row.title for row in rows], color=INK, fontsize=10, parse_math=False)
    panel.tick_params(axis="x", colors=INK, labelsize=9)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", alpha=0.35, color=QUIET, linewidth=0.6)
    panel.set_axisbelow(True)
    panel.patch.set_alpha(0)
    panel.set_xlabel("AP difference to the baseline, points", color=INK, fontsize=10)
    if name:
        panel.set_title(name, color=INK, fontsize=11, fontweight="bold", parse_math=False)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(QUIET)


def _marks(panel: Any, row: RowResult, place: int, limits: tuple[float, float]) -> None:
    if row.difference:
        _bar(panel, _ends(row.difference), place - _APART, limits)
    elif row.baseline is None or row.measured is None:
        words = "not measured" if row.measured is None else "baseline"
        panel.annotate(
            words,
            (0, place if row.published_difference is None else place - _APART),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=QUIET,
            style="italic",
        )
    if row.published_difference is not None:
        point = {"markersize": 6, "markeredgewidth": 1.6, "markerfacecolor": PAGE}
        panel.plot([row.published_difference], [place + _APART], "D", color=PAPER, **point)


def _bar(panel: Any, ends: tuple[float, float, float], height: float, limits: tuple[float, float]) -> None:
    """A dot in its interval; what lies beyond the plot ends in an arrow and is told in words."""
    value, low, high = ends
    left, right = limits
    seen = [min(max(end, left), right) for end in (low, high)]
    if low < high:
        panel.plot(seen, [height] * 2, "-", color=HERE, linewidth=1.8)
    for end, shown, arrow in ((low, seen[0], "<"), (high, seen[1], ">")):
        if low < high or end != shown:
            mark = "|" if end == shown else arrow
            panel.plot([shown], [height], mark, color=HERE, markersize=7, clip_on=False)
    if left <= value <= right:
        panel.plot([value], [height], "o", color=HERE, markersize=6.5)
    if seen != [low, high]:
        words = f"{signed(value)} ({signed(low)} to {signed(high)})"
        place = {"xytext": (8, -9), "textcoords": "offset points", "va": "center", "fontsize": 8}
        panel.annotate(words, (left, height), color=HERE, **place)

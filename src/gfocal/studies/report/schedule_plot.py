"""Curves over the schedule: differences to the baseline, and how scores agree with IoUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gfocal.report.plot import HERE, INK, PAGE, PAPER, QUIET, svg, write_png
from gfocal.studies.comparison.content import AgreementMeasure, RowMoment, RowResult, StudyResults
from gfocal.studies.comparison.findings import Difference
from gfocal.studies.report import schedule

_ACROSS = 3
_FAR = 6.0  # times the usual width of an interval: it would press all the others together
# A line a row: colour, dashes and mark, so that colour is never all there is.
_LINES = [
    (QUIET, "-", "o"),
    (HERE, "-", "s"),
    (PAPER, "-", "D"),
    (INK, "--", "^"),
    (HERE, ":", "v"),
    (PAPER, "--", "P"),
]
DIFFERENCES = (
    "Difference in AP to the baseline, in points, over the steps of training; above the line is better than the "
    "baseline. Dots and bars: measured here, with 95 % intervals. Dashed: the paper's difference at the end of its "
    "own schedule. A bar that leaves the plot is many times longer than the others."
)
COURSES = (
    "Over the steps of training, mean over the seeds: the mean IoU of the positives' boxes, and the correlation of "
    "score and IoU over each of three sets of boxes."
)


def write_differences(results: StudyResults, file: Path) -> None:
    """The differences of all rows as a PNG."""
    write_png(_differences(results), file)


def write_courses(results: StudyResults, file: Path) -> None:
    """The courses of all groups of rows beside each other as a PNG."""
    write_png(_courses(results, schedule.groups(results)), file)


def svg_schedule(results: StudyResults) -> tuple[str, list[str]]:
    """SVG of the differences, and of the courses of each group of rows, to stand in a page."""
    return svg(_differences(results)), [svg(_courses(results, [group])) for group in schedule.groups(results)]


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_facecolor(PAGE)
    return figure


def _dress(panel: Any, steps: Sequence[int], title: str) -> None:
    panel.set_xscale("log")
    panel.set_xticks(steps, [f"{step:,}" for step in steps], rotation=45, ha="right", rotation_mode="anchor")
    panel.set_xticks([], minor=True)
    panel.set_xlim(0.85 * steps[0], 1.15 * steps[-1])
    panel.set_xlabel("steps", color=INK, fontsize=8)
    panel.tick_params(colors=INK, labelsize=8)
    panel.grid(alpha=0.35, color=QUIET, linewidth=0.6)
    panel.set_axisbelow(True)
    panel.patch.set_alpha(0)
    panel.set_title(title, color=INK, fontsize=10, fontweight="bold", parse_math=False)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        panel.spines[side].set_color(QUIET)


def _differences(results: StudyResults) -> Any:
    rows = [row for row in results.rows if row.baseline]
    across = min(_ACROSS, max(len(rows), 1))
    down = -(-len(rows) // across) or 1
    figure = _figure(0.4 + 3.2 * across, 0.5 + 2.5 * down)
    panels = figure.subplots(down, across, squeeze=False, sharey=True)
    steps, titles = [moment.step for moment in results.schedule], schedule.titles(results)
    for panel, row in zip(panels.flat, rows, strict=False):
        _dress(panel, steps, titles[row.key])
        panel.axhline(0, color=QUIET, linewidth=1)
        if row.published_difference is not None:
            panel.axhline(row.published_difference, color=PAPER, linewidth=1.4, linestyle="--", label="paper")
        found = [(moment.step, moment.rows[row.key].difference) for moment in results.schedule]
        _bars(panel, [(step, one) for step, one in found if one is not None])
    for panel in panels.flat[len(rows) :]:
        panel.set_visible(False)
    for panel in panels[:, 0]:
        panel.set_ylabel("AP, points", color=INK, fontsize=9)
    if rows:
        panels[0, 0].set_ylim(*_limits(results, rows))
        handles = {label: handle for panel in panels.flat for handle, label in zip(*_legend(panel), strict=True)}
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=2, frameon=False, fontsize=9,
            labelcolor=INK,
        )  # fmt: skip
    return figure


def _legend(panel: Any) -> tuple[list[Any], list[str]]:
    handles, labels = panel.get_legend_handles_labels()
    return handles, labels


def _bars(panel: Any, found: Sequence[tuple[int, Difference]]) -> None:
    values = [100 * one.value for _, one in found]
    down = [100 * (one.value - one.low) for _, one in found]
    up = [100 * (one.high - one.value) for _, one in found]
    label = "measured here, 95 % interval"
    look = {"color": HERE, "markersize": 5, "linewidth": 1.5, "capsize": 3, "elinewidth": 1.2}
    panel.errorbar([step for step, _ in found], values, yerr=[down, up], fmt="o-", label=label, **look)


def _limits(results: StudyResults, rows: Sequence[RowResult]) -> tuple[float, float]:
    """The same for all rows, and a point at least; intervals that are far wider than most are no measure."""
    found = [moment.rows[row.key].difference for moment in results.schedule for row in rows]
    ends = [(100 * one.low, 100 * one.high) for one in found if one is not None]
    widths = sorted(high - low for low, high in ends)
    usual = _FAR * widths[len(widths) // 2] if widths else 0.0
    values = [-0.5, 0.5, *(row.published_difference or 0.0 for row in rows)]
    values += [100 * one.value for one in found if one is not None]
    values += [end for own in ends if own[1] - own[0] <= usual for end in own]
    room = 0.06 * (max(values) - min(values))
    return min(values) - room, max(values) + room


def _courses(results: StudyResults, groups: Sequence[tuple[str, Sequence[RowResult]]]) -> Any:
    names: dict[AgreementMeasure, str] = {"mean_iou": "mean IoU of positives"}
    names |= {name: f"correlation: {words}" for name, words in schedule.SETS.items()}
    deepest = max(len(rows) for _, rows in groups)
    figure = _figure(7.2 * len(groups), 5.4 + 0.14 * deepest)
    parts = figure.subfigures(1, len(groups), squeeze=False)[0]
    steps = [moment.step for moment in results.schedule]
    for part, (heading, rows) in zip(parts, groups, strict=True):
        part.patch.set_alpha(0)
        panels = part.subplots(2, 2).flat
        for panel, (name, title) in zip(panels, names.items(), strict=True):
            _dress(panel, steps, title)
            for row, (colour, dashes, mark) in zip(rows, _LINES * (1 + len(rows) // len(_LINES)), strict=False):
                points = [(moment.step, _mean(moment.rows[row.key], name)) for moment in results.schedule]
                known = [(step, value) for step, value in points if value is not None]
                look = {"color": colour, "linestyle": dashes, "marker": mark, "markersize": 4.5, "linewidth": 1.4}
                panel.plot([x for x, _ in known], [y for _, y in known], label=row.title, **look)
        handles, labels = _legend(panel)
        legend = part.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        for text in legend.get_texts():
            text.set_color(INK)
            text.set_parse_math(False)
        if heading:
            part.suptitle(heading, color=INK, fontsize=11, fontweight="bold", parse_math=False)
    return figure


def _mean(row: RowMoment, name: AgreementMeasure) -> float | None:
    found = row.agreement.get(name)
    return None if found is None else found.measured.mean

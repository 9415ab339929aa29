"""Calibrations for people: what intervals hold before and after, what scores are worth, thresholds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from gfocal.cli.console import PlainConsole
from gfocal.utils.text import counted, join_some

if TYPE_CHECKING:  # whoever prints one of them has loaded what it needs
    from gfocal.calibration.measures import Share
    from gfocal.commands.trust.calibration_report import CalibrationReport, ThresholdRow
    from gfocal.evaluation.trust.check import CalibrationCheck
    from gfocal.evaluation.trust.tables import GroupRow, IntervalTable, ScoreRow


_MEANING = {
    "edge_std": "edge_std: the distributions read as normal ones, before.",
    "size": "size: proportional to the box.",
}


def print_calibration(report: CalibrationReport) -> None:
    """What was fitted and stored, and what it is worth."""
    console = PlainConsole()
    after, source = report.after, report.source
    console.print(
        f"{source.model} on {source.split} of {source.data}: {counted(report.images, 'picture')}, "
        f"{report.objects:,} objects, {after.matches:,} of them found",
        soft_wrap=True,
    )
    rows = [("edge_std", report.before)] if report.before is not None else []
    rows += [("constant", report.constant), ("size", report.size), ("calibrated", after)]
    console.print(_level_table(rows))
    console.print(_group_table(after))
    console.print(_gains(report))
    others = ", ".join(f"{kind} {cost:.3f}" for kind, cost in report.candidates.items())
    console.print(
        f"scale: {report.scale}, the smallest interval score of {others} (of constant intervals, mean over levels)",
        soft_wrap=True,
    )
    pooled = "all classes share their quantiles (none has 100 found objects)"
    if report.own_classes:
        pooled = f"quantiles of their own: {join_some(report.own_classes)}; all other classes share theirs"
    console.print(pooled, soft_wrap=True)
    console.print(_score_table(report.scores_before, report.scores_after, report.ap_before, report.ap_after))
    console.print(f"scores: {report.score_kind}; a calibrated score is the mean of: {report.rule}", soft_wrap=True)
    console.print(_threshold_table(report.thresholds))
    for line in (report.how, report.promise):
        console.print(f"{line}.", soft_wrap=True)
    console.print(f"stored in {source.out}", soft_wrap=True)


def print_check(found: CalibrationCheck) -> None:
    """What a calibration holds on the data of an evaluation."""
    console = PlainConsole()
    if found.intervals is not None:
        console.print(_level_table([("calibrated", found.intervals)]))
        console.print(_group_table(found.intervals))
    if found.before is not None and found.after is not None:
        console.print(_score_table(found.before, found.after, None, None))
    if seen := found.describe_seen():
        console.print(f"note: {seen}", soft_wrap=True)
    for line in found.drops:
        console.print(f"warning: {line}", soft_wrap=True)


def _level_table(rows: Sequence[tuple[str, IntervalTable]]) -> Table:
    known = " ".join(_MEANING[name] for name, _ in rows if name in _MEANING)
    caption = f"share inside, in brackets its 95 % interval; width and interval score of edges in pixels. {known}"
    table = Table(title="what intervals hold", caption=caption)
    for column in ("intervals", "level", "edges", "width", "score", "boxes", "width"):
        table.add_column(column, justify="left" if column == "intervals" else "right")
    for name, own in rows:
        for i, row in enumerate(own.levels):
            edges = _share(row.edges), f"{row.width:.1f}", f"{row.score:.1f}"
            last = i == len(own.levels) - 1
            shown = f"{100 * row.level:g} %", *edges, _share(row.box), f"{row.box_width:.1f}"
            table.add_row(name if i == 0 else "", *shown, end_section=last)
    return table


def _group_table(own: IntervalTable) -> Table:
    table = Table(title=f"calibrated, at {100 * own.level:g} %")
    for column in ("of", "edges", "boxes", "width", "score"):
        table.add_column(column, justify="left" if column == "of" else "right")
    row = next(row for row in own.levels if row.level == own.level)
    for name, share in zip(("left", "top", "right", "bottom"), row.each, strict=True):
        table.add_row(f"{name} edges", _share(share), "", "", "", end_section=name == "bottom")
    for group in own.sizes:
        span = "" if group.smallest is None else f", {group.smallest:.0f}-{group.largest:.0f} pixels"
        table.add_row(f"{group.name} objects{span}", *_cells(group))
    table.add_section()
    for group in own.classes:
        table.add_row(Text(group.name), *_cells(group))
    return table


def _cells(group: GroupRow) -> list[str]:
    return [_share(group.edges), _share(group.box), f"{group.width:.1f}", f"{group.score:.1f}"]


def _gains(report: CalibrationReport) -> str:
    """How much smaller the interval score is."""
    level = report.after.level
    own, constant, size = (
        next(row.score for row in table.levels if row.level == level)
        for table in (report.after, report.constant, report.size)
    )
    parts = [f"{100 * (1 - own / other):.0f} % below that of {name}"
             for name, other in (("constant intervals", constant), ("ones proportional to the box", size))
             if other > 0]  # fmt: skip
    return f"interval score at {100 * level:g} %: {', '.join(parts)}" if parts else "all intervals have no width"


def _score_table(before: ScoreRow, after: ScoreRow, ap_before: float | None, ap_after: float | None) -> Table:
    table = Table(title="scores", caption="matched at IoU 0.5, best score first; 25 bins; LRP at its best threshold")
    for column in ("", "before", "after"):
        table.add_column(column, justify="left" if column == "" else "right")
    for name, own, other in (
        ("D-ECE", before.d_ece, after.d_ece),
        ("LaECE", before.la_ece, after.la_ece),
        ("Brier", before.brier, after.brier),
        ("LRP", before.lrp, after.lrp),
    ):
        table.add_row(name, f"{own:.4f}", f"{other:.4f}")
    if ap_before is not None and ap_after is not None:
        table.add_row("AP", f"{ap_before:.4f}", f"{ap_after:.4f}")
    return table


def _threshold_table(rows: Sequence[ThresholdRow]) -> Table:
    table = Table(title="scores for predict --score", caption="in brackets the 95 % interval over resampled pictures")
    for column in ("", "of at least", "--score"):
        table.add_column(column, justify="left" if column == "" else "right")
    for row in rows:
        found = row.threshold
        shown = "out of reach" if found.score is None else f"{found.score:.3f}"
        if found.low is not None and found.high is not None:
            shown += f" ({found.low:.3f}-{found.high:.3f})"
        table.add_row(row.of, f"{100 * row.target:g} %", shown)
    return table


def _share(share: Share) -> str:
    if math.isnan(share.share):
        return "-"
    return f"{100 * share.share:.1f} ({100 * share.low:.0f}-{100 * share.high:.0f})"

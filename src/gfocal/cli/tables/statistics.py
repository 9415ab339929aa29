"""The statistics of a data set as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from gfocal.analysis.recommend import Kind, Proposal
from gfocal.analysis.statistics import DataStatistics, ObjectGroup
from gfocal.cli.console import PlainConsole
from gfocal.cli.tables.classes import class_table
from gfocal.commands.statistics import StatisticsReport
from gfocal.data.checks.crowding import describe_crowding
from gfocal.utils.text import counted, percent

_NARROW = 72  # columns of a terminal


def print_statistics(report: StatisticsReport, *, console: Console | None = None) -> None:
    """Tables by class, level, size and shape, and what is proposed."""
    console = console or PlainConsole()
    found = report.statistics
    console.print(_headline(report), soft_wrap=True)
    if any(report.class_counts.values()):
        console.print(class_table(report.class_counts, every=False, rest="--json has them"))
    if not found.totals.objects:
        console.print("these pictures have no object to learn: there is nothing more to show")
        return
    if found.counted == "candidates":
        console.print(
            "this recipe's assigner chooses an object's points by predictions: counted are its candidates, every point "
            "that may become positive of an object",
            soft_wrap=True,
        )
    console.print(_levels(found, narrow=console.width < _NARROW))
    console.print(_groups("size", "side, pixels", [(group, None) for group in found.sizes], _size))
    shapes = [(row.group, row.unlike_anchors) for row in found.aspects]
    console.print(_groups("shape", "width:height", shapes, _shape))
    for line in _lines(found):
        console.print(line, soft_wrap=True)
    for line in describe_crowding(found.crowding):
        console.print(f"! {line}", soft_wrap=True)
    if found.proposal is not None:
        _print_proposal(found.proposal, console, reach_known=found.counted == "positives")


def _headline(report: StatisticsReport) -> str:
    found = report.statistics
    what = "tile" if found.tile else "picture"
    of = "" if found.images == found.images_in_all else f" (of {found.images_in_all:,}, chosen at random)"
    return (
        f"{report.data}, {report.split}, as {report.recipe} trains at {report.size}"
        f"{', augmented' if found.augmented else ''}: "
        f"{counted(found.images, what)}{of}, {counted(found.totals.objects, 'object')}, "
        f"{counted(found.positives, 'candidate point' if found.counted == 'candidates' else 'positive point')}"
    )


def _levels(found: DataStatistics, *, narrow: bool) -> Table:
    """Where there is little room without the percentiles between the median and the farthest that must be reached."""
    rows, reach = found.levels, found.reach_strides
    bounded = [] if reach is None else [f"{'>' if narrow else 'beyond'} {reach:g}"]
    limit = "unlimited" if reach is None else f"{reach:g} strides"
    table = Table(title="edges by level", caption=f"distances from point to edge in strides; reach: {limit}")
    percentiles = ("50", "99.9") if narrow else ("50", "99", "99.9")
    headings = {"50": "median", "99": "99 %", "99.9": "99.9 %"}
    farthest = [] if narrow else ["largest"]
    for name in ("stride", "objects", found.counted, *(headings[p] for p in percentiles), *farthest, *bounded):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        counts = f"{row.stride}", f"{row.objects:,}", f"{row.positives:,}"
        if not row.edges:
            table.add_row(*counts, *["-"] * (len(table.columns) - 3))
            continue
        distances = (*(row.percentiles[name] for name in percentiles), *([row.largest] if farthest else []))
        share = [percent(row.truncated_share)] if bounded else []
        table.add_row(*counts, *(f"{value:.2f}" for value in distances), *share)
    return table


def _groups(
    what: str, first: str, rows: Sequence[tuple[ObjectGroup, int | None]], name: Callable[[ObjectGroup], str]
) -> Table:
    """Of each group a row, with how many of its objects no anchor resembles, where that is known."""
    table = Table(title=f"objects by {what}", caption="out of reach: share of the edges")
    anchors = any(unlike is not None for _, unlike in rows)
    table.add_column(first, no_wrap=True)
    for column in ("objects", "without point", "out of reach", *["no anchor"] * anchors):
        table.add_column(column, justify="right", no_wrap=True)
    for group, unlike in rows:
        if not group.objects:
            table.add_row(name(group), "none", *["-"] * (2 + anchors))
            continue
        cells = [f"{group.objects:,}", _counted_share(group.missed, group.missed_share)]
        cells.append(percent(group.truncated_share))
        if anchors:
            cells.append(f"{unlike:,}")
        table.add_row(name(group), *cells)
    return table


def _counted_share(count: int, share: float | None) -> str:
    return f"{count:,} ({percent(share)})" if count else "0"


def _size(group: ObjectGroup) -> str:
    if group.end is None:
        return f"{group.begin:g} and more"
    return f"below {group.end:g}" if group.begin == 0 else f"{group.begin:g} to {group.end:g}"


def _shape(group: ObjectGroup) -> str:
    if group.end is None:
        return f"{_ratio(group.begin)} and up"
    return f"below {_ratio(group.end)}" if group.begin == 0 else f"{_ratio(group.begin)} to {_ratio(group.end)}"


def _ratio(value: float) -> str:
    return f"{value:g}:1" if value >= 1 else f"1:{1 / value:g}"


def _lines(found: DataStatistics) -> list[str]:
    tiny, totals = found.tiny, found.totals
    edges = "edges of the candidates" if found.counted == "candidates" else "edges"
    lines = [
        f"in all: {percent(totals.truncated_share)} of the {edges} lie beyond what the boxes can reach, "
        f"{percent(totals.missed_share)} of the objects get no point"
    ]
    if tiny.below_a_pixel or tiny.below_a_stride:
        lines.append(
            f"tiny as they enter: {counted(tiny.below_a_pixel, 'object')} with a side below a pixel, "
            f"{counted(tiny.below_a_stride, 'object')} smaller than a cell of the finest level"
        )
    if unlike := sum(row.unlike_anchors or 0 for row in found.aspects):
        lines.append(
            f"{counted(unlike, 'object')} ({percent(unlike / totals.objects)}) unlike any anchor: even one in the "
            "best position stays below positive_iou, so they learn from low-quality matches only"
        )
    if least := found.smallest_reg_max:
        by_delta = ", ".join(f"{n} with delta {delta}" for delta, n in least.items())
        lines.append(f"smallest reg_max that leaves at most 0.1 % of each level's edges out: {by_delta}")
    return lines


def _print_proposal(proposal: Proposal, console: Console, *, reach_known: bool) -> None:
    console.print()
    if not proposal.reasons:
        reach = "nothing needs to change: the boxes reach the edges, and" if reach_known else "nothing was found:"
        unknown = "" if reach_known else "; whether the boxes reach the edges shows in training, which counts it"
        console.print(f"{reach} objects get their points{unknown}", soft_wrap=True)
    for reason in proposal.reasons:
        console.print(f"! {reason}", soft_wrap=True)
    if proposal.reasons and not proposal.options:
        console.print("nothing that this recipe accepts fixes it", soft_wrap=True)
    for number, option in enumerate(proposal.options):
        console.print(f"{_LEAD[option.kind] if number == 0 else 'or ' + _LEAD[option.kind]}:", soft_wrap=True)
        console.print(f"    {option.typed}", soft_wrap=True)
        leaves = f"at most {percent(option.truncated_share)} of a level's edges out of reach"
        console.print(f"    {leaves}, {percent(option.missed_share)} of the objects without a point", soft_wrap=True)
        console.print(f"    cost: {option.cost.describe()}", soft_wrap=True)
    for note in proposal.notes:
        console.print(f"note: {note}", soft_wrap=True)


_LEAD: dict[Kind, str] = {
    "reach": "more bins",
    "coarser": "a coarser level",
    "larger": "larger pictures",
    "finer": "a finer level",
    "anchors": "other anchors",
    "smaller": "smaller pictures, for speed (measure AP)",
}

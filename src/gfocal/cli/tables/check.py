"""The report of ``gfocal data check`` for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from gfocal.cli.console import PlainConsole
from gfocal.cli.tables.classes import class_table
from gfocal.commands.fix import Fixed
from gfocal.data.checks.boxes import learnt_boxes
from gfocal.data.checks.classes import count_classes
from gfocal.data.checks.fix import CHANGES
from gfocal.data.checks.report import LeftOut, Report
from gfocal.data.kinds import OF_SPLITS, SEVERITIES, Finding, Kind
from gfocal.utils.text import counted, shorten, visible

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_EXAMPLES = 3
_IN_FULL = (Kind.MANY_OBJECTS,)
"""Warnings whose message says what the table does not."""
_WIDE, _MIDDLE = 100, 72
"""Columns of a terminal from which the table of findings has five columns, and four; on fewer it has three."""


def print_check(report: Report, *, every: bool = False) -> None:
    """What a data set holds, tables of its classes and of what was found, what ``--skip-broken`` would leave out.

    Lines are wrapped for a terminal, and each is one line elsewhere.

    Args:
        report: what to print.
        every: a row for each class and a line for each finding too.
    """
    console = PlainConsole()
    for split, index in report.splits.items():
        images, classes = counted(len(index), "picture"), counted(len(index.names), "class", "classes")
        boxes = counted(int(learnt_boxes(index).sum()), "box to learn", "boxes to learn")
        _print(console, f"{split}: {images}, {boxes}, {classes} ({index.annotations})")
    for line in report.understood:
        _print(console, f"note: {line}")
    if report.splits:
        counts = {split: count_classes(index) for split, index in report.splits.items()}
        console.print(class_table(counts, every=every, rest="--all shows them"))
    grouped = report.by_kind()
    if grouped:
        console.print(_table(grouped, console.width))
    for kind, found in grouped.items():
        shown = found if every or kind in _IN_FULL else found[:_EXAMPLES] if kind.severity == "error" else []
        for finding in shown:
            _print(console, Text.assemble((finding.severity, _COLOURS[finding.severity]), f" {_line(finding)}"))
        if 0 < len(shown) < len(found):
            _print(console, f"      ... and {len(found) - len(shown):,} more {kind}")
    totals = [counted(report.count(severity), severity) for severity in SEVERITIES]
    _print(console, f"{', '.join(totals)}; {skipped_line(report.left_out)}")


def _print(console: PlainConsole, line: str | Text) -> None:
    console.print(line, soft_wrap=not console.is_terminal)


def print_fixed(fixed: Fixed) -> None:
    """What is different in the cleaned copy, and what its own check found."""
    console = PlainConsole()
    if fixed.changes:
        table = Table(title="changed in the copy")
        for column in ("", "count", "first ones"):
            table.add_column(column, justify="right" if column == "count" else "left", overflow="fold")
        for kind, count in fixed.counts().items():
            own = [change for change in fixed.changes if change.kind == kind][:_EXAMPLES]
            first = "\n".join(visible(f"{change.subject or change.split}: {change.action}") for change in own)
            table.add_row(kind, f"{count:,}", first + ("\n..." if count > len(own) else ""))
        console.print(table)
    for line in fixed.lost:
        console.print(f"its format cannot hold: {line}", soft_wrap=True)
    counts = [counted(fixed.report.count(severity), severity) for severity in SEVERITIES]
    changes = counted(len(fixed.changes), "change")
    console.print(
        f"{fixed.out}: {changes}, listed in {fixed.out / CHANGES}; its check: {', '.join(counts)}", soft_wrap=True
    )


def _line(finding: Finding) -> str:
    """``kind: file: message``."""
    # What is said of a whole file names it; of an archive it names a file of the cache.
    names_itself = finding.kind in OF_SPLITS and finding.file.suffix.lower() != ".zip"
    place = "" if names_itself else f"{finding.file}: "
    return visible(f"{finding.kind}: {place}{finding.message}")


def _table(grouped: Mapping[Kind, Sequence[Finding]], width: int) -> Table:
    """A row for each kind; what has no column of its own on a narrow terminal stands below the meaning."""
    wide, middle = width >= _WIDE, width >= _MIDDLE
    room = (width - 28) // 3 if wide else (width - 25) // 2 if middle else width - 22
    table = Table()
    table.add_column("", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("what", overflow="fold", min_width=max(map(len, grouped)))
    if middle:
        table.add_column("first ones", overflow="fold")
    if wide:
        table.add_column("--fix", overflow="fold")
    for kind, found in grouped.items():
        first = _first(found, room)
        what = Text.assemble((kind.value, "bold"), f"\n{kind.meaning}")
        if not middle:
            what.append(f"\n{first}")
        if not wide:
            what.append(f"\n--fix: {kind.remedy}")
        cells = (Text(kind.severity, _COLOURS[kind.severity]), f"{len(found):,}", what, first, kind.remedy)
        table.add_row(*cells[: len(table.columns)], end_section=not wide)
    return table


def _first(found: Sequence[Finding], width: int) -> str:
    names = dict.fromkeys(f.class_name or f.image or f.file.name for f in found)
    shown = [shorten(visible(name), width) for name in list(names)[:_EXAMPLES]]
    return "\n".join(shown) + ("\n..." if len(names) > len(shown) else "")


def skipped_line(left_out: Mapping[str, LeftOut]) -> str:
    """What each verb would leave out with ``--skip-broken``, as one line; training measures on val as well."""
    own = left_out.values()
    total = LeftOut(sum(split.records for split in own), sum(split.images for split in own))
    if not any(total):
        return "--skip-broken would leave nothing out"
    verbs = {"train": total, "eval": left_out.get("val", LeftOut(0, 0))}
    return "with --skip-broken " + ", ".join(f"{verb} leaves out {_amounts(own)}" for verb, own in verbs.items())


def _amounts(own: LeftOut) -> str:
    amounts = ((own.records, "record"), (own.images, "unusable picture"))
    return " and ".join(counted(number, one) for number, one in amounts if number) or "nothing"

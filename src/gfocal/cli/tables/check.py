"""The report of ``gfocal data check`` for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gfocal.commands.fix import Fixed
from gfocal.data.checks.boxes import learnt_boxes
from gfocal.data.checks.fix import CHANGES
from gfocal.data.checks.report import LeftOut, Report
from gfocal.data.kinds import SEVERITIES, Finding, Kind
from gfocal.utils.text import counted

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_EXAMPLES = 3


def print_check(report: Report, *, every: bool = False) -> None:
    """What a data set holds, a table of what was found, what ``--skip-broken`` would leave out.

    Args:
        report: what to print.
        every: a line for each finding too.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    for split, index in report.splits.items():
        images, classes = counted(len(index), "picture"), counted(len(index.names), "class", "classes")
        boxes = counted(int(learnt_boxes(index).sum()), "box to learn", "boxes to learn")
        console.print(f"{split}: {images}, {boxes}, {classes} ({index.annotations})", soft_wrap=True)
    for line in report.understood:
        console.print(f"note: {line}", soft_wrap=True)
    grouped = report.by_kind()
    if grouped:
        console.print(_table(grouped))
    for kind, found in grouped.items():
        shown = found if every else found[:_EXAMPLES] if kind.severity == "error" else []
        for finding in shown:
            console.print(Text(finding.severity, _COLOURS[finding.severity]), _line(finding), soft_wrap=True)
        if 0 < len(shown) < len(found):
            console.print(f"      ... and {len(found) - len(shown):,} more {kind}", soft_wrap=True)
    counts = [counted(report.count(severity), severity) for severity in SEVERITIES]
    console.print(f"{', '.join(counts)}; {skipped_line(report.left_out)}", soft_wrap=True)


def print_fixed(fixed: Fixed) -> None:
    """What is different in the cleaned copy, and what its own check found."""
    console = Console(highlight=False, markup=False, emoji=False)
    if fixed.changes:
        table = Table(title="changed in the copy")
        for column in ("", "count", "first ones"):
            table.add_column(column, justify="right" if column == "count" else "left", overflow="fold")
        for kind, count in fixed.counts().items():
            own = [change for change in fixed.changes if change.kind == kind][:_EXAMPLES]
            first = "\n".join(f"{change.subject or change.split}: {change.action}" for change in own)
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
    names_itself = finding.kind is Kind.ANNOTATIONS_BROKEN and finding.file.suffix.lower() != ".zip"
    place = "" if names_itself else f"{finding.file}: "
    return f"{finding.kind}: {place}{finding.message}"


def _table(grouped: Mapping[Kind, Sequence[Finding]]) -> Table:
    table = Table()
    for column, side in (("", "left"), ("what", "left"), ("count", "right"), ("first ones", "left"), ("--fix", "left")):
        table.add_column(column, justify="right" if side == "right" else "left", overflow="fold")
    for kind, found in grouped.items():
        what = Text.assemble((kind.value, "bold"), f"\n{kind.meaning}")
        table.add_row(Text(kind.severity, _COLOURS[kind.severity]), what, f"{len(found):,}", _first(found), kind.remedy)
    return table


def _first(found: Sequence[Finding]) -> str:
    names = dict.fromkeys(f.class_name or f.image or f.file.name for f in found)
    shown = list(names)[:_EXAMPLES]
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

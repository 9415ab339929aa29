"""Writing a cleaned copy with its bar, and checking it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from gfocal.data.checks.check import check_data
from gfocal.data.checks.fix import CHANGES, write_fixed
from gfocal.data.checks.fix_boxes import Change, ChangeJson
from gfocal.data.checks.report import Report
from gfocal.data.kinds import Kind
from gfocal.utils.progress import ProgressBar


@dataclass(frozen=True)
class Fixed:
    """A cleaned copy.

    Attributes:
        out: its folder.
        changes: everything that is different there; ``changes.json`` holds them too.
        lost: a line for each thing that its format cannot hold.
        report: of a check of the copy.
    """

    out: Path
    changes: Sequence[Change]
    lost: Sequence[str]
    report: Report

    def counts(self) -> dict[Kind, int]:
        """Changes of each kind, the most frequent first."""
        return dict(Counter(change.kind for change in self.changes).most_common())

    def to_dict(self) -> FixedJson:
        """JSON types."""
        return {
            "out": str(self.out),
            "list": str(self.out / CHANGES),
            "counts": {kind.value: count for kind, count in self.counts().items()},
            "changes": [change.to_dict() for change in self.changes],
            "lost": list(self.lost),
            "ok": self.report.ok,
            "errors": self.report.count("error"),
            "warnings": self.report.count("warning"),
        }


class FixedJson(TypedDict):
    """:class:`Fixed`."""

    out: str
    list: str
    counts: dict[str, int]
    changes: Sequence[ChangeJson]
    lost: Sequence[str]
    ok: bool
    errors: int
    warnings: int


def fix_data(report: Report, out: Path, *, workers: int = 2) -> Fixed:
    """Write a cleaned copy of what ``report`` is about, and check it.

    See :func:`gfocal.data.checks.fix.write_fixed`.
    """
    total = sum(len(index) for index in report.splits.values())
    with ProgressBar(total, "writing pictures") as bar:
        changes, lost = write_fixed(report, out, progress=bar.callback)
    with ProgressBar(0, "checking the copy") as bar:
        return Fixed(out, changes, lost, check_data(out, workers=workers, progress=bar.callback))

"""What a check of a data set found, and how that is written as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from gfocal.data.checks.boxes import learnt_boxes
from gfocal.data.checks.classes import count_classes
from gfocal.data.checks.images import ImageFacts
from gfocal.data.formats.common import Format
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import Finding, Kind, Severity
from gfocal.utils.records import to_json


class LeftOut(NamedTuple):
    """What ``--skip-broken`` would leave out of a split."""

    records: int
    images: int


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        path: the data set.
        splits: what could be read of each split.
        facts: of each image of each split.
        findings: the worst first, then in the order of :class:`gfocal.data.kinds.Kind`.
        skipped: those of the findings that are records left out by the reader.
        understood: how the data are read where that is not obvious.
        left_out: of each split.
        unread: what is in the files and is not read, so that a copy lacks it.
        format: which the data set is read as.
    """

    path: Path
    splits: Mapping[str, DataIndex]
    facts: Mapping[str, Sequence[ImageFacts]]
    findings: Sequence[Finding]
    skipped: Sequence[Finding]
    understood: Sequence[str]
    left_out: Mapping[str, LeftOut]
    unread: Sequence[str] = ()
    format: Format | None = None

    def count(self, severity: Severity) -> int:
        """Findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def ok(self) -> bool:
        """No errors; warnings and notes are allowed."""
        return not self.count("error")

    def by_kind(self) -> dict[Kind, list[Finding]]:
        """The findings of each kind that was found, in their order."""
        grouped: dict[Kind, list[Finding]] = {}
        for finding in self.findings:
            grouped.setdefault(finding.kind, []).append(finding)
        return grouped

    def to_dict(self) -> ReportJson:
        """All of it as JSON types."""
        return {
            "data": str(self.path),
            "ok": self.ok,
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "notes": self.count("note"),
            "splits": {split: _split(index) for split, index in self.splits.items()},
            "kinds": [_kind(kind, len(found)) for kind, found in self.by_kind().items()],
            "understood": list(self.understood),
            "unread": list(self.unread),
            "left_out": {split: {"records": n.records, "pictures": n.images} for split, n in self.left_out.items()},
            "findings": [_finding(finding) for finding in self.findings],
        }


class SplitJson(TypedDict):
    """One split that could be read; ``class_counts`` are :class:`gfocal.data.checks.classes.ClassCount`."""

    annotations: str
    pictures: int
    boxes: int
    learnt_boxes: int
    classes: int
    class_counts: list[dict[str, Any]]


class KindJson(TypedDict):
    """A kind of which there are findings."""

    kind: str
    severity: Severity
    meaning: str
    remedy: str
    count: int


class LeftOutJson(TypedDict):
    """:class:`LeftOut`."""

    records: int
    pictures: int


FindingJson = TypedDict(
    "FindingJson",
    {
        "kind": str,
        "severity": Severity,
        "split": str,
        "file": str,
        "picture": str | None,
        "class": str | None,
        "other": str | None,
        "message": str,
    },
)
""":class:`gfocal.data.kinds.Finding`."""


class ReportJson(TypedDict):
    """:class:`Report`."""

    data: str
    ok: bool
    errors: int
    warnings: int
    notes: int
    splits: dict[str, SplitJson]
    kinds: list[KindJson]
    understood: list[str]
    unread: list[str]
    left_out: dict[str, LeftOutJson]
    findings: list[FindingJson]


def _split(index: DataIndex) -> SplitJson:
    return {
        "annotations": str(index.annotations),
        "pictures": len(index),
        "boxes": len(index.boxes),
        "learnt_boxes": int(learnt_boxes(index).sum()),
        "classes": len(index.names),
        "class_counts": to_json(count_classes(index)),
    }


def _kind(kind: Kind, count: int) -> KindJson:
    return {
        "kind": kind.value,
        "severity": kind.severity,
        "meaning": kind.meaning,
        "remedy": kind.remedy,
        "count": count,
    }


def _finding(finding: Finding) -> FindingJson:
    return {
        "kind": finding.kind.value,
        "severity": finding.severity,
        "split": finding.split,
        "file": str(finding.file),
        "picture": finding.image,
        "class": finding.class_name,
        "other": finding.other,
        "message": finding.message,
    }

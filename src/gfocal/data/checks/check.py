"""``gfocal data check``: everything that is wrong or odd about a data set, in all its splits."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gfocal.data.checks.boxes import box_findings, content_findings, learnt_boxes
from gfocal.data.checks.classes import class_findings
from gfocal.data.checks.duplicates import copy_findings
from gfocal.data.checks.images import ImageFacts, examine_images, image_findings, refused_images
from gfocal.data.formats.open import SPLITS, Format, find_data, open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import KINDS, SEVERITIES, Finding, Severity, kind_of
from gfocal.data.problems import Problem, Problems
from gfocal.errors import EmptySplitError, MissingSplitError, UsageError
from gfocal.images.io import IMAGE_SUFFIXES

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        path: the data set.
        splits: what could be read of each split.
        facts: of each image of each split.
        findings: the worst first, then in the order of :data:`gfocal.data.kinds.KINDS`.
        skipped: those of the findings that are records left out by the reader.
        understood: how the data are read where that is not obvious.
        left_out: for each split, how many "records" and "images" ``--skip-broken`` would leave out.
        unread: what is in the files and is not read, so that a copy lacks it.
        format: which the data set is read as.
    """

    path: Path
    splits: Mapping[str, DataIndex]
    facts: Mapping[str, Sequence[ImageFacts]]
    findings: Sequence[Finding]
    skipped: Sequence[Finding]
    understood: Sequence[str]
    left_out: Mapping[str, Mapping[str, int]]
    unread: Sequence[str] = ()
    format: Format | None = None

    def count(self, severity: Severity) -> int:
        """Findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def ok(self) -> bool:
        """No errors; warnings and notes are allowed."""
        return not self.count("error")

    def by_kind(self) -> dict[str, list[Finding]]:
        """The findings of each kind that was found, in their order."""
        grouped: dict[str, list[Finding]] = {}
        for finding in self.findings:
            grouped.setdefault(finding.kind, []).append(finding)
        return grouped

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON types."""
        kinds = [{"kind": name, **vars(kind_of(name)), "count": len(found)} for name, found in self.by_kind().items()]
        findings = [
            {
                "kind": finding.kind,
                "severity": finding.severity,
                "split": finding.split,
                "file": str(finding.file),
                "picture": finding.image,
                "class": finding.class_name,
                "other": finding.other,
                "message": finding.message,
            }
            for finding in self.findings
        ]
        splits = {
            split: {
                "annotations": str(index.annotations),
                "pictures": len(index),
                "boxes": len(index.boxes),
                "learnt_boxes": int(learnt_boxes(index).sum()),
                "classes": len(index.names),
            }
            for split, index in self.splits.items()
        }
        counts = {f"{severity}s": self.count(severity) for severity in SEVERITIES}
        content = {"data": str(self.path), "ok": self.ok, **counts, "splits": splits, "kinds": kinds}
        content |= {"understood": list(self.understood), "unread": list(self.unread)}
        return {**content, "left_out": {k: dict(v) for k, v in self.left_out.items()}, "findings": findings}


def check_data(
    path: str | Path,
    *,
    val: str | Path | None = None,
    format: Format | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Report:
    """Examine all splits of a data set, every record and every image.

    Args:
        path: a data set, as for training.
        val: another data set to measure on, as for training.
        format: read the data set as this; by default what is found.
        workers: threads that read images.
        progress: called with (images done, images in all).

    Raises:
        UsageError: there is no such data set.
    """
    path = Path(path)
    findings: list[Finding] = []
    understood: list[str] = []
    lost: list[str] = []
    unread: list[str] = []
    splits = _open_all({"val": Path(val)} if val is not None else {}, path, format, findings, understood, lost, unread)
    skipped = [finding for finding in findings if finding.severity == "error" and finding.kind != "annotations-broken"]
    facts = _examine_all(splits, workers, progress)
    for split, index in splits.items():
        findings += image_findings(split, index, facts[split])
        findings += box_findings(split, index)
        findings += content_findings(split, index)
    findings += class_findings(splits)
    findings += copy_findings(splits, facts)
    if path.is_dir() and not lost and not any(finding.kind == "annotations-broken" for finding in findings):
        findings += _unlisted(splits, findings)
    left_out = {
        split: {
            "records": sum(finding.split == split for finding in skipped),
            "pictures": len(refused_images(splits[split], facts[split])) if split in splits else 0,
        }
        for split in (*splits, *lost)
    }
    order = {name: (SEVERITIES.index(kind.severity), place) for place, (name, kind) in enumerate(KINDS.items())}
    findings.sort(key=lambda finding: order.get(finding.kind, (0, len(order))))
    return Report(path, splits, facts, findings, skipped, understood, left_out, unread, find_data(path, format).format)


def _open_all(
    elsewhere: Mapping[str, Path],
    path: Path,
    format: Format | None,
    findings: list[Finding],
    understood: list[str],
    lost: list[str],
    unread: list[str],
) -> dict[str, DataIndex]:
    """The splits that can be read; what is wrong with their records goes into ``findings``.

    Splits of which no image is left go into ``lost``.
    """
    find_data(path, format)  # Says what is wrong where there is no data set.
    splits: dict[str, DataIndex] = {}
    missing: MissingSplitError | None = None
    for split in SPLITS:
        place = elsewhere.get(split, path)
        own: list[Finding] = []
        problems = Problems(skip=True, found=partial(_collect, own, split), unread=[])
        try:
            index = open_dataset(place, split, format=None if split in elsewhere else format, problems=problems)
        except MissingSplitError as error:
            missing = missing or error
            continue
        except EmptySplitError as error:
            findings += own or [Finding("annotations-broken", split, place, str(error))]
            lost.append(split)
            continue
        except UsageError as error:
            findings += [*own, Finding("annotations-broken", split, place, str(error))]
            continue
        # One annotation file is every split that is asked for.
        if path.suffix.lower() == ".json" and any(index.annotations == other.annotations for other in splits.values()):
            continue
        splits[split] = index
        findings += own
        unread += [f"{split}: {line}" for line in problems.unread or ()]
        understood += [note for note in problems.notes if note not in understood]
    if not splits and not findings and missing is not None:
        raise missing
    return splits


def _collect(found: list[Finding], split: str, problem: Problem) -> None:
    found.append(Finding(problem.kind, split, problem.file, problem.message, image=problem.image))


def _examine_all(
    splits: Mapping[str, DataIndex], workers: int, progress: Progress | None
) -> dict[str, list[ImageFacts]]:
    """The facts of each image; a file that several entries share is read once."""
    paths = {split: [index.path(i) for i in range(len(index))] for split, index in splits.items()}
    every = list(dict.fromkeys(path for own in paths.values() for path in own))
    known = dict(zip(every, examine_images(every, workers=workers, progress=progress), strict=True))
    return {split: [known[path] for path in own] for split, own in paths.items()}


def _unlisted(splits: Mapping[str, DataIndex], findings: Sequence[Finding]) -> list[Finding]:
    """Image files beside those of the splits that no split lists."""
    listed: set[str] = set()
    for split, index in splits.items():
        named = [finding.image for finding in findings if finding.split == split and finding.image]
        names = [index.file_name(i) for i in range(len(index))]
        listed |= {os.path.normpath(os.path.join(index.images_dir, name)) for name in (*names, *named)}
    found = []
    seen: set[str] = set()
    for split, index in splits.items():
        for folder, _, names in os.walk(index.images_dir):
            for name in sorted(names):
                place = os.path.normpath(os.path.join(folder, name))
                if place in seen or place in listed or os.path.splitext(name)[1].lower() not in IMAGE_SUFFIXES:
                    continue
                seen.add(place)
                relative = os.path.relpath(place, index.images_dir)
                message = "no annotation knows this picture; it is not used, not even as background"
                found.append(Finding("picture-unlisted", split, Path(place), message, image=relative))
    return found

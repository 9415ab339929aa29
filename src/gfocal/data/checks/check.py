"""``gfocal data check``: everything that is wrong or odd about a data set, in all its splits."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gfocal.data.checks.boxes import box_findings, content_findings
from gfocal.data.checks.classes import class_findings
from gfocal.data.checks.crowding import crowding_findings
from gfocal.data.checks.duplicates import copy_findings, exact_copies
from gfocal.data.checks.images import ImageFacts, examine_images, image_findings, refused_images
from gfocal.data.checks.overlap import overlap_findings
from gfocal.data.checks.ranges import range_findings
from gfocal.data.checks.report import LeftOut, Report
from gfocal.data.formats.open import SPLITS, Format, find_data, open_dataset, takes_images
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import OF_SPLITS, SEVERITIES, Finding, Kind
from gfocal.data.problems import Problem, Problems
from gfocal.errors import EmptySplitError, MissingSplitError, UsageError
from gfocal.images.file_types import IMAGE_SUFFIXES

Progress = Callable[[int, int], None]


@dataclass
class _Opened:
    """What opening all splits gave.

    Attributes:
        splits: those that can be read.
        findings: what is wrong with their records, and with files that cannot be read.
        lost: splits of which no image is left.
        understood: how the data are read where that is not obvious.
        unread: what is in the files and is not read.
    """

    splits: dict[str, DataIndex] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    understood: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def check_data(
    path: str | Path,
    *,
    val: str | Path | None = None,
    format: Format | None = None,
    images_dir: Path | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Report:
    """Examine all splits of a data set, every record and every image.

    Args:
        path: a data set, as for training.
        val: another data set to measure on, as for training.
        format: read the data set as this; by default what is found.
        images_dir: the folder of the images, or one around it; by default near the annotations.
        workers: threads that read images.
        progress: called with (images done, images in all).

    Raises:
        UsageError: there is no such data set.
    """
    path = Path(path)
    opened = _open_all(path, None if val is None else Path(val), format, images_dir)
    splits, findings = opened.splits, _each_once(opened.findings)
    broken = any(finding.kind in OF_SPLITS for finding in findings)
    skipped = [f for f in opened.findings if f.severity == "error" and f.kind not in OF_SPLITS]
    facts = _examine_all(splits, workers, progress)
    for split, index in splits.items():
        findings += image_findings(split, index, facts[split])
        findings += box_findings(split, index)
        findings += content_findings(split, index)
        findings += crowding_findings(split, index)
    findings += class_findings(splits)
    findings += range_findings(splits, facts)
    pairs = exact_copies(splits, facts)
    findings += overlap_findings(splits, pairs)
    findings += copy_findings(splits, facts, pairs)
    if path.is_dir() and not opened.lost and not broken:
        findings += _unlisted(splits, findings)
    left_out = {
        split: LeftOut(
            records=sum(finding.split == split for finding in skipped),
            images=len(refused_images(splits[split], facts[split])) if split in splits else 0,
        )
        for split in (*splits, *opened.lost)
    }
    kinds = list(Kind)
    findings.sort(key=lambda finding: (SEVERITIES.index(finding.severity), kinds.index(finding.kind)))
    return Report(
        path,
        splits,
        facts,
        findings,
        skipped,
        opened.understood,
        left_out,
        opened.unread,
        find_data(path, format).format,
    )


def _open_all(path: Path, val: Path | None, format: Format | None, images_dir: Path | None) -> _Opened:
    """Every split of a data set, with ``val`` from elsewhere where it is given.

    Raises:
        UsageError: there is no such data set, or no split in it.
    """
    find_data(path, format, images_dir)  # Says what is wrong where there is no data set.
    opened = _Opened()
    missing: MissingSplitError | None = None
    for split in SPLITS:
        elsewhere = split == "val" and val is not None
        place = val if split == "val" and val is not None else path
        own: list[Finding] = []
        problems = Problems(skip=True, found=partial(_collect, own, split), unread=[])
        try:
            near = images_dir if images_dir is None or not elsewhere or takes_images(place) else None
            index = open_dataset(place, split, format=None if elsewhere else format, images_dir=near, problems=problems)
        except MissingSplitError as error:
            missing = missing or error
            continue
        except EmptySplitError as error:
            opened.findings += own or [Finding(Kind.SPLIT_WITHOUT_IMAGES, split, place, str(error))]
            opened.understood += problems.notes
            opened.lost.append(split)
            continue
        except UsageError as error:
            opened.findings += [*own, Finding(Kind.ANNOTATIONS_BROKEN, split, place, str(error))]
            continue
        # One annotation file is every split that is asked for.
        others = opened.splits.values()
        if path.suffix.lower() == ".json" and any(index.annotations == other.annotations for other in others):
            continue
        opened.splits[split] = index
        opened.findings += own
        opened.unread += [f"{split}: {line}" for line in problems.unread or ()]
        opened.understood += problems.notes
    # A path that leads nowhere is an error here, not only a note.
    said = {finding.message for finding in opened.findings}
    opened.understood = [note for note in dict.fromkeys(opened.understood) if note not in said]
    if not opened.splits and not opened.findings and missing is not None:
        raise missing
    return opened


def _each_once(findings: Sequence[Finding]) -> list[Finding]:
    """What is wrong with a file that several splits share is one fault, of the first of them."""
    return list({(f.kind, f.file, f.message): f for f in reversed(findings)}.values())[::-1]


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
                found.append(Finding(Kind.IMAGE_UNLISTED, split, Path(place), message, image=relative))
    return found

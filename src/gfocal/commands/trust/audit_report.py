"""What an audit comes to, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass

from gfocal.evaluation.audit.suspects import Suspect
from gfocal.evaluation.audit.trial import Expectation
from gfocal.run_report.review.page import TITLES
from gfocal.utils.text import counted

NUMBERS, PAGE, TABLE, COCO, LABEL_STUDIO = "audit.json", "review.html", "suspects.csv", "coco.json", "label-studio.json"
GENERATOR = "gfocal audit"
RUNS = "folds"
MISSED = (
    "Most errors may be missed: the best published methods miss up to 66 % of those in real data "
    "(REC√D, arXiv 2508.06556). A label that is not listed is not thereby right"
)


@dataclass(frozen=True)
class AuditReport:
    """Which labels a model contradicts.

    Attributes:
        out: the folder.
        model: what looked at the images.
        data: the annotations.
        split: "train", "val" or "test".
        images, labels: how many were looked at.
        level: of the intervals.
        intervals: where they come from.
        least: score that a suspect has at least.
        expectation: what the first are worth on planted faults; None without a label.
        promise: that in words.
        notes: what to know.
        skipped: images and records that were left out.
        kinds: suspects of each kind.
        suspects: best score first.
        generator, files: by which a later call knows what it may replace.
    """

    out: str
    model: str
    data: str
    split: str
    images: int
    labels: int
    level: float
    intervals: str
    least: float
    expectation: Expectation | None
    promise: tuple[str, ...]
    notes: tuple[str, ...]
    skipped: tuple[str, ...]
    kinds: dict[str, int]
    suspects: tuple[Suspect, ...]
    generator: str = GENERATOR
    files: tuple[str, ...] = (PAGE, TABLE, NUMBERS, COCO, LABEL_STUDIO)


def subject(report: AuditReport) -> str:
    """What was looked at, in words."""
    return (
        f"{report.model} on {report.split} of {report.data}: {counted(report.images, 'picture')}, "
        f"{counted(report.labels, 'label')}; {counted(len(report.suspects), 'suspect')} with a score of at least "
        f"{report.least:g}. Intervals of {100 * report.level:g} %: {report.intervals}."
    )


def promise(expectation: Expectation | None) -> list[str]:
    """What to expect, and what not."""
    lines = []
    if expectation is None or not expectation.first:
        lines.append("What the list is worth is not known: no fault could be planted and looked for")
    else:
        lines.append(
            f"Expect about {expectation.right:.0f} of the first {expectation.first} to be faults, if as many labels "
            f"are wrong as were planted into a copy ({100 * expectation.planted:g} %, {expectation.faults:,} faults, "
            "as many of each kind); with fewer faults in the data, fewer"
        )
        each = [f"{TITLES[kind].lower()} {own.right:.0f} of {own.first}" for kind, own in expectation.per_kind.items()]
        lines.append(f"Of the first of each kind alone: {', '.join(each)}. Some kinds are far easier than others")
    return [*lines, MISSED]


def worth(expectation: Expectation | None, kind: str) -> str:
    """What the first suspects of a kind are worth, in words."""
    own = None if expectation is None else expectation.per_kind.get(kind)
    return "-" if own is None else f"about {own.right:.0f} of the first {own.first}"

"""The page: nothing is fetched, no script runs; each suspect is reached with the Tab key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gfocal
from gfocal.evaluation.audit.suspects import Suspect
from gfocal.images.depth import ValueRange
from gfocal.report.html import render
from gfocal.run_report.blocks import Half
from gfocal.run_report.review.crops import crops_of
from gfocal.utils.text import visible

TITLES: Mapping[str, str] = {
    "edge": "Edge",
    "missing": "No label",
    "class": "Class",
    "duplicate": "Duplicate",
    "spurious": "Label of nothing",
}


@dataclass(frozen=True)
class Review:
    """What the page is about.

    Attributes:
        model, data: names.
        subject: how much was looked at.
        lines: what a reader must know, in order.
        warnings: before these.
        table: rows of (kind, suspects, expectation) in words.
        total: suspects in all files; the page shows the first.
    """

    model: str
    data: str
    subject: str
    lines: Sequence[str]
    warnings: Sequence[str]
    table: Sequence[tuple[str, str, str]]
    total: int


@dataclass(frozen=True)
class _Card:
    suspect: Suspect
    title: str
    crop: Half | None
    alt: str
    what: str


def render_review(
    review: Review, shown: Sequence[Suspect], path: Callable[[int], Path], value_range: ValueRange = "type"
) -> str:
    """The page as text.

    Args:
        review: its head.
        shown: the suspects that get a crop.
        path: of the image of a row.
        value_range: how values of more than 8 bits become 8.
    """
    crops = crops_of(shown, path, value_range)
    cards = [_card(one, crops.get(one.rank)) for one in shown]
    kinds = [(kind, title) for kind, title in TITLES.items() if any(one.kind == kind for one in shown)]
    return render(
        "gfocal.run_report",
        "review.html",
        partial(visible, keep="\n\t"),
        title=f"Suspect labels of {review.data}",
        review=review,
        cards=cards,
        kinds=kinds,
        footer=f"Made by gfocal {gfocal.__version__} audit. It loads nothing and runs no script.",
    )


def _card(one: Suspect, crop: Half | None) -> _Card:
    parts = []
    if one.class_name is not None:
        parts.append(f"label {one.annotation_id}: {one.class_name}, {_place(one.label_box)}")
    if one.model_class is not None:
        parts.append(f"model: {one.model_class} ({one.model_score:.2f}), {_place(one.model_box)}")
    what = "; ".join(parts)
    return _Card(one, TITLES[one.kind], crop, f"{one.image}: {one.reason}", what)


def _place(box: Sequence[float] | None) -> str:
    return "" if box is None else f"x {box[0]:.0f}-{box[2]:.0f}, y {box[1]:.0f}-{box[3]:.0f}"

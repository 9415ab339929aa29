"""The page: nothing is fetched, no script runs."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

import gfocal
from gfocal.explanation.charts import hits, panel, view
from gfocal.explanation.panels import Window
from gfocal.explanation.places import window
from gfocal.explanation.records import EdgeFacts, Explained, Explanation, PictureFacts, PointFacts, ShownGallery, Span
from gfocal.report.html import render
from gfocal.utils.text import counted, visible

MOST_BYTES = 8_000_000
"""Of a page, about: what galleries show has room first."""
_OTHERS = 6_500_000  # what is in no gallery ends there
_CARD = 6_000  # bytes of a detection beside its drawings
_CROP, _THUMB, _WHOLE = 340, 96, 560  # longer sides in pixels
GENERATOR = "gfocal explain"


@dataclass(frozen=True)
class EdgeView:
    """An edge as the page has it: texts and a drawing."""

    side: str
    chart: Markup
    numbers: list[tuple[str, str]]


@dataclass(frozen=True)
class Card:
    """A detection as the page has it."""

    id: int
    title: str
    view: Markup
    hits: list[str]
    edges: list[EdgeView]
    first: int
    facts: list[tuple[str, str]]
    runners: list[list[str]]
    more_runners: str
    image: str
    size: int


@dataclass
class PicturePart:
    """An image with its detections."""

    name: str
    words: str
    whole: tuple[str, int, int] | None
    cards: list[Card] = field(default_factory=list)


@dataclass(frozen=True)
class GalleryItem:
    """A small crop that leads to its detection."""

    id: int
    name: str
    why: str
    image: str
    width: int
    height: int


class PageMaker:
    """Takes images one by one, so that only what the page keeps of them is in memory.

    Args:
        explanation: everything but pixels.
    """

    def __init__(self, explanation: Explanation) -> None:
        self.explanation = explanation
        self._wanted = {shown.id for gallery in explanation.galleries for shown in gallery.shown}
        self._thumbs: dict[int, tuple[str, int, int]] = {}
        self._parts: list[PicturePart] = []
        self._size = 0
        self._left_out = 0

    def add(self, picture: PictureFacts, image: np.ndarray, drawn: Callable[[], Image.Image]) -> None:
        """The next image.

        Args:
            picture: what is told of it.
            image: (H, W, 3) uint8.
            drawn: gives it with its boxes.
        """
        part = PicturePart(picture.name, _words(picture), None)
        if self._size < _OTHERS:
            small = drawn()
            small.thumbnail((_WHOLE, _WHOLE))
            part.whole = jpeg(small, 76), *small.size
            self._size += len(part.whole[0])
        for one in picture.detections:
            if self._size >= (MOST_BYTES if one.id in self._wanted else _OTHERS):
                self._left_out += 1
                continue
            card = _card(one, image, self.explanation)
            part.cards.append(card)
            self._size += card.size
            if one.id in self._wanted:
                self._thumbs[one.id] = _thumb(one, image)
                self._size += len(self._thumbs[one.id][0])
        if part.whole is not None or part.cards:
            self._parts.append(part)

    def page(self) -> str:
        """The text of the page."""
        told, found = self.explanation, self.explanation.pictures
        notes = list(told.notes)
        missing = len(found) - len(self._parts)
        if missing or self._left_out:
            notes.append(
                f"This page holds about {MOST_BYTES / 1e6:.0f} MB: {counted(self._left_out, 'detection')} and "
                f"{counted(missing, 'picture')} are not on it. explain.json and the PNG files have all of them."
            )
        names = {one.id: one.label for picture in found for one in picture.detections}
        return render(
            "gfocal.explanation",
            "explain.html",
            partial(visible, keep="\n\t"),
            title=f"What {Path(told.model).name or told.model} believes",
            subject=_subject(told),
            known=_known(told),
            notes=notes,
            galleries=[(gallery, list(self._items(gallery, names))) for gallery in told.galleries],
            parts=self._parts,
            level=f"{100 * told.level:g}\u00a0%",
            calibrated=told.calibrated,
            kind=told.kind,
            footer=f"Made by gfocal {gfocal.__version__} explain. It loads nothing and runs no script.",
        )

    def _items(self, gallery: ShownGallery, names: Mapping[int, str]) -> Iterator[GalleryItem]:
        for shown in gallery.shown:
            if shown.id in self._thumbs:
                yield GalleryItem(shown.id, names[shown.id], shown.why, *self._thumbs[shown.id])


def _subject(told: Explanation) -> str:
    shown = sum(len(picture.detections) for picture in told.pictures)
    found = sum(picture.found for picture in told.pictures)
    return (
        f"{counted(len(told.pictures), 'picture')}, {counted(found, 'detection')} that score higher than "
        f"{told.score:.3g}, of which {counted(shown, 'is', 'are')} explained."
    )


def _known(told: Explanation) -> str:
    words = {
        "bins": "Each edge has a distribution over bins; its mean is where the detector puts the edge.",
        "normal": "Each edge is a normal distribution: a mean and a standard deviation σ.",
        "spread": "Of each edge this file gives the standard deviation σ alone; it is drawn as a normal curve. "
        "`gfocal export --edge-probs` keeps the distributions.",
        "none": "These boxes have no distributions of their edges (dirac): there is no σ to show, and no interval "
        "without a calibration.",
    }
    return words[told.kind]


def _words(picture: PictureFacts) -> str:
    words = f"{picture.width} × {picture.height} pixels; {counted(picture.found, 'detection')}"
    if picture.found > len(picture.detections):
        words += f", the best {len(picture.detections)} explained"
    if picture.labelled:
        words += f"; {counted(picture.objects, 'labelled object')}, {picture.missed} not found"
    return f"{words}."


def jpeg(image: Image.Image, quality: int = 82) -> str:
    """A data URI."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def label_box(one: Explained) -> tuple[float, ...] | None:
    """Xyxy of the labelled object that it found; None where there is none."""
    known = [edge.label for edge in one.edges if edge.label is not None]
    return tuple(known) if len(known) == len(one.edges) else None


def part_of(one: Explained, size: tuple[int, int]) -> Window:
    """Which part of an image of (height, width) shows a detection: in whole pixels."""
    label = label_box(one)
    boxes = np.array([one.box] if label is None else [one.box, label], np.float64)
    x1, y1, x2, y2 = window(boxes, *size)
    left, top = float(np.floor(x1)), float(np.floor(y1))
    return left, top, max(float(np.ceil(x2)), left + 1), max(float(np.ceil(y2)), top + 1)


def _cut(image: np.ndarray, part: Window, longest: int) -> Image.Image:
    x1, y1, x2, y2 = (int(value) for value in part)
    crop = Image.fromarray(np.ascontiguousarray(image[y1:y2, x1:x2]))
    crop.thumbnail((longest, longest))
    return crop


def _thumb(one: Explained, image: np.ndarray) -> tuple[str, int, int]:
    crop = _cut(image, part_of(one, (image.shape[0], image.shape[1])), _THUMB)
    return jpeg(crop, 70), *crop.size


def _card(one: Explained, image: np.ndarray, told: Explanation) -> Card:
    part = part_of(one, (image.shape[0], image.shape[1]))
    source = jpeg(_cut(image, part, _CROP))
    drawn = view(one, part, source, label_box(one))
    edges = [EdgeView(edge.side, panel(edge), _numbers(edge, told)) for edge in one.edges]
    runners = [_runner(other.label, other.score, other.iou, other.point, other.box) for other in one.removed]
    more = one.removed_count - len(one.removed)
    spreads = [one.spread(edge) or 0.0 for edge in one.edges]
    return Card(
        id=one.id,
        title=f"{one.label}, score {one.score:.3f}" + ("" if one.chance is None else f", calibrated {one.chance:.3f}"),
        view=drawn,
        hits=hits(one, part),
        edges=edges,
        first=int(np.argmax(spreads)),
        facts=_facts(one, told),
        runners=runners,
        more_runners=f"and {counted(more, 'more candidate')}" if more > 0 else "",
        image=source,
        size=len(drawn) + sum(len(edge.chart) for edge in edges) + _CARD + 200 * len(runners),
    )


def _numbers(edge: EdgeFacts, told: Explanation) -> list[tuple[str, str]]:
    level = f"{100 * told.level:g} %"
    rows = [("edge of the box", f"{edge.position:.1f} px")]
    if edge.mean is not None and told.kind != "spread":
        beyond = " (cut off at the border, or moved by voting)" if abs(edge.mean - edge.position) > 0.1 else ""
        rows.append(("mean", f"{edge.mean:.1f} px{beyond}"))
    if edge.std is not None:
        rows.append(("σ", f"{edge.std:.2f} px"))
    if edge.before is not None:
        rows.append((f"{level} before", _span(edge.before)))
    if edge.after is not None:
        rows.append((f"{level} calibrated", _span(edge.after)))
    if edge.label is not None and edge.error is not None:
        inside = "" if edge.inside is None else ", inside" if edge.inside else ", outside"
        rows.append(("label", f"{edge.label:.1f} px: {edge.error:+.1f} px{inside}"))
    return rows


def _span(span: Span) -> str:
    return f"{span[0]:.1f} to {span[1]:.1f} px ({span[1] - span[0]:.1f} wide)"


def _facts(one: Explained, told: Explanation) -> list[tuple[str, str]]:
    rows = []
    parts = "; ".join(f"{part.name} {part.value:.3f}" for part in one.score_parts)
    rows.append(("score", f"{one.score:.3f}: {told.score_rule}" + (f" ({parts})" if parts else "")))
    if one.chance is not None:
        rows.append(("calibrated score", f"{one.chance:.3f}: the chance that it is right"))
    if one.other_classes:
        rows.append(("next classes here", ", ".join(f"{part.name} {part.value:.3f}" for part in one.other_classes)))
    if one.point is not None:
        rows.append(("found by", _point(one.point)))
        if one.point.learns is not None:
            rows.append(("with these labels", f"that point would learn {one.point.learns}"))
    if any(picture.labelled for picture in told.pictures):
        found = f"IoU {one.iou:.3f}" if one.iou is not None else "no labelled object of this class (IoU 0.5 or more)"
        rows.append(("labelled object", found))
    if one.point is not None:
        rows.append(("removed by suppression", counted(one.removed_count, "candidate")))
    return rows


def _point(point: PointFacts) -> str:
    return (
        f"level {point.level} (stride {point.stride:g}), row {point.row}, column {point.column}: at {point.x:.1f}, "
        f"{point.y:.1f} px, {100 * point.inside_x:.0f} % from the left and {100 * point.inside_y:.0f} % from the top "
        "of the box"
    )


def _runner(label: str, score: float, iou: float, point: PointFacts, box: tuple[float, ...]) -> list[str]:
    corners = ", ".join(f"{value:.0f}" for value in box)
    return [label, f"{score:.3f}", f"{iou:.2f}", f"{point.level}: {point.row}, {point.column}", corners]

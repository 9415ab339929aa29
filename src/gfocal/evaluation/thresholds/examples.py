"""Images with what is there beside what was found: the worst, and some at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gfocal.evaluation.ground_truth import IntArray
from gfocal.evaluation.thresholds.confusion import CONFUSED, OUT, RIGHT, WRONG, Verdicts
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.images.drawing import Colour, Mark, Style, canvas_of, draw_marks, drawable, shortened

_COLOURS: dict[int, Colour] = {RIGHT: (30, 120, 255), WRONG: (255, 125, 0), CONFUSED: (235, 60, 200)}
_OTHER: Colour = (150, 150, 150)
_LARGEST = 1400  # pixels of the longer side of each half
_FEW = 12  # boxes of which right ones have labels too


@dataclass(frozen=True)
class Tally:
    """Of one image.

    Attributes:
        right: objects that were found.
        missed: objects that were not, nor taken for another class.
        confused: objects that were taken for another class.
        wrong: detections of nothing.
    """

    right: int
    missed: int
    confused: int
    wrong: int

    @property
    def faults(self) -> int:
        return self.missed + self.confused + self.wrong


def tallies(findings: Findings, verdicts: Verdicts) -> list[Tally]:
    """One an image of the ground truth."""
    images = len(findings.index.image_ids)
    image_of = np.repeat(np.arange(images), np.diff(findings.index.box_start))

    def count(rows: IntArray, which: IntArray, verdict: int) -> list[int]:
        return np.bincount(rows[which == verdict], minlength=images).tolist()

    objects = [count(image_of, verdicts.objects, verdict) for verdict in (RIGHT, WRONG, CONFUSED)]
    wrong = count(findings.rows, verdicts.detections, WRONG)
    return [Tally(*counts) for counts in zip(*objects, wrong, strict=True)]


def choose(findings: Findings, counts: Sequence[Tally], number: int, seed: int = 0) -> tuple[list[int], list[int]]:
    """Rows of the images with the most faults, and of others at random.

    Args:
        findings: whose images.
        counts: one an image.
        number: of each kind at most.
        seed: of the random ones.

    Returns:
        The worst, most faults first, of equal ones those where less is right; images without a fault are not among
        them. Then the random ones, in the order of the data set.
    """
    kept = np.flatnonzero(findings.kept).tolist()
    faulty = [row for row in kept if counts[row].faults]
    worst = sorted(faulty, key=lambda row: (-counts[row].faults, counts[row].right, row))[:number]
    others = [row for row in kept if row not in set(worst)]
    drawn = np.random.default_rng(seed).permutation(len(others))[:number]
    return worst, sorted(others[i] for i in drawn.tolist())


def draw_example(image: np.ndarray, findings: Findings, verdicts: Verdicts, row: int, heading: str) -> Image.Image:
    """What is there beside what was found, in one image: right, wrong and confused boxes in different colours.

    Args:
        image: (H, W, 3) uint8, the image of that row.
        findings, verdicts: of all images.
        row: which image.
        heading: stands above.
    """
    return _side_by_side(draw_halves(image, findings, verdicts, row), heading)


def draw_halves(
    image: np.ndarray,
    findings: Findings,
    verdicts: Verdicts,
    row: int,
    *,
    largest: int = _LARGEST,
    named: int | None = None,
) -> tuple[Image.Image, Image.Image]:
    """What is there, and what was found, in images of so many pixels a side at most; see :func:`draw_example`.

    ``named``: so many boxes of each have labels at most, faults first.
    """
    canvas, factor = canvas_of(image)
    shrink = min(1.0, largest / max(canvas.size))
    if shrink < 1:
        size = max(1, round(canvas.width * shrink)), max(1, round(canvas.height * shrink))
        canvas = canvas.resize(size, Image.Resampling.LANCZOS)
    halves = []
    for marks in (
        _truth_marks(findings, verdicts, row, factor * shrink),
        _found_marks(findings, verdicts, row, factor * shrink),
    ):
        half = canvas.copy()
        marks = [*marks[:named], *(replace(mark, text="") for mark in marks[named:])] if named is not None else marks
        draw_marks(half, marks, Style.of(half.size, [mark.box for mark in marks]))
        halves.append(half)
    return halves[0], halves[1]


def _truth_marks(findings: Findings, verdicts: Verdicts, row: int, scale: float) -> list[Mark]:
    index = findings.index
    own = slice(int(index.box_start[row]), int(index.box_start[row + 1]))
    boxes, labels = np.asarray(index.boxes[own], np.float64), np.asarray(index.labels[own]).tolist()
    taken_for = {
        int(verdicts.partner[d]): shortened(index.names[int(findings.labels[d])])
        for d in np.flatnonzero(findings.rows == row).tolist()
    }
    marks = []
    for number, (box, label) in enumerate(zip(boxes, labels, strict=True), start=own.start):
        verdict, name = int(verdicts.objects[number]), shortened(index.names[int(label)])
        text = {
            WRONG: f"missed: {name}",
            CONFUSED: f"{name}, taken for {taken_for.get(number)}",
            RIGHT: name if len(labels) <= _FEW else "",
            OUT: f"ignored: {name}",
        }[verdict]
        marks.append((verdict, 0.0, _mark(box, verdict, text, scale)))
    return _faults_first(marks)


def _found_marks(findings: Findings, verdicts: Verdicts, row: int, scale: float) -> list[Mark]:
    mine = np.flatnonzero((findings.rows == row) & (verdicts.detections != OUT)).tolist()
    names, truth, marks = findings.index.names, np.asarray(findings.index.labels), []
    for d in mine:
        verdict, score = int(verdicts.detections[d]), float(findings.scores[d])
        text = f"{shortened(names[int(findings.labels[d])])} {score:.2f}"
        if verdict == CONFUSED:
            text += f", is {shortened(names[int(truth[verdicts.partner[d]])])}"
        if verdict == WRONG:
            text = f"wrong: {text}"
        if verdict == RIGHT and len(mine) > _FEW:
            text = ""
        marks.append((verdict, score, _mark(findings.boxes[d], verdict, text, scale)))
    return _faults_first(marks)


def _mark(box: np.ndarray, verdict: int, text: str, scale: float) -> Mark:
    colour = _COLOURS.get(verdict, _OTHER)
    return Mark((np.asarray(box, np.float64) * scale).tolist(), colour, text, dashed=verdict != RIGHT)


def _faults_first(marks: Sequence[tuple[int, float, Mark]]) -> list[Mark]:
    order = {CONFUSED: 0, WRONG: 1, RIGHT: 2, OUT: 3}
    return [mark for _, _, mark in sorted(marks, key=lambda found: (order[found[0]], -found[1]))]


def _side_by_side(halves: tuple[Image.Image, Image.Image], heading: str) -> Image.Image:
    """Beside each other, or wide ones one above the other, under a line that says what the colours mean."""
    width, height = halves[0].size
    stacked = width > 1.6 * height
    total = width if stacked else 2 * width + 8
    font: Any = ImageFont.load_default(min(max(13, total / 80), 22))
    line = sum(font.getmetrics()) + 6
    below = (line + height) * 2 if stacked else line + height
    lines = _wrapped(heading, font, total - 8)
    top = line * len(lines) + line
    page = Image.new("RGB", (total, top + below), (255, 255, 255))
    pen = ImageDraw.Draw(page)
    for number, text in enumerate(lines):
        pen.text((4, 3 + number * line), text, font=font, fill=(20, 20, 20))
    x = 4.0
    legend = ((RIGHT, "right"), (WRONG, "missed, or nothing there"), (CONFUSED, "another class"))
    for verdict, words in legend:
        pen.rectangle([x, top - line + 5, x + line - 10, top - 6], fill=_COLOURS[verdict])
        pen.text((x + line - 4, top - line + 3), words, font=font, fill=(20, 20, 20))
        x += line + pen.textlength(words, font=font) + 14
    for number, (caption, half) in enumerate(zip(("truth", "prediction"), halves, strict=True)):
        at = (0, top + number * (line + height)) if stacked else (number * (width + 8), top)
        pen.text((at[0] + 4, at[1] + 3), caption, font=font, fill=(20, 20, 20))
        page.paste(half, (at[0], at[1] + line))
    return page


def _wrapped(text: str, font: Any, width: float) -> list[str]:
    lines = [""]
    for word in drawable(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines

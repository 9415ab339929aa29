"""Images that show what the numbers mean: the best, the worst, the most uncertain, the slowest."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from gfocal.errors import BrokenInputError
from gfocal.evaluation.ground_truth import FloatArray
from gfocal.evaluation.thresholds.confusion import CONFUSED, OUT, RIGHT, WRONG
from gfocal.evaluation.thresholds.examples import choose, draw_halves
from gfocal.images.drawing import shortened
from gfocal.images.reading import read_array
from gfocal.run_report.blocks import Block, Gallery, Half, Picture, Section, Words
from gfocal.run_report.content import Content, Measured
from gfocal.utils.text import counted, join_some

MOST_BYTES = 3_000_000
"""Of all images of the page together, as they stand in it."""
_FORMS = ((480, 78), (480, 60), (400, 50), (320, 40))  # longer side of a half, quality: the first that fits
_NAMED = 8  # boxes of a half that have labels
_LISTED = 4  # classes in words


@dataclass(frozen=True)
class _Group:
    title: str
    text: str
    rows: Sequence[int]
    remarks: Mapping[int, str]
    changes: bool = False


def pictures_section(content: Content) -> tuple[Section, int]:
    """The images, and how many bytes they take in the page."""
    if not content.examples:
        return Section("pictures", "Pictures", [Words("No pictures were asked for (--examples 0).")]), 0
    groups = _groups(content)
    halves, size = _encoded(content, Counter(row for group in groups for row in group.rows))
    blocks: list[Block] = [
        Words(
            f"Boxes that score higher than {content.measured.score:.3g}. Blue: right. Orange, dashed: missed (truth), "
            "or nothing there (prediction). Pink, dashed: taken for another class. Grey: ignored.",
        )
    ]
    for group in groups:
        shown = [_picture(content, group, row, halves) for row in group.rows if row in halves]
        if group.rows and not shown:
            shown, text = [], f"{group.text} They have no room in the {MOST_BYTES / 1e6:.0f} MB for pictures."
        else:
            text = group.text
        blocks.append(Gallery(group.title, text, shown))
    blocks.append(
        Words(f"These pictures take {size / 1e6:.2f} MB of the page, {MOST_BYTES / 1e6:.0f} MB at most.", True)
    )
    return Section("pictures", "Pictures", blocks), size


def _groups(content: Content) -> list[_Group]:
    measured, number = content.measured, content.examples
    worst, _ = choose(measured.findings, measured.counts, number)
    best = _best(measured, number, set(worst))
    words = {row: _tally(measured, row) for row in [*worst, *best]}
    faulty = "The most faults: missed objects, objects taken for another class, and boxes of nothing."
    return [
        _Group("Worst", faulty if worst else "No picture has a fault.", worst, words),
        _Group(
            "Best",
            "The most objects found without a fault, or with the fewest." if best else "No object is found anywhere.",
            best,
            words,
        ),
        _uncertain(measured, number),
        _slowest(content),
    ]


def _best(measured: Measured, number: int, others: set[int]) -> list[int]:
    counts = measured.counts
    kept = [row for row in np.flatnonzero(measured.findings.kept).tolist() if counts[row].right and row not in others]
    return sorted(kept, key=lambda row: (counts[row].faults, -counts[row].right, row))[:number]


def _tally(measured: Measured, row: int) -> str:
    count = measured.counts[row]
    objects = count.right + count.missed + count.confused
    wrong = counted(count.wrong, "box of nothing", "boxes of nothing")
    return f"{count.right} of {counted(objects, 'object')} found, {wrong}."


def _uncertain(measured: Measured, number: int) -> _Group:
    spreads = spread_of_images(measured)
    if spreads is None:
        return _Group("Most uncertain", "Boxes without edge_std do not say how sure their edges are.", [], {})
    rows = [row for row in np.argsort(-spreads, kind="stable").tolist() if spreads[row] > 0][:number]
    words = {row: f"edge_std is {100 * spreads[row]:.0f} % of the boxes' sides, in the mean." for row in rows}
    text = "The widest edges for the size of their boxes (edge_std over the side that it moves; mean of the picture)."
    return _Group("Most uncertain", text if rows else "No box scores high enough.", rows, words)


def spread_of_images(measured: Measured) -> FloatArray | None:
    """(I,) mean of ``edge_std`` over the side of the box that it belongs to, of the boxes above the score; 0 of none.

    None where the boxes have no ``edge_std``.
    """
    findings = measured.findings
    if findings.edge_std is None:
        return None
    own = (measured.verdicts.detections != OUT) & np.isfinite(findings.edge_std).all(1)
    boxes = findings.boxes[own]
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)
    spread = (findings.edge_std[own] / np.concatenate([sides, sides], 1)).mean(1)
    images = len(findings.index.image_ids)
    sums, counts = (np.bincount(findings.rows[own], values, images) for values in (spread, np.ones(len(spread))))
    return np.divide(sums, counts, out=np.zeros(images), where=counts > 0)


def _slowest(content: Content) -> _Group:
    if not content.timed:
        text = "Pictures were not timed one by one: --timed 20 does so."
        return _Group("Slowest", text, [], {})
    slow = sorted(content.timed, key=lambda one: (-(one.reading + one.finding), one.row))[: content.examples]
    middle = float(np.median([one.reading + one.finding for one in content.timed]))
    words = {
        one.row: f"{one.reading + one.finding:.1f} ms: {one.reading:.1f} to read, {one.finding:.1f} to find; half of "
        f"the pictures take less than {middle:.1f} ms."
        for one in slow
    }
    text = f"Of {counted(len(content.timed), 'picture')} that were timed one by one; each the best of two."
    return _Group("Slowest", text, [one.row for one in slow], words, changes=True)


def _encoded(content: Content, rows: Mapping[int, int]) -> tuple[dict[int, tuple[Half, Half] | None], int]:
    """Each image that fits, twice; None for one that cannot be read. ``rows`` say how often each is shown."""
    for side, quality in _FORMS:
        found: dict[int, tuple[Half, Half] | None] = {}
        size = 0
        for row, times in rows.items():
            halves = _halves(content, row, side, quality)
            if size + times * _size(halves) > MOST_BYTES:
                break
            found[row] = halves
            size += times * _size(halves)
        if len(found) == len(rows):
            break
    return found, size  # many were asked for: the last ones have no room


def _size(halves: tuple[Half, Half] | None) -> int:
    return 0 if halves is None else sum(len(half.source) for half in halves)


def _halves(content: Content, row: int, side: int, quality: int) -> tuple[Half, Half] | None:
    measured = content.measured
    try:
        image = read_array(content.path(row), value_range=content.value_range)
    except BrokenInputError:
        return None
    truth, found = draw_halves(image, measured.findings, measured.verdicts, row, largest=side, named=_NAMED)
    return _half(truth, quality), _half(found, quality)


def _half(image: Image.Image, quality: int) -> Half:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, optimize=True)
    return Half(f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}", *image.size)


def _picture(content: Content, group: _Group, row: int, halves: Mapping[int, tuple[Half, Half] | None]) -> Picture:
    return Picture(
        name=content.path(row).name,
        halves=halves[row],
        truth=_truth(content.measured, row),
        found=_found(content.measured, row),
        remark=group.remarks.get(row, ""),
        changes=group.changes,
    )


def _truth(measured: Measured, row: int) -> str:
    """What is there, in words: missed objects by name, first."""
    index, verdicts = measured.findings.index, measured.verdicts
    own = range(int(index.box_start[row]), int(index.box_start[row + 1]))
    labels = np.asarray(index.labels[own.start : own.stop]).tolist()
    named = [
        (int(verdicts.objects[i]), shortened(index.names[int(label)])) for i, label in zip(own, labels, strict=True)
    ]
    return _words(named, {WRONG: "missed", CONFUSED: "taken for another class", RIGHT: "found"}, "nothing")


def _found(measured: Measured, row: int) -> str:
    findings, verdicts = measured.findings, measured.verdicts
    own = np.flatnonzero((findings.rows == row) & (verdicts.detections != OUT))
    own = own[np.argsort(-findings.scores[own], kind="stable")].tolist()
    named = [
        (
            int(verdicts.detections[d]),
            shortened(findings.index.names[int(findings.labels[d])]),
        )
        for d in own
    ]
    return _words(named, {WRONG: "of nothing", CONFUSED: "of another class", RIGHT: "right"}, "no box")


def _words(named: Sequence[tuple[int, str]], kinds: Mapping[int, str], nothing: str) -> str:
    parts = []
    for kind, words in kinds.items():
        names = [name for own, name in named if own == kind]
        if names:
            counts = Counter(names).most_common()  # of equal ones the first comes first
            each = [name if count == 1 else f"{count} {name}" for name, count in counts]
            listed = f" ({join_some(each, _LISTED)})" if kind != RIGHT else ""
            parts.append(f"{len(names)} {words}{listed}")
    return "; ".join(parts) or nothing

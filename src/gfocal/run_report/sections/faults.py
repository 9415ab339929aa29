"""What goes wrong: kinds of error, and what is taken for what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gfocal.evaluation.thresholds.confusion import Confusion
from gfocal.report.numbers import points, share
from gfocal.run_report.blocks import Bar, Beside, Block, Cell, Matrix, Noted, Section, Table, Words
from gfocal.run_report.content import Measured

_IN_MATRIX = 12  # classes that fit into a table
_PAIRS = 10
FAULTS = {
    "localisation": ("badly placed", "the right class, but IoU 0.1 to 0.5 with the object"),
    "class": ("wrong class", "well placed on an object of another class"),
    "both": ("badly placed and wrong class", "IoU 0.1 to 0.5 with an object of another class"),
    "duplicate": ("found twice", "on an object that a better box has found"),
    "background": ("nothing there", "no object overlaps it by an IoU of 0.1"),
    "missed": ("missed", "an object that no box is about"),
}
"""What each kind of error is called on the page, and what it is."""


def faults_section(measured: Measured) -> Section:
    """Errors by kind, and the confusion of classes."""
    return Section("faults", "What goes wrong", [*_errors(measured), *_confusion(measured.confusion)])


def _errors(measured: Measured) -> list[Block]:
    found = measured.diagnosis.errors
    if found is None:
        return [Words("There is no object to find, so no error can be told from another.")]
    most = max(one.gain for one in found.types) or 1.0
    rows: list[list[Cell]] = [
        [
            Noted(*FAULTS[one.kind]),
            Bar(f"+{points(max(one.gain, 0.0))}", max(one.gain, 0.0) / most),
            f"{one.above:,}",
        ]
        for one in found.types
    ]
    caption = f"Errors by kind, and what AP50 ({points(found.ap50)}) would gain without each, in points"
    words = (
        "Each box and object is in one row at most. Gains are over all scores and do not add up; the counts are of "
        f"boxes that score higher than {found.score:.3g}, and of objects that these miss. In the manner of TIDE (Bolya "
        "et al., ECCV 2020), computed by hotcoco."
    )
    return [Table(["kind", "AP50 would gain", "how many"], rows, caption), Words(words, True)]


def _confusion(found: Confusion) -> list[Block]:
    rule = (
        f"Score above {found.score:.3g}, IoU 0.5. First each box takes an object of its own class. Boxes of nothing "
        "are also second boxes of an object, and badly placed ones."
    )
    if len(found.classes) <= _IN_MATRIX:
        sums = found.matrix.sum(1, keepdims=True)
        shares = np.divide(found.matrix, sums, out=np.zeros(found.matrix.shape), where=sums > 0)
        rows = [
            [(f"{count:,}", float(part)) for count, part in zip(counts, parts, strict=True)]
            for counts, parts in zip(found.matrix.tolist(), shares.tolist(), strict=True)
        ]
        rows[-1][-1] = ("", 0.0)  # what is not there and not found cannot be counted
        words = f"{rule} Colours are shares of the row; blue is right."
        return [Matrix(found.classes, rows, "What is taken for what, in objects and boxes"), Words(words, quiet=True)]
    return [*_pairs(found, rule)]


def _pairs(found: Confusion, rule: str) -> Sequence[Block]:
    """Of many classes: the commonest confusions, and the classes of which most is missed or made up."""
    count = len(found.classes)
    within = found.matrix[:count, :count].copy()
    np.fill_diagonal(within, 0)
    objects = found.matrix[:count].sum(1)
    order = np.argsort(-within, axis=None, kind="stable")[:_PAIRS]
    rows = [
        [found.classes[one], found.classes[other], f"{within[one, other]:,}", share(within[one, other] / objects[one])]
        for one, other in zip(*np.unravel_index(order, within.shape), strict=True)
        if within[one, other]
    ]
    tables, words = [], [Words(rule, quiet=True)]
    if rows:
        columns = ["what it is", "taken for", "objects", "of the class"]
        tables.append(Table(columns, rows, "The commonest confusions of classes", words=(1,)))
    else:
        words.insert(0, Words("No object is taken for one of another class."))
    ends = []
    for label in np.argsort(-(found.matrix[:count, -1] + found.matrix[-1, :count]), kind="stable")[:_PAIRS].tolist():
        missed, made_up = int(found.matrix[label, -1]), int(found.matrix[-1, label])
        if missed + made_up:
            ends.append([found.classes[label], f"{objects[label]:,}", f"{missed:,}", f"{made_up:,}"])
    if ends:
        columns = ["class", "objects", "missed", "boxes of nothing"]
        tables.append(Table(columns, ends, "Most missed objects and boxes of nothing"))
    return [Beside(tables), *words]

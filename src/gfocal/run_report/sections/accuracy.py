"""How good it is: COCO's numbers with intervals, each class, precision and recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gfocal.evaluation.coco import STATS
from gfocal.evaluation.diagnosis.intervals import RESAMPLES, Interval
from gfocal.evaluation.ground_truth import FloatArray
from gfocal.evaluation.thresholds.curve import THRESHOLDS, Curve, Point
from gfocal.report.numbers import NONE, points
from gfocal.report.plot import HERE, INK, PAPER, QUIET
from gfocal.run_report.blocks import Bar, Block, Cell, Figure, Figures, Folded, Noted, Section, Table, Words
from gfocal.run_report.charts import chart, finished, legend
from gfocal.run_report.content import Measured

_MEANING = {
    "AP": "mean of AP at IoU 0.50, 0.55, ..., 0.95",
    "AP50": "a box counts from IoU 0.50 on",
    "AP75": "a box counts from IoU 0.75 on",
    "APs": "AP of small objects, below 32² pixels",
    "APm": "AP of medium objects, 32² to 96² pixels",
    "APl": "AP of large objects, above 96² pixels",
    "AR1": "objects found with 1 box of a class in a picture",
    "AR10": "with 10 boxes",
    "AR100": "with 100 boxes",
    "ARs": "small objects found, with 100 boxes",
    "ARm": "medium objects",
    "ARl": "large objects",
}
_ALL_SHOWN = 20  # classes that are shown without a click
_ENDS = 6  # of more classes: so many of the best, and of the worst
_SINGLE = 8  # classes with a line each
_POINTS = 80  # of a curve


def numbers_section(measured: Measured) -> Section:
    """The 12 numbers and the classes."""
    found = measured.diagnosis.intervals
    rows: list[list[Cell]] = [
        [Noted(name, _MEANING[name]), Bar(points(one.value), one.value or 0), limits(one)]
        for name, one in _stats(found.stats)
    ]
    blocks: list[Block] = [
        Words(
            "All in points, 0 to 100. The interval is where the number lies in 95 % of "
            f"{RESAMPLES} draws of as many pictures, with replacement: a smaller difference between two detectors says "
            "little. Another seed of the training moves the numbers too, and is not part of it.",
            quiet=True,
        ),
        Table(["number", "value", "95 % interval"], rows, "COCO's 12 numbers"),
    ]
    if any(one.value is None for one in found.stats.values()):
        blocks.append(Words(f"{NONE}: there is no object of that size to find.", quiet=True))
    return Section("numbers", "The numbers", [*blocks, *_classes(measured)])


def _stats(stats: dict[str, Interval]) -> list[tuple[str, Interval]]:
    return [(name, stats[name]) for name in STATS]


def limits(found: Interval) -> str:
    """25.9 to 31.9."""
    return NONE if found.low is None or found.high is None else f"{points(found.low)} to {points(found.high)}"


def _classes(measured: Measured) -> list[Block]:
    rows = _class_rows(measured)
    columns = ["class", "AP", "95 % interval", "AP50", "objects", "precision", "recall", "F1", "best at score"]
    words = Words(
        "Precision: share of its boxes that are right. Recall: share of its objects that are found. Both at the score "
        "that is best for the class (largest F1), where a box counts from IoU 0.5 on.",
        quiet=True,
    )
    if len(rows) <= _ALL_SHOWN:
        return [Table(columns, rows, "Each class, the best first"), words]
    some = Table(columns, [*rows[:_ENDS], *_worst(measured, rows)], f"The {_ENDS} best and the {_ENDS} worst classes")
    return [some, words, Folded(f"All {len(rows)} classes", [Table(columns, rows, "Each class, the best first")])]


def _worst(measured: Measured, rows: Sequence[Sequence[Cell]]) -> Sequence[Sequence[Cell]]:
    """The last ones of those that have an AP, none of the best among them."""
    known = sum(one.ap.value is not None for one in measured.diagnosis.intervals.per_class.values())
    return rows[max(_ENDS, known - _ENDS) : known]


def _class_rows(measured: Measured) -> list[list[Cell]]:
    per_class = measured.diagnosis.intervals.per_class
    order = sorted(range(len(per_class)), key=lambda label: _descending(list(per_class.values())[label].ap.value))
    names, found = list(per_class), list(per_class.values())
    rows: list[list[Cell]] = []
    for label in order:
        ap, curve = found[label], measured.each[label]
        best = curve.best()
        score = NONE if best.threshold is None else f"{best.threshold:.3f}"
        own: list[Cell] = [
            Bar(points(ap.ap.value), ap.ap.value or 0),
            limits(ap.ap),
            points(ap.ap50.value),
            f"{curve.objects:,}",
        ]
        rows.append([names[label], *own, *_point(best), score])
    return rows


def _descending(value: float | None) -> float:
    return 1.0 if value is None else -value


def _point(point: Point) -> list[str]:
    return [points(value) for value in (point.precision, point.recall, point.f1)]


def curves_section(measured: Measured) -> Section:
    """Precision over recall, and all three over the score."""
    words = (
        "A higher score threshold gives fewer boxes, of which more are right. The dot, and the vertical line, are the "
        f"score {measured.score:.3g} that this page looks at."
    )
    figures = [_precision_recall(measured), _over_score(measured)]
    return Section("curves", "Precision and recall", [Words(words), Figures(figures)])


def _precision_recall(measured: Measured) -> Figure:
    drawing, panel = chart("recall, %", "precision, %")
    shown = [curve for curve in measured.each if curve.objects and len(curve.scores)]
    if len(shown) > _SINGLE:
        _draw_band(panel, measured.each)
    elif len(measured.each) > 1:
        for number, curve in enumerate(shown):
            _draw(panel, curve, color=QUIET, linewidth=0.9, alpha=0.7, label="_" if number else "each class")
    if measured.micro.objects and len(measured.micro.scores):
        _draw(panel, measured.micro, color=HERE, linewidth=2.2, label="all together")
    else:
        panel.text(0.5, 0.5, _nothing(measured), ha="center", color=INK, transform=panel.transAxes)
    at = measured.micro.at(measured.score)
    if at.precision is not None and at.recall is not None:
        panel.plot([100 * at.recall], [100 * at.precision], "o", color=PAPER, markersize=8, zorder=5)
    panel.set_xlim(0, 101)
    panel.set_ylim(0, 102)
    legend(panel, loc="upper right")
    caption = "Up and to the right is better. From left to right the score threshold falls."
    return finished(drawing, "Precision over recall", caption, _table(measured))


def _draw_band(panel: Any, each: Sequence[Curve]) -> None:
    """The middle half of many classes: a line of each would hide all."""
    grid = np.linspace(0, 1, 101)
    values = np.array([_envelope(curve, grid) for curve in each if curve.objects])
    low, middle, high = 100 * np.percentile(values, (25, 50, 75), axis=0)
    panel.fill_between(100 * grid, low, high, color=QUIET, alpha=0.22, linewidth=0, label="middle half of the classes")
    panel.plot(100 * grid, middle, color=PAPER, linestyle="--", linewidth=1.6, label="median of the classes")


def _envelope(curve: Curve, recalls: FloatArray) -> FloatArray:
    """The best precision at each recall or beyond, as AP has it; 0 where it is never reached."""
    best = np.maximum.accumulate(curve.precision[::-1])[::-1]
    at = np.searchsorted(curve.recall, recalls, side="left")
    return np.append(best, 0.0)[at]


def _nothing(measured: Measured) -> str:
    return "nothing was found" if measured.micro.objects else "there is nothing to find"


def _draw(panel: Any, curve: Curve, **look: Any) -> None:
    """Evenly over the recall: a curve may have as many points as there are detections."""
    recall, precision = curve.recall, curve.precision
    if len(recall) > _POINTS:
        wanted = np.linspace(0, recall[-1], _POINTS)
        chosen = np.unique(np.searchsorted(recall, wanted).clip(max=len(recall) - 1))
        recall, precision = recall[chosen], precision[chosen]
    x, y = np.concatenate([[0], recall]), np.concatenate([precision[:1], precision])
    panel.step(100 * x, 100 * y, where="pre", **look)


def _over_score(measured: Measured) -> Figure:
    drawing, panel = chart("score threshold", "%")
    scores = THRESHOLDS[::10]
    at = [measured.micro.at(float(score)) for score in scores]
    for name, colour, dash in (("precision", HERE, "-"), ("recall", PAPER, "--"), ("f1", INK, "-.")):
        values = [getattr(point, name) for point in at]
        y = [np.nan if value is None else 100 * value for value in values]
        panel.plot(scores, y, color=colour, linestyle=dash, linewidth=1.9, label="F1" if name == "f1" else name)
    panel.axvline(measured.score, color=QUIET, linewidth=1)
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 102)
    legend(panel, loc="best")
    caption = "Of all classes together. Where F1 is flat the choice of the threshold matters little."
    return finished(drawing, "Over the score threshold", caption, _table(measured))


def _table(measured: Measured) -> Table:
    scores = [step / 20 for step in range(20)]
    rows = [[f"{score:.2f}", *_point(measured.micro.at(score))] for score in scores]
    return Table(["score above", "precision", "recall", "F1"], rows, "All classes together, in %")

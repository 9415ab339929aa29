"""Precision, recall, F1 and confusion as figures; drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gfocal.evaluation.thresholds.best_f1 import BestF1, mean_f1
from gfocal.evaluation.thresholds.confusion import Confusion
from gfocal.evaluation.thresholds.curve import THRESHOLDS, Curve
from gfocal.images.drawing import colour_of, shortened
from gfocal.report.plot import UNDER_WORDS, plain_text

_NAMED = 12  # classes with a colour and a place in the legend of their own
_NUMBERED = 25  # classes whose matrix has a number in every cell
_LABELLED = 120  # classes whose names stand beside the matrix
_ALL, _MEAN, _ONE = "#1c1d1f", "#b0480e", "#c0c8d2"


def precision_recall_figure(each: Sequence[Curve], micro: Curve, best: BestF1, title: str) -> Any:
    """Precision over recall as the score falls, of all classes together and of each, with the best F1 marked.

    Returns:
        A matplotlib figure.
    """
    figure, panel = _empty(f"Precision and recall at IoU {best.iou:g}", title, "recall", "precision")
    _contours(panel)
    for name, curve, colour, width in _classes(best, each):
        if len(curve.scores):
            panel.step(*_from_the_left(curve), color=colour, linewidth=width, where="pre", label=name)
    if micro.objects and len(micro.scores):
        panel.step(*_from_the_left(micro), color=_ALL, linewidth=2.2, where="pre", label="all classes")
    point = best.micro
    if point.threshold is not None and point.precision is not None and point.recall is not None:
        panel.plot([point.recall], [point.precision], "o", color=_ALL, markersize=8, zorder=5)
        # Inwards from the corner that a good detector's point lies in.
        where = {"xytext": (-12, -14), "ha": "right", "va": "top"}
        text = f"best F1 {point.f1:.3f}\n--score {point.threshold:g}"
        panel.annotate(
            text, (point.recall, point.precision), textcoords="offset points", fontsize=10, bbox=UNDER_WORDS, **where
        )
    return _finished(figure, panel)


def f1_figure(each: Sequence[Curve], micro: Curve, best: BestF1, title: str) -> Any:
    """F1 over the score from which on detections count, of all classes together, their mean, and each.

    Returns:
        A matplotlib figure.
    """
    figure, panel = _empty(f"F1 at IoU {best.iou:g}", title, "score threshold (predict --score)", "F1")
    for name, curve, colour, width in _classes(best, each):
        if curve.objects:
            panel.plot(THRESHOLDS, curve.f1_at(THRESHOLDS), color=colour, linewidth=width, label=name)
    if micro.objects:
        panel.plot(THRESHOLDS, micro.f1_at(THRESHOLDS), color=_ALL, linewidth=2.2, label="all together (micro)")
        values = mean_f1(each, THRESHOLDS)
        panel.plot(THRESHOLDS, values, color=_MEAN, linewidth=2.2, linestyle="--", label="mean of classes (macro)")
    for point, colour, line in ((best.micro, _ALL, "-"), (best.macro, _MEAN, "--")):
        if point.threshold is not None:
            panel.axvline(point.threshold, color=colour, linewidth=1, linestyle=line)
    return _finished(figure, panel)


def confusion_figure(found: Confusion, title: str) -> Any:
    """The matrix, each row shaded by its shares, so that rare classes can be read beside frequent ones.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    labels = [*(plain_text(shortened(name)) for name in found.classes), "background"]
    count = len(labels)
    side = 2.8 + 0.55 * count if count <= _NUMBERED + 1 else 3 + 0.16 * min(max(count, 60), 120)
    figure = Figure(figsize=(max(side + 1.2, 5.6), max(side, 4.4)), layout="constrained")
    panel = figure.subplots()
    sums = found.matrix.sum(1, keepdims=True)
    shares = np.divide(found.matrix, sums, out=np.zeros(found.matrix.shape), where=sums > 0)
    image = panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=panel, label="share of the row", shrink=0.8)
    heading = f"Confusion at score > {found.score:g}, IoU {found.iou:g}"
    panel.set_title(f"{heading}\n{plain_text(title)}", fontsize=11)
    panel.set_xlabel("predicted (background: missed)")
    panel.set_ylabel("truth (background: nothing is there)")
    if count <= _LABELLED + 1:
        size = 10 if count <= _NUMBERED + 1 else 6.5
        panel.set_xticks(range(count), labels, rotation=90 if count > 6 else 30, fontsize=size)
        panel.set_yticks(range(count), labels, fontsize=size)
        if count <= 6:
            panel.tick_params(axis="x", labelrotation=30)
    if count <= _NUMBERED + 1:
        for row, column in zip(*np.nonzero(found.matrix), strict=True):
            ink = "white" if shares[row, column] > 0.55 else _ALL
            size = 10 if count <= 12 else 7
            text = f"{found.matrix[row, column]:,}"
            panel.text(column, row, text, ha="center", va="center", color=ink, fontsize=size)
    return figure


def _empty(heading: str, title: str, x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.4), layout="constrained")
    panel = figure.subplots()
    panel.set_title(f"{heading}\n{plain_text(title)}", fontsize=12)
    panel.set_xlabel(x)
    panel.set_ylabel(y)
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1.02)
    for edge in ("top", "right"):
        panel.spines[edge].set_visible(False)
    panel.grid(alpha=0.25)
    return figure, panel


def _finished(figure: Any, panel: Any) -> Any:
    handles, labels = panel.get_legend_handles_labels()
    if handles:
        panel.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.06, 1), frameon=False, fontsize=9)
    else:
        panel.text(0.5, 0.5, "nothing to show: no objects, or no detections", ha="center", va="center")
    return figure


def _classes(best: BestF1, each: Sequence[Curve]) -> list[tuple[str, Curve, Any, float]]:
    """(label, curve, colour, width) of each class; of many only one has a label."""
    names = list(best.per_class)
    if len(names) == 1:
        return []  # all classes together are this one
    if len(names) <= _NAMED:
        colours = [tuple(part / 255 for part in colour_of(label)) for label in range(len(names))]
        return [
            (plain_text(shortened(name)), curve, colour, 1.3)
            for name, curve, colour in zip(names, each, colours, strict=True)
        ]
    shown = [curve for curve in each if curve.objects and len(curve.scores)]
    labels = [f"each of {len(shown)} classes", *("_" for _ in shown)]  # an underscore keeps it out of the legend
    return [(label, curve, _ONE, 0.6) for label, curve in zip(labels, shown, strict=False)]


def _from_the_left(curve: Curve) -> tuple[Any, Any]:
    """Recall and precision, from a recall of 0 on."""
    recall, precision = curve.recall, curve.precision
    return np.concatenate([[0], recall]), np.concatenate([precision[:1], precision])


def _contours(panel: Any) -> None:
    """Faint lines of equal F1."""
    for f1 in (0.2, 0.4, 0.6, 0.8):
        recall = np.linspace(f1 / (2 - f1), 1, 100)
        panel.plot(recall, f1 * recall / (2 * recall - f1), color="#d7dbe0", linewidth=0.8, zorder=0)
        panel.text(1.006, f1 / (2 - f1), f"F1 {f1:g}", fontsize=7, color="#8b939e", ha="left", va="center")

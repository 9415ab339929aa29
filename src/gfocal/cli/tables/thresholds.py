"""Precision, recall and F1, and the score from which on they are best, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:  # whoever prints one of them has loaded what it needs
    from gfocal.evaluation.thresholds.best_f1 import BestF1
    from gfocal.evaluation.thresholds.curve import Point


def threshold_table(found: BestF1) -> Table:
    """Each class at its own best threshold and at the one that is best for all together; best class first."""
    common = found.micro.threshold
    table = Table(title=f"precision and recall at IoU {found.iou:g}")
    for column in ("class", "best at", "prec.", "recall", "F1"):
        table.add_column(column, justify="left" if column == "class" else "right")
    several = len(found.per_class) > 1 and common is not None
    if several:
        table.caption = f"last three columns: at score {common:g}, the best for all classes together"
        for column in ("prec.", "recall", "F1"):
            table.add_column(column, justify="right")
    ordered = sorted(found.per_class.items(), key=lambda item: 1.0 if item[1].best.f1 is None else -item[1].best.f1)
    for name, own in ordered:
        table.add_row(Text(name), *_cells(own.best), *(_cells(own.at_micro)[1:] if several else ()))
    if several:
        table.add_section()
        table.add_row("all (micro)", *_cells(found.micro), *_cells(found.micro)[1:])
        table.add_row("mean (macro)", *_cells(found.macro))
    return table


def threshold_line(found: BestF1) -> str:
    """Which ``--score`` to take, in words."""
    best = found.micro
    if best.threshold is None or best.precision is None or best.recall is None:
        return "no detection is right at IoU 0.5: there is no best score threshold"
    return (
        f"best F1 {best.f1:.3f} with predict --score {best.threshold:g}: {_percent(best.precision)} of the boxes are "
        f"right, {_percent(best.recall)} of the objects are found"
    )


def score_option(found: BestF1 | None) -> str:
    """What follows ``gfocal predict``: " --score 0.41", or nothing."""
    return "" if found is None or found.micro.threshold is None else f" --score {found.micro.threshold:g}"


def _cells(point: Point) -> list[str]:
    threshold = "-" if point.threshold is None else f"{point.threshold:g}"
    return [threshold, *("-" if v is None else f"{v:.3f}" for v in (point.precision, point.recall, point.f1))]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"

"""Whether the calibration holds here: what its intervals hold, and how near its scores are to chances."""

from __future__ import annotations

import math

from gfocal.calibration.measures import Share
from gfocal.evaluation.trust.check import PROMISE, CalibrationCheck
from gfocal.evaluation.trust.tables import IntervalTable, ScoreRow
from gfocal.report.numbers import NONE, points
from gfocal.run_report.blocks import Block, Section, Table, Words


def calibration_section(check: CalibrationCheck | None, without: str) -> Section:
    """Coverage of each level, scores before and after, and each promise that does not hold.

    Args:
        check: of the calibration on these images; None where there is none that holds for this use.
        without: why there is none.
    """
    title = "Does the calibration hold?"
    if check is None:
        return Section("calibration", title, [Words(without)])
    blocks: list[Block] = [Words(f"{line[:1].upper()}{line[1:]}.") for line in check.drops]
    if check.intervals is None:
        blocks.append(Words("No box found an object, so no interval can be compared with a true edge."))
    else:
        if not check.drops:
            blocks.append(Words("Intervals hold as many edges and boxes here as they promise, or miss by chance only."))
        blocks.append(_levels(check.intervals))
    if check.before is not None and check.after is not None:
        blocks.append(_scores(check.before, check.after))
    if seen := check.describe_seen():
        blocks.append(Words(f"{seen[:1].upper()}{seen[1:]}."))
    blocks.append(Words(f"{PROMISE}. D-ECE and LaECE of 25 bins; LRP at its best threshold.", quiet=True))
    return Section("calibration", title, blocks)


def _levels(found: IntervalTable) -> Table:
    rows = [
        [
            f"{100 * row.level:g} %",
            *(_inside(row.edges), f"{row.width:.1f}"),
            *(_inside(row.box), f"{row.box_width:.1f}"),
        ]
        for row in found.levels
    ]
    columns = ["level", "edges inside, %", "their width", "boxes inside, %", "their width"]
    caption = f"Intervals of {found.matches:,} boxes that found an object; 95 % intervals in brackets, widths in pixels"
    return Table(columns, rows, caption)


def _scores(before: ScoreRow, after: ScoreRow) -> Table:
    rows = [
        [name, f"{old:.4f}", f"{new:.4f}"]
        for name, old, new in (
            ("D-ECE", before.d_ece, after.d_ece),
            ("LaECE", before.la_ece, after.la_ece),
            ("Brier", before.brier, after.brier),
            ("LRP", before.lrp, after.lrp),
        )
    ]
    return Table(["of scores", "as they are", "calibrated"], rows, "Scores, matched at IoU 0.5; less is better")


def _inside(found: Share) -> str:
    if math.isnan(found.share):
        return NONE
    return f"{points(found.share)} ({100 * found.low:.0f} to {100 * found.high:.0f})"

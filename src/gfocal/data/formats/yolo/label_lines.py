"""The lines of a YOLO label file: class and box, in shares of the image's sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gfocal.data.formats.yolo.poses import Poses
from gfocal.data.kinds import Fault, Kind
from gfocal.data.problems import Problems

_BEYOND = 1.0
"""By how many sides of the image a box may reach beyond it; pixels in place of shares reach farther."""

Row = tuple[int, list[float]]
"""Line number; class, centre and size."""


@dataclass
class Meaning:
    """How longer lines are understood, and how many there were.

    Attributes:
        poses: which are boxes with key points; True: all of more than five numbers, False: none.
        polygons: lines that were polygons.
        scored: lines with a sixth number.
        with_points: lines with key points.
    """

    poses: Poses | bool
    polygons: int = 0
    scored: int = 0
    with_points: int = 0

    def box_of(self, values: Sequence[float]) -> list[float] | None:
        """Centre and size of the box that a line means; None: of no box."""
        count = len(values) - 1
        if count == 4:
            return list(values[1:5])
        poses = Poses() if isinstance(self.poses, bool) else self.poses
        if count > 4 and (self.poses is True or len(values) in poses.columns):
            self.with_points += 1
            return list(values[1:5])
        if count == 5:
            self.scored += 1
            return list(values[1:5])
        if count < 6 or count % 2 or poses.only:
            return None
        self.polygons += 1
        (left, right), (top, bottom) = ((min(v), max(v)) for v in (values[1::2], values[2::2]))
        return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def read_rows(content: bytes, file: Path, name: str, meaning: Meaning, problems: Problems) -> list[Row]:
    """The lines that hold numbers; of the others record-broken is reported.

    Args:
        content: of the label file.
        file: the label file.
        name: of the image.
        meaning: of longer lines; counts them.
        problems: collects faults.

    Raises:
        BrokenInputError: a line is broken, and faults are not skipped.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        problems.report(Kind.RECORD_BROKEN, file, "is not text", image=name)
        return []
    rows = []
    for number, line in enumerate(lines, 1):
        if not (words := line.split()):
            continue
        try:
            values = [float(word) for word in words]
        except ValueError:
            message = (
                f"line {number}: {_short(line)} has something that is not a number; a line is: class x y width height"
            )
            problems.report(Kind.RECORD_BROKEN, file, message, image=name)
            continue
        box = meaning.box_of(values)
        if box is None:
            message = f"line {number}: {len(values)} numbers; a line is: class x y width height, or class and corners"
            problems.report(Kind.RECORD_BROKEN, file, message, image=name)
        else:
            rows.append((number, [values[0], *box]))
    return rows


def _short(line: str) -> str:
    return repr(line[:40] + ("..." if len(line) > 40 else ""))


def fault_of(number: float, box: Sequence[float], label_of: dict[int, int] | None) -> Fault | None:
    """What is wrong with a class number and a box; ``label_of``: the known class numbers, None where any is."""
    x, y, width, height = box
    text = "x y width height " + " ".join(f"{value:g}" for value in box)
    if not np.isfinite([number, *box]).all():
        return Fault(Kind.BOX_NOT_FINITE, f"a number is not finite: class {number:g}, {text}")
    if number != int(number) or number < 0 or number > 1 << 20:
        return Fault(Kind.CLASS_UNKNOWN, f"class {number:g} is not a class number; class numbers are whole, from 0 on")
    if label_of is not None and int(number) not in label_of:
        known = f"0 to {len(label_of) - 1}" if max(label_of) == len(label_of) - 1 else ", ".join(map(str, label_of))
        return Fault(Kind.CLASS_UNKNOWN, f"unknown class {int(number)}; known are {known}")
    if width < 0 or height < 0:
        return Fault(Kind.BOX_NEGATIVE, f"box has a negative width or height: {text}")
    outside = f"box lies outside its picture: {text}"
    low, high = (x - width / 2, y - height / 2), (x + width / 2, y + height / 2)
    if max(high) > 1 + _BEYOND or min(low) < -_BEYOND:
        return Fault(Kind.BOX_OUTSIDE, f"{outside} (shares of its width and height are wanted, 0 to 1)")
    if max(low) >= 1 or min(high) <= 0:
        return Fault(Kind.BOX_OUTSIDE, outside)
    return None

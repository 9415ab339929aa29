"""Whether longer lines of label files are polygons, or boxes with key points.

Both are a class number and shares in pairs. Poses have one number of columns throughout; their third numbers are 0, 1
or 2 where they say what is visible; and their points lie in the box of the first four. Polygons of one number of
corners can look the same: what fits both is refused. Four corners with parallel sides are turned boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

_MOST = 0.9
"""The share of lines that must fit: a few may be damaged."""
_LEAST = 7
"""Columns: a class and three corners, or a class, a box and a point."""
_SURE = 8
"""So many numbers that are all 0, 1 or 2 are no coordinates."""
_FIRST = 200
"""After this many lines a number of columns that half of them do not fit is settled."""


@dataclass(frozen=True)
class Poses:
    """Which lines are boxes with key points.

    Attributes:
        columns: those of this many numbers.
        only: other lines of more than six numbers are neither poses nor polygons, but damaged.
    """

    columns: frozenset[int] = frozenset()
    only: bool = False


class UnclearLinesError(Exception):
    """Lines fit polygons and poses alike; the message says which, and what to do."""


@dataclass
class _Lines:
    """The lines of one number of columns: how many there are, and how many fit each meaning."""

    columns: int
    count: int = 0
    visible: int = 0  # all third numbers are 0, 1 or 2
    twos: int = 0  # with a 2, which is no share
    triples: int = 0  # threes of point and share, all points in the box
    pairs: int = 0  # all points in the box
    parallel: int = 0  # quadrilaterals with parallel sides

    def settled(self) -> bool:
        return self.count >= _FIRST and 2 * max(self.visible, self.triples, self.pairs) < self.count

    def fits(self, number: int) -> bool:
        return number >= _MOST * self.count

    def add(self, values: Sequence[float]) -> None:
        self.count += 1
        x, y, width, height = values[1:5]
        rest = values[5:]
        is_box = min(width, height) > 0 and all(
            c - s / 2 >= -0.05 and c + s / 2 <= 1.05 for c, s in ((x, width), (y, height))
        )

        def inside(xs: Sequence[float], ys: Sequence[float]) -> bool:
            # A tenth beyond is none of the box's business; 0, 0 is a point that is not there.
            return is_box and all(
                (abs(a - x) <= 0.6 * width and abs(b - y) <= 0.6 * height) or a == b == 0
                for a, b in zip(xs, ys, strict=True)
            )

        if len(rest) % 3 == 0:
            marks = rest[2::3]
            within = inside(rest[::3], rest[1::3])
            self.visible += all(mark in (0, 1, 2) for mark in marks)
            self.twos += 2 in marks
            self.triples += within and all(0 <= mark <= 2 for mark in marks)
        if len(rest) % 2 == 0:
            self.pairs += inside(rest[::2], rest[1::2])
        if self.columns == 9:
            self.parallel += _is_parallelogram(values[1::2]) and _is_parallelogram(values[2::2])

    def are_poses(self) -> bool:
        """Whether the lines can be nothing else.

        Raises:
            UnclearLinesError: they can be polygons as well.
        """
        threes = (self.columns - 5) % 3 == 0
        even = self.columns % 2 == 0  # which no polygon has
        if threes and self.fits(self.visible):
            certain = self.twos > 0 or self.count * ((self.columns - 5) // 3) >= _SURE
            if certain or (even and self.fits(self.triples)):
                return True
        if even or self.fits(self.parallel):
            return False
        for fits, points, each in ((threes and self.fits(self.triples), 3, 3), (self.fits(self.pairs), 2, 2)):
            if fits:
                raise UnclearLinesError(self.describe((self.columns - 5) // points, each))
        return False

    def describe(self, points: int, each: int) -> str:
        lines = (
            f"{self.count} lines have {self.columns} numbers"
            if self.count > 1
            else (f"a line has {self.columns} numbers")
        )
        return (
            f"{lines}: that can be polygons of {(self.columns - 1) // 2} corners, or boxes with {points} key points. "
            f"Say which in the data set's .yaml: `kpt_shape: [{points}, {each}]` for key points, `kpt_shape: [0, 0]` "
            "for polygons"
        )


def _is_parallelogram(coordinates: Sequence[float]) -> bool:
    """Of the coordinates of four corners along one axis, to a quarter of their extent."""
    a, b, c, d = coordinates
    return abs(a - b + c - d) <= 0.25 * (max(coordinates) - min(coordinates))


def find_poses(contents: Iterable[bytes]) -> Poses:
    """Which lines are poses.

    Args:
        contents: all label files of a data set.

    Raises:
        UnclearLinesError: lines fit polygons and poses alike.
    """
    found: dict[int, _Lines] = {}
    for content in contents:
        for line in content.splitlines():
            words = line.split()
            if len(words) < _LEAST:
                continue
            own = found.setdefault(len(words), _Lines(len(words)))
            if own.settled():
                own.count += 1
                continue
            with suppress(ValueError):  # reported when it is read
                own.add([float(word) for word in words])
    total = sum(own.count for own in found.values())
    # Polygons have any number of corners: one that few lines have proves nothing, unless its numbers do.
    usual = [own for own in found.values() if own.twos or own.count >= _MOST * total]
    poses = [own for own in usual if own.are_poses()]
    return Poses(frozenset(own.columns for own in poses), sum(own.count for own in poses) >= _MOST * max(total, 1))

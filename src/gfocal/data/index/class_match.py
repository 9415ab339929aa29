"""Classes of one data set among those of another, by name."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from gfocal.utils.text import counted, distinguish, fold_name, join_some


def match_by_name(names: Sequence[str], ids: Sequence[int], wanted: Sequence[str]) -> tuple[np.ndarray, list[int]]:
    """Where classes go, see :meth:`gfocal.data.index.data_index.DataIndex.with_classes`.

    Args:
        names: of C classes.
        ids: their C category ids.
        wanted: names of D classes.

    Returns:
        (C,) int64 label in 0..D-1 of each class, -1 for one that is not wanted; and D category ids, those of classes
        that ``names`` lacks the first free ones.
    """
    place = {key: label for label, key in enumerate(distinguish(wanted))}
    new_label = np.array([place.get(key, -1) for key in distinguish(names)], np.int64)
    known = {new: number for new, number in zip(new_label.tolist(), ids, strict=True) if new >= 0}
    taken = set(ids)
    free = (number for number in count(1) if number not in taken)
    return new_label, [known[new] if new in known else next(free) for new in range(len(wanted))]


@dataclass(frozen=True)
class ClassComparison:
    """The classes of a data set beside those of a detector, by name.

    Attributes:
        common: names of both, in the detector's order.
        only_data: boxes of each class that the detector does not know, crowds and ignored ones too.
        only_detector: names that the data lack.
    """

    common: tuple[str, ...]
    only_data: dict[str, int]
    only_detector: tuple[str, ...]

    @property
    def unknown(self) -> dict[str, int]:
        """Those of ``only_data`` with boxes: what keeps the detector from being measured."""
        return {name: boxes for name, boxes in self.only_data.items() if boxes}

    def renames(self) -> list[str]:
        """``OLD=NEW`` for classes of the data that may be one of the detector's under another name."""
        left = list(self.only_detector)
        found = []
        for name in self.only_data:
            folded = {fold_name(other, also="_-"): other for other in left}
            near = difflib.get_close_matches(fold_name(name, also="_-"), folded, n=1, cutoff=0.7)
            if near:
                found.append(f"{name}={folded[near[0]]}")
                left.remove(folded[near[0]])
        return found


def compare_classes(names: Sequence[str], labels: np.ndarray, wanted: Sequence[str]) -> ClassComparison:
    """Compare by name; of several classes of one name the first goes with the first.

    Args:
        names: of C classes of the data.
        labels: (N,) of their boxes, in 0..C-1.
        wanted: names of the detector's classes.
    """
    own, other = distinguish(names), distinguish(wanted)
    boxes = np.bincount(labels, minlength=len(names)).tolist()
    only: dict[str, int] = {}
    for key, number in zip(own, boxes, strict=True):
        if key not in set(other):
            only[key[0]] = only.get(key[0], 0) + number
    return ClassComparison(
        common=tuple(key[0] for key in other if key in set(own)),
        only_data=only,
        only_detector=tuple(key[0] for key in other if key not in set(own)),
    )


def describe_comparison(found: ClassComparison, *, left_out: bool) -> list[str]:
    """Sentences about classes that only one side has; [] where there are none.

    Args:
        found: the comparison.
        left_out: the boxes of what the detector does not know are not measured.
    """
    lines = []
    if found.only_detector:
        lines.append(
            f"of the detector's {len(found.only_detector) + len(found.common)} classes the data lack "
            f"{len(found.only_detector)}, which have no AP: {join_some(found.only_detector)}"
        )
    if found.only_data:
        counts = [f"{name} ({counted(boxes, 'box', 'boxes')})" for name, boxes in found.only_data.items()]
        done = "their boxes are left out" if left_out and found.unknown else "nothing is lost"
        lines.append(
            f"the detector does not know {counted(len(counts), 'class', 'classes')} of the data, {done}: "
            f"{join_some(counts)}"
        )
    if renames := found.renames():
        lines.append(f"if two names mean one class: {' '.join(f'--rename {_typed(pair)}' for pair in renames[:4])}")
    return lines


def _typed(pair: str) -> str:
    return shlex.quote(pair)

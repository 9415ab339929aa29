"""Classes of one data set among those of another, by name."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import numpy as np

from gfocal.utils.text import distinguish


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

"""Splits that share most of their images: a folder named twice, one inside the other, copies."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from gfocal.data.checks.duplicates import Place
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import Finding, Kind
from gfocal.utils.text import counted

_HALF = 0.5
"""A split that would lose more than this share of its images keeps them."""

Pairs = Sequence[tuple[Place, Place]]
"""Copies, as :func:`gfocal.data.checks.duplicates.exact_copies` gives them."""


@dataclass(frozen=True)
class Overlap:
    """Two splits that share most images of one of them.

    Attributes:
        first, second: their names, in the order of the splits.
        shared: images of each that are in the other one too.
        same_files: they are the same files, not copies of them.
        kept_in: the one of the two that keeps the images in a cleaned copy.
    """

    first: str
    second: str
    shared: tuple[int, int]
    same_files: bool
    kept_in: str


def keep_order(splits: Mapping[str, DataIndex], pairs: Pairs) -> list[str]:
    """The splits, those first that keep an image which others have too.

    test comes before val, and val before train: what was measured stays comparable. But a split that would lose most of
    its images so is none to learn from or to measure on any more, and keeps them: the other one was no split.
    """
    rows = _shared_rows(pairs)
    rest: list[str] = list(reversed(list(splits)))
    front: list[str] = []
    for split in splits:
        ahead = rest[: rest.index(split)]
        lost = set().union(*(rows[split, other] for other in ahead))
        if len(lost) > _HALF * len(splits[split]):
            rest.remove(split)
            front.append(split)
    return [*front, *rest]


def _shared_rows(pairs: Pairs) -> Mapping[tuple[str, str], set[int]]:
    """The images of a split that another one has, too."""
    rows: dict[tuple[str, str], set[int]] = defaultdict(set)
    again: dict[Place, set[int]] = defaultdict(set)  # Copies in the split of the first, which pairs name once.
    for (first, i), (second, j) in pairs:
        if first == second:
            again[first, i].add(j)
    for (first, i), (second, j) in pairs:
        rows[first, second] |= {i, *again[first, i]}
        rows[second, first].add(j)
    return rows


def overlaps(splits: Mapping[str, DataIndex], pairs: Pairs) -> list[Overlap]:
    """The pairs of splits of which one has most of its images in the other."""
    rows, order = _shared_rows(pairs), keep_order(splits, pairs)
    found = []
    for one, other in combinations(splits, 2):
        shared = len(rows[one, other]), len(rows[other, one])
        if shared[0] > _HALF * len(splits[one]) or shared[1] > _HALF * len(splits[other]):
            files = [{os.path.realpath(splits[s].path(i)) for i in rows[s, o]} for s, o in ((one, other), (other, one))]
            found.append(Overlap(one, other, shared, files[0] == files[1], min(one, other, key=order.index)))
    return found


def overlap_findings(splits: Mapping[str, DataIndex], pairs: Pairs) -> list[Finding]:
    """What is to say of splits that are not apart."""
    found = []
    for each in overlaps(splits, pairs):
        index, first = splits[each.second], splits[each.first]
        total = f"the {counted(len(index), 'picture')} of {each.second}"
        how = "the same files" if each.same_files else "copies of the same pictures"
        message = f"{each.shared[1]:,} of {total} are in {each.first} too ({how})"
        if each.kept_in == each.second:
            message += f": take them out of {each.first}, which has {len(first):,}"
        else:
            why = "it measures what is learnt" if each.first == "train" else "the two measure the same"
            message += f": {why}. {propose_split(each.second)}"
        found.append(Finding(Kind.SPLITS_SHARED, each.second, index.annotations, message))
    return found


def propose_split(split: str) -> str:
    """How to get pictures to measure on, as a sentence without its full stop."""
    if split != "val":
        return f"Name other pictures for {split}, or none"
    return "Name other pictures for val, or set some of train apart: `gfocal train ... --val 0.2`"

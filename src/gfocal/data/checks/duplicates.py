"""The same image more than once: in train and val, or twice in a split; pixel for pixel, or by its looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gfocal.data.checks.images import ImageFacts
from gfocal.data.image_hash import DISTANCE, similar_groups
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import Finding, Kind

Place = tuple[str, int]
"""A split, and the row of an image in it."""
_ROWS = 256  # of a group that are compared at once


def copy_findings(
    splits: Mapping[str, DataIndex], facts: Mapping[str, Sequence[ImageFacts]], pairs: Sequence[tuple[Place, Place]]
) -> list[Finding]:
    """Images that are there more than once.

    Each image is compared with the splits before its own, and with those before it in its own.

    Args:
        splits: by name; what trains is called "train".
        facts: of each image of each split.
        pairs: the exact copies, as :func:`exact_copies` gives them.
    """
    places: list[Place] = [(split, i) for split in splits for i, own in enumerate(facts[split]) if not own.fault]
    found: list[Finding] = []
    copies: set[tuple[Place, Place]] = set()
    for first, second in pairs:
        copies.add((first, second))
        kind = Kind.IMAGE_DUPLICATE if first[0] == second[0] else Kind.LEAK_EXACT
        found.append(_finding(kind, splits, first, second, "is the same as"))
    # 0 is the likeness of an image of one colour: those look alike, and mean nothing.
    places = [place for place in places if facts[place[0]][place[1]].likeness]
    hashes = np.array([facts[split][i].likeness for split, i in places], np.uint64)
    for group in similar_groups(hashes):
        for kind, a, b, bits in _pairs(places, hashes, group, list(splits)):
            same = facts[a[0]][a[1]].content == facts[b[0]][b[1]].content
            if not same and splits[a[0]].path(a[1]) != splits[b[0]].path(b[1]):
                found.append(_finding(kind, splits, a, b, f"({bits} of 64 bits differ) looks like"))
    return found


def exact_copies(
    splits: Mapping[str, DataIndex], facts: Mapping[str, Sequence[ImageFacts]]
) -> list[tuple[Place, Place]]:
    """(first, second) where the second is a copy of the first: in each split before its own, and in its own.

    One file that a split lists twice is another matter.
    """
    first_of: dict[tuple[str, bytes], int] = {}
    pairs: list[tuple[Place, Place]] = []
    names = list(splits)
    for split, index in splits.items():
        before_it = names[: names.index(split)]
        for i, own in enumerate(facts[split]):
            if own.fault:
                continue
            for other in before_it:
                if (other, own.content) in first_of:
                    pairs.append(((other, first_of[other, own.content]), (split, i)))
            before = first_of.setdefault((split, own.content), i)
            if before != i and index.path(before) != index.path(i):
                pairs.append(((split, before), (split, i)))
    return pairs


def _pairs(
    places: Sequence[Place], hashes: np.ndarray, group: Sequence[int], names: Sequence[str]
) -> list[tuple[Kind, Place, Place, int]]:
    """(kind, first, second, bits) within a group: each image with the nearest in its own split and in those before.

    ``names`` gives the order of the splits.
    """
    members = np.array(group)
    splits = np.array([places[m][0] for m in group])
    found = []
    for at in range(0, len(members), _ROWS):
        rows = members[at : at + _ROWS]
        bits = _distances(hashes[rows], hashes[members])
        for row, m in enumerate(rows.tolist()):
            own = places[m][0]
            wanted = [(Kind.IMAGE_SIMILAR, (splits == own) & (members < m))]
            wanted += [(Kind.LEAK_SIMILAR, splits == other) for other in names[: names.index(own)]]
            for kind, candidates in wanted:
                if candidates.any():
                    nearest = int(np.argmin(np.where(candidates, bits[row], 65)))
                    if bits[row, nearest] <= DISTANCE:
                        found.append((kind, places[members[nearest]], places[m], int(bits[row, nearest])))
    return found


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(len(a), len(b)) bits in which hashes differ."""
    different = a[:, None] ^ b[None]
    return np.unpackbits(different.view(np.uint8).reshape(*different.shape, 8), axis=2).sum(2, dtype=np.int64)


def _finding(kind: Kind, splits: Mapping[str, DataIndex], first: Place, second: Place, said: str) -> Finding:
    (split, i), (other_split, j) = second, first
    index = splits[split]
    other = f"{other_split}: {splits[other_split].file_name(j)}"
    return Finding(kind, split, index.path(i), f"{said} {other}", image=index.file_name(i), other=other)

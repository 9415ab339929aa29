"""Setting images apart to measure on, and remembering which.

None of them looks like one to learn from, and every class is on both sides.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypedDict

import numpy as np

from gfocal.data.fingerprint import fingerprint
from gfocal.data.image_hash import image_hashes, similar_groups
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError
from gfocal.utils.progress import ProgressBar
from gfocal.utils.text import Say, say_lines

_ROOM = 1.5
"""Groups that look alike are set apart until this many times the share is reached; rare classes may need that."""


def choose_val(
    index: DataIndex, share: float, seed: int, *, progress: Callable[[int, int], None] | None = None
) -> tuple[np.ndarray, list[str]]:
    """Choose about a share of the images to measure on; the same ones for the same data and seed.

    Images that look alike (:func:`gfocal.data.image_hash.similar_groups`) stay on one side: otherwise the detector
    would be measured on what it has learnt. Classes are dealt out one by one, the rarest first, as in K. Sechidis, G.
    Tsoumakas and I. Vlahavas, "On the Stratification of Multi-Label Data", 2011, with groups in place of images; one
    that two groups have gets one on each side. An image that cannot be read or is of one colour counts as like no
    other.

    Args:
        index: I images.
        share: above 0, below 1.
        seed: of the choice among equals.
        progress: called with how many images were looked at, of how many.

    Returns:
        (rows (V,) of the chosen images, ascending, at least one and not all; lines that say what was done).

    Raises:
        UsageError: the share is out of range, or all images look alike.
    """
    if not 0 < share < 1:
        raise UsageError(f"the share of pictures to measure on must be above 0 and below 1, got {share:g}")
    groups, alike, unread = look_alikes(index, progress)
    chosen = deal_out(groups, classes_of(index), share, seed)
    return np.flatnonzero(chosen), _lines(index, chosen, alike, unread, share, seed)


def look_alikes(
    index: DataIndex, progress: Callable[[int, int], None] | None = None
) -> tuple[np.ndarray, list[list[int]], int]:
    """Which images look like others, see :func:`choose_val`.

    Returns:
        ((I,) a number for each image, the same for those that look alike, the rows of each group of several, and how
        many images cannot be read).
    """
    hashes, reasons = image_hashes([index.path(i) for i in range(len(index))], progress)
    unread = np.array([reason is not None for reason in reasons], bool)
    readable = np.flatnonzero(~unread & (hashes != 0))  # 0: of one colour, which says nothing of what is on it
    alike = [[int(readable[i]) for i in group] for group in similar_groups(hashes[readable])]
    groups = np.arange(len(index))
    for group in alike:
        groups[group] = group[0]
    return groups, alike, int(unread.sum())


def classes_of(index: DataIndex) -> np.ndarray:
    """(P, 2) pairs of image and class, each once, for :func:`deal_out`; crowds and ignored boxes do not count."""
    owner = np.repeat(np.arange(len(index)), np.diff(np.asarray(index.box_start)))
    counts = ~(np.asarray(index.crowd) | np.asarray(index.ignore))
    pairs = np.stack([owner[counts], np.asarray(index.labels)[counts]], 1)
    return np.unique(pairs, axis=0) if len(pairs) else pairs.reshape(0, 2)


def deal_out(groups: np.ndarray, classes: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Put each group on one of two sides.

    Args:
        groups: (I,) a number for each image, the same for those that must stay together.
        classes: (P, 2) pairs of image and class, each once.
        share: of the images on the second side.
        seed: of the order of groups.

    Returns:
        (I,) bool, True on the second side, where at least one image is, and not all.

    Raises:
        UsageError: there is only one group.
    """
    numbers, group_of = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group_of, minlength=len(numbers))
    if len(numbers) < 2:
        what = "there is only one picture" if len(groups) < 2 else f"all {len(groups)} pictures look alike (one film?)"
        raise UsageError(f"{what}: none can be set apart to measure on; give other data with --val PATH")
    # Large groups first: the small ones even out what those left. Among equals, chance.
    order = np.random.default_rng(seed).permutation(len(numbers))
    order = order[np.argsort(-sizes[order], kind="stable")]
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    wanted = max(1, round(share * len(groups)))
    dealer = _Dealer(sizes, wanted, max(wanted + 1, math.floor(_ROOM * wanted)))
    keys = np.stack([classes[:, 1], group_of[classes[:, 0]]], 1)
    pairs, counts = np.unique(keys, axis=0, return_counts=True)
    starts = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))
    parts = [slice(low, high) for low, high in pairwise([*starts.tolist(), len(pairs)])]
    for part in sorted(parts, key=lambda part: part.stop - part.start):
        members, weights = pairs[part, 1], counts[part]
        by_place = np.argsort(place[members])
        dealer.deal(members[by_place].tolist(), weights[by_place].tolist(), share)
    dealer.deal_rest(order.tolist())
    return dealer.side[group_of] == 1


class _Dealer:
    """Two sides, and what they hold so far."""

    def __init__(self, sizes: np.ndarray, wanted: int, most: int) -> None:
        self.sizes, self.wanted, self.most = sizes, wanted, most
        self.side = np.full(len(sizes), -1)
        self.apart = 0  # images on the second side

    def put(self, group: int, second: bool) -> None:
        self.side[group] = int(second)
        self.apart += int(self.sizes[group]) if second else 0

    def fits(self, group: int) -> bool:
        return self.apart + self.sizes[group] <= self.most and self.sizes[group] <= self.sizes.sum() / 2

    def deal(self, members: Sequence[int], weights: Sequence[int], share: float) -> None:
        """The groups with a class, each with how many of its images have it."""
        total = sum(weights)
        need = [total - share * total, share * total]
        if len(members) > 1:
            need = [total - max(1.0, need[1]), max(1.0, need[1])]
        for group, weight in zip(members, weights, strict=True):
            if self.side[group] >= 0:
                need[self.side[group]] -= weight
        for group, weight in zip(members, weights, strict=True):
            if self.side[group] < 0:
                second = need[1] > 0 and need[1] >= need[0] and self.fits(group)
                self.put(group, second)
                need[int(second)] -= weight

    def deal_rest(self, order: Sequence[int]) -> None:
        """Groups without any class, then whatever it takes that neither side is empty."""
        left = [group for group in order if self.side[group] < 0]
        remaining = sum(int(self.sizes[group]) for group in left)
        for group in left:
            missing = self.wanted - self.apart
            second = missing > 0 and missing >= remaining - missing and self.fits(group)
            self.put(group, second)
            remaining -= int(self.sizes[group])
        if not self.apart:
            self.put(order[-1], True)  # the smallest
        elif self.apart == self.sizes.sum():
            self.side[order[-1]] = 0


def _lines(
    index: DataIndex, chosen: np.ndarray, alike: Sequence[Sequence[int]], unread: int, share: float, seed: int
) -> list[str]:
    count = int(chosen.sum())
    line = f"split: {count:,} of {len(index):,} pictures set apart to measure on (share {share:g}, seed {seed})"
    if alike:
        line += f"; {sum(map(len, alike)):,} that look alike stay together in {len(alike):,} groups"
    lines = [line]
    if unread:
        lines.append(f"warning: {unread} pictures cannot be read: whether others look like them is unknown")
    largest = max(map(len, alike), default=0)
    if largest > len(index) / 2:
        lines.append(
            f"warning: {largest:,} of {len(index):,} pictures look alike, as frames of one film, and the run learns "
            "from all of them: give pictures of another scene with --val PATH"
        )
    pairs = classes_of(index)
    both = [set(pairs[chosen[pairs[:, 0]] == side, 1].tolist()) for side in (False, True)]
    for there, absent, what in ((both[0], both[1], "measured"), (both[1], both[0], "learnt")):
        if missing := sorted(there - absent):
            names = ", ".join(index.names[label] for label in missing[:5]) + (", ..." if missing[5:] else "")
            lines.append(f"warning: too few pictures show {names}: not {what}")
    return lines


@dataclass(frozen=True)
class Apart:
    """What was set apart of one data set.

    Attributes:
        of: fingerprint of all of it.
        val: file names of the images, as the data set writes them.
    """

    of: str
    val: tuple[str, ...]

    def chosen(self, index: DataIndex) -> np.ndarray:
        """(I,) bool: which images of the same data set these are.

        Raises:
            UsageError: the data have changed.
        """
        apart = set(self.val)
        rows = np.array([index.file_name(i) in apart for i in range(len(index))], bool)
        # What slips through here would be learnt and measured.
        if fingerprint(index) != self.of or rows.sum() != len(self.val):
            raise UsageError(f"{index.annotations} changed since the run set pictures apart; start a new run")
        return rows


@dataclass(frozen=True)
class HeldOut:
    """Images of the training data that were set apart.

    Attributes:
        share: of the images that was asked for.
        seed: of the choice.
        parts: one for each data set that was joined, in order.
    """

    share: float
    seed: int
    parts: tuple[Apart, ...]

    def to_dict(self) -> HeldOutJson:
        """JSON types, which ``run.json`` keeps."""
        parts: list[ApartJson] = [{"of": part.of, "val": list(part.val)} for part in self.parts]
        return {"share": self.share, "seed": self.seed, "parts": parts}

    @classmethod
    def from_dict(cls, content: HeldOutJson) -> HeldOut:
        parts = tuple(Apart(part["of"], tuple(part["val"])) for part in content["parts"])
        return cls(content["share"], content["seed"], parts)

    def divide(self, index: DataIndex, parts: Sequence[DataIndex]) -> tuple[DataIndex, DataIndex]:
        """(what is learnt, what is measured) of the same data.

        Args:
            index: the parts joined.
            parts: the data sets, as they were read.

        Raises:
            UsageError: the data have changed.
        """
        if len(parts) != len(self.parts):
            raise UsageError(f"the run learns from {len(self.parts)} data sets, not from {len(parts)}")
        pairs = zip(self.parts, parts, strict=True)
        return divide(index, np.concatenate([apart.chosen(part) for apart, part in pairs]))

    def check_same(self, val: Path | float | None, seed: int | None) -> None:
        """What is asked for when the run continues is what it has; None asks for nothing.

        Raises:
            UsageError: it is not.
        """
        has = f"the run set pictures apart to measure on (--val {self.share:g} --seed {self.seed}) and keeps them"
        if isinstance(val, Path) or val not in (None, self.share):
            raise UsageError(f"--val {val}: {has}; leave --val out, or start a new run")
        if seed not in (None, self.seed):
            raise UsageError(f"--seed {seed}: {has}; leave --seed out, or start a new run")


class ApartJson(TypedDict):
    """:class:`Apart`."""

    of: str
    val: list[str]


class HeldOutJson(TypedDict):
    """:class:`HeldOut`."""

    share: float
    seed: int
    parts: list[ApartJson]


def divide(index: DataIndex, chosen: np.ndarray) -> tuple[DataIndex, DataIndex]:
    return index.take(np.flatnonzero(~chosen)), index.take(np.flatnonzero(chosen))


def parse_val(text: str | None) -> Path | float | None:
    """What ``--val`` says: a path, or a share of the training data.

    Raises:
        UsageError: a number that is no share, and no path of that name.
    """
    if text is None or Path(text).exists():
        return None if text is None else Path(text)
    try:
        share = float(text)
    except ValueError:
        return Path(text)
    if not 0 < share < 1:
        raise UsageError(f"--val {text}: a share of the pictures is above 0 and below 1; otherwise give a path")
    return share


def set_apart(
    index: DataIndex, share: float, seed: int, say: Say | None, parts: Sequence[DataIndex] | None = None
) -> tuple[DataIndex, DataIndex, HeldOut]:
    """Divide training data; see :func:`gfocal.data.split.choose_val`. ``parts``: what was joined into ``index``."""
    with ProgressBar(
        len(index), "looking for pictures that are alike", shown=os.environ.get("RANK", "0") == "0"
    ) as bar:
        rows, lines = choose_val(index, share, seed, progress=bar.callback)
    say_lines(lines, say)
    chosen = np.zeros(len(index), bool)
    chosen[rows] = True
    parts = [index] if parts is None else parts
    own = np.split(chosen, np.cumsum([len(part) for part in parts])[:-1])
    apart = [
        Apart(fingerprint(part), tuple(part.file_name(int(i)) for i in np.flatnonzero(mask)))
        for part, mask in zip(parts, own, strict=True)
    ]
    return *divide(index, chosen), HeldOut(share, seed, tuple(apart))

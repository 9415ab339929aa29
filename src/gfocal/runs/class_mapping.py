"""Which class of one detector is which of another: by name, so that a head's rows can follow."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gfocal.data.index.class_match import ClassComparison
from gfocal.utils.text import fold_name, join_some


@dataclass(frozen=True)
class ClassMatch:
    """Classes of one list beside those of the same name in another.

    Attributes:
        pairs: (index in the own list, index in the other), ascending by the first; each index once.
        loose: (own name, other name) of pairs whose names differ in case, blanks, hyphens or underscores.
        new: own names that the other list lacks.
        unused: names of the other list that the own one lacks.
    """

    pairs: tuple[tuple[int, int], ...]
    loose: tuple[tuple[str, str], ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]

    def to_dict(self) -> dict[str, int | list[str] | list[list[str]]]:
        """JSON types, as run.json holds them."""
        return {
            "matched": len(self.pairs),
            "loose": [list(pair) for pair in self.loose],
            "new": list(self.new),
            "unused": list(self.unused),
        }


def match_classes(own: Sequence[str], other: Sequence[str]) -> ClassMatch:
    """Pair classes of equal names; what is left, of names that differ in case or blanks alone.

    Of several classes of one name the first is paired with the first, and so on. A loose pair is made only where it is
    the only one possible: "Car" takes "car", but neither of "CAR" and "car " does where both are there.

    Args:
        own: names of the detector that gets rows.
        other: names of the detector that gives them.
    """
    pairs = _paired(own, other, range(len(own)), range(len(other)), lambda name: name)
    rest = [i for i in range(len(own)) if i not in pairs]
    others = [i for i in range(len(other)) if i not in pairs.values()]
    single = {
        side: Counter(_folded(names[i]) for i in left)
        for side, names, left in (("own", own, rest), ("other", other, others))
    }
    clear = {key for key, count in single["own"].items() if count == 1 and single["other"][key] == 1}
    loose = _paired(
        own,
        other,
        [i for i in rest if _folded(own[i]) in clear],
        [i for i in others if _folded(other[i]) in clear],
        _folded,
    )
    whole = pairs | loose
    return ClassMatch(
        pairs=tuple(sorted(whole.items())),
        loose=tuple((own[i], other[j]) for i, j in sorted(loose.items())),
        new=tuple(name for i, name in enumerate(own) if i not in whole),
        unused=tuple(name for j, name in enumerate(other) if j not in set(whole.values())),
    )


def _paired(
    own: Sequence[str], other: Sequence[str], left: Sequence[int], right: Sequence[int], key: Callable[[str], str]
) -> dict[int, int]:
    """Own index -> other index, of equal keys; the n-th of a key goes with the n-th."""
    places = {}
    seen: Counter[str] = Counter()
    for j in right:
        places[key(other[j]), seen[key(other[j])]] = j
        seen[key(other[j])] += 1
    seen.clear()
    pairs = {}
    for i in left:
        place = places.get((key(own[i]), seen[key(own[i])]))
        seen[key(own[i])] += 1
        if place is not None:
            pairs[i] = place
    return pairs


def _folded(name: str) -> str:
    return fold_name(name, also="_-")


def describe_classes(match: ClassMatch) -> list[str]:
    """Lines about a detector that took the outputs of the other's classes."""
    kept = len(match.pairs)
    lines = [f"init: {kept} of {kept + len(match.new)} classes keep their outputs, by name"]
    if match.new:
        lines[0] += f"; new: {join_some(match.new)}"
    if match.unused:
        lines[0] += f"; not used: {join_some(match.unused)}"
    if renames := ClassComparison((), dict.fromkeys(match.new, 0), match.unused).renames():
        words = " ".join(f"--rename {shlex.quote(pair)}" for pair in renames[:4])
        lines.append(f"init: where two names mean one class, {words} keeps its outputs")
    if match.loose:
        pairs = [f"{theirs} -> {ours}" for ours, theirs in match.loose]
        lines.append(f"init: names that differ in case or blanks were treated as the same: {join_some(pairs)}")
    return lines

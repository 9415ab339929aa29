"""Tensors of another project at their places in a detector of ours, by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from re import Match, Pattern

from torch import Tensor

from gfocal.interop.report import (
    ImportReport,
    class_names,
    folded_note,
    refuse_misfits,
    refuse_unusable,
    save_import,
    shape_of,
)
from gfocal.recipe import load_recipe
from gfocal.runs.checkpoint import build_within

Rule = tuple[Pattern[str], str | Callable[[Match[str]], str]]
_COUNTER = ".num_batches_tracked"


def rules(*pairs: tuple[str, str | Callable[[Match[str]], str]]) -> tuple[Rule, ...]:
    """Rules of :func:`rename`: a regular expression and what stands in the place of its match, as of ``re.sub``."""
    return tuple((re.compile(pattern), replacement) for pattern, replacement in pairs)


def layers(place: str, names: Mapping[int, str]) -> tuple[tuple[str, str], ...]:
    """Pairs for :func:`rules`: what is numbered in a Sequential here has names of its own there.

    Args:
        place: a regular expression of what stands before the number, without groups.
        names: theirs by the number.
    """
    return tuple((rf"^({place})\.{number}\.", rf"\1.{name}.") for number, name in names.items())


def rename(name: str, by: Iterable[Rule]) -> str:
    """A name after all rules, one after the other."""
    for pattern, replacement in by:
        name = pattern.sub(replacement, name)
    return name


@dataclass(frozen=True)
class NameMap:
    """How another project names the tensors of a network that is ours, too.

    Attributes:
        format: whose it is, see :class:`gfocal.interop.report.ImportReport`.
        network: what it is called in messages.
        their_name: of one of our tensors.
        unused: names of theirs that play no part in inference.
        prefix: what stands before each name in their files; for messages.
    """

    format: str
    network: str
    their_name: Callable[[str], str]
    unused: Pattern[str]
    prefix: str = ""

    def used(self, state: Mapping[str, object]) -> dict[str, object]:
        """The entries of their state that inference needs."""
        return {name: value for name, value in state.items() if not self.unused.fullmatch(name)}

    def place(self, state: Mapping[str, object], own: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
        """Their tensors under our names, every one of them in its place.

        How many batches a batch norm has seen is of no effect here; where they do not say it, it stays as it is.

        Args:
            state: theirs, by their names.
            own: the detector's state.
            where: the file, for messages.

        Raises:
            UsageError: naming tensors that are missing, unknown or of another shape.
        """
        names = {name: self.their_name(name) for name in own}
        expected = set(names.values())
        found = {
            "missing": [n for n in names.values() if n not in state and not n.endswith(_COUNTER)],
            "unknown": [n for n in self.used(state) if n not in expected],
            "of another shape": [
                f"{theirs} {shape_of(state[theirs])} instead of {shape_of(own[name])}"
                for name, theirs in names.items()
                if theirs in state and shape_of(state[theirs]) != shape_of(own[name])
            ],
        }
        refuse_misfits(f"{where} does not fit {self.network}", found, self.prefix)
        placed = {name: state.get(theirs, own[name]) for name, theirs in names.items()}
        return {name: value for name, value in placed.items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class Recognised:
    """What a file's tensors are of.

    Attributes:
        row: the recipe.
        changed: its keys that are otherwise in the file, as "key=value".
        classes: number of classes.
        notes: what the file did not say, a sentence each.
    """

    row: str
    changed: tuple[str, ...]
    classes: int
    notes: tuple[str, ...] = ()


def import_by_names(
    checkpoint: Path,
    file: Path,
    state: Mapping[str, object],
    by: NameMap,
    found: Recognised,
    *,
    names: Sequence[str] | None,
    foreign: tuple[str, ...] = (),
) -> ImportReport:
    """Write the checkpoint ``file`` from tensors that have names; every one of them is accounted for.

    Args:
        checkpoint: where they come from.
        file: to write.
        state: the tensors by their names.
        by: whose names these are.
        found: what they are of.
        names: of the classes, by the person who imports; None: none are given.
        foreign: see :class:`gfocal.interop.report.ImportReport`.

    Raises:
        UsageError: tensors that do not fit or are not finite, or another number of names.
    """
    recipe = load_recipe(found.row, found.changed)
    class_list, note = class_names(None, found.classes, names)
    used = by.used(state)
    refuse_unusable(checkpoint, used)
    detector = build_within(recipe, class_list, state, checkpoint)
    detector.load_state_dict(by.place(state, detector.state_dict(), str(checkpoint)))
    save_import(file, detector.state_dict(), recipe, class_list, source=checkpoint, format=by.format)
    return ImportReport(
        file,
        by.format,
        found.row,
        found.changed,
        len(used),
        tuple(name for name in state if name not in used),
        found.classes,
        notes=(*found.notes, *((note,) if note else ()), *folded_note(detector)),
        foreign=foreign,
    )

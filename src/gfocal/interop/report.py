"""What an import did, and the steps that all imports share."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gfocal.data.formats.coco.classes import COCO_CATEGORY_IDS, COCO_NAMES
from gfocal.errors import UsageError
from gfocal.interop.config_text import find
from gfocal.recipe import Recipe, load_recipe
from gfocal.runs.checkpoint import BEST, save_detector
from gfocal.runtime.norm_statistics import norms_without_statistics
from gfocal.serialization.sums import describe_unusable
from gfocal.utils.text import counted, join_some

_LISTED, _FEW = 12, 3  # names without a place that are listed one by one; of many, those of a part


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        file: the checkpoint written.
        format: "nanodet", "picodet" or "mmdetection".
        recipe: the recipe that the weights are of.
        changed: recipe keys that the file has otherwise than that recipe, as "key=value" for ``--set``.
        used: number of tensors that are in the checkpoint.
        unused: names of the tensors that have no place in the network, all of them known to be without effect.
        classes: number of classes.
        notes: what the file did not say and was taken from elsewhere, a sentence each.
        foreign: classes and functions that the file's pickle names; none of them was imported or called.
    """

    file: Path
    format: str
    recipe: str
    changed: tuple[str, ...]
    used: int
    unused: tuple[str, ...]
    classes: int
    notes: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """What a person wants to read of it."""
        classes = f"{self.classes} {'class' if self.classes == 1 else 'classes'}"
        lines = [f"wrote {self.file}: {self.recipe} of {self.format}, {self.used} tensors, {classes}"]
        if self.changed:
            lines.append(f"recipe {self.recipe} with {' '.join(map(printable, self.changed))}")
        if self.unused:
            lines.append(f"without a place, as expected: {len(self.unused)} tensors: {_grouped(self.unused)}")
        lines += [f"note: {note}" for note in self.notes]
        if self.foreign:
            more = ", ..." if len(self.foreign) > 3 else ""
            named = ", ".join(printable(name) for name in self.foreign[:3])
            lines.append(f"left out, not run: objects of {len(self.foreign)} other classes: {named}{more}")
        return lines


def _grouped(names: Sequence[str]) -> str:
    """The names; of many, how many each part of the network has where these are more than a few."""
    parts = Counter(name.partition(".")[0] for name in names)
    alone = [name for name in names if len(names) <= _LISTED or parts[name.partition(".")[0]] <= _FEW]
    together = [f"{part}.* ({count})" for part, count in parts.items() if len(names) > _LISTED and count > _FEW]
    return ", ".join(map(printable, [*alone, *together]))


def printable(text: str) -> str:
    """Without what could move a terminal's cursor: a name comes from a file that nobody may trust."""
    return "".join(c if c.isprintable() else "?" for c in text[:120])


def free_place(out: Path, *, overwrite: bool) -> Path:
    """The file to write.

    Raises:
        UsageError: it exists, and ``overwrite`` is False.
    """
    file = Path(out) / BEST
    if file.exists() and not overwrite:
        raise UsageError(
            f"{file} exists already; choose another folder, or replace it with --overwrite (overwrite=True)"
        )
    return file


def class_names(given: object, classes: int, chosen: Sequence[str] | None = None) -> tuple[tuple[str, ...], str | None]:
    """(names, a note where they were not given): those of the file, else COCO's for 80 classes, else "class 0".

    Args:
        given: what the file says.
        classes: that it has outputs for.
        chosen: by a person, who is asked first.

    Raises:
        UsageError: another number is chosen, or one of them twice.
    """
    if chosen is not None:
        if len(chosen) != classes:
            raise UsageError(f"--names has {counted(len(chosen), 'name')}, and the file has outputs for {classes}")
        if twice := [name for name, count in Counter(chosen).items() if count > 1]:
            raise UsageError(f"--names has {twice[0]!r} twice")
        return tuple(chosen), None
    names = tuple(given) if isinstance(given, (list, tuple)) else ()
    if len(names) == classes and all(isinstance(name, str) for name in names):
        return names, None
    why = (
        f"the file names {len(names)} classes and has outputs for {classes}" if names else "no class names in the file"
    )
    if classes == len(COCO_NAMES):
        return COCO_NAMES, f"{why}: taken as the 80 of COCO"
    return tuple(f"class {i}" for i in range(classes)), f"{why}: they are called class 0, class 1, ..."


def input_size(checkpoint: Path, asked: int | None, named: Sequence[int]) -> tuple[int, tuple[str, ...]]:
    """(side in pixels, notes) of a detector whose file does not say it: what is asked for, else what its name has.

    Args:
        checkpoint: the file.
        asked: by the person who imports.
        named: the sides that are looked for in the name; 320 where none is there.
    """
    if asked is not None:
        return asked, ()
    size = next((size for size in named if re.search(rf"(?<!\d){size}(?!\d)", checkpoint.name)), 320)
    return size, (f"the file does not say its input size: {size} pixels are assumed; --size sets it",)


def folded_note(detector: nn.Module) -> tuple[str, ...]:
    """That batch norms are without statistics, where some are: for training it matters."""
    folded, norms = norms_without_statistics(detector), [m for m in detector.modules() if isinstance(m, _BatchNorm)]
    if not folded:
        return ()
    return (
        f"{len(folded)} of {len(norms)} batch norms are folded into the layers before them, as in files made for "
        "inference: predictions are exact; to train on, give this to --init, which first measures their statistics on "
        "training images",
    )


def save_import(
    file: Path, state: Mapping[str, Tensor], recipe: Recipe, names: Sequence[str], *, source: Path, format: str
) -> None:
    """Write the checkpoint, with COCO's category ids where the classes are COCO's."""
    ids = COCO_CATEGORY_IDS if tuple(names) == COCO_NAMES else None
    notes = {"imported_from": source.name, "format": format}
    save_detector(file, dict(state), recipe, names, category_ids=ids, notes=notes)


def refuse_unusable(source: Path, state: Mapping[str, object]) -> None:
    """Name the weights that no network can compute with.

    Raises:
        UsageError: there are some.
    """
    tensors = {printable(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if what := describe_unusable(tensors):
        raise UsageError(
            f"{source} has {what}. A detector with them finds nothing: get the file again, or one of an earlier epoch"
        )


def refuse_misfits(where: str, found: Mapping[str, Sequence[str]], prefix: str = "") -> None:
    """Name the tensors that do not fit.

    Args:
        where: start of the message.
        found: "missing", "unknown", "of another shape" -> names.
        prefix: put before each name.

    Raises:
        UsageError: there are some.
    """

    def some(names: Sequence[str]) -> str:
        return join_some([prefix + printable(name) for name in names], most=3)

    problems = [f"{len(names)} {word}: {some(names)}" for word, names in found.items() if names]
    if problems:
        raise UsageError(f"{where}; tensors {'; '.join(problems)}")


def differing(recipe: str, keys: Mapping[str, object]) -> tuple[str, ...]:
    """Those of the keys ("a.b") that the recipe has otherwise, as "a.b=value" for ``--set``; values are JSON types."""
    plain = load_recipe(recipe).to_dict()
    return tuple(f"{key}={json.dumps(value)}" for key, value in keys.items() if find(plain, *key.split(".")) != value)


def shape_of(value: object) -> tuple[int, ...] | str:
    """The shape of a tensor; of anything else, what it is."""
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__

"""The weights that a run begins with: what ``--init`` takes, and what may not start from random values."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.models.backbones.loading import RANDOM_START
from gfocal.recipe import ModelRecipe, Recipe
from gfocal.runs.card import read
from gfocal.runs.checkpoint import find_weights, read_about
from gfocal.runs.class_mapping import ClassMatch, describe_classes, match_classes
from gfocal.runs.transfer import PARTS, Group, Taken, changed_keys, other_inputs, start_from
from gfocal.utils.records import from_json, to_json
from gfocal.utils.text import counted, program

_ORIGINS = "origins"
_HUB_CACHE = "models--"  # and owner--name: a folder of huggingface_hub's cache


def check_start(model: ModelRecipe) -> None:
    """Refuse what would keep random values for good.

    Raises:
        UsageError: naming the keys.
    """
    if "neck" in model.frozen:
        raise UsageError(
            "model.frozen has the neck, which starts from random values and would keep them for good: give it weights "
            "(--init), or let it learn with --set model.frozen=[]"
        )
    if not model.pretrained and (model.frozen_stages or model.norm_eval or model.frozen):
        raise UsageError(
            f"the backbone starts from random values, of which model.frozen_stages={model.frozen_stages}, "
            f"model.frozen={list(model.frozen)} and model.norm_eval={str(model.norm_eval).lower()} would keep some for "
            f"good: give it weights (model.pretrained, --init), or let all of it learn with {RANDOM_START}"
            + (" --set model.frozen=[]" if model.frozen else "")
        )


@dataclass(frozen=True)
class Origin:
    """Other people's weights that some weights started from or were made of.

    Attributes:
        words: which, and from where.
        licence: that they were published under; "" where it is not known.
        noncommercial: that licence forbids commercial use.
    """

    words: str
    licence: str = ""
    noncommercial: bool = False


def origins_of(weights: Path) -> list[Origin]:
    """The origins that a run folder or a checkpoint names; a repository of the hub is one, too.

    Raises:
        UsageError: it is no checkpoint.
    """
    file = find_weights(weights)
    notes, card = read_about(file).notes, read(file.parent)
    found = origins_in(notes) or origins_in({} if card is None else card.get("init"))
    if not found and (imported := notes.get("imported_from")):
        found = [Origin(f"the file {imported} of another project")]
    repository = hub_repository(weights)
    known = repository is None or any(each.words == repository for each in found)
    return found if known else [*found, Origin(str(repository))]


def origins_in(content: object) -> list[Origin]:
    """Those that a checkpoint's notes, or what run.json has under ``init``, hold; what is damaged is passed over."""
    listed = content.get(_ORIGINS) if isinstance(content, Mapping) else None
    try:
        return [from_json(Origin, each) for each in listed or ()]
    except (ValueError, TypeError):
        return []


def origin_notes(origins: Iterable[Origin]) -> dict[str, object]:
    """What :func:`origins_in` reads."""
    return {_ORIGINS: [to_json(each) for each in origins]}


def hub_repository(path: Path) -> str | None:
    """hub:owner/name of a file in the cache of huggingface_hub; None for any other."""
    folder = next((part for part in path.parts if part.startswith(_HUB_CACHE)), None)
    return None if folder is None else f"hub:{'/'.join(folder.split('--')[1:])}"


@dataclass(frozen=True)
class NormStatistics:
    """What was measured for batch norms that had no statistics, see :mod:`gfocal.runtime.norm_statistics`.

    Attributes:
        norms: how many.
        images: of the training data, as training sees them.
    """

    norms: int
    images: int


@dataclass(frozen=True)
class Start:
    """What a detector took from other weights.

    Attributes:
        source: the run folder or checkpoint that they come from.
        parts: of the detector, those that take weights.
        tensors: how many the detector has.
        fresh: names of those that start from scratch, or some of whose rows do.
        taken: how much of each group of weights starts from scratch.
        reasons: recipe keys that are why, as "model.boxes.delta 1.0 -> 0.5", by group.
        other_inputs: what the weights were trained for and the recipe has otherwise, a text for each.
        classes: whose outputs were kept; None where the head starts from scratch.
        statistics: what batch norms without statistics were given; None where all have them, or keep what they have.
        origins: of the weights.
    """

    source: Path
    parts: tuple[str, ...]
    tensors: int
    fresh: tuple[str, ...]
    taken: Taken
    reasons: dict[Group, list[str]]
    other_inputs: tuple[str, ...]
    classes: ClassMatch | None
    statistics: NormStatistics | None = None
    origins: tuple[Origin, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """JSON types, as run.json holds them."""
        return {
            "from": str(self.source),
            "parts": list(self.parts),
            "tensors": self.tensors,
            "fresh": list(self.fresh),
            "new_numbers": {
                group: [self.taken.new[group], count] for group, count in self.taken.total.items() if count
            },
            "other_inputs": list(self.other_inputs),
            "classes": None if self.classes is None else self.classes.to_dict(),
            "norm_statistics": None if self.statistics is None else asdict(self.statistics),
            **origin_notes(self.origins),
        }


def start_weights(detector: DenseDetector, recipe: Recipe, init: Path, parts: Sequence[str] = PARTS) -> Start:
    """Take the weights of ``init`` for some parts."""
    taken = start_from(detector, init, parts)
    theirs = read_about(find_weights(init)).names
    return Start(
        source=init,
        parts=tuple(parts),
        tensors=len(detector.state_dict()),
        fresh=tuple(taken.fresh),
        taken=taken,
        reasons={group: changed_keys(recipe, init, group) for group, count in taken.new.items() if count},
        other_inputs=tuple(other_inputs(recipe, init, parts)),
        classes=match_classes(detector.names, theirs) if "head" in parts else None,
        origins=tuple(origins_of(init)),
    )


def check_same_start(folder: Path, init: Path, parts: Sequence[str]) -> str:
    """See that a run that continues began with ``init``, as the command that is repeated says; a line about it.

    Raises:
        UsageError: it began with something else.
    """
    if (card := read(folder)) is None or "init" not in card:
        return f"init: {folder} continues with its own weights; --init {init} is not used"
    began = card["init"] or {}
    source, own = str(began.get("from", "")), began.get("parts")
    if not source or not _same_place(Path(source), init) or own != list(parts):
        named = f" --init-parts {','.join(map(str, own))}" if isinstance(own, list) and own != list(PARTS) else ""
        which = f"--init {source}{named}" if source else "no --init"
        raise UsageError(
            f"the run in {folder} began with {which}, and --resume continues with its own weights: leave --init out, "
            f"or start another run from {init} (another --out, no --resume)"
        )
    return f"init: {folder} continues with its own weights; it began with {init}"


def _same_place(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def describe_start(start: Start) -> list[str]:
    """Lines about what :func:`start_weights` did."""
    fresh = start.fresh
    names = f": {', '.join(fresh[:6])}{', ...' if len(fresh) > 6 else ''}" if fresh else ""
    lines = [f"init: {len(fresh)} of {start.tensors} tensors start from scratch{names}"]
    if start.classes is not None:
        lines += describe_classes(start.classes)
        if not start.classes.new:
            evaluate = f"`{program()} eval {shlex.quote(str(start.source))} --data DATA`"
            lines.append(
                f"init: the weights know all classes: {evaluate} says how good they are without training, and few "
                "pictures can make them worse"
            )
    lines += _describe_groups(start)
    if (found := start.statistics) is not None:
        lines.append(
            f"init: {counted(found.norms, 'batch norm')} of the weights had no statistics, as in files made for "
            f"inference: measured on {counted(found.images, 'training picture')}, which leaves all outputs as they were"
        )
    if start.other_inputs:
        other = "; ".join(start.other_inputs)
        lines.append(f"init: the weights were trained for other inputs than this run has: {other}")
    return lines


_WORDS: dict[Group, str] = {
    "backbone": "the backbone",
    "neck": "the neck",
    "head": "the head below its outputs",
    "class": "class outputs",
    "box": "box outputs",
    "quality": "the quality",
}


def _describe_groups(start: Start) -> list[str]:
    """A line for each group of weights of which a changed key makes some start from scratch."""
    lines = []
    for group, words in _WORDS.items():
        new, total = start.taken.new[group], start.taken.total[group]
        if new and (reasons := start.reasons.get(group)):
            line = f"init: {words}: {new:,} of {total:,} numbers start from scratch, since {', '.join(reasons)}"
            if group == "box" and start.taken.lowered:
                line += "; the others are kept, and new bins start with next to no probability: boxes are as before"
            lines.append(line)
    return lines

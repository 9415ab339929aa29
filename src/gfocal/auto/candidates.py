"""Which detectors `gfocal train auto` chooses among, and whose weights they may start from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from gfocal.auto.weights import hosts_of, is_here, is_silent, weights_here
from gfocal.catalogue.entries import find
from gfocal.catalogue.resolve import model_path
from gfocal.catalogue.settings import is_offline
from gfocal.data.formats.coco.classes import COCO_NAMES
from gfocal.errors import GfocalError, UsageError
from gfocal.recipe import Recipe, build_recipe, load_recipe, recipe_names
from gfocal.recipe.values import flat, with_values
from gfocal.runs.checkpoint import find_weights, read_about
from gfocal.utils.text import Say, join_some, listed, program


@dataclass(frozen=True)
class Candidate:
    """A detector to fine-tune.

    Attributes:
        recipe: that comes with the package.
        weights: names of ``gfocal models`` that fit it, the better first.
    """

    recipe: str
    weights: tuple[str, ...]


CANDIDATES = (
    Candidate("nanodet_plus_m", ("nanodet_plus_m_416_coco", "nanodet_plus_m_320_coco")),
    Candidate("picodet_s", ("picodet_s_416_coco", "picodet_s_320_coco")),
    Candidate("gfl_nano", ("nanodet_m_416_coco", "nanodet_m_320_coco")),
)
"""In the order in which they are wanted; benchmarks/own_data.py compares them (docs/train-your-data.md)."""


@dataclass(frozen=True)
class Begin:
    """What a training begins with.

    Attributes:
        base: name of the recipe, or the file of the weights whose recipe it is.
        recipe: as it is there.
        init: what ``--init`` gets; None: random values.
        reason: a line.
        taught: classes that the weights have outputs for; () where nobody knows.
    """

    base: str
    recipe: Recipe
    init: str | None
    reason: str
    taught: tuple[str, ...] = ()


def choose_begin(init: str | Path | None, say: Say, *, fetch: bool = True) -> Begin:
    """The detector, by the weights that there are: those given, else the best that are here or can be fetched now.

    Args:
        init: MODEL, or None.
        say: gets lines about fetching.
        fetch: what is not here; without, nobody is asked, and lines say what would be fetched.

    Raises:
        UsageError: ``init`` is no MODEL.
        GfocalError: it cannot be fetched.
    """
    if init is not None:
        return _of_given(init, say, fetch=fetch)
    missed: list[tuple[str, GfocalError]] = []
    silent: set[str] = set()
    for candidate, name in _all_weights():
        where = "that are here"
        if not is_here(name):
            where = "that can be fetched"
            if (error := _not_fetched(name, silent, say, fetch=fetch)) is not None:
                missed.append((name, error))
                continue
        _say_missed(missed, say, here=is_offline() is not None)
        return _begin(candidate, name, where, [each for each, _ in missed])
    _say_missed(missed, say)
    return _untrained()


def _not_fetched(name: str, silent: set[str], say: Say, *, fetch: bool) -> GfocalError | None:
    """Fetch published weights; why they cannot be. Hosts that did not answer are not asked again, and added."""
    entry = find(name)
    hosts = hosts_of(entry) if entry is not None and silent else frozenset()
    if hosts and hosts <= silent:
        return GfocalError(f"{name} is not asked for: {listed(sorted(hosts))} did not answer before")
    try:
        model_path(name, say=say) if fetch else weights_here(name, say=say)
    except GfocalError as error:
        if entry is not None and is_silent(error):
            silent |= hosts_of(entry)
        return error
    return None


def _say_missed(missed: list[tuple[str, GfocalError]], say: Say, *, here: bool = False) -> None:
    """Why the better ones are not taken; ``here``: where nothing was asked and others are, the reason says it."""
    if missed and not here:
        say(f"note: {missed[0][1]}")  # what helps one helps all
        if len(missed) > 1:
            say(f"note: nor can {join_some([name for name, _ in missed[1:]])} be fetched")


def _untrained() -> Begin:
    first = CANDIDATES[0]
    return Begin(
        first.recipe,
        load_recipe(first.recipe),
        None,
        f"{first.recipe} from random values, since no trained weights can be had: they would bring more than anything "
        f"below, see `{program()} models {first.weights[0]}`",
    )


def _all_weights() -> list[tuple[Candidate, str]]:
    return [(candidate, name) for candidate in CANDIDATES for name in candidate.weights]


def _begin(candidate: Candidate, name: str, where: str, better: list[str]) -> Begin:
    """From published weights; ``better`` could not be had."""
    reason = f"{candidate.recipe} from {name}: the best weights of a small detector{f' {where}' if better else ''}"
    reason += f" ({_published_ap(name)})"
    if better:
        reason += f"; better, where there is a network: `{program()} models {better[0]} --download`"
    return Begin(candidate.recipe, load_recipe(candidate.recipe), name, reason, _published_names(name))


def _published_ap(name: str) -> str:
    entry = find(name)
    return "" if entry is None or entry.ap is None else f"published AP {entry.ap:g} on COCO"


def _published_names(name: str) -> tuple[str, ...]:
    """Classes of published weights, which need not be here."""
    entry = find(name)
    return COCO_NAMES if entry is not None and entry.data == "COCO" else ()


def _of_given(init: str | Path, say: Say, *, fetch: bool) -> Begin:
    """Their network, data and predict keys with the training of the packaged recipe that has such a network.

    Where none has, their own recipe. What belongs to the data sets and to the length of their run does not stay.
    """
    base, theirs, taught = _recipe_of(init, say, fetch=fetch)
    theirs = with_values(theirs, _OF_A_RUN)
    name = next((name for name in _packaged() if network_of(load_recipe(name)) == network_of(theirs)), None)
    if name is None:
        model = theirs.model
        network = f"{model.detector}, backbone {model.backbone}, neck {model.neck}, head {model.head}"
        reason = f"the recipe of {init}: no recipe of gfocal has its network ({network})"
        return Begin(base, theirs, str(init), reason, taught)
    packaged, own = load_recipe(name), theirs.to_dict()
    mixed = build_recipe({**packaged.to_dict(), **{section: own[section] for section in ("model", "data", "predict")}})
    reason = f"{name}, the detector that {init} is of"
    if kept := _differing(mixed, packaged, ("data.", "predict.")):
        reason += f"; of its recipe stay {join_some(kept)}"
    if left := _differing(theirs, packaged, ("optim.", "schedule.", "runtime.")):
        reason += f"; as {name} has them are {join_some(left)}"
    return Begin(name, mixed, str(init), reason, taught)


_OF_A_RUN: dict[str, object] = {"data.mix": None, "schedule.epoch_steps": None, "schedule.keep_steps": []}
"""Keys that fit one run alone, and what they are where nothing is asked for."""


def _packaged() -> list[str]:
    """Recipes of gfocal, those that are best measured first."""
    first = [candidate.recipe for candidate in CANDIDATES]
    return [*first, *(name for name in recipe_names() if name not in first)]


def _differing(one: Recipe, other: Recipe, sections: tuple[str, ...]) -> list[str]:
    """Keys of some sections, each with its value in the first recipe, that two recipes have otherwise."""
    ours, theirs = flat(one.to_dict()), flat(other.to_dict())
    return [
        f"{key}={json.dumps(value)}"
        for key, value in ours.items()
        if key.startswith(sections) and key not in _CHOSEN and value != theirs[key]
    ]


_CHOSEN = ("data.resize.size", "data.resize.short_side", "data.resize.long_side", "schedule.epochs")
"""Keys that are chosen anyway, with a reason."""


def _recipe_of(init: str | Path, say: Say, *, fetch: bool) -> tuple[str, Recipe, tuple[str, ...]]:
    """Where the recipe of some weights stands, the recipe, and their classes.

    Raises:
        UsageError: it stands in a file that is not here and may not be fetched.
    """
    path = model_path(init, say=say) if fetch else weights_here(init, say=say)
    if path is not None:
        file = find_weights(path)
        about = read_about(file)
        return str(file), build_recipe(about.recipe), tuple(about.names)
    entry = find(str(init))
    if entry is None or not entry.row:
        raise UsageError(
            f"auto chooses by the recipe in {init}, which is not here, and --dry-run fetches nothing: leave out "
            "--dry-run, or name a recipe in the place of auto"
        )
    return entry.row, load_recipe(entry.row), _published_names(str(init))


def network_of(recipe: Recipe) -> tuple[object, ...]:
    """What weights must share to be continued: detector, backbone, neck, head and their widths."""
    model = recipe.model
    return model.detector, model.backbone, model.neck, model.head, model.channels, model.head_depth, model.strides

"""Detector, weights, image size, bins and length for a data set, a machine and a time, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from gfocal.analysis.statistics import data_statistics
from gfocal.auto.candidates import Begin, choose_begin
from gfocal.auto.facts import DataFacts
from gfocal.auto.known import Known, Values, pixels
from gfocal.auto.length import choose_length, fit_to_length
from gfocal.auto.rate import choose_rate
from gfocal.auto.size import choose_size
from gfocal.data.index.data_index import DataIndex
from gfocal.data.pipeline import images_per_epoch, in_tiles
from gfocal.recipe import Recipe, build_recipe
from gfocal.recipe.flags import check_square
from gfocal.recipe.forms import BOXES
from gfocal.recipe.values import with_values
from gfocal.training.fitting.step_time import seconds_per_image
from gfocal.utils.text import Say

_REACH_IMAGES = 1000
_LARGER = (
    "no larger detector was considered: this machine has a GPU, which trains gfl_r50 as well, with --init gfl_r50_coco"
)


@dataclass(frozen=True)
class Chosen:
    """What to train.

    Attributes:
        base: the recipe that it began as.
        recipe: what is trained.
        init: MODEL that it starts from; None: random values.
        reasons: a line for each choice.
    """

    base: str
    recipe: Recipe
    init: str | None
    reasons: tuple[str, ...]


def choose(
    index: DataIndex, *, given: Sequence[str] = (), init: str | Path | None = None, say: Say, fetch: bool = True
) -> Chosen:
    """What to train on some data on this machine.

    Args:
        index: what it will learn from.
        given: "a.b=c" recipe keys that a person has set: they stay.
        init: MODEL to start from; by default the best that is here or can be fetched.
        say: gets lines about fetching.
        fetch: weights that are not here; without, lines say which these would be.

    Raises:
        UsageError: there is nothing to learn, or ``init`` is no MODEL, or a key does not fit.
        GfocalError: ``init`` cannot be fetched.
    """
    facts = DataFacts.of(index)  # before anything is fetched
    begin = choose_begin(init, say, fetch=fetch)
    recipe, reasons = build_recipe(begin.recipe.to_dict(), given), [begin.reason]
    if init is None and torch.cuda.is_available():
        reasons.append(_LARGER)
    if "data.resize.size" in _keys_of(given):
        check_square(recipe, begin.base, recipe.data.resize.size)
    known = _known(index, facts, begin, recipe, given)
    for choice in _CHOICES:
        values, lines = choice(recipe, known)
        recipe, reasons = with_values(recipe, values), [*reasons, *lines]
    return Chosen(begin.base, recipe, begin.init, tuple(reasons))


def _keys_of(given: Sequence[str]) -> frozenset[str]:
    """The keys of "a.b=c" overrides."""
    return frozenset(own.partition("=")[0].strip() for own in given)


def _known(index: DataIndex, facts: DataFacts, begin: Begin, recipe: Recipe, given: Sequence[str]) -> Known:
    """What the choices are made by: the data as the run learns from them, and the pace of batches as it has them."""
    learnt = in_tiles(recipe, index)
    if learnt is not index:
        facts = _facts_of_tiles(index, recipe, learnt)
    shown = images_per_epoch(recipe, learnt)
    batch = with_values(recipe, {"schedule.batch_size": min(recipe.schedule.batch_size, shown)})
    pace = seconds_per_image(batch, facts.classes) / pixels(recipe)
    return Known(facts, index, shown, pace, _keys_of(given), begin.recipe, begin.taught)


def _facts_of_tiles(index: DataIndex, recipe: Recipe, learnt: DataIndex) -> DataFacts:
    """Of the tiles; objects are as large as there, not as in whole images, which are learnt for the large ones."""
    alone = DataFacts.of(in_tiles(with_values(recipe, {"data.tile_whole": False}), index))
    return replace(alone, largest=DataFacts.of(learnt).largest)


def _bins(recipe: Recipe, known: Known) -> Values:
    """More bins where objects reach beyond them; those that the weights have otherwise."""
    boxes = recipe.model.boxes
    if known.is_given("model.boxes.reg_max") or not BOXES[boxes.kind].bins:
        return {}, []
    static = with_values(recipe, {"model.assigner": {"kind": "atss"}, "model.assistant": {"kind": "none"}})
    found, _ = data_statistics(known.index, static, images=_REACH_IMAGES, proposal=False)
    least = 0 if found.smallest_reg_max is None else found.smallest_reg_max[f"{boxes.delta:g}"]
    if least <= boxes.reg_max:
        return {}, [f"{boxes.reg_max + 1} bins an edge, as the recipe has: the objects need {least + 1}"]
    return {"model.boxes.reg_max": least}, [
        f"{least + 1} bins an edge instead of {boxes.reg_max + 1}: objects reach so far"
    ]


def _crowds(recipe: Recipe, known: Known) -> Values:
    """As many detections as the fullest image has objects."""
    limit = recipe.predict.max_detections
    if known.is_given("predict.max_detections") or known.facts.largest <= limit:
        return {}, []
    enough = -(-known.facts.largest // 100) * 100
    return {"predict.max_detections": enough}, [
        f"{enough} detections a picture: the fullest has {known.facts.largest} objects"
    ]


_CHOICES: tuple[Callable[[Recipe, Known], Values], ...] = (
    choose_size,
    _bins,
    choose_length,
    fit_to_length,
    choose_rate,
    _crowds,
)

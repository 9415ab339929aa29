"""Which recipe would fit the data better, each proposal tried on the same images before it is made."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gfocal.analysis.assignment import ALLOWED, Assigned, Progress, assign
from gfocal.analysis.coverage import (
    LEAST_SIDE,
    MISSED,
    least_reach,
    lower_quartile,
    out_of_reach,
    reach_reasons,
    small_reasons,
)
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError
from gfocal.recipe import Recipe
from gfocal.recipe.forms import BOXES
from gfocal.recipe.reading import build_recipe
from gfocal.utils.records import fields_to_json
from gfocal.utils.text import percent
from gfocal.zoo import build_matching

LARGE_SIDE = 64.0
"""Where 95 % of the objects are larger than so many pixels, smaller images may do."""
_FACTORS = (1.25, 1.5, 2.0)  # of the image size that are tried; no larger ones, for their cost
_ANCHORS = (4.0, 5.0, 6.0, 8.0)  # sides in strides that are tried
_STEP, _SMALLEST = 32, 128  # pixels
_FOR_POINTS = ("larger", "finer", "anchors")  # kinds of options that give objects points
_BETTER = 0.6  # of the missed objects a proposal may leave at most

Named = Callable[[str], Progress]
Kind = Literal["reach", "coarser", "larger", "finer", "anchors", "smaller"]


@dataclass(frozen=True)
class Cost:
    """What an option costs, each as (before, after).

    Attributes:
        points: that the head works on, an image.
        pixels: that the backbone works on, an image.
        box_channels: of an anchor.
    """

    points: tuple[float, float]
    pixels: tuple[float, float]
    box_channels: tuple[int, int]

    def describe(self) -> str:
        """In words."""
        points, pixels = (_times_the(*own) for own in (self.points, self.pixels))
        before, after = self.box_channels
        channels = f"{after} box channels" + (" as before" if after == before else f" instead of {before}")
        return f"the head works on {points} points per picture, the backbone on {pixels} pixels, {channels}"


def _times_the(before: float, after: float) -> str:
    share = after / before if before else 1.0
    return "as many" if share == 1 else f"{share:.2f} times the"


@dataclass(frozen=True)
class Option:
    """A change of the recipe and what it comes to on the images that were looked at.

    Attributes:
        kind: what is changed.
        overrides: "a.b=c" each, on top of the recipe.
        truncated_share: largest share of edges out of reach that a level has then.
        missed_share: of the objects that get no point then.
        cost: before and then.
    """

    kind: Kind
    overrides: tuple[str, ...]
    truncated_share: float
    missed_share: float
    cost: Cost

    @property
    def typed(self) -> str:
        """As it is typed after a command."""
        return " ".join(f"--set {shlex.quote(override)}" for override in self.overrides)

    def to_dict(self) -> dict[str, Any]:
        """JSON types, the words that people read among them."""
        return {**fields_to_json(self), "set": self.typed, "cost_line": self.cost.describe()}


@dataclass(frozen=True)
class Proposal:
    """What to change so that the detector can represent the data.

    Attributes:
        reasons: one line for everything that does not fit, none if all is well.
        options: each stands for itself; the first is the one that we would take.
        notes: lines.
    """

    reasons: tuple[str, ...]
    options: tuple[Option, ...]
    notes: tuple[str, ...]


def propose(
    index: DataIndex,
    recipe: Recipe,
    images: np.ndarray,
    now: Assigned,
    *,
    augmented: bool = False,
    progress: Named | None = None,
) -> Proposal:
    """What to change so that the detector can represent the data.

    Args:
        index: the data.
        recipe: as it is.
        images: numbers of the images that were looked at.
        now: what assignment gave for them.
        augmented: as it was for them.
        progress: see :func:`gfocal.analysis.statistics.data_statistics`.
    """
    named = progress or (lambda name: lambda done, total: None)
    trial = _Trial(index, recipe, images, now, augmented, named)
    small = small_reasons(now)
    options = _for_small_objects(trial) if small else []
    reach = reach_reasons(recipe, now)
    if reach:
        options += _for_reach(trial)
    smaller = _smaller(trial) if not small else None
    notes = _notes(trial, options)
    return Proposal((*small, *reach), (*options, *([smaller] if smaller else [])), tuple(notes))


@dataclass(frozen=True)
class _Trial:
    """What proposals are tried on."""

    index: DataIndex
    recipe: Recipe
    images: np.ndarray
    now: Assigned
    augmented: bool
    progress: Named

    def option(self, kind: Kind, *overrides: str) -> Option | None:
        """The recipe with some changes, and with the reach that they ask for; None where it does not accept them."""
        try:
            changed = build_recipe(self.recipe.to_dict(), overrides)
        except UsageError:
            return None
        then = self.now
        if overrides:
            progress = self.progress(f"trying {overrides[-1]}")
            then = assign(self.index, changed, self.images, augmented=self.augmented, progress=progress)
        worst, boxes = then.worst_share, changed.model.boxes
        channels = before = build_matching(self.recipe).box_coder.channels
        if BOXES[boxes.kind].bins and not then.dynamic:
            n = max(boxes.reg_max, least_reach(then, boxes.delta))
            worst = out_of_reach(then, n, boxes.delta)
            if n > boxes.reg_max:
                overrides = (*overrides, f"model.boxes.reg_max={n}")
            channels = 4 * (n + 1)
        count = max(then.images, 1)
        cost = Cost(
            points=(self.now.points / count, then.points / count),
            pixels=(self.now.pixels / count, then.pixels / count),
            box_channels=(before, channels),
        )
        return Option(kind, overrides, worst, then.missed_share, cost) if overrides else None

    def strides(self, kind: Kind, strides: Sequence[int]) -> Option | None:
        return self.option(kind, f"model.strides={list(strides)}".replace(" ", ""))

    def resized(self, kind: Kind, factor: float) -> Option | None:
        """Images of other size: a multiple of 32 pixels, in the direction of the factor."""
        resize = self.recipe.data.resize
        toward = math.ceil if factor > 1 else math.floor

        def whole(pixels: int) -> int:
            return max(_SMALLEST, toward(pixels * factor / _STEP - 1e-6) * _STEP)

        if resize.kind == "square":
            return self.option(kind, f"data.resize.size={whole(resize.size)}")
        short = whole(resize.short_side)
        long = max(short, round(resize.long_side * short / resize.short_side))
        # The larger one first, or a short side above the long one would be refused.
        return self.option(kind, f"data.resize.long_side={long}", f"data.resize.short_side={short}")


def _for_small_objects(trial: _Trial) -> list[Option]:
    """Larger images, as little as helps, a finer level, other anchors: where they help."""

    def helps(option: Option | None) -> bool:
        return option is not None and option.missed_share <= max(_BETTER * trial.now.missed_share, ALLOWED)

    least = max(_FACTORS[0], min(LEAST_SIDE / lower_quartile(trial.now), _FACTORS[-1]))
    sizes = (trial.resized("larger", factor) for factor in sorted({least, *(f for f in _FACTORS if f > least)}))
    tried = [next((option for option in sizes if helps(option)), None)]
    first = trial.now.strides[0]
    if first % 2 == 0:
        tried.append(trial.strides("finer", (first // 2, *trial.now.strides)))
    tried.append(_other_anchors(trial))
    return [option for option in tried if option is not None and helps(option)]


def _other_anchors(trial: _Trial) -> Option | None:
    """Anchors of the side that leaves the fewest objects without a point.

    ATSS compares an object with the anchors of all levels: one that lies between two sizes, as far from either, may
    beat the mean by a standard deviation nowhere. Which sides do that depends on the sizes of the objects.
    """
    if trial.recipe.model.assigner.kind != "atss" or trial.now.missed_share <= MISSED:
        return None
    sides = [side for side in _ANCHORS if side != trial.recipe.model.points.scale]
    options = [trial.option("anchors", f"model.points.scale={side:g}") for side in sides]
    return min((option for option in options if option is not None), key=lambda o: o.missed_share, default=None)


def _for_reach(trial: _Trial) -> list[Option]:
    """More bins; or a coarser level, if fewer bins do then."""
    bins = trial.option("reach")
    coarser = trial.strides("coarser", (*trial.now.strides, 2 * trial.now.strides[-1]))
    if bins is None or coarser is None:
        return [option for option in (bins, coarser) if option is not None]
    return [bins, coarser] if coarser.cost.box_channels[1] < bins.cost.box_channels[1] else [bins]


def _smaller(trial: _Trial) -> Option | None:
    """Smaller images, where even small objects are large and all keep their points."""
    if not len(trial.now.boxes):
        return None
    small = float(trial.now.sides.sort().values[int(0.05 * len(trial.now.boxes))])
    if small < LARGE_SIDE:
        return None
    option = trial.resized("smaller", 0.5 * LARGE_SIDE / small)
    if option is None or option.missed_share > max(trial.now.missed_share, ALLOWED):
        return None
    return option if option.cost.pixels[1] < option.cost.pixels[0] else None


def _notes(trial: _Trial, options: Sequence[Option]) -> list[str]:
    notes = []
    boxes, now = trial.recipe.model.boxes, trial.now
    behind = int((now.truncated & (now.edges < 0)).sum())
    if behind > ALLOWED * max(now.edges.numel(), 1):
        notes.append(
            f"{percent(behind / now.edges.numel())} of the edges lie on the other side of their point: the assigner "
            "takes points outside of the object, which no reg_max fixes"
        )
    if BOXES[boxes.kind].bins and len(now.owner) and not options and least_reach(now, boxes.delta) < boxes.reg_max:
        n = least_reach(now, boxes.delta)
        notes.append(
            f"reg_max {n} would do ({4 * (n + 1)} box channels instead of {4 * (boxes.reg_max + 1)}); more costs little"
        )
    if any(option.kind == "anchors" for option in options):
        notes.append("other anchors cost nothing, but weights trained with the old ones must learn them again")
    if any(option.kind == "larger" for option in options):
        native = int(np.median(np.maximum(trial.index.widths, trial.index.heights)[trial.images]))
        notes.append(f"the pictures' own longer side is {native} pixels (median): beyond it there is no more detail")
    if len(now.boxes) and now.missed_share > MISSED and not any(o.kind in _FOR_POINTS for o in options):
        notes.append(
            "no size, stride or anchor that this recipe accepts gives most of the objects without a point one: they "
            "overlap others that take their points, or a recipe with finer strides is needed"
        )
    if any(option.kind == "reach" for option in options):
        notes.append("more bins: with --init, trained ones keep their outputs, and new ones start with next to nothing")
    if any(option.kind in ("finer", "coarser") for option in options):
        notes.append(
            "other levels: with --init, those of the same strides keep their weights, and new ones start from scratch"
        )
    return notes

"""The learning-rate finder: one short run whose learning rate rises, and what its loss says.

Source: the range test of Smith, arXiv 1506.01186, section 3.3; as a sweep in equal factors after arXiv 1803.09820.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gfocal.catalogue.resolve import model_path
from gfocal.data.index.data_index import DataIndex
from gfocal.data.pipeline import batches_from, images_per_epoch, in_tiles, with_used_classes
from gfocal.errors import UsageError
from gfocal.recipe import Recipe
from gfocal.runs.initial_weights import check_start, start_weights
from gfocal.runtime.failures import explained_failures
from gfocal.runtime.layout import in_layout
from gfocal.training.norm_statistics import complete_norms
from gfocal.training.optimizer import make_optimizer, scaled_lr
from gfocal.training.step import NotFinite, make_accelerator, optimizer_step
from gfocal.training.step_plan import StepPlan
from gfocal.zoo import add_assistant, build_detector

DIVERGED = 4.0
"""The sweep ends when the running mean of the loss is this many times its lowest."""
_MEMORY = 0.9  # of the running mean
_WIDTH = 1 / 40  # of the smoothing window, as a share of the steps
_EDGE = 0.1  # share of the fall that is made before and after the stretch that counts
_RISEN = 0.25  # share of the fall by which the loss has left its lowest point for good
_LEAST_FALL = 0.1  # share of the first loss below which nothing was learnt


@dataclass(frozen=True)
class Sweep:
    """Learning rates and the loss at each.

    Attributes:
        lrs: (N,) the learning rate of each step, rising.
        losses: (N,) its loss, before the step.
        diverged: the learning rate at which the loss left all bounds, or None if it never did.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    diverged: float | None


@dataclass(frozen=True)
class Suggestion:
    """What a sweep says.

    Attributes:
        lr: the learning rate to take, two thirds of the way (by factors) from ``begin`` to ``end``.
        begin: where the smoothed loss has made a tenth of its fall.
        end: where it has made nine tenths.
    """

    lr: float
    begin: float
    end: float


@dataclass(frozen=True)
class SweepReport:
    """A sweep, what it says and what to set.

    Attributes:
        sweep: learning rates and losses.
        suggestion: None if the loss did not fall.
        override: what ``--set`` takes so that training has the suggested learning rate, or None.
        images_per_step: that the sweep learnt from.
        recipe_lr: learning rate that the recipe has for so many.
    """

    sweep: Sweep
    suggestion: Suggestion | None
    override: str | None
    images_per_step: int
    recipe_lr: float

    @property
    def smoothed(self) -> list[float]:
        """(N,) the losses without their noise."""
        return smooth(self.sweep.losses).tolist() if self.sweep.losses else []

    def to_dict(self) -> dict[str, object]:
        """JSON types: the content of ``lr.json``."""
        found = self.suggestion
        return {
            "suggested_lr": None if found is None else found.lr,
            "set": self.override,
            "pictures_a_step": self.images_per_step,
            "recipe_lr": self.recipe_lr,
            "begin": None if found is None else found.begin,
            "end": None if found is None else found.end,
            "diverged": self.sweep.diverged,
            "lrs": list(self.sweep.lrs),
            "losses": list(self.sweep.losses),
            "smoothed": self.smoothed,
        }


@explained_failures()
def find_lr(
    recipe: Recipe,
    index: DataIndex,
    *,
    val_index: DataIndex | None = None,
    steps: int = 100,
    low: float = 1e-6,
    high: float = 10.0,
    init: str | Path | None = None,
    skip_broken: bool = False,
    progress: Callable[[int, str], None] | None = None,
) -> Sweep:
    """Train a detector of its own for some steps while the learning rate rises by equal factors.

    Optimizer, batches, clipping, precision and the start are the recipe's; warm-up, schedule and averaging have no
    part. Nothing is written, and the caller's random numbers stay as they are.

    Args:
        recipe: everything else.
        index: what it learns from; where the recipe has ``data.tile``, it is cut into tiles here.
        val_index: what a training is measured on, or None: a class with boxes there has an output, even where
            ``data.drop_empty_classes`` leaves out those without a box. Nothing is measured here.
        steps: >= 10.
        low: learning rate of the first step, > 0.
        high: of the last one, unless the loss diverges before.
        init: run folder, checkpoint or name to start from, as of a training.
        skip_broken: put the next readable image in the place of a broken one.
        progress: called with (steps done, what to show).

    Raises:
        UsageError: for what cannot be trained, or a range that is none.
        GfocalError: the loss is not finite before the first step.
    """
    if steps < 10 or not 0 < low < high:
        raise UsageError(f"a sweep needs at least 10 steps and 0 < low < high, got {steps}, {low:g}, {high:g}")
    if len(index) == 0:
        raise UsageError(f"{index.annotations} lists no pictures: there is nothing to learn from")
    if init is None:
        check_start(recipe.model)
    if recipe.runtime.threads:
        torch.set_num_threads(recipe.runtime.threads)
    index, _ = with_used_classes(recipe, index, val_index)  # the network that a training has
    schedule, index = recipe.schedule, in_tiles(recipe, index)
    an_epoch = StepPlan.of(schedule, images_per_epoch(recipe, index)).an_epoch
    # As many epochs as the sweep needs, whatever the schedule.
    longer = schedule.model_copy(update={"epochs": math.ceil(steps / an_epoch)})
    endless = recipe.model_copy(update={"schedule": longer})
    accelerator = make_accelerator(recipe.runtime.precision)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.runtime.seed)
        detector = build_detector(recipe, index.names, pretrained=init is None)
        if init is not None:
            start_weights(detector, recipe, model_path(init))
            complete_norms(detector, endless, index, accelerator.device, skip_broken=skip_broken)
        add_assistant(detector, recipe)
        detector = in_layout(detector, recipe.runtime.channels_last)
        model, optimizer = accelerator.prepare(detector, make_optimizer(detector, recipe.optim))
        batches = iter(batches_from(endless, index, detector.resize, 0, an_epoch, skip_broken))

        def step(lr: float) -> float:
            taken = [next(batches) for _ in range(schedule.accumulate)]
            clip_norm = recipe.optim.clip_norm
            done = optimizer_step(detector, model, optimizer, accelerator, taken, lr=lr, clip_norm=clip_norm)
            return sum(done.losses.values())

        return _sweep(step, np.geomspace(low, high, steps).tolist(), progress)


def _sweep(step: Callable[[float], float], lrs: Sequence[float], progress: Callable[[int, str], None] | None) -> Sweep:
    """Steps at rising learning rates until the loss diverges; ``step`` gives the loss before it."""
    losses: list[float] = []
    lowest = math.inf
    for lr in lrs:
        try:
            losses.append(step(lr))
        except NotFinite:
            if not losses:  # no learning rate has had a part in it
                raise
            return Sweep(tuple(lrs[: len(losses)]), tuple(losses), lr)
        mean = _running_mean(losses)
        lowest = min(lowest, mean)
        if progress is not None:
            progress(len(losses), f"learning rate {lr:.2g}, loss {mean:.3f}")
        if mean > DIVERGED * lowest:
            return Sweep(tuple(lrs[: len(losses)]), tuple(losses), lr)
    return Sweep(tuple(lrs), tuple(losses), None)


def _running_mean(losses: Sequence[float]) -> float:
    """Exponential, corrected for its start; of the losses so far."""
    weights = _MEMORY ** np.arange(len(losses))[::-1]
    return float(np.average(losses, weights=weights))


def smooth(losses: Sequence[float]) -> np.ndarray:
    """(N,) mean of each loss and its neighbours under a bell of :data:`_WIDTH` of the sweep: it lags nowhere."""
    values = np.asarray(losses, dtype=np.float64)
    places = np.arange(len(values))
    width = max(_WIDTH * len(values), 1.0)
    bell = np.exp(-(((places[:, None] - places) / width) ** 2) / 2)
    return bell @ values / bell.sum(1)


def suggest(sweep: Sweep) -> Suggestion | None:
    """The learning rate that a sweep speaks for; None if its loss did not fall.

    The loss lies flat at first, falls, and rises when steps become too long. Where it is lowest the learning rate is
    too large already: it got there by all the steps before. (A rise by a quarter of the fall ends the search for it.)
    So the stretch is taken in which the smoothed loss makes its fall, from a tenth of it to nine tenths, and of that
    stretch, on the axis of factors, the point at two thirds.
    """
    if len(sweep.losses) < 5:
        return None
    curve = smooth(sweep.losses)
    bottom = _bottom(curve)
    first = float(curve[0])
    fall = first - float(curve[bottom])
    if not math.isfinite(fall) or fall < _LEAST_FALL * abs(first):
        return None
    before, after = (np.flatnonzero(curve[: bottom + 1] > first - made * fall)[-1] for made in (_EDGE, 1 - _EDGE))
    begin, end = sweep.lrs[before], sweep.lrs[after]
    return Suggestion(begin ** (1 / 3) * end ** (2 / 3), begin, end)


def _bottom(curve: np.ndarray) -> int:
    """Where the curve is lowest before it first rises again in earnest.

    A network that too long a step has broken may find a low loss of another kind, where it says nothing at all.
    """
    lowest = 0
    for place, loss in enumerate(curve):
        fall = curve[0] - curve[lowest]
        if fall >= _LEAST_FALL * abs(curve[0]) and loss > curve[lowest] + _RISEN * fall:
            break
        if loss < curve[lowest]:
            lowest = place
    return lowest


def sweep_report(sweep: Sweep, recipe: Recipe, images: int) -> SweepReport:
    """The curve, what it says, and the value of ``optim.lr`` that trains at the suggested learning rate.

    Args:
        sweep: of :func:`find_lr`.
        recipe: its recipe.
        images: of the data set.
    """
    a_step = min(recipe.schedule.batch_size, images) * recipe.schedule.accumulate
    found, recipe_lr = suggest(sweep), scaled_lr(recipe.optim, a_step)
    factor = recipe_lr / recipe.optim.lr
    override = None if found is None else f"optim.lr={found.lr / factor:.2g}"
    return SweepReport(sweep, found, override, images_per_step=a_step, recipe_lr=recipe_lr)

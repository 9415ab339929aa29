"""What a run chooses by measuring before it begins, and takes from its state when it goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from gfocal.data.index.data_index import DataIndex
from gfocal.data.pipeline import images_per_epoch
from gfocal.detector import DenseDetector
from gfocal.recipe import Recipe
from gfocal.recipe.values import flat, with_values
from gfocal.runs.folder import SavedRun
from gfocal.runtime.distributed import ALONE, Processes
from gfocal.runtime.layout import real_layout
from gfocal.training.fitting.memory_layout import is_long, time_layouts
from gfocal.training.fitting.pace import Pace, measure_pace
from gfocal.training.fitting.time_budget import RESERVE, lay_out, of_steps
from gfocal.training.step import make_accelerator
from gfocal.training.step_plan import StepPlan
from gfocal.utils.text import Say, duration, say_lines
from gfocal.zoo import add_assistant, build_detector

LAYOUT = "runtime.channels_last"
_MINUTES = "schedule.minutes"
_EPOCH_STEPS = "schedule.epoch_steps"
_LONG_MINUTES = 2.0  # of a time budget in which timing the layouts pays
_LAYOUT_SHARE = 0.02  # of a time budget that this takes at most
_SHARE = 0.04  # of a time budget that the steps, and the validation, are measured for at most
_MOST_SECONDS = 40.0


@dataclass(frozen=True)
class Machine:
    """Where a run trains, and how.

    Attributes:
        device: of this process.
        processes: that train together.
        started: when its time began, by :func:`time.perf_counter`.
        skip_broken: put the next readable image in the place of a broken one.
        say: gets lines for people; None: nobody listens.
    """

    device: torch.device
    processes: Processes
    started: float
    skip_broken: bool = False
    say: Say | None = None


@dataclass(frozen=True)
class Choices:
    """A recipe in which everything is chosen.

    Attributes:
        recipe: what the run does.
        asked: by full key, what the person's recipe says instead.
    """

    recipe: Recipe
    asked: Mapping[str, object]

    @classmethod
    def of(cls, asked: Recipe, chosen: Mapping[str, object]) -> Choices:
        """With values by full key in the place of those that were asked for."""
        recipe = with_values(asked, chosen)
        before, after = flat(asked.to_dict()), flat(recipe.to_dict())
        return cls(recipe, {key: before[key] for key in chosen if before[key] != after[key]})

    def chosen(self, key: str) -> object:
        """What stands in the place of what was asked for."""
        return flat(self.recipe.to_dict())[key]


def chosen_before(recipe: Recipe, saved: SavedRun) -> Choices:
    """The recipe of a run that goes on, as it was typed again, with what the run chose when it began.

    What is typed otherwise than then stays as it is typed, so that it is refused by name. The run's own recipe.yaml has
    what was chosen already; what was asked for when it began is remembered then too.
    """
    typed, theirs = flat(recipe.to_dict()), flat(saved.recipe)
    keys = {key for key, value in saved.asked.items() if typed.get(key) == value}
    if saved.asked.get(_MINUTES) is not None and typed[_MINUTES] is None:  # no budget: the schedule is what is typed
        keys = {key for key in keys if not key.startswith("schedule.")}
    if typed[LAYOUT] == "auto":  # whatever it was, an explicit one or one of a version that chose none
        keys.add(LAYOUT)
    found = Choices.of(recipe, {key: theirs[key] for key in sorted(keys) if key in theirs})
    now = flat(found.recipe.to_dict())
    kept = {key: value for key, value in saved.asked.items() if key in theirs and now.get(key) == theirs[key]}
    return Choices(found.recipe, {**found.asked, **kept})


def choose_layout(
    recipe: Recipe, detector: DenseDetector, machine: Machine, *, long: bool, most: float = math.inf
) -> Choices:
    """The memory layout of a run that begins: the same in all processes, by the main one's measurement.

    Args:
        recipe: of the run.
        detector: on the CPU, not moved yet; it stays as it is.
        machine: where it will train.
        long: whether the run is long enough for a measurement.
        most: seconds that it may take.
    """
    if recipe.runtime.channels_last != "auto" or not long or machine.device.type != "cpu":
        return _unmeasured(recipe)
    times = time_layouts(detector, recipe, most)
    if machine.processes.any(times is None) or times is None:  # too slow for the time there is
        return _unmeasured(recipe)
    say_lines(times.describe(), machine.say)
    return Choices.of(recipe, {LAYOUT: machine.processes.from_main(times.channels_last)})


def _unmeasured(recipe: Recipe) -> Choices:
    return Choices.of(recipe, {LAYOUT: real_layout(recipe.runtime.channels_last)})


def full_plan(recipe: Recipe, train_index: DataIndex, processes: Processes) -> StepPlan:
    """The steps of a recipe's epochs, or of epochs that show every image where their length is to be chosen.

    Raises:
        UsageError: the data do not fill a step.
    """
    full = recipe if recipe.schedule.minutes is None else with_values(recipe, {_EPOCH_STEPS: None})
    return StepPlan.of(full.schedule, images_per_epoch(recipe, train_index), processes.count)


def choose(
    recipe: Recipe,
    detector: DenseDetector,
    train_index: DataIndex,
    val_index: DataIndex | None,
    *,
    plan: StepPlan,
    out: Path,
    machine: Machine,
) -> Choices:
    """Everything that a run chooses when it begins: its memory layout, and the schedule for ``schedule.minutes``.

    Args:
        recipe: of the run.
        detector: that will be trained; neither it nor any random number changes.
        train_index: see :func:`gfocal.data.pipeline.in_tiles`.
        val_index: what the run is measured on, or None.
        plan: see :func:`full_plan`.
        out: the run folder, which may not be there yet.
        machine: where it will train.

    Raises:
        UsageError: not even one step fits into ``schedule.minutes``.
    """
    minutes, processes = recipe.schedule.minutes, machine.processes
    if minutes is None:
        return choose_layout(recipe, detector, machine, long=is_long(recipe, plan.images * plan.total))
    seconds = 60 * minutes
    say_lines([f"time budget of {duration(seconds)}: measuring how fast this machine is"], machine.say)
    long = minutes >= _LONG_MINUTES
    layout, pace = _measured(
        recipe, detector, train_index, val_index, out=out, machine=machine, long=long, seconds=seconds
    )
    left = processes.from_main(seconds - (time.perf_counter() - machine.started))
    found = lay_out(recipe.schedule, plan.an_epoch, pace, left)  # of the same numbers in all processes
    say_lines([found.describe(pace, f"time budget of {duration(seconds)}")], machine.say)
    return _with_schedule(recipe, layout, {**found.values(), _MINUTES: None})  # nothing is left to lay out


def _measured(
    recipe: Recipe,
    detector: DenseDetector,
    train_index: DataIndex,
    val_index: DataIndex | None,
    *,
    out: Path,
    machine: Machine,
    long: bool,
    seconds: float,
) -> tuple[Choices, Pace]:
    """The memory layout of a run that shall take so many seconds, and the pace of whole epochs in it."""
    layout = choose_layout(recipe, detector, machine, long=long, most=_LAYOUT_SHARE * seconds)
    pace = measure_pace(
        with_values(layout.recipe, {_EPOCH_STEPS: None}),
        detector,
        train_index,
        val_index,
        out=out,
        limit=min(max(_SHARE * seconds, 1.0), _MOST_SECONDS),
        processes=machine.processes,
        skip_broken=machine.skip_broken,
    )
    return layout, pace


def _with_schedule(recipe: Recipe, layout: Choices, schedule: Mapping[str, object]) -> Choices:
    return Choices.of(recipe, {**schedule, **{key: layout.chosen(key) for key in layout.asked}})


def fit_schedule(
    recipe: Recipe,
    train_index: DataIndex,
    val_index: DataIndex,
    *,
    out: Path,
    seconds: float,
    least: float,
    say: Say,
) -> Choices:
    """A recipe whose epochs take no longer than so many seconds, or else as few steps as it must have.

    For one process. What is too short to measure stays as it is, and so does what this machine does in time.

    Args:
        recipe: with the longest schedule, and with epochs of all the data; its layout is chosen too.
        train_index: see :func:`gfocal.data.pipeline.in_tiles`.
        val_index: what the run is measured on.
        out: the run folder, which may not be there yet.
        seconds: that the training should take.
        least: share of its steps that it has on any machine, in (0, 1].
        say: gets the pace and the schedule.
    """
    plan = full_plan(recipe, train_index, ALONE)
    if not is_long(recipe, plan.images * plan.total):
        return _unmeasured(recipe)
    begin = time.perf_counter()
    if recipe.runtime.threads:
        torch.set_num_threads(recipe.runtime.threads)
    device = make_accelerator(recipe.runtime.precision).device
    with torch.random.fork_rng():
        torch.manual_seed(recipe.runtime.seed)
        detector = build_detector(recipe, train_index.names)
        add_assistant(detector, recipe)
    machine = Machine(device, ALONE, begin, say=say)
    layout, pace = _measured(
        recipe, detector, train_index, val_index, out=out, machine=machine, long=True, seconds=seconds
    )
    usable = (1 - RESERVE) * (seconds - (time.perf_counter() - begin))
    found = whole = of_steps(recipe.schedule, plan.an_epoch, plan.total, pace, usable)
    wanted = duration(seconds)
    shortest = of_steps(recipe.schedule, plan.an_epoch, round(least * plan.total), pace, usable)
    if whole.seconds <= usable:
        planned = f"all of the schedule, within {wanted}"
    elif shortest.seconds >= usable:
        found, planned = shortest, f"the shortest schedule, more than {wanted} on this machine"
    else:
        found, planned = lay_out(recipe.schedule, plan.an_epoch, pace, usable / (1 - RESERVE)), f"as fits into {wanted}"
    say(found.describe(pace, planned))
    return _with_schedule(recipe, layout, found.values())

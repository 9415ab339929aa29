"""A schedule that fits into a time: epochs, their length, and what depends on them, by a measured pace."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gfocal.errors import UsageError
from gfocal.recipe import ScheduleRecipe
from gfocal.training.fitting.pace import Pace
from gfocal.utils.text import counted, duration

RESERVE = 0.08
"""Share of the time that nothing is planned for: machines get slower, and a trained detector finds more to sort."""
VALIDATED = 0.2
"""Share of the time that validations take at most, but for the last one, which always comes."""
WARM_UP = 0.2
"""Share of the steps in which the learning rate rises at most."""


@dataclass(frozen=True)
class Layout:
    """A schedule, and what it takes.

    Attributes:
        epochs: of equal length.
        epoch_steps: optimizer steps of each.
        eval_every: epochs between validations.
        warmup_steps: in which the learning rate rises.
        milestones: epochs after which it falls (multistep).
        seconds: that all of it takes at the measured pace.
    """

    epochs: int
    epoch_steps: int
    eval_every: int
    warmup_steps: int
    milestones: tuple[int, ...]
    seconds: float

    @property
    def steps(self) -> int:
        return self.epochs * self.epoch_steps

    def values(self) -> dict[str, object]:
        """What the recipe gets, by full key."""
        names = ("epochs", "epoch_steps", "eval_every", "warmup_steps")
        return {f"schedule.{name}": getattr(self, name) for name in names} | {
            "schedule.milestones": list(self.milestones)
        }

    def describe(self, pace: Pace, planned: str) -> str:
        """A line: the pace that was measured, and the schedule that was chosen; ``planned`` says for which time."""
        parts = [f"{duration(pace.step)} a step" if pace.step >= 1 else f"{1000 * pace.step:.0f} ms a step"]
        parts += [f"{duration(pace.validation)} a validation"] if pace.validation else []
        every = f", a validation every {counted(self.eval_every, 'epoch')}" if pace.validation else ""
        return (
            f"{planned}: measured {', '.join(parts)}; chosen {counted(self.epochs, 'epoch')} of "
            f"{counted(self.epoch_steps, 'step')}{every}: about {duration(self.seconds)}"
        )


def lay_out(schedule: ScheduleRecipe, most: int, pace: Pace, seconds: float) -> Layout:
    """The longest schedule that ends within ``seconds``, validations and saved states included.

    Epochs have equal lengths, so that the learning rate ends where the last one does. They are as long as the data
    give, or a little shorter. Under milestones there are at least as many epochs as the recipe has, or as steps: the
    milestones stay where they are in the run. With
    ``schedule.most_epochs`` there are no more than these, and the run may end early.

    Args:
        schedule: of the recipe.
        most: optimizer steps of an epoch that shows every image.
        pace: of this machine.
        seconds: from now on.

    Raises:
        UsageError: not even one step fits.
    """
    usable = (1 - RESERVE) * seconds
    shortest = of_steps(schedule, most, 1, pace, usable)
    if shortest.seconds > usable:
        validation = f", one validation of {duration(pace.validation)}" if pace.validation else ""
        error = UsageError(
            f"schedule.minutes is too short: {duration(max(seconds, 0))} are left after measuring, and one step of "
            f"{duration(pace.step)}{validation} and what is saved take {duration(shortest.seconds)}: give more minutes"
            + (", or measure on fewer pictures (--val)" if pace.validation else "")
        )
        error.together = True  # all processes have the same numbers
        raise error
    low, high = 1, max(int(usable / max(pace.step, 1e-6)), 1) + 1  # low fits, high does not, or is not wanted
    if schedule.most_epochs is not None:
        high = min(high, schedule.most_epochs * most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if of_steps(schedule, most, middle, pace, usable).seconds <= usable:
            low = middle
        else:
            high = middle
    return of_steps(schedule, most, low, pace, usable)


def of_steps(schedule: ScheduleRecipe, most: int, steps: int, pace: Pace, usable: float) -> Layout:
    """The schedule of at most so many steps, with no more validations than their share of ``usable`` seconds allows."""
    least = min(schedule.epochs, steps, schedule.most_epochs or steps) if schedule.kind == "multistep" else 1
    lengths = {max(epochs, least) for epochs in (steps // most, -(-steps // most))}
    epochs, each = max(((epochs, min(steps // epochs, most)) for epochs in sorted(lengths)), key=math.prod)
    total = epochs * each
    validations = max(int(VALIDATED * usable / pace.validation), 1) if pace.validation else epochs
    every = min(max(schedule.eval_every, -(-epochs // validations)), epochs)
    milestones = sorted({round(milestone * epochs / schedule.epochs) for milestone in schedule.milestones})
    saved = 1.5 * epochs + total / schedule.save_every  # after an epoch weights too
    return Layout(
        epochs=epochs,
        epoch_steps=each,
        eval_every=every,
        warmup_steps=min(schedule.warmup_steps, int(WARM_UP * total)),
        milestones=tuple(milestone for milestone in milestones if milestone > 0),
        seconds=total * pace.step + -(-epochs // every) * (pace.validation + pace.saving) + saved * pace.saving,
    )

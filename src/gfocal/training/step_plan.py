"""How epochs divide into batches and optimizer steps."""

from __future__ import annotations

from dataclasses import dataclass

from gfocal.errors import UsageError
from gfocal.recipe import ScheduleRecipe

FORWARD = 0.4
"""Seconds of an image that is measured, as a share of those of one that is learnt: about."""


@dataclass(frozen=True)
class StepPlan:
    """The optimizer steps of a run.

    Attributes:
        images: that a step learns from, in all processes.
        an_epoch: steps of an epoch, ``schedule.epoch_steps`` at most. A last batch that is not full is left out, unless
            the data set is smaller than one.
        total: steps of the run.
    """

    images: int
    an_epoch: int
    total: int

    @classmethod
    def of(cls, schedule: ScheduleRecipe, images: int, processes: int = 1) -> StepPlan:
        """The plan for epochs of so many images.

        Raises:
            UsageError: they do not fill a batch for each process, or the batches of one step.
        """
        together = schedule.batch_size * processes
        if processes > 1 and images < together:
            raise UsageError(
                f"{images} pictures do not fill one batch of {schedule.batch_size} for each of "
                f"{processes} processes: lower schedule.batch_size or start fewer processes"
            )
        batches = max(images // together, 1)
        an_epoch = batches // schedule.accumulate
        if an_epoch == 0:
            raise UsageError(
                f"an epoch has {batches} batches of {together}, fewer than schedule.accumulate="
                f"{schedule.accumulate}: lower it or the batch size"
            )
        an_epoch = min(an_epoch, schedule.epoch_steps or an_epoch)
        return cls(min(together, images) * schedule.accumulate, an_epoch, schedule.epochs * an_epoch)

    def validations_left(self, schedule: ScheduleRecipe, step: int) -> int:
        """How many are still to come after ``step`` steps, one that is due at once among them."""
        before = (step - 1) // self.an_epoch
        return -(-schedule.epochs // schedule.eval_every) - before // schedule.eval_every

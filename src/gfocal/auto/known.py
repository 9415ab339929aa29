"""What the choices of `gfocal train auto` are made by."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gfocal.auto.facts import DataFacts
from gfocal.data.index.data_index import DataIndex
from gfocal.recipe import Recipe
from gfocal.recipe.values import with_values
from gfocal.runtime.memory import largest_size
from gfocal.training.step_plan import StepPlan

MINUTES = 15.0
"""What a training may take where nobody says it."""
EPOCHS = (10, 60)
"""Passes over the data: no fewer where time allows it, and no more, since more only overfits."""
SHARE = 0.8
"""Of a time, the part in which steps are taken; the rest goes to reading, validation and saved states."""

Values = tuple[dict[str, object], list[str]]
"""Recipe keys with their values, and the reasons."""


@dataclass(frozen=True)
class Known:
    """What the choices are made by.

    Attributes:
        facts: of what the run learns from: images, or their tiles.
        index: the data, whole images.
        shown: images, or tiles, that an epoch shows.
        pace: seconds of training per pixel of an image, see :func:`pixels`.
        given: recipe keys that a person has set: they stay.
        began: the recipe before anything was set.
        taught: classes whose outputs the first weights have.
    """

    facts: DataFacts
    index: DataIndex
    shown: int
    pace: float
    given: frozenset[str]
    began: Recipe
    taught: tuple[str, ...] = ()

    def is_given(self, key: str) -> bool:
        """Whether a person has set it, or a section that it is in."""
        return any(key == own or key.startswith(f"{own}.") for own in self.given)

    def plan(self, recipe: Recipe) -> StepPlan:
        """The steps of the recipe's epochs.

        Raises:
            UsageError: the data do not fill a step.
        """
        whole = recipe if self.is_given("schedule.epoch_steps") else with_values(recipe, {"schedule.epoch_steps": None})
        return StepPlan.of(whole.schedule, self.shown)

    def epochs(self, recipe: Recipe) -> float:
        """How many fit into the time of a recipe, by the pace."""
        plan = self.plan(recipe)
        return budget(recipe) / (self.pace * pixels(recipe) * plan.images * plan.an_epoch)


def pixels(recipe: Recipe) -> int:
    """Of the largest image that enters."""
    return math.prod(largest_size(recipe.data))


def budget(recipe: Recipe) -> float:
    """Seconds of training steps."""
    return 60 * SHARE * (recipe.schedule.minutes or MINUTES)

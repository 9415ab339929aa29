"""How epochs divide into batches and steps."""

from __future__ import annotations

import pytest

from gfocal.errors import UsageError
from gfocal.recipe import load_recipe
from gfocal.training.step_plan import StepPlan
from helpers.small_runs import small


@pytest.mark.parametrize(
    ("images", "batch", "accumulate", "processes", "expected"),
    [
        (12, 4, 1, 1, StepPlan(images=4, an_epoch=3, total=6)),
        (15, 4, 1, 1, StepPlan(4, 3, 6)),  # the last batch is not full
        (3, 4, 1, 1, StepPlan(3, 1, 2)),  # unless the data set is smaller than one
        (12, 2, 2, 1, StepPlan(4, 3, 6)),
        (14, 2, 2, 1, StepPlan(4, 3, 6)),  # nor the last step
        (12, 2, 1, 3, StepPlan(6, 2, 4)),
        (24, 2, 2, 3, StepPlan(12, 2, 4)),
        (1, 1, 1, 1, StepPlan(1, 1, 2)),
    ],
)
def test_steps(images: int, batch: int, accumulate: int, processes: int, expected: StepPlan) -> None:
    schedule = small(f"schedule.batch_size={batch}", f"schedule.accumulate={accumulate}").schedule
    assert StepPlan.of(schedule, images, processes) == expected


def test_too_few_images_are_refused() -> None:
    schedule = small("schedule.batch_size=4", "schedule.accumulate=2").schedule
    with pytest.raises(UsageError, match=r"an epoch has 1 batches of 4, fewer than schedule\.accumulate=2"):
        StepPlan.of(schedule, 7)
    with pytest.raises(UsageError, match="11 pictures do not fill one batch of 4 for each of 3 processes"):
        StepPlan.of(schedule, 11, processes=3)


def test_validations_that_are_still_to_come() -> None:
    # 5 epochs of 3 steps, measured after the 2nd, the 4th and the last; each comes after its last step.
    five = load_recipe("gfl_nano", ["schedule.epochs=5", "schedule.eval_every=2"]).schedule
    left = [StepPlan(4, 3, 15).validations_left(five, step) for step in range(1, 16)]
    assert left == [3, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1]
    four = five.model_copy(update={"epochs": 4})
    assert [StepPlan(4, 1, 4).validations_left(four, step) for step in range(1, 5)] == [2, 2, 1, 1]


def test_epochs_may_be_shorter_than_the_data() -> None:
    shorter = load_recipe("gfl_nano", ["schedule.epochs=2", "schedule.batch_size=4", "schedule.epoch_steps=2"]).schedule
    assert StepPlan.of(shorter, 12) == StepPlan(4, 2, 4)
    assert StepPlan.of(shorter, 4) == StepPlan(4, 1, 2), "and not longer"

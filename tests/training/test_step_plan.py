"""How epochs divide into batches and steps."""

from __future__ import annotations

import pytest

from gfocal.errors import UsageError
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

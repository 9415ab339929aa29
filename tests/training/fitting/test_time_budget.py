"""Schedules for a time: what fits, worked by hand, and never more than the time."""

from __future__ import annotations

import itertools

import pytest

from gfocal.errors import UsageError
from gfocal.recipe import load_recipe
from gfocal.training.fitting.pace import Pace, usual
from gfocal.training.fitting.time_budget import RESERVE, lay_out, of_steps

COSINE = load_recipe("gfl_nano").schedule  # validation every 5 epochs, warm-up of 50 steps
STEPS = load_recipe("gfl_r50").schedule  # 12 epochs, milestones 8 and 11, validation every epoch, warm-up of 500


def test_steps_alone() -> None:
    # 920 of 1,000 seconds are used: 920 steps of a second. Epochs of at most 100 steps: ten equal ones, of 92.
    found = lay_out(COSINE, 100, Pace(1.0, 0.0, 0.0, 5), 1000.0)
    assert (found.epochs, found.epoch_steps, found.steps, found.seconds) == (10, 92, 920, 920.0)
    assert (found.eval_every, found.warmup_steps) == (5, 50)


def test_validations_and_saved_states_are_counted() -> None:
    # 1 s a step, 20 s a validation, 2 s a saved state; epochs of at most 100 steps.
    # 700 steps are 7 epochs: validations after the 5th and the 7th, each with a state before it: 2 * 22 = 44.
    # After each epoch a state and weights, 1.5 * 7 * 2 = 21, and every 100 steps a state, 7 * 2 = 14: 779 in all.
    found = of_steps(COSINE, 100, 700, Pace(1.0, 20.0, 2.0, 5), 920.0)
    assert (found.epochs, found.epoch_steps, found.eval_every, found.seconds) == (7, 100, 5, 779.0)


def test_validations_become_fewer_where_they_take_long() -> None:
    # A fifth of 920 s holds three validations of 60 s. 10 epochs: every 4th, which are three.
    found = of_steps(STEPS, 10, 100, Pace(1.0, 60.0, 0.0, 5), 920.0)
    assert (found.epochs, found.eval_every) == (12, 4)
    # One that takes longer than its share comes once, at the end.
    assert of_steps(STEPS, 10, 100, Pace(1.0, 500.0, 0.0, 5), 920.0).eval_every == 12


def test_milestones_stay_where_they_are_in_the_run() -> None:
    # Time for 920 steps, less than an epoch of 1,000: 12 short epochs, of 76 steps.
    found = lay_out(STEPS, 1000, Pace(1.0, 0.0, 0.0, 5), 1000.0)
    assert (found.epochs, found.epoch_steps, found.milestones) == (12, 76, (8, 11))
    # Epochs of 10 steps: 92 of them; 8 / 12 and 11 / 12 of those.
    found = lay_out(STEPS, 10, Pace(1.0, 0.0, 0.0, 5), 1000.0)
    assert (found.epochs, found.epoch_steps, found.milestones) == (92, 10, (61, 84))
    assert found.warmup_steps == 184, "a fifth of the run, not 500 steps of it"
    # Time for five steps: as many epochs.
    found = lay_out(STEPS, 10, Pace(184.0, 0.0, 0.0, 5), 1000.0)
    assert (found.epochs, found.epoch_steps, found.milestones, found.warmup_steps) == (5, 1, (3, 5), 1)


def test_less_than_an_epoch() -> None:
    found = lay_out(COSINE, 1000, Pace(1.0, 20.0, 0.0, 5), 100.0)
    # 92 s: one validation of 20 s, and 72 steps.
    assert (found.epochs, found.epoch_steps, found.eval_every, found.seconds) == (1, 72, 1, 92.0)


def test_no_more_epochs_than_are_wanted() -> None:
    # Time for 920 steps: 92 epochs of ten. Seven are wanted.
    few = COSINE.model_copy(update={"most_epochs": 7})
    found = lay_out(few, 10, Pace(1.0, 0.0, 0.0, 5), 1000.0)
    assert (found.epochs, found.epoch_steps, found.seconds) == (7, 10, 70.0)
    # Milestones do not bring more; a time that is too short for them counts as before.
    found = lay_out(STEPS.model_copy(update={"most_epochs": 7}), 10, Pace(1.0, 0.0, 0.0, 5), 1000.0)
    assert (found.epochs, found.epoch_steps, found.milestones) == (7, 10, (5, 6))
    assert lay_out(few, 1000, Pace(1.0, 0.0, 0.0, 5), 1000.0) == lay_out(COSINE, 1000, Pace(1.0, 0.0, 0.0, 5), 1000.0)


def test_what_is_said() -> None:
    pace = Pace(0.34, 20.0, 0.0, 5)
    found = of_steps(COSINE, 125, 500, pace, 1000.0)
    assert found.describe(pace, "time budget of 10 min 0 s") == (
        "time budget of 10 min 0 s: measured 340 ms a step, 20 s a validation; chosen 4 epochs of 125 steps, a "
        "validation every 4 epochs: about 3 min 10 s"
    )
    alone = Pace(2.0, 0.0, 0.0, 5)
    assert of_steps(COSINE, 1, 1, alone, 9.0).describe(alone, "all") == (
        "all: measured 2.0 s a step; chosen 1 epoch of 1 step: about 2.0 s"
    )


@pytest.mark.parametrize("seconds", [-5.0, 0.0, 31.0])
def test_too_little_time(seconds: float) -> None:
    with pytest.raises(UsageError, match=r"minutes is too short: .* one step of 10 s, one validation of 20 s"):
        lay_out(COSINE, 100, Pace(10.0, 20.0, 0.0, 3), seconds)
    assert lay_out(COSINE, 100, Pace(10.0, 20.0, 0.0, 3), 33.0).steps == 1


def test_whatever_is_laid_out_fits_and_fills_the_time() -> None:
    for schedule, most, step, validation, saving, seconds in itertools.product(
        (COSINE, STEPS), (1, 7, 1000), (0.003, 1.7), (0.0, 11.0), (0.0, 0.3), (60.0, 5000.0)
    ):
        pace = Pace(step, validation, saving, 5)
        found = lay_out(schedule, most, pace, seconds)
        assert 0 < found.seconds <= (1 - RESERVE) * seconds
        assert found.epoch_steps <= most
        assert found.warmup_steps <= 0.2 * found.steps
        assert list(found.milestones) == sorted(set(found.milestones))
        # What is left is less than a step for each epoch, and what one more validation would take.
        assert found.seconds > 0.55 * seconds, (schedule.kind, most, pace, seconds)


@pytest.mark.parametrize(
    ("taken", "ahead", "expected"),
    [
        ([9.0, 1, 1, 1], 1, 1.0),
        ([9.0, 8, 1, 2], 5, 1.5),  # two are kept however many came ahead
        ([9.0, 1, 2, 3, 4, 100], 1, 3.0),  # without the quickest and the slowest of five
        ([2.0], 3, 2.0),
    ],
)
def test_seconds_of_a_step_in_the_long_run(taken: list[float], ahead: int, expected: float) -> None:
    assert usual(taken, ahead) == expected

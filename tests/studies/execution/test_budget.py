from __future__ import annotations

import numpy as np
import pytest

from gfocal.data.loading.sampler import epoch_length
from gfocal.errors import UsageError
from gfocal.recipe import load_recipe
from gfocal.studies.execution.budget import BUDGETS, shrunk, study_budget
from gfocal.studies.execution.plan import measured_steps, row_recipe, steps_of
from gfocal.studies.paper.tables import TABLES
from helpers.made_index import made_index


@pytest.mark.parametrize("name", ["gfl_r50", "ssd512_vgg16", "atss_nano"])
def test_full_changes_nothing(name: str) -> None:
    assert shrunk(load_recipe(name), BUDGETS["full"], 117_266) == load_recipe(name)


@pytest.mark.parametrize(
    ("images", "iterations", "epochs", "steps"),
    [
        (3200, 200, 1, 200),
        (205, 200, 17, 12),  # 204: epochs have one length
        (3200, 300, 2, 150),
        (3300, 300, 2, 150),
        (2100, 200, 2, 100),
        (117_266, 200, 1, 200),
        (10, 20, 20, 1),
    ],
)
def test_iterations_become_epochs(images: int, iterations: int, epochs: int, steps: int) -> None:
    recipe = shrunk(load_recipe("gfl_nano"), study_budget("small", iterations=iterations), images)
    assert recipe.schedule.epochs == epochs
    shown = images if recipe.data.mix is None else epoch_length(images, np.full(images, recipe.data.mix[0]))
    assert max(shown // 16, 1) == steps
    assert iterations <= epochs * steps < iterations + epochs
    assert (recipe.data.resize.size, recipe.optim.lr, recipe.schedule.ema) == (256, 5e-3, 0.99)


def test_iterations_of_a_full_recipe_end_its_milestones() -> None:
    recipe = shrunk(load_recipe("gfl_r50"), study_budget("full", iterations=100), 1600)
    assert (recipe.schedule.kind, recipe.schedule.epochs, recipe.schedule.warmup_steps) == ("cosine", 1, 25)
    assert recipe.optim == load_recipe("gfl_r50").optim
    assert recipe.data == load_recipe("gfl_r50").data


@pytest.mark.parametrize(
    ("settings", "kept"), [({}, (250, 500, 1000, 2000, 3500)), ({"iterations": 40}, (2, 4, 8, 16, 28))]
)
def test_long_is_measured_on_the_way(settings: dict, kept: tuple[int, ...]) -> None:
    recipe = shrunk(load_recipe("gfl_nano"), study_budget("long", **settings), 8000)
    assert recipe.schedule.keep_steps == kept
    steps = recipe.schedule.epochs * recipe.schedule.batch_size * 500 // 16 if not settings else 40
    assert measured_steps(recipe, steps) == (*kept, settings.get("iterations", 5000))
    assert shrunk(load_recipe("gfl_nano"), BUDGETS["small"], 8000).schedule.keep_steps == ()


def test_single_settings() -> None:
    assert study_budget("tiny") == BUDGETS["tiny"]
    own = study_budget("tiny", size=96)
    assert (own.name, own.size, own.timed, own.iterations) == ("tiny*", 96, (96, 96), BUDGETS["tiny"].iterations)
    nano = study_budget("full", pyramid="nano", iterations=50)
    assert (nano.pyramid, nano.lr, nano.size) == ("nano", 5e-3, None)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("huge", {}, "--budget is one of full, small, long, tiny, not 'huge'"),
        ("tiny", {"pyramid": "big"}, "--pyramid is full or nano"),
        ("tiny", {"iterations": 0}, "--iterations must be at least 10"),
        ("tiny", {"size": 100}, "--size must be a multiple of 32"),
        ("tiny", {"size": 32}, "at least 64"),
    ],
)
def test_refusals(name: str, settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        study_budget(name, **settings)


@pytest.mark.parametrize(
    ("images", "an_epoch", "iterations", "epochs"),
    [(3200, 2, 40, 20), (3200, 3, 40, 14), (3200, 30, 40, 2), (3200, 1000, 40, 1), (48, 2, 40, 20), (10, 2, 20, 20)],
)
def test_short_epochs_that_a_person_sets_become_more_of_them(
    images: int, an_epoch: int, iterations: int, epochs: int
) -> None:
    data = made_index([(64, 64, [(8, 8, 24, 24)])] * images)
    overrides = [f"schedule.epoch_steps={an_epoch}"]
    recipe = row_recipe(TABLES["table3"].rows[0], study_budget("small", iterations=iterations), overrides, images)
    assert recipe.schedule.epochs == epochs
    assert iterations <= steps_of(recipe, data) < iterations + epochs

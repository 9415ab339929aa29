from __future__ import annotations

import pytest

from gfocal.errors import UsageError
from gfocal.recipe import load_recipe
from gfocal.studies.budget import BUDGETS, chosen_budget, shrunk


@pytest.mark.parametrize("name", ["gfl_r50", "ssd512_vgg16", "atss_nano"])
def test_full_changes_nothing(name: str) -> None:
    assert shrunk(load_recipe(name), BUDGETS["full"], 117_266) == load_recipe(name)


def test_iterations_become_epochs() -> None:
    small = shrunk(load_recipe("gfl_nano"), BUDGETS["small"], 3200)
    assert (small.schedule.epochs, small.data.mix, small.schedule.batch_size) == (1, None, 16)
    few = shrunk(load_recipe("gfl_nano"), BUDGETS["small"], 205)  # 200 steps of 16 are 15.6 epochs
    assert (few.schedule.epochs, few.data.mix) == (16, None)
    assert (small.data.resize.size, small.optim.lr, small.schedule.ema) == (256, 5e-3, 0.99)


def test_large_data_show_a_part_of_themselves() -> None:
    recipe = shrunk(load_recipe("gfl_nano"), BUDGETS["small"], 117_266)
    assert recipe.schedule.epochs == 1
    assert recipe.data.mix is not None
    assert int(117_266 * recipe.data.mix[0]) // 16 == 200


def test_iterations_of_a_full_recipe_end_its_milestones() -> None:
    recipe = shrunk(load_recipe("gfl_r50"), chosen_budget("full", iterations=100), 1600)
    assert (recipe.schedule.kind, recipe.schedule.epochs, recipe.schedule.warmup_steps) == ("cosine", 1, 25)
    assert recipe.optim == load_recipe("gfl_r50").optim
    assert recipe.data == load_recipe("gfl_r50").data


def test_single_settings() -> None:
    assert chosen_budget("tiny") == BUDGETS["tiny"]
    own = chosen_budget("tiny", size=96)
    assert (own.name, own.size, own.timed, own.iterations) == ("tiny*", 96, (96, 96), BUDGETS["tiny"].iterations)
    nano = chosen_budget("full", pyramid="nano", iterations=50)
    assert (nano.pyramid, nano.lr, nano.size) == ("nano", 5e-3, None)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("huge", {}, "--budget is one of full, small, tiny, not 'huge'"),
        ("tiny", {"pyramid": "big"}, "--pyramid is full or nano"),
        ("tiny", {"iterations": 0}, "--iterations must be at least 10"),
        ("tiny", {"size": 100}, "--size must be a multiple of 32"),
        ("tiny", {"size": 32}, "at least 64"),
    ],
)
def test_refusals(name: str, settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chosen_budget(name, **settings)

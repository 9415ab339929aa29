"""Whatever measures or begins a training does so with the recipe's assistant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gfocal.data.index.data_index import DataIndex
from gfocal.runtime.memory import need_of
from gfocal.training import batch_size, lr_finder
from gfocal.training import train as training
from gfocal.training.fitting import choices, step_time
from gfocal.training.lr_finder import find_lr
from gfocal.zoo import add_assistant, build_detector
from helpers.small_runs import ASSISTED, small

Run = Callable[[DataIndex, Path], object]
RECIPE = small(*ASSISTED)
PLACES: dict[str, tuple[ModuleType, Run]] = {
    "train": (training, lambda index, out: training.train(RECIPE, index, None, out, progress=False)),
    "find-lr": (lr_finder, lambda index, out: find_lr(RECIPE, index, steps=10)),
    "--batch auto": (batch_size, lambda index, out: batch_size.find_batch_size(RECIPE, index)),
    "a pace": (step_time, lambda index, out: step_time.seconds_per_image(RECIPE, 3)),
    "--minutes": (
        choices,
        lambda index, out: choices.fit_schedule(
            small(*ASSISTED, "schedule.epochs=10000"), index, index, out=out, seconds=1, least=0.5, say=lambda _: None
        ),
    ),
}


class Added(Exception):
    """The assistant was added."""


@pytest.mark.parametrize("place", PLACES)
def test_every_place_adds_it(
    place: str, tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, run = PLACES[place]

    def add(detector: Any, recipe: Any) -> None:
        add_assistant(detector, recipe)
        assert detector.assistant is not None
        raise Added

    monkeypatch.setattr(module, "add_assistant", add)
    with pytest.raises(Added):
        run(train_index, tmp_path / "run")


def test_its_memory_counts() -> None:
    recipe = small(*ASSISTED, "schedule.ema=0")
    detector = build_detector(recipe, ("a", "b"))
    before = need_of(detector, recipe)
    add_assistant(detector, recipe)
    after = need_of(detector, recipe)
    weights = sum(p.nbytes for p in detector.assistant.parameters())
    assert after.fixed - before.fixed == 3 * weights  # gradients and AdamW's two moments
    assert after.image > 1.1 * before.image

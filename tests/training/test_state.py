"""What changes while a run trains is saved and restored, all of it, in the form that files have had."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gfocal.errors import UsageError
from gfocal.recipe import Recipe
from gfocal.runs.checkpoint import load_state, save_state
from gfocal.runtime.distributed import Processes
from gfocal.training.early_stopping import Best
from gfocal.training.optimizer import AveragedWeights, make_optimizer
from gfocal.training.state import Generators, TrainState
from gfocal.training.step import Counts
from gfocal.zoo import add_assistant, build_detector
from helpers.small_runs import ASSISTED, NO_BATCH_STATISTICS, assert_identical, small

# As `state.pt` of 0.2.0 has them, after format, environment, data, pictures and recipe.
KEYS = [
    "step",
    "model",
    "optimizer",
    "scaler",
    "average",
    "generators",
    "best_ap",
    "best_epoch",
    "metrics",
    "measured_step",
    "unmeasured",
    "skipped",
    "told_share",
    "grad_norm",
    "counts",
    "assistant",  # since 0.3.0
]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return small(*NO_BATCH_STATISTICS, *ASSISTED, name="gfl_r18")


def fresh(recipe: Recipe, seed: int, kind: type[TrainState] = TrainState) -> TrainState:
    torch.manual_seed(seed)
    detector = build_detector(recipe, ("a", "b"))
    add_assistant(detector, recipe)
    return kind(
        step=0,
        detector=detector,
        optimizer=make_optimizer(detector, recipe.optim),
        scaler=torch.amp.GradScaler("cpu", init_scale=2.0),
        average=AveragedWeights(detector, 0.9),
        generators=Generators(),
        assistant=detector.assistant,
    )


def trained(recipe: Recipe, kind: type[TrainState] = TrainState) -> TrainState:
    """Every field differs from that of a fresh state."""
    state = fresh(recipe, 1, kind)
    for parameter in state.detector.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    state.average.update(state.detector)
    state.scaler.load_state_dict({**state.scaler.state_dict(), "scale": 8.0, "_growth_tracker": 3})
    state.step, state.best = 7, Best(0.25, 2)
    state.metrics, state.measured_step, state.unmeasured = {"AP": 0.25, "per_class": {"a": None}}, 6, True
    state.note_skipped(["x.jpg is broken", "y.jpg is broken"])
    state.announced_share, state.grad_norm, state.counts = 0.5, 3.0, Counts(4, 3, 2, 1)
    return state


def parts(state: TrainState) -> dict[str, Any]:
    """What each field holds, in a form that can be compared."""
    values = {each.name: getattr(state, each.name) for each in fields(state)}
    return {name: value.state_dict() if hasattr(value, "state_dict") else value for name, value in values.items()}


def assert_restored(state: TrainState, other: TrainState, folder: Path) -> None:
    """``other`` becomes ``state`` through a file; no field of it was like that before."""
    wanted = parts(state)
    save_state(folder / "state.pt", {"format": 1, **state.state_dict()})
    torch.rand(3)
    before = parts(other)
    for name, value in wanted.items():
        with pytest.raises(AssertionError):
            assert_identical(before[name], value, name)
    other.load_state_dict(load_state(folder / "state.pt"))
    after = parts(other)
    for name, value in wanted.items():
        assert_identical(after[name], value, name)


def test_every_field_comes_back(recipe: Recipe, tmp_path: Path) -> None:
    state = trained(recipe)
    assert_restored(state, fresh(recipe, 2), tmp_path)


def test_keys_and_types_are_those_of_earlier_files(recipe: Recipe) -> None:
    content = trained(recipe).state_dict()
    assert list(content) == KEYS
    assert (content["best_ap"], content["best_epoch"], content["told_share"]) == (0.25, 2, 0.5)
    assert content["skipped"] == [["x.jpg is broken", "y.jpg is broken"]]
    assert content["counts"] == {"objects": 4, "missed": 3, "edges": 2, "truncated": 1}
    assert content["average"].keys() == {"state", "updates"}
    assert [each.keys() for each in content["generators"]] == [{"cpu", "cuda"}]


@dataclass(kw_only=True, eq=False)
class Longer(TrainState):
    """Somebody adds fields, and nothing else."""

    patience_left: int = 3
    note: str | None = None
    seen: Counts = field(default_factory=Counts)
    lines: list[str] = field(default_factory=list, metadata={"own": True})
    worst: Best = field(default_factory=Best, metadata={"prefix": "worst_"})


def test_a_field_that_is_added_is_saved_and_restored(recipe: Recipe, tmp_path: Path) -> None:
    state = trained(recipe, Longer)
    assert isinstance(state, Longer)
    state.patience_left, state.note, state.seen = 1, "late", Counts(objects=5)
    state.lines, state.worst = ["a"], Best(0.125, 1)
    assert list(state.state_dict()) == [*KEYS, "patience_left", "note", "seen", "lines", "worst_ap", "worst_epoch"]
    assert_restored(state, fresh(recipe, 2, Longer), tmp_path)


def test_a_state_without_a_later_field_keeps_its_default(recipe: Recipe) -> None:
    content = trained(recipe).state_dict()
    for key in ("best_epoch", "measured_step", "unmeasured", "skipped", "assistant"):
        del content[key]
    del content["counts"]["missed"]
    content["counts"]["of a later version"] = content["also of one"] = 1
    state = fresh(recipe, 2, Longer)
    state.load_state_dict(content)
    assert state.best == Best(0.25, 0)
    assert (state.measured_step, state.unmeasured, state.skipped) == (-1, False, [])
    assert state.counts == Counts(4, 0, 2, 1)
    assert state.patience_left == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", ["step", "model", "optimizer", "average", "generators"])
def test_a_state_without_what_all_have_is_refused_and_nothing_is_loaded(key: str, recipe: Recipe) -> None:
    content = trained(recipe).state_dict()
    del content[key]
    state = fresh(recipe, 2)
    before = {name: tensor.clone() for name, tensor in state.detector.state_dict().items()}
    with pytest.raises(UsageError, match=f"the saved state of the run lacks {key}"):
        state.load_state_dict(content)
    assert_identical(dict(state.detector.state_dict()), before)
    assert state.step == 0


def test_the_assistant_is_saved_beside_the_model(recipe: Recipe) -> None:
    state = trained(recipe)
    content = state.state_dict()
    assert not any(name.startswith("assistant") for name in content["model"])
    assert content["average"]["state"].keys() == content["model"].keys()
    assert_identical(dict(content["assistant"]), dict(state.detector.assistant.state_dict()))
    assert {name.partition(".")[0] for name in content["assistant"]} == {"neck", "head"}


def test_a_run_without_scaler_and_averages(recipe: Recipe, tmp_path: Path) -> None:
    state, other = trained(recipe), fresh(recipe, 2)
    for each in (state, other):
        each.scaler = each.average = None
    content = state.state_dict()
    assert (content["scaler"], content["average"]) == (None, None)
    other.load_state_dict(content)
    assert (other.scaler, other.average, other.step) == (None, None, 7)
    # A scaler that was not in use saves nothing, and refuses to load that.
    unused = fresh(recipe, 3)
    average = trained(recipe).state_dict()["average"]
    unused.load_state_dict({**content, "scaler": torch.amp.GradScaler(enabled=False).state_dict(), "average": average})
    assert unused.scaler.get_scale() == 2.0


@dataclass(frozen=True)
class Three(Processes):
    """Process 1 of three; the others have lines and random numbers of their own."""

    rank: int = 1
    count: int = 3

    def gather(self, value: Any) -> list[Any]:
        if isinstance(value, dict):
            first, last = (torch.Generator().manual_seed(seed).get_state() for seed in (11, 12))
            return [{"cpu": first, "cuda": None}, value, {"cpu": last, "cuda": None}]
        return [["of rank 0"], value, ["of rank 2"]]


def test_each_process_takes_its_own(recipe: Recipe) -> None:
    state = trained(recipe)
    content = state.state_dict(Three())
    assert content["skipped"] == [["of rank 0"], state.skipped, ["of rank 2"]]
    assert len(content["generators"]) == 3
    expected = torch.rand(3)
    found = []
    for rank in range(3):
        other = fresh(recipe, 2)
        other.load_state_dict(content, replace(Three(), rank=rank))
        found.append((other.skipped, torch.equal(torch.rand(3), expected)))
    assert found == [(["of rank 0"], False), (state.skipped, True), (["of rank 2"], False)]


def test_random_generators_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.tensor([1])
    put: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "set_rng_state", put.append)
    state = Generators().state_dict()
    expected = torch.rand(3)
    Generators().load_state_dict(state)
    assert torch.equal(torch.rand(3), expected)
    assert put == [cuda]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Generators().load_state_dict(state)  # a state of a GPU on a machine without one
    assert put == [cuda]


@pytest.mark.parametrize("lines", [(), ("a",), ("b", "a", "c"), ("c", "c")])
def test_a_broken_image_is_noted_once(lines: Sequence[str], recipe: Recipe) -> None:
    state = fresh(recipe, 1)
    state.note_skipped(["a", "b"])
    state.note_skipped(lines)
    assert state.skipped == list(dict.fromkeys(["a", "b", *lines]))
    assert math.isnan(state.grad_norm)

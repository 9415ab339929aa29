"""Which layout is chosen, and that choosing changes nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError
from gfocal.recipe import load_recipe
from gfocal.runs.checkpoint import load_detector
from gfocal.training.fitting import choices, memory_layout
from gfocal.training.fitting.memory_layout import LayoutTimes, is_long, time_layouts
from gfocal.training.train import train
from gfocal.zoo import build_detector
from helpers.small_runs import (
    EVERY_STEP,
    assert_identical,
    assert_same_weights,
    cut_run,
    metrics_of,
    small,
    state_of,
)


def times(plain: list[float], last: list[float], half: list[float] | None = None) -> LayoutTimes:
    return LayoutTimes(tuple(plain), tuple(last), tuple(half or ()), 2, (320, 320))


@pytest.mark.parametrize(
    ("plain", "last", "chosen"),
    [
        ([0.92] * 7, [1.0] * 7, False),  # 8 % quicker in every round
        ([0.98] * 7, [1.0] * 7, True),  # within 3 %: a tie
        ([1.0] * 7, [1.0] * 7, True),
        ([1.1] * 7, [1.0] * 7, True),
        ([0.9] * 6 + [1.5], [1.0] * 7, False),  # one of seven rounds may say otherwise
        ([0.9] * 5 + [1.5] * 2, [1.0] * 7, True),  # two may not: noise
        ([0.9, 0.9, 0.9], [1.0] * 3, False),
        ([0.9, 0.9, 1.01], [1.0] * 3, True),
        # A machine that slows down in the middle slows both: rounds are compared, not medians of all.
        ([0.9, 0.9, 0.9, 1.8, 1.8, 1.8, 1.8], [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0], False),
    ],
)
def test_the_layout_that_is_clearly_quicker(plain: list[float], last: list[float], chosen: bool) -> None:
    assert times(plain, last).channels_last is chosen


def test_what_is_said() -> None:
    (line,) = times([0.0921, 0.09, 0.0925], [0.1, 0.1, 0.1]).describe()
    assert line == (
        "memory layout: runtime.channels_last=false (2 pictures of 320 x 320: 100 ms a step with channels last, 92 ms "
        "without; medians of 3). --set runtime.channels_last=false repeats it exactly"
    )
    tie = times([0.1] * 3, [0.1] * 3, [0.095] * 3)
    assert len(tie.describe()) == 1, "5 % are not worth other numbers"
    _, hint = times([0.1] * 3, [0.1] * 3, [0.054] * 3).describe()
    assert hint == (
        "bf16 would take 54 % of the time on this processor, with other rounding: --set runtime.precision=bf16"
    )


def test_short_runs_are_not_measured() -> None:
    recipe = load_recipe("gfl_nano", ["data.resize.size=320"])
    assert not is_long(recipe, 2900)  # 2,900 x 320 x 320 = 297 million pixels
    assert is_long(recipe, 2930)
    assert is_long(load_recipe("gfl_r50"), 300)  # of 800 x 1333, padded to 800 x 1344


def scripted(plain: float, last: float) -> Callable[[], float]:
    """A clock by which the steps in turns take so long: first one of each, then pairs in alternating order."""

    def reads() -> Iterator[float]:
        now = 0.0
        order = [last, plain]
        for pair in range(100):
            for each in order if pair == 0 or (pair - 1) % 2 else reversed(order):
                yield now
                now += each
                yield now

    values = reads()
    return lambda: next(values)


@pytest.mark.parametrize(("plain", "last", "chosen"), [(0.9, 1.0, False), (1.0, 0.9, True), (1.0, 1.0, True)])
def test_measuring_leaves_no_trace(plain: float, last: float, chosen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_layout, "has_fast_bf16", lambda: False)
    recipe = small()
    detector = build_detector(recipe, ["a", "b"], pretrained=False).eval()
    before, random = copy.deepcopy(detector.state_dict()), torch.get_rng_state()
    assert time_layouts(detector, recipe, most=5 * 2 * 0.9 - 0.1, clock=scripted(plain, last)) is None, "too slow"
    found = time_layouts(detector, recipe, clock=scripted(plain, last))
    assert found is not None
    assert found.channels_last is chosen
    assert found.plain == pytest.approx([plain] * 7)
    assert found.last == pytest.approx([last] * 7)
    assert (found.images, found.size, found.half) == (2, (64, 64), ())
    assert_identical(dict(detector.state_dict()), dict(before))
    assert torch.equal(torch.get_rng_state(), random)
    assert not detector.training
    assert not detector.channels_last
    assert all(parameter.grad is None for parameter in detector.parameters())


def test_bf16_is_timed_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_layout, "has_fast_bf16", lambda: True)
    monkeypatch.setattr(memory_layout, "_PAIRS", 1)
    detector = build_detector(small(), ["a"], pretrained=False)
    for recipe, count in ((small(), 1), (small("runtime.precision=fp32"), 0)):  # or else the person chose
        found = time_layouts(detector, recipe)
        assert found is not None
        assert len(found.half) == count


@pytest.mark.parametrize("name", ["ssd_nano", None])
def test_other_networks_are_timed(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    # Frozen stages, images that are large and not square, anchors for one size.
    monkeypatch.setattr(memory_layout, "_PAIRS", 1)
    monkeypatch.setattr(memory_layout, "_PIXELS", 2 * 96 * 160)
    kind = "square" if name else "short_long"
    recipe = small(f"data.resize.kind={kind}", "model.norm_eval=true", "data.resize.size=128", name=name)
    found = time_layouts(build_detector(recipe, ["a"], pretrained=False), recipe)
    assert found is not None
    assert found.size == ((128, 128) if name else (64, 160))  # 800 x 1344 in proportion: 95 x 160
    assert min(found.plain + found.last) > 0


# --- runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def long_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run is long enough to be measured."""
    monkeypatch.setattr(memory_layout, "LEAST_PIXELS", 1)
    monkeypatch.setattr(memory_layout, "has_fast_bf16", lambda: False)


def quicker(monkeypatch: pytest.MonkeyPatch, *, last: bool) -> None:
    clock = scripted(1.0, 0.8) if last else scripted(0.8, 1.0)
    monkeypatch.setattr(choices, "time_layouts", partial(time_layouts, clock=clock))


@pytest.mark.usefixtures("long_runs")
@pytest.mark.parametrize("last", [False, True])
def test_a_run_that_chose_is_the_run_that_was_told(
    last: bool,
    tmp_path: Path,
    train_index: DataIndex,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("schedule.ema=0.9", "data.photometric=0.5", EVERY_STEP)
    told = small(*options, f"runtime.channels_last={str(last).lower()}")
    train(told, train_index, None, tmp_path / "told", progress=False)
    quicker(monkeypatch, last=last)
    cut_run(small(*options), train_index, tmp_path / "chose", 4)
    quicker(monkeypatch, last=not last)  # another machine: what was chosen stays
    train(small(*options), train_index, None, tmp_path / "chose", resume=True)
    assert "memory layout" not in capsys.readouterr().err
    assert_same_weights(tmp_path / "told", tmp_path / "chose")
    assert metrics_of(tmp_path / "told") == metrics_of(tmp_path / "chose")
    state = state_of(tmp_path / "chose")
    assert state["environment"]["channels_last"] is last
    assert state["recipe"]["runtime"]["channels_last"] is last
    assert state["asked"] == {"runtime.channels_last": "auto"}
    assert state_of(tmp_path / "told")["asked"] == {}
    assert load_recipe(tmp_path / "chose" / "recipe.yaml") == told
    assert load_detector(tmp_path / "chose")[1].runtime.channels_last == "auto", "weights go to other machines"


@pytest.mark.usefixtures("long_runs")
def test_another_layout_is_refused_at_resume_and_the_same_is_not(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quicker(monkeypatch, last=False)
    train(small("schedule.epochs=1"), train_index, None, tmp_path / "run")
    assert "memory layout: runtime.channels_last=false (2 pictures of 64 x 64: 1000 ms" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"another recipe \(runtime.channels_last differ\)"):
        train(
            small("schedule.epochs=1", "runtime.channels_last=true"), train_index, None, tmp_path / "run", resume=True
        )
    same = small("schedule.epochs=1", "runtime.channels_last=false")
    assert train(same, train_index, None, tmp_path / "run", resume=True, progress=False).steps == 3


def test_a_folder_that_is_taken_is_refused_before_anything_is_measured(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"")
    monkeypatch.setattr("gfocal.training.train.choose", None)
    with pytest.raises(UsageError, match="remains of a run"):
        train(small(), train_index, None, tmp_path, progress=False)

"""The learning-rate finder: its rule by hand, and what its suggestion is worth."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from gfocal.cli.app import app
from gfocal.commands.find_lr import describe_sweep
from gfocal.data.index.data_index import DataIndex
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.recipe import Recipe
from gfocal.training import lr_finder as finder
from gfocal.training.lr_finder import Sweep, _sweep, find_lr, smooth, suggest, sweep_report
from gfocal.training.step import NotFinite
from gfocal.training.train import train
from helpers.small_runs import SHORT, metrics_of, small

LRS = tuple(np.logspace(-6, 1, 141).tolist())  # 20 a factor of ten


def curve(loss: Callable[[float], float], noise: float = 0.0) -> Sweep:
    """A sweep whose loss is a function of log10 of the learning rate."""
    draw = np.random.default_rng(0)
    return Sweep(LRS, tuple(loss(math.log10(lr)) + noise * draw.standard_normal() for lr in LRS), None)


def ramp(x: float) -> float:
    """2 below 1e-4, falls evenly to 1 at 1e-2, rises steeply above 1e-1."""
    return 2 - min(max((x + 4) / 2, 0), 1) + max(0, 30 * (x + 1))


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_the_rule_by_hand(noise: float) -> None:
    found = suggest(curve(ramp, noise))
    # A tenth of the fall is made at 10^-3.8, nine tenths at 10^-2.2; two thirds of the way: 10^(-3.8 + 1.6 * 2/3).
    assert found is not None
    assert math.log10(found.begin) == pytest.approx(-3.8, abs=0.15)
    assert math.log10(found.end) == pytest.approx(-2.2, abs=0.15)
    assert math.log10(found.lr) == pytest.approx(-2.733, abs=0.1)
    assert found.lr == pytest.approx(found.begin ** (1 / 3) * found.end ** (2 / 3))


def test_what_a_broken_network_finds_later_does_not_count() -> None:
    # After a rise beyond 1e-1 the loss drops to 0: a network that says nothing.
    late = suggest(curve(lambda x: 0.0 if x > -0.5 else ramp(x)))
    assert late == suggest(curve(ramp))


@pytest.mark.parametrize("loss", [lambda x: 2.0, lambda x: 2 + max(0, x + 2), lambda x: 2 - 0.02 * (x + 6)])
def test_a_loss_that_does_not_fall_suggests_nothing(loss: Callable[[float], float]) -> None:
    sweep = curve(loss, 0.02)
    assert suggest(sweep) is None
    report = sweep_report(sweep, small(), 12)
    assert report.override is None
    assert describe_sweep(report, ["gfocal", "train", "r"])[0].startswith(
        "no suggestion: the loss did not fall by a tenth"
    )


def test_a_sweep_ends_where_the_loss_diverges() -> None:
    lrs = [10.0**x for x in range(-6, 4)]
    seen: list[float] = []

    def step(lr: float) -> float:
        seen.append(lr)
        if lr > 100:
            raise NotFinite("the loss is not finite")
        return 2.0 if lr < 1 else 1000.0

    sweep = _sweep(step, lrs, None)
    assert sweep.diverged == 1.0, "one loss of 1000 lifts the running mean far beyond the bound"
    assert sweep.lrs == tuple(lrs[:7]) == tuple(seen)
    assert sweep.losses == (2.0,) * 6 + (1000.0,)
    broken = _sweep(step, [0.1, 0.5, 200.0, 300.0], None)
    assert (broken.diverged, broken.lrs, broken.losses) == (200.0, (0.1, 0.5), (2.0, 2.0))


def test_a_loss_that_is_not_finite_from_the_start_is_no_sweep() -> None:
    def step(lr: float) -> float:
        raise NotFinite("the loss is not finite: loss terms cls nan")

    with pytest.raises(NotFinite, match="loss terms cls nan"):
        _sweep(step, [0.1, 0.2], None)


def test_smoothing_does_not_lag() -> None:
    line = np.linspace(5, 1, 80)
    np.testing.assert_allclose(smooth(line)[12:-12], line[12:-12], atol=1e-4)
    assert smooth([1.0, 1.0, 9.0, 1.0, 1.0]).max() < 5


def test_the_value_to_set_undoes_the_scaling() -> None:
    # Batches of 4 where lr was chosen for 16: training multiplies by 4 / 16.
    report = sweep_report(curve(ramp), small("optim.lr=0.008"), 12)
    assert report.images_per_step == 4
    assert report.recipe_lr == pytest.approx(0.002)
    assert report.suggestion is not None
    assert report.override is not None
    assert float(report.override.removeprefix("optim.lr=")) == pytest.approx(4 * report.suggestion.lr, rel=0.05)
    lines = describe_sweep(report, ["gfocal", "train", "my recipe.yaml", "--data", "data"])
    assert lines[-1] == f"next: gfocal train 'my recipe.yaml' --data data --set {report.override}"


# --- a real sweep ---------------------------------------------------------------------------------------------------

PLAIN = ("data.scale=null", "data.photometric=0", "schedule.ema=0")


@pytest.mark.slow
def test_the_suggestion_trains_better_than_others(tmp_path: Path, train_index: DataIndex) -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    recipe = small(*PLAIN, name="gfl_nano")
    sweep = find_lr(recipe, train_index, steps=60)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    found = suggest(sweep)
    assert found is not None
    assert sweep.lrs[0] == pytest.approx(1e-6)
    assert sweep == find_lr(recipe, train_index, steps=60), "the same sweep twice"

    def last_losses(factor: float) -> float:
        options = ("optim.reference_batch=null", f"optim.lr={factor * found.lr}", "schedule.epochs=12")
        options += ("schedule.kind=multistep", "schedule.milestones=[99]", "schedule.save_every=100")
        out = tmp_path / str(factor)
        train(small(*PLAIN, *options, name="gfl_nano"), train_index, None, out, progress=False)
        return float(np.mean([line["loss"] for line in metrics_of(out, "train")[-6:]]))

    suggested = last_losses(1)
    assert suggested < 0.95 * last_losses(0.1)
    assert suggested < 0.95 * last_losses(30)


def test_a_sweep_stops_where_the_loss_diverges(train_index: DataIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = find_lr(small(*PLAIN), train_index, steps=20, low=1e-3, high=1e8)
    assert sweep.diverged is not None
    assert len(sweep.lrs) < 20
    assert all(map(math.isfinite, sweep.losses))
    real, done = finder.optimizer_step, []

    def poison(*args: object, **options: object) -> object:
        done.append(options["lr"])
        if len(done) == 4:
            raise finder.NotFinite("nan")
        return real(*args, **options)

    monkeypatch.setattr(finder, "optimizer_step", poison)
    sweep = find_lr(small(*PLAIN, "schedule.accumulate=3"), train_index, steps=10)
    assert (len(sweep.losses), sweep.diverged) == (3, done[3])


def test_less_data_than_a_step(train_index: DataIndex) -> None:
    recipe = small(*PLAIN, "schedule.batch_size=16", "optim.clip_norm=1")
    assert len(find_lr(recipe, train_index, steps=10, high=1e-5).lrs) == 10
    with pytest.raises(UsageError, match=r"an epoch has 1 batches of 8, fewer than schedule\.accumulate=2"):
        find_lr(small("schedule.batch_size=8", "schedule.accumulate=2"), train_index)


@pytest.mark.parametrize("options", [{"steps": 9}, {"low": 0.0}, {"low": 2.0, "high": 1.0}])
def test_ranges_that_are_none(options: dict, train_index: DataIndex) -> None:
    with pytest.raises(UsageError, match="a sweep needs at least 10 steps and 0 < low < high"):
        find_lr(small(), train_index, **options)


def test_the_command(scenes: Path, tmp_path: Path) -> None:
    keys = [part for key in (*SHORT, *PLAIN) for part in ("--set", key)]
    out = tmp_path / "lr"
    command = [
        "find-lr",
        "gfl_nano",
        "--data",
        str(scenes),
        "-o",
        str(out),
        "--steps",
        "40",
        "--low",
        "1e-4",
        "--high",
        "0.1",
        *keys,
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    content = json.loads((out / "lr.json").read_text())
    assert content["set"] is not None
    assert f"next: gfocal train gfl_nano --data {scenes} --set {SHORT[0]}" in result.stdout, (
        "with what it was swept with"
    )
    assert f"--set {content['set']}\nnumbers: {out / 'lr.json'}\nplot: {out / 'lr.png'}\n" in result.stdout
    assert 10 <= len(content["lrs"]) == len(content["losses"]) == len(content["smoothed"]) <= 40
    pixels = np.asarray(Image.open(out / "lr.png").convert("RGB"))
    assert pixels.shape == (480, 840, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50, "a curve, not an empty sheet"
    taken = CliRunner().invoke(app, [*command[:4], "-o", str(out / "lr.json"), *keys])
    assert taken.exit_code == 2


@pytest.mark.parametrize(("drop", "expected"), [("true", 3), ("false", 4)])
def test_the_command_sweeps_the_network_that_is_trained(
    drop: str, expected: int, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class without a box has no output where the recipe says so, one with boxes in val alone has one."""
    data = Path(shutil.copytree(scenes, tmp_path / "data"))
    for split in ("train", "val"):
        listing = data / "annotations" / f"{split}.json"
        content = json.loads(listing.read_text())
        content["categories"] = [*content["categories"][:3], {"id": 99, "name": "N/A"}]
        first, *_, last = (one["id"] for one in content["categories"][:3])
        for one in content["annotations"]:
            one["category_id"] = last if split == "val" else first if one["category_id"] == last else one["category_id"]
        known = {one["id"] for one in content["categories"]}
        content["annotations"] = [one for one in content["annotations"] if one["category_id"] in known]
        listing.write_text(json.dumps(content))
    built: list[tuple[str, ...]] = []
    build = finder.build_detector

    def note(recipe: Recipe, names: Sequence[str], **options: bool) -> DenseDetector:
        built.append(tuple(names))
        return build(recipe, names, **options)

    monkeypatch.setattr(finder, "build_detector", note)
    keys = [part for key in (*SHORT, *PLAIN, f"data.drop_empty_classes={drop}") for part in ("--set", key)]
    words = ["find-lr", "gfl_nano", "--data", str(data), "-o", str(tmp_path / "lr"), "--steps", "10", *keys]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    (names,) = built
    assert (len(names), "N/A" in names) == (expected, drop == "false")


def test_the_command_as_json(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "find_lr", lambda *a, **o: curve(ramp))
    command = ["find-lr", "gfl_nano", "--data", str(scenes), "-o", str(tmp_path / "lr"), "--json"]
    result = CliRunner().invoke(app, command)
    content = json.loads(result.stdout)
    assert content["suggested_lr"] == pytest.approx(suggest(curve(ramp)).lr)
    files = {"numbers": "lr.json", "plot": "lr.png"}
    assert content["files"] == {name: str(tmp_path / "lr" / file) for name, file in files.items()}

"""Memory: what a training takes, which batch fits, and what is said when it did not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from gfocal.cli.app import app
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import GfocalError, UsageError
from gfocal.runtime import memory as memory_module
from gfocal.runtime.memory import (
    Need,
    OutOfMemory,
    available_memory,
    is_out_of_memory,
    largest_size,
    memory_notes,
    need_of,
    saved_bytes,
    smaller,
)
from gfocal.training import batch_size as batch_module
from gfocal.training import trainer as trainer_module
from gfocal.training.batch_size import find_batch_size, largest_batch, with_batch
from gfocal.training.train import train
from gfocal.zoo import build_detector
from helpers.small_runs import EVERY_STEP, SMALL, TASK_ALIGNED, metrics_of, small, state_of

MB, GB = 2**20, 2**30

# --- the estimate ---------------------------------------------------------------------------------------------------


def test_the_size_of_the_largest_image() -> None:
    assert largest_size(small("data.resize.size=100").data) == (128, 128)
    assert largest_size(small("data.resize.size=320", "data.multi_scale=[0.8, 1.2]").data) == (384, 384)
    long = small("data.resize.kind=short_long", "data.resize.short_side=800", "data.resize.long_side=1333")
    assert largest_size(long.data) == (800, 1344)


def test_what_autograd_keeps_of_one_image() -> None:
    # A 3x3 convolution keeps its input, a ReLU its output, the sum nothing: 3 + 4 maps of 32 x 32 float32.
    class Toy(nn.Module):
        strides = (1,)

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

    toy = Toy()

    def loss(detector: Toy, size: tuple[int, int], batch: int) -> torch.Tensor:
        return detector.conv(torch.ones(batch, 3, *size)).relu().sum()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_module, "synthetic_loss", loss)
        assert saved_bytes(toy, (32, 32)) == (3 + 4) * 32 * 32 * 4


def test_measuring_leaves_no_trace() -> None:
    detector = build_detector(small(), ("a", "b")).eval()
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    generator = torch.get_rng_state()
    assert saved_bytes(detector, (64, 64)) > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in detector.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert not detector.training
    assert all(p.grad is None for p in detector.parameters())


def test_an_assigner_that_looks_at_predictions_keeps_nothing_for_gradients() -> None:
    plain, looking = (
        build_detector(small("model.points.scale=8", *more), ("a", "b")) for more in ((), (TASK_ALIGNED,))
    )
    one, other = (saved_bytes(detector, (64, 64)) for detector in (plain, looking))
    assert other == pytest.approx(one, rel=0.01)  # there are other positives


def test_four_times_the_pixels_take_four_times_the_memory() -> None:
    detector = build_detector(small(), ("a", "b"))
    one, four = (saved_bytes(detector, (side, side)) for side in (128, 256))
    assert four / one == pytest.approx(4, rel=0.05)


def test_what_is_fixed() -> None:
    recipe = small("schedule.ema=0", "optim.kind=sgd")
    detector = build_detector(recipe, ("a", "b"))
    weights = sum(p.nbytes for p in detector.parameters())
    state = sum(t.nbytes for t in detector.state_dict().values())
    assert need_of(detector, recipe).fixed == 2 * weights  # gradients, momentum
    adam = small("schedule.ema=0.9", "optim.kind=adamw")
    assert need_of(detector, adam).fixed == 3 * weights + 2 * state
    assert need_of(detector, small("data.workers=2")).fixed > 2 * 100 * MB


def test_a_batch_that_fits() -> None:
    need = Need(fixed=100 * MB, image=50 * MB)
    assert need.of(4) == 300 * MB
    assert need.fits(1000 * MB) == 15  # 850 - 100 = 750
    assert need.fits(50 * MB) == 0
    assert smaller(16, 1, 15) == (8, 2)
    assert smaller(12, 2, 5) == (4, 6)
    assert smaller(7, 1, 6) == (1, 7)
    assert smaller(16, 1, 0) is None


# --- what there is --------------------------------------------------------------------------------------------------


def test_machine_and_container(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    assert available_memory(cpu, tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    4096 kB\n")
    assert available_memory(cpu, tmp_path) == 4 * MB
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("5\n")
    assert available_memory(cpu, tmp_path) == 4 * MB
    (group / "memory.max").write_text(f"{3 * MB}\n")
    (group / "memory.current").write_text(f"{2 * MB}\n")
    assert available_memory(cpu, tmp_path) == MB
    (group / "memory.stat").write_text(f"anon 7\ninactive_file {MB}\n")
    assert available_memory(cpu, tmp_path) == 2 * MB
    assert 100 * MB < (available_memory(cpu) or GB) < 100_000 * GB


def test_too_little_memory_is_told_before_the_start(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = small("schedule.epochs=1")
    need = need_of(build_detector(recipe, train_index.names), recipe)
    assert memory_notes(build_detector(recipe, train_index.names), recipe) == []
    monkeypatch.setattr(memory_module, "available_memory", lambda device: int(need.of(3) / memory_module.KEEP))
    train(recipe, train_index, None, tmp_path / "run")
    said = capsys.readouterr().err
    assert "warning: training takes about 0." in said
    assert "--set schedule.batch_size=2 --set schedule.accumulate=2 learns from as many pictures per step" in said
    assert "4 pictures per step, learning rate 0.00025 (optim.lr=0.001 is for 16)" in said


# --- when it ran out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried"),
    ],
)
def test_out_of_memory_says_what_would_fit(
    error: Exception, tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small(EVERY_STEP, "schedule.accumulate=3")
    need = need_of(build_detector(recipe, train_index.names), recipe)
    real, done = trainer_module.optimizer_step, []

    def fail(*args: object, **options: object) -> object:
        done.append(1)
        if len(done) == 2:
            raise error
        return real(*args, **options)

    monkeypatch.setattr(trainer_module, "optimizer_step", fail)
    room = int(need.of(3) / memory_module.KEEP) + 1
    monkeypatch.setattr(memory_module, "available_memory", lambda device: room)
    with pytest.raises(OutOfMemory) as caught:
        train(recipe, train_index, None, tmp_path / "run", progress=False)
    message = str(caught.value)
    assert message.startswith("this machine does not have enough memory for batches of 4 pictures: ")
    assert "--set schedule.batch_size=2 --set schedule.accumulate=6 learns from as many pictures per step" in message
    assert f"start a new one with --init {tmp_path / 'run'}" in message
    assert state_of(tmp_path / "run")["step"] == 1
    monkeypatch.undo()
    assert train(recipe, train_index, None, tmp_path / "run", resume=True, progress=False).steps == 2


def test_other_errors_are_no_lack_of_memory(
    tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))

    def fail(*args: object, **options: object) -> object:
        raise RuntimeError("size mismatch")

    monkeypatch.setattr(trainer_module, "optimizer_step", fail)
    with pytest.raises(RuntimeError, match="size mismatch"):
        train(small(), train_index, None, tmp_path / "run", progress=False)


# --- a batch size by itself -----------------------------------------------------------------------------------------


def machine(fixed: int, each: int, total: int, grain: int = 1) -> tuple[Callable[[int], int], list[int]]:
    """A fake device on which a step takes ``fixed + each * batch`` bytes, in pieces of ``grain``."""
    tried: list[int] = []

    def probe(batch: int) -> int:
        tried.append(batch)
        peak = -(-(fixed + each * batch) // grain) * grain
        if peak > total:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return peak

    return probe, tried


@pytest.mark.parametrize(
    ("fixed", "each", "expected"),
    [(1000, 100, 72), (1000, 2500, 2), (1000, 7000, 1), (100, 1, 1024), (9000, 1, 0), (0, 700, 12), (8000, 200, 2)],
)
def test_the_largest_batch(fixed: int, each: int, expected: int) -> None:
    probe, tried = machine(fixed, each, total=10_000)
    found = largest_batch(probe, limit=8500)
    assert found == expected
    if found:
        assert fixed + each * found <= 8500
        assert fixed + each * (found + 8) > 8500 or found == 1024, "it is used well"
    assert len(tried) <= 12


def test_memory_that_comes_in_blocks() -> None:
    # The line through the last two sizes promises too much: the size is lowered until a real step fits.
    def probe(batch: int) -> int:
        return 100 * batch if batch <= 64 else 130 * batch

    found = largest_batch(probe, limit=10_000)
    assert 64 <= found <= 76
    assert probe(found) <= 10_000


def test_other_errors_of_a_step_are_raised() -> None:
    def probe(batch: int) -> int:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        largest_batch(probe, 1)


def test_the_batch_size_of_a_cpu(train_index: DataIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small("schedule.batch_size=8")
    need = need_of(build_detector(recipe, train_index.names), recipe)
    generator = torch.get_rng_state()
    assert find_batch_size(recipe, train_index) == 8, "no larger than the recipe's"
    for room, expected in ((7.5, 6), (3.5, 2), (1.5, 1)):
        available = (need.fixed + room * need.image) / memory_module.KEEP
        monkeypatch.setattr(batch_module, "available_memory", lambda device, n=int(available): n)
        assert find_batch_size(recipe, train_index) == expected
    monkeypatch.setattr(batch_module, "available_memory", lambda device: 0)
    with pytest.raises(GfocalError, match="not even one picture fits"):
        find_batch_size(recipe, train_index)
    assert torch.equal(torch.get_rng_state(), generator)


def test_the_option(tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small()
    assert with_batch(recipe, None, train_index, tmp_path, resume=False) is recipe
    assert with_batch(recipe, "3", train_index, tmp_path, resume=False).schedule.batch_size == 3
    for wrong in ("0", "-2", "1.5", "many"):
        with pytest.raises(UsageError, match="--batch takes a number of pictures or auto"):
            with_batch(recipe, wrong, train_index, tmp_path, resume=False)
    monkeypatch.setattr(batch_module, "find_batch_size", lambda recipe, index: 6)
    assert with_batch(recipe, "auto", train_index, tmp_path, resume=True).schedule.batch_size == 6
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="--batch auto works in a single process"):
        with_batch(recipe, "auto", train_index, tmp_path, resume=False)


def test_the_command_line(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "find_batch_size", lambda recipe, index: 6)
    out = tmp_path / "run"
    keys = [part for key in (*SMALL, "schedule.epochs=1") for part in ("--set", key)]
    command = ["train", "gfl_nano", "--data", str(scenes), "--out", str(out), "--batch", "auto", *keys]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    assert "schedule:\n  epochs: 1\n  batch_size: 6\n" in (out / "recipe.yaml").read_text()
    assert len(metrics_of(out, "train")) == 2
    monkeypatch.setattr(batch_module, "find_batch_size", lambda recipe, index: 3)
    again = CliRunner().invoke(app, [*command, "--resume", "--json"])
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["steps"] == 2

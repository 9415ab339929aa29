"""Several processes do what one does: the same step, the same numbers, the same run after a break."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

import gfocal
from gfocal.data.loading.sampler import PositionSampler
from gfocal.data.scenes.generate import make_scenes
from gfocal.errors import UsageError
from gfocal.runtime.distributed import ALONE, Processes, synchronise_batch_norm
from gfocal.zoo import build_detector
from helpers.launched import finish, free_port, kill, launch
from helpers.small_runs import NO_BATCH_STATISTICS, SMALL, SPLITS, assert_same_weights, metrics_of, small, state_of

# Each case trains one step of 16 images, in data that are mixed, and in data whose second half shows background only.
STEPS = """
import json, sys
import torch
from pathlib import Path
from gfocal.data.formats.open import open_dataset
from gfocal.training import train as module
from gfocal.recipe import load_recipe

out, cases, *data = sys.argv[1:]
real = module.build_detector
module.check_start = lambda model: None  # batch norm must not learn here
for name, dtype, overrides in json.loads(cases):
    module.build_detector = lambda *a, **o: real(*a, **o).to(getattr(torch, dtype))
    for folder in data:
        recipe = load_recipe("gfl_r18", overrides)
        target = Path(out) / name / Path(folder).name
        assert module.train(recipe, open_dataset(folder, "train"), None, target, progress=False).steps == 1
"""


def sixteen(folder: Path, *, second_half: bool) -> Path:
    """16 scenes; without ``second_half`` those of the positions 8..15 of the first epoch lose their objects."""
    make_scenes(folder, train=16, val=1, size=64)
    file = folder / "annotations" / "train.json"
    content = json.loads(file.read_text())
    rows = [key[0] for key in PositionSampler(16, seed=0, epoch=0)]
    bare = set() if second_half else {content["images"][row]["id"] for row in rows[8:]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] not in bare]
    file.write_text(json.dumps(content))
    return folder


# How many images a batch has, and of how many batches a step consists, by the number of processes.
SHARES = {1: [(16, 1), (4, 4)], 2: [(8, 1), (4, 2)]}


def cases(rows: Sequence[int], shares: Sequence[tuple[int, int]]) -> str:
    """Some kinds of divisors, split so, as JSON."""
    made = []
    for i, (batch, accumulate) in product(rows, shares):
        overrides = [*SMALL, *NO_BATCH_STATISTICS, *SPLITS[i].overrides]
        overrides += [f"schedule.batch_size={batch}", f"schedule.accumulate={accumulate}"]
        made.append((f"{i}-{batch}x{accumulate}", str(SPLITS[i].dtype).removeprefix("torch."), overrides))
    return json.dumps(made)


@pytest.mark.parametrize("rows", [(0,), pytest.param(tuple(range(1, len(SPLITS))), marks=pytest.mark.slow)])
def test_a_step_does_not_depend_on_the_processes(rows: tuple[int, ...], tmp_path: Path) -> None:
    data = [str(sixteen(tmp_path / name, second_half=name == "mixed")) for name in ("mixed", "half-empty")]
    for count, shares in SHARES.items():
        ended = finish(launch(count, STEPS, str(tmp_path / "out"), cases(rows, shares), *data))
        assert [code for code, _, _ in ended] == [0] * count, [errors[-2000:] for _, _, errors in ended]
    for i, folder in product(rows, ("mixed", "half-empty")):
        split = SPLITS[i]
        runs = {share: tmp_path / "out" / f"{i}-{share}" / folder for share in ("16x1", "4x4", "8x1", "4x2")}
        states = {share: state_of(run) for share, run in runs.items()}
        losses = {share: metrics_of(run, "train")[0] for share, run in runs.items()}
        for share in ("4x4", "8x1", "4x2"):
            what = f"{split} {folder} {share}"
            assert_same_step(losses["16x1"], losses[share], states["16x1"], states[share], split.dtype, what)


def assert_same_step(
    one: dict[str, float],
    other: dict[str, float],
    state: dict[str, Any],
    same: dict[str, Any],
    dtype: torch.dtype,
    what: str,
) -> None:
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    assert one.keys() == other.keys(), what
    for name in one.keys() - {"kind"}:
        assert other[name] == pytest.approx(one[name], rel=tolerance, abs=1e-12), f"{what}: {name}"
    assert same["counts"] == state["counts"], what
    difference = size = 0.0
    for name, tensor in state["model"].items():
        if tensor.is_floating_point():
            difference += float((same["model"][name] - tensor).double().square().sum())
            size += float(tensor.double().square().sum())
    assert math.sqrt(difference) <= tolerance * math.sqrt(size), what
    # The weights move little in a step, so their gradients say more: after one step they are SGD's momentum.
    for key, slot in state["optimizer"]["state"].items():
        gradient, again = slot["momentum_buffer"], same["optimizer"]["state"][key]["momentum_buffer"]
        assert (again - gradient).norm() <= 10 * tolerance * gradient.norm() + 1e-12, f"{what}: gradient {key}"


RUN = """
import json, os, sys
import torch
from pathlib import Path
from gfocal.data.formats.open import open_dataset
from gfocal.training import trainer as module
from gfocal.training.train import train
from gfocal.errors import GfocalError
from gfocal.recipe import load_recipe

data, out, how, *overrides = sys.argv[1:]
if how == "fail" and os.environ["RANK"] == "1":
    def fail(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    module.optimizer_step = fail
try:
    result = train(
        load_recipe("gfl_nano", overrides), open_dataset(data, "train"), open_dataset(data, "val"), Path(out),
        resume=how == "resume", skip_broken=how == "skip", progress=False,
    )
    print(json.dumps([result.steps, result.metrics, result.best_ap, result.skipped]))
except GfocalError as error:
    print(f"{type(error).__name__} {error.process}: {error}")
    sys.exit(2)
"""

# 12 images: 3 steps an epoch of 2 processes x 1 image x 2 batches; batch norm learns, and differs between the two.
TWO = (
    "schedule.batch_size=1",
    "schedule.accumulate=2",
    "schedule.epochs=4",
    "schedule.ema=0.9",
    "schedule.eval_every=2",
    "schedule.save_every=2",
    "data.photometric=0.7",
    "data.scale=[0.6,1.4]",
    "data.mosaic=0.5",
    "data.multi_scale=[1,2]",
    "data.workers=2",
    "optim.lr=0.02",
)


def run(scenes: Path, out: Path, how: str = "new", *overrides: str, count: int = 2) -> list[Any]:
    return launch(count, RUN, str(scenes), str(out), how, *SMALL, *TWO, *overrides)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> tuple[Path, list[Any]]:
    """A run of two processes that nothing interrupted, and what each of them returned."""
    out = tmp_path_factory.mktemp("two") / "run"
    ended = finish(run(scenes, out))
    assert [code for code, _, _ in ended] == [0, 0], [errors[-2000:] for _, _, errors in ended]
    return out, [json.loads(output) for _, output, _ in ended]


def test_all_processes_know_the_result(whole: tuple[Path, list[Any]]) -> None:
    out, (first, second) = whole
    assert first == second
    assert first[0] == 12
    assert [line["step"] for line in metrics_of(out, "train")] == list(range(1, 13)), "each step is written once"
    assert metrics_of(out, "val")[-1]["num_images"] == 4
    assert json.loads((out / "run.json").read_text())["environment"]["processes"] == 2


@pytest.mark.slow  # near: test_killed_twice of one process, and what two of them know and share
def test_killed_and_resumed(whole: tuple[Path, list[Any]], scenes: Path, tmp_path: Path) -> None:
    out, draw = tmp_path / "run", random.Random()
    for how, step in (("new", draw.randint(1, 5)), ("resume", draw.randint(7, 10))):
        processes = run(scenes, out, how)
        deadline = time.monotonic() + 120
        while not (out / "metrics.jsonl").is_file() or f'"step": {step},' not in (out / "metrics.jsonl").read_text():
            assert all(p.poll() is None for p in processes), finish(processes)
            assert time.monotonic() < deadline, "no such step within two minutes"
            time.sleep(0.002)
        kill(processes)
        for process in processes:
            process.communicate(timeout=60)
    refused = finish(run(scenes, out, "resume", count=1))
    assert refused[0][0] == 2
    assert "was trained by 2 processes, not by 1" in refused[0][1]
    ended = finish(run(scenes, out, "resume"))
    assert [code for code, _, _ in ended] == [0, 0], [errors[-2000:] for _, _, errors in ended]
    assert_same_weights(whole[0], out)
    assert metrics_of(out) == metrics_of(whole[0])
    assert len(state_of(out)["generators"]) == 2


@pytest.mark.slow
def test_faults_are_told_by_those_who_met_them(scenes: Path, tmp_path: Path) -> None:
    make_scenes(tmp_path / "data", train=12, val=4, size=64)
    rows = [key[0] for key in PositionSampler(12, seed=0, epoch=0)]
    names = [
        image["file_name"] for image in json.loads((tmp_path / "data/annotations/train.json").read_text())["images"]
    ]
    (tmp_path / "data" / "images" / names[rows[1]]).write_bytes(b"no picture")  # the first one of process 1
    processes = run(tmp_path / "data", tmp_path / "run")
    output, _ = processes[1].communicate(timeout=120)
    assert processes[1].returncode == 2
    assert output.startswith("BrokenInputError 1: ")
    assert names[rows[1]] in output
    kill(processes)
    processes[0].communicate(timeout=60)
    skipped = finish(run(tmp_path / "data", tmp_path / "skipping", "skip", "schedule.epochs=1"))
    lines = [json.loads(output)[3] for _, output, _ in skipped]
    assert lines[0] == lines[1]
    assert names[rows[1]] in lines[0][0], "the main process tells what the other one met"


def test_a_failure_of_one_is_told_by_all(scenes: Path, tmp_path: Path) -> None:
    first, second = run(scenes, tmp_path / "run", "fail")
    lost, _ = first.communicate(timeout=120)
    told, _ = second.communicate(timeout=120)
    assert (first.returncode, second.returncode) == (2, 2)
    assert told.startswith("OutOfMemory 1: ")
    assert "memory" in told
    assert lost.startswith("GfocalError 0: the other processes are gone")


def test_what_all_of_them_meet_is_nobodys_own(whole: tuple[Path, list[Any]], scenes: Path) -> None:
    processes = run(scenes, whole[0])
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [2, 2]
    assert all(output.startswith("UsageError None: ") and "already holds a run" in output for output in outputs)


def test_batch_norm_over_all_processes() -> None:
    detector = build_detector(small(name="gfl_nano"), ("a", "b"))
    before = detector.state_dict()
    assert synchronise_batch_norm(detector, ALONE) is detector
    assert not any(isinstance(m, torch.nn.SyncBatchNorm) for m in detector.modules()), "one process has nobody to ask"
    with pytest.raises(UsageError, match=r"runtime\.sync_batch_norm works on GPUs alone"):
        synchronise_batch_norm(detector, Processes(0, 2, "cpu"))
    plain = sum(isinstance(m, torch.nn.BatchNorm2d) for m in detector.modules())
    assert synchronise_batch_norm(detector, Processes(0, 2, "cuda")) is detector
    assert sum(isinstance(m, torch.nn.SyncBatchNorm) for m in detector.modules()) == plain == 67
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in detector.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in detector.state_dict().items())


def test_one_process_needs_nobody() -> None:
    tensor = torch.ones(2)
    assert ALONE.add_up(tensor) is tensor
    assert (ALONE.any(True), ALONE.any(False), ALONE.gather(3), ALONE.from_main("a")) == (True, False, [3], "a")
    ALONE.wait()
    ALONE.copy_from_main(torch.nn.Linear(1, 1))
    assert ALONE.main


@pytest.mark.slow
def test_the_command_line_under_torchrun(scenes: Path, tmp_path: Path) -> None:
    """What a person types; each line is printed once, and several processes measure what one does."""
    environment = {**os.environ, "PYTHONPATH": str(Path(gfocal.__file__).parents[1]), "OMP_NUM_THREADS": "1"}

    def gfocal_verb(*words: str, together: bool) -> tuple[int, str, str]:
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
        command = [sys.executable, *(launcher if together else []), "-m", "gfocal", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
        return done.returncode, done.stdout, done.stderr

    out = tmp_path / "run"
    small = [word for override in SMALL for word in ("--set", override)]
    words = ["train", "gfl_nano", "--data", str(scenes), "--out", str(out), *small]
    code, output, errors = gfocal_verb(*words, "--set", "schedule.batch_size=2", together=True)
    assert code == 0, errors
    assert output.count("AP50") == 1
    assert errors.count("train: 12 pictures") == 1
    assert json.loads((out / "run.json").read_text())["environment"]["processes"] == 2
    numbers = []
    for together in (True, False):
        code, output, errors = gfocal_verb("eval", str(out), "--data", str(scenes), "--json", together=together)
        assert code == 0, errors
        content = json.loads(output)
        content.pop("speed")
        numbers.append(content)
    assert numbers[0] == numbers[1]
    code, output, errors = gfocal_verb("predict", str(out), str(scenes / "images"), together=True)
    assert code != 0
    assert errors.count("error: only train and eval run in several processes") == 1

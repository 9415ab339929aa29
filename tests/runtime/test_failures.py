"""Machines that fail: dead loader processes, full disks. What is said, and what is left."""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gfocal.data.index.data_index import DataIndex
from gfocal.data.loading import loader as loader_module
from gfocal.data.loading.workers import Board, dead_worker, shared_memory_note
from gfocal.errors import GfocalError, UsageError
from gfocal.evaluation.evaluator import evaluate
from gfocal.recipe import load_recipe
from gfocal.training.train import train
from gfocal.utils.files import CannotWrite, DiskFull, write_atomically
from gfocal.zoo import build_detector
from helpers.launched import Started
from helpers.small_runs import EVERY_STEP, SHORT, SMALL, assert_same_weights, metrics_of, small, state_of

# --- loader processes -----------------------------------------------------------------------------------------------


@pytest.fixture
def short_farewell() -> Iterator[None]:
    """A worker that dies may hold what the others need to end: torch waits 5 s for each, whenever it cleans up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
        yield
        # Each worker that now ends raises a signal, whose handler would blame the dead one again, wherever we are.
        handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            gc.collect()  # the loader, which the error's traceback holds
        finally:
            signal.signal(signal.SIGCHLD, handler)


def dying_reader(index: DataIndex, image: int, how: Callable[[], None]) -> Callable[[DataIndex, int], torch.Tensor]:
    """Reads images, and dies at one of them if it is a worker."""
    main, real = os.getpid(), loader_module.read_indexed

    def read(index: DataIndex, i: int, **options: Any) -> torch.Tensor:
        if i == image and os.getpid() != main:
            how()
        return real(index, i, **options)

    return read


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crashed() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def left() -> None:
    os._exit(3)


@pytest.mark.usefixtures("short_farewell")
@pytest.mark.parametrize(
    ("how", "words"),
    [
        (killed, "a loader process was killed from outside, mostly because memory ran out"),
        (crashed, "a loader process died (Segmentation fault); the last picture"),
        (left, "a loader process ended without a word; the last picture"),
    ],
)
def test_a_dead_worker_names_its_image(
    how: Callable, words: str, tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "read_indexed", dying_reader(train_index, 7, how))
    with pytest.raises(GfocalError) as caught:
        train(small("data.workers=2", "schedule.epochs=4"), train_index, None, tmp_path / "run", progress=False)
    message = str(caught.value)
    assert not isinstance(caught.value, UsageError), "exit code 1"
    assert message.startswith(words)
    assert f"the last picture that it read is {train_index.path(7)}. " in message
    assert "data.workers" in message
    monkeypatch.undo()
    if (tmp_path / "run" / "state.pt").exists():  # it died after the first batch
        assert state_of(tmp_path / "run")["step"] >= 0


@pytest.mark.usefixtures("short_farewell")
def test_a_worker_that_dies_in_an_evaluation(val_index: DataIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "read_indexed", dying_reader(val_index, 2, killed))
    detector = build_detector(small(), val_index.names)
    with pytest.raises(GfocalError, match=f"the last picture that it read is {val_index.path(2)}"):
        evaluate(detector, val_index, batch_size=2, workers=1)


def test_the_board_tells_workers_apart(train_index: DataIndex) -> None:
    boards = [Board(train_index, 2), Board(train_index, 1)]
    for board, worker, pid, image in ((0, 0, 100, 3), (0, 1, 101, 4), (1, 0, 102, None)):
        boards[board].start(worker, pid)
        if image is not None:
            boards[board].watched(worker, lambda index, i: torch.tensor(i))(train_index, image)
    said = [
        str(dead_worker(RuntimeError(f"DataLoader worker (pid {pid}) is killed by signal: Killed. ")))
        for pid in (100, 101, 102)
    ]
    assert [str(train_index.path(i)) in line for i, line in zip((3, 4, 0), said, strict=True)] == [True, True, False]
    both = str(dead_worker(RuntimeError("DataLoader worker (pid(s) 101, 100) exited unexpectedly")))
    assert str(train_index.path(3)) in both
    assert str(train_index.path(4)) in both
    bus = str(dead_worker(RuntimeError("DataLoader worker (pid 100) is killed by signal: Bus error. It is ...")))
    assert "got no shared memory (/dev/shm is full" in bus
    assert "--shm-size" in bus
    assert dead_worker(RuntimeError("something else")) is None
    assert dead_worker(ValueError("DataLoader worker (pid 100) is killed by signal: Killed")) is None


def test_batches_that_do_not_fit_into_shared_memory() -> None:
    megabyte = 2**20
    # Two workers hold two batches each, one more is in use: 5 x 10 MB.
    assert shared_memory_note(10 * megabyte, 2, free=50 * megabyte) is None
    said = shared_memory_note(10 * megabyte, 2, free=49 * megabyte)
    assert said is not None
    assert "the batches of 2 loader processes may take 50 MB of shared memory, but /dev/shm has 49 MB" in said
    assert "--set data.workers=1," in said  # 3 x 10 MB
    assert "--set data.workers=0," in str(shared_memory_note(10 * megabyte, 2, free=megabyte))
    assert shared_memory_note(10 * megabyte, 0, free=0) is None


# --- a full disk ----------------------------------------------------------------------------------------------------

FULL = """
import resource, sys
from pathlib import Path
from typing import Any
from gfocal.data.formats.open import open_dataset
from gfocal.training import trainer as module
from gfocal.recipe import load_recipe
from gfocal.training.train import train
from gfocal.recipe import load_recipe

data, out, step, limit, *overrides = sys.argv[1:]
real, done = module.optimizer_step, []
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)

def fill(*args, **options):
    done.append(1)
    if len(done) == int(step):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), most))
    return real(*args, **options)

module.optimizer_step = fill
try:
    train(load_recipe("gfl_nano", overrides), open_dataset(Path(data), "train"), None, Path(out), progress=False)
except module.GfocalError as error:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # the line itself goes to a file
    print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, train_index: DataIndex) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    torch.set_num_threads(1)
    train(small(), train_index, None, out, progress=False)
    return out


@pytest.mark.parametrize(
    ("limit", "file", "kept"),
    [
        (1_000_000, "state.pt", 1),  # the second state has no room
        # A line of the metrics is cut off in the middle.
        pytest.param(300, "metrics.jsonl", 1, marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_leaves_the_last_state(
    limit: int, file: str, kept: int, whole: Path, scenes: Path, tmp_path: Path, train_index: DataIndex
) -> None:
    out = tmp_path / "run"
    process = Started(FULL, str(scenes), str(out), "2", str(limit), *SMALL, EVERY_STEP)
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert said.startswith(f"DiskFull no room on the disk for {out / file} (File too large)"), said
    assert "the file that was there before is intact" in said
    assert "repeat the command (a training: with --resume)" in said
    if file == "state.pt":
        needed = sum(t.nbytes for t in torch.load(whole / file, weights_only=True)["model"].values())
        assert float(said.partition("it needs ")[2].split(" MB")[0]) > 2 * needed / 2**20
    else:
        lines = (out / file).read_text().splitlines()
        with pytest.raises(json.JSONDecodeError):
            json.loads(lines[-1])
    assert state_of(out)["step"] == kept
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == []
    train(small(), train_index, None, out, resume=True, progress=False)
    assert_same_weights(whole, out)
    assert metrics_of(whole) == metrics_of(out)


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    def fail(error: BaseException) -> Callable[[Path], None]:
        def write(file: Path) -> None:
            file.write_text("half")
            raise error

        return write

    (tmp_path / "x").write_text("before")
    for error in (OSError(95, "not supported"), RuntimeError("broken"), ValueError("wrong")):
        with pytest.raises(type(error)) as caught:
            write_atomically(tmp_path / "x", fail(error))
        assert caught.value is error
    with pytest.raises(CannotWrite, match=r"cannot write .*x: Permission denied; choose another place"):
        write_atomically(tmp_path / "x", fail(PermissionError(13, "no")))
    # What is read meanwhile is not what cannot be written.
    with pytest.raises(CannotWrite, match=r"^/data/a\.jpg: No such file or directory; it, or the folder"):
        write_atomically(tmp_path / "x", fail(FileNotFoundError(2, "No such file", "/data/a.jpg")))
    with pytest.raises(DiskFull, match=r"no room on the disk for .*x, it needs 3\.0 GB; .* are free.*is intact"):
        write_atomically(tmp_path / "x", fail(OSError(28, "No space left on device")), needed=3 * 2**30)
    with pytest.raises(DiskFull) as told:
        write_atomically(tmp_path / "y", fail(OSError(28, "No space left on device")))
    assert "before" not in str(told.value)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "before"


# --- a batch that is too small for batch norm -------------------------------------------------------------------------


def test_batch_norm_of_a_single_cell_is_explained(train_index: DataIndex, tmp_path: Path) -> None:
    """The coarsest map of 64 pixels has one cell at stride 64, and the batch one image."""
    coarse = ("model.strides=[8,16,32,64]", "schedule.batch_size=1", "schedule.epochs=1")
    with pytest.raises(UsageError, match="a batch of one picture whose coarsest map has a single cell"):
        train(load_recipe("nanodet_plus_m", [*SHORT, *coarse]), train_index, None, tmp_path / "run", progress=False)

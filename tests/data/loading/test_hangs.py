"""Loader processes that hang are named and given up; those that are slow are not."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gfocal.data.augment.transforms import EvalTransform
from gfocal.data.index.data_index import DataIndex
from gfocal.data.loading import loader as loader_module
from gfocal.data.loading.hangs import HungWorker, Watch
from gfocal.data.loading.loader import DetectionDataset, make_loader, read_indexed
from gfocal.data.loading.workers import Board
from gfocal.errors import UsageError
from gfocal.images.io import Resize
from helpers.launched import Started
from helpers.small_runs import SMALL, state_of


@pytest.fixture
def board(train_index: DataIndex) -> Board:
    board = Board(train_index, 2)
    for worker, pid in ((0, 2**22 + 1), (1, 2**22 + 2)):  # of no process
        board.start(worker, pid)
    return board


def read(board: Board, worker: int, image: int, during: Callable[[], object]) -> None:
    def look(index: DataIndex, i: int) -> Tensor:
        during()
        return torch.zeros(0)

    board.watched(worker, look)(board.index, image)


def test_what_hangs_is_named_first_and_given_up_then(board: Board) -> None:
    said: list[str] = []

    def wait() -> None:
        watch = Watch(board, 600, said.append)
        for _ in range(119):
            watch.waited(5)
        with pytest.raises(HungWorker) as caught:
            watch.waited(5)
        assert str(caught.value).startswith(
            f"no picture was read for 10 min 0 s: loader process {2**22 + 2} reads {board.index.path(7)}. It is given "
            "up after data.worker_timeout=600 s"
        )
        assert not isinstance(caught.value, UsageError), "exit code 1"

    read(board, 0, 3, lambda: None)  # ended: this one waits for the other
    read(board, 1, 7, wait)
    assert said == [
        f"warning: no picture was read for 1 min 0 s: loader process {2**22 + 2} reads {board.index.path(7)}; still "
        "waiting (until 10 min 0 s have passed, data.worker_timeout)"
    ]


def test_a_slow_disk_is_not_given_up(board: Board) -> None:
    said: list[str] = []
    watch = Watch(board, 600, said.append)
    for i in range(200):  # each image takes ten minutes but for a moment, the same one again and again
        for _ in range(119):
            watch.waited(5)
        read(board, i % 2, 7, lambda: None)
        watch.waited(5)
    assert len(said) == 200


def test_zero_waits_for_ever(board: Board) -> None:
    said: list[str] = []
    watch = Watch(board, 0, said.append)
    for _ in range(10_000):
        watch.waited(5)
    assert said == [f"warning: no picture was read for 1 min 0 s by the loader processes {board.pids()}; still waiting"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks often; torch waits for a worker that does not end, too."""
    monkeypatch.setattr(loader_module, "POLL", 0.1)
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)


def stopping_reader(image: int, how: Callable[[], object]) -> Callable[[DataIndex, int], Tensor]:
    main = os.getpid()

    def read(index: DataIndex, i: int) -> Tensor:
        if i == image and os.getpid() != main:
            how()
        return read_indexed(index, i)

    return read


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSTOP), r" \(it is stopped; kill -CONT \d+ lets it go on\)"),
        (lambda: time.sleep(900), ""),
    ],
    ids=["stopped", "reading"],
)
def test_a_worker_that_hangs(how: Callable[[], object], words: str, train_index: DataIndex) -> None:
    transform = EvalTransform(Resize("square", 32))
    dataset = DetectionDataset(train_index, transform, seed=0, read=stopping_reader(7, how))
    with pytest.raises(HungWorker, match=rf"process \d+ reads {train_index.path(7)}{words}\. It is given up") as caught:
        list(make_loader(dataset, batch_size=2, workers=2, worker_timeout=1.5))
    assert not [p for p in multiprocessing.active_children() if f"process {p.pid} " in str(caught.value)]


@pytest.mark.usefixtures("impatient")
def test_a_slow_worker_is_waited_for(train_index: DataIndex) -> None:
    transform = EvalTransform(Resize("square", 32))
    dataset = DetectionDataset(train_index, transform, seed=0, read=stopping_reader(7, lambda: time.sleep(1.0)))
    found = list(make_loader(dataset, batch_size=4, workers=1, worker_timeout=20))
    assert [i for batch in found for i in batch.image_ids.tolist()] == train_index.image_ids.tolist()


HANG = """
import os, signal, sys
from gfocal.cli.app import app
from gfocal.data.loading import loader as module

main, real = os.getpid(), module.read_indexed

def read(index, i, value_range):
    if i == 7 and os.getpid() != main:
        os.kill(os.getpid(), signal.SIGSTOP)
    return real(index, i, value_range)

module.read_indexed, module.POLL = read, 0.1
app(sys.argv[1:])
"""


def test_a_training_that_hangs_ends_and_keeps_its_steps(scenes: Path, tmp_path: Path) -> None:
    """Also the process itself, which would wait for a worker that is stopped for ever."""
    keys = [word for key in (*SMALL, "data.workers=1", "data.worker_timeout=1.5") for word in ("--set", key)]
    out = tmp_path / "run"
    process = Started(HANG, "train", "gfl_nano", "--data", str(scenes), "--out", str(out), *keys)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1, errors
    last = errors.splitlines()[-1]
    assert "train_000008.jpg (it is stopped; kill -CONT" in last
    assert "a training: with --resume" in last
    if (out / "metrics.jsonl").exists():
        assert state_of(out)["step"] == len((out / "metrics.jsonl").read_text().splitlines())

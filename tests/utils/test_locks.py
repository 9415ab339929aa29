"""Locks: one process at a time, and none for longer than its process lives."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gfocal.errors import UsageError
from gfocal.utils import locks
from gfocal.utils.files import CannotWrite, DiskFull
from gfocal.utils.holders import Holder
from gfocal.utils.locks import LOCK, InUse, is_empty, locked_file, locked_folder

HOLD = """
import sys
from pathlib import Path
from gfocal.utils.locks import locked_folder

with locked_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""
TAKE_TURNS = """
import os, sys, time
from pathlib import Path
from gfocal.utils import locks

place, how, turns = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if how == "alone":
    locks._lock = lambda descriptor: None
for _ in range(turns):
    with locks.locked_folder(place, wait=True, say=lambda line: None):
        inside = os.open(place / "inside", os.O_CREAT | os.O_EXCL)  # fails where another one is in here
        time.sleep(0.002)
        os.close(inside)
        (place / "inside").unlink()
"""


def start(script: str, *words: object) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def holder(**changes: Any) -> Holder:
    return replace(Holder.of_this_process(), **changes)


def leave(folder: Path, who: Holder | str, age: float = 0.0) -> Path:
    """A lock that somebody left, last touched so many seconds ago."""
    folder.mkdir(exist_ok=True)
    (folder / LOCK).write_text(who if isinstance(who, str) else json.dumps(who.to_dict()))
    then = time.time() - age
    os.utime(folder / LOCK, (then, then))
    return folder / LOCK


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture(params=["with locks of the system", "without"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without what some network disks, and Windows, lack."""
    if request.param == "without":
        monkeypatch.setattr(locks, "_lock", lambda descriptor: None)


@pytest.mark.usefixtures("file_system")
def test_a_lock_says_who_holds_it_and_goes(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "a" / "b"):
        content = json.loads((tmp_path / "a" / "b" / LOCK).read_text())
        assert content["pid"] == os.getpid()
        assert {"host", "since", "command", "machine", "born"} < content.keys()
        with locked_folder(tmp_path / "a" / "b"):  # a study's worker has its run's folder before training takes it
            pass
        assert is_empty(tmp_path / "a" / "b")
        assert (tmp_path / "a" / "b" / LOCK).exists()
    assert list(tmp_path.iterdir()) == [], "a folder that nothing came into is not left"
    with locked_folder(tmp_path / "a"):
        (tmp_path / "a" / "x").touch()
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["x"]
    with locked_file(tmp_path / "c" / "report.json"):
        assert [file.name for file in (tmp_path / "c").iterdir()] == [f".report.json{LOCK}"]
    with pytest.raises(ValueError, match="inside"), locked_folder(tmp_path / "c"):
        raise ValueError("inside")
    assert not (tmp_path / "c").exists()


@pytest.mark.usefixtures("file_system")
def test_another_process_is_refused_or_waits(tmp_path: Path) -> None:
    with start(HOLD, tmp_path) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        before = (tmp_path / LOCK).read_bytes()
        with pytest.raises(InUse) as caught, locked_folder(tmp_path):
            pass
        assert f"{tmp_path} is in use by `-c {tmp_path}` (process {other.pid} on " in str(caught.value)
        assert f"If you know that it is gone, delete {tmp_path / LOCK}" in str(caught.value)
        assert isinstance(caught.value, UsageError), "exit code 2"
        assert (tmp_path / LOCK).read_bytes() == before
        threading.Timer(0.3, lambda: other.stdin and other.stdin.close()).start()
        with locked_folder(tmp_path, wait=True):
            assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
        assert other.wait(20) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("file_system")
def test_a_killed_process_leaves_a_lock_that_the_next_one_takes(tmp_path: Path) -> None:
    with start(HOLD, tmp_path) as other:
        assert other.stdout is not None
        other.stdout.readline()
        os.kill(other.pid, signal.SIGKILL)
        # Nobody has asked how it ended yet: a zombie, as in a container whose first process asks for none.
        said: list[str] = []
        deadline = time.monotonic() + 20
        while not said:
            try:
                with locked_folder(tmp_path, say=said.append):
                    pass
            except InUse:
                assert time.monotonic() < deadline
    assert len(said) == 1
    assert f"process {other.pid} on" in said[0]
    assert said[0].endswith("ended without removing its lock: it is taken over")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize(
    "left",
    [
        lambda: holder(pid=ended_process(), born="1"),
        lambda: holder(pid=os.getppid(), born="1"),  # another process has its number now
        lambda: holder(pid=2**31 - 1),
    ],
)
def test_a_holder_of_this_machine_that_is_gone(left: Callable[[], Holder], tmp_path: Path) -> None:
    leave(tmp_path, left())
    said: list[str] = []
    with locked_folder(tmp_path, say=said.append) as lock:
        lock.check()
    assert len(said) == 1


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize(
    "content", ["", "half a li", "[1, 2]", '{"pid": "x"}', '{"pid": -1}', "[" * 100_000, "\0" * 300]
)
def test_a_lock_that_says_nothing(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_STARTING", 0.3)
    leave(tmp_path, content)
    with locked_folder(tmp_path, say=print):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


@pytest.mark.usefixtures("file_system")
def test_another_machine_is_gone_when_it_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = holder(machine="another boot", host="node7", pid=1)  # a process of that number lives here, too
    said: list[str] = []
    leave(tmp_path, far, age=121)
    with locked_folder(tmp_path, say=said.append):
        pass
    assert "node7" in said[0]
    assert len(said) == 1
    # Silent for less: watched until it is known.
    monkeypatch.setattr(locks, "_SILENT", 1.0)
    leave(tmp_path, far, age=0)
    begin = time.monotonic()
    with locked_folder(tmp_path, say=said.append):
        pass
    assert 0.5 < time.monotonic() - begin < 10
    assert "waiting up to 1 s to see whether it is alive" in said[1]
    assert "is taken over" in said[2]


@pytest.mark.usefixtures("file_system")
def test_another_machine_that_shows_life_is_refused(tmp_path: Path) -> None:
    file = leave(tmp_path, holder(machine="another boot", host="node7"), age=60)
    threading.Timer(0.3, lambda: os.utime(file)).start()
    said: list[str] = []
    with pytest.raises(InUse, match="on node7"), locked_folder(tmp_path, say=said.append):
        pass
    assert "waiting up to 60 s" in said[0]
    assert file.exists()


def test_a_holder_shows_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_BEAT", 0.01)
    with locked_folder(tmp_path):
        os.utime(tmp_path / LOCK, (0, 0))
        deadline = time.monotonic() + 20
        while not (tmp_path / LOCK).stat().st_mtime:
            assert time.monotonic() < deadline


def test_one_that_was_taken_over_or_whose_folder_is_gone_notices(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with locked_folder(out) as lock:
        lock.check()
        mine = (out / LOCK).read_text()
        leave(out, holder(host="node7", pid=5))
        with pytest.raises(InUse, match=r"run was taken over by .*process 5 on node7"):
            lock.check()
        (out / LOCK).write_text(mine)
        out.rename(tmp_path / "moved")
        with pytest.raises(CannotWrite, match=r"run is gone\. Was it removed, renamed or unmounted"):
            lock.check()
    assert not out.exists()


def test_another_ones_lock_stays(tmp_path: Path) -> None:
    with locked_folder(tmp_path):
        leave(tmp_path, holder(host="node7", pid=5))
    assert "node7" in (tmp_path / LOCK).read_text()


def test_another_thread_is_another_holder(tmp_path: Path) -> None:
    met: list[BaseException] = []

    def work() -> None:
        try:
            with locked_folder(tmp_path):
                pass
        except InUse as error:
            met.append(error)

    with locked_folder(tmp_path):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert f"process {os.getpid()}" in str(met[0])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_neither_has_the_lock_nor_keeps_it(tmp_path: Path) -> None:
    """Loader processes live some seconds longer than a training that is killed."""
    context = __import__("multiprocessing").get_context("fork")
    go_on, met = context.Event(), context.Queue()

    def child() -> None:
        try:
            with locked_folder(tmp_path):
                met.put("taken")
        except InUse:
            met.put("refused")
        go_on.wait(60)

    with locked_folder(tmp_path):
        process = context.Process(target=child)
        process.start()
        assert met.get(timeout=30) == "refused"
        assert (tmp_path / LOCK).exists()
    with locked_folder(tmp_path):  # while it lives
        pass
    go_on.set()
    process.join()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["locks", pytest.param("alone", marks=pytest.mark.slow)])
def test_of_many_at_once_one_has_it(how: str, tmp_path: Path) -> None:
    leave(tmp_path, holder(pid=ended_process()))  # which all of them want to take over
    crowd = [start(TAKE_TURNS, tmp_path, how, 4) for _ in range(4)]
    for one in crowd:
        _, errors = one.communicate(timeout=120)
        assert one.returncode == 0, errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EROFS, "Read-only file system; choose another place"),
        (errno.EACCES, "Permission denied; choose another place, or change its owner or rights"),
        (errno.ENOSPC, "no room on the disk for"),
        (errno.ESTALE, "does not answer"),
    ],
)
def test_where_nothing_can_be_written(number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> int:
        raise OSError(number, os.strerror(number), str(tmp_path / "new" / LOCK))

    monkeypatch.setattr(locks.os, "open", refuse)
    with pytest.raises((CannotWrite, DiskFull), match=words) as caught, locked_folder(tmp_path / "new"):
        pass
    assert str(tmp_path / "new") in str(caught.value)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_disk_allows(tmp_path: Path) -> None:
    long = tmp_path / "x" / ("n" * 300)
    with pytest.raises(CannotWrite, match="File name too long; choose a shorter name"), locked_folder(long):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match=r"cannot write .*file: File exists"), locked_folder(tmp_path / "file"):
        pass
    with (
        pytest.raises(CannotWrite, match="Not a directory; a part of the path is a file"),
        locked_folder(tmp_path / "file" / "in"),
    ):
        pass

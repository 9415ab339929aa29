"""Scripts in processes of their own, alone or several that know of each other, as torchrun starts them.

Importing torch and this package takes longer than most of these scripts, so one process does that and every script is
a fork of it: a fresh interpreter that has run nothing but imports, with its own session, environment and files.
"""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

PRELOADED = (
    "torch",
    "accelerate",
    "gfocal.data.formats.open",
    "gfocal.data.scenes.generate",
    "gfocal.training.train",
    "gfocal.cli.app",
)

# What torch 2.8 prints on standard output where processes meet.
_GLOO = re.compile(r"^\[Gloo\] .*\n", re.MULTILINE)


@functools.cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


@functools.cache
def _outputs() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="gfocal-launched-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _execute(code: str, words: tuple[str, ...], environment: dict[str, str], out: Path, cwd: Path | None) -> None:
    """What ``python -c CODE WORDS...`` does, in a fork of the server."""
    os.setsid()
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(out / name, os.O_WRONLY | os.O_APPEND), number)
    os.environ.update(environment)
    if cwd is not None:
        os.chdir(cwd)
    # Workers start as in any other script, not as this process was started.
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    import torch

    torch.set_num_threads(1)
    sys.argv = ["-c", *words]
    ended = 0
    try:
        exec(compile(code, "<script>", "exec"), {"__name__": "__main__"})
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        ended = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        ended = 1
    # A fork of the server ends without them.
    atexit._run_exitfuncs()
    sys.exit(ended)


class Started:
    """A script that runs; what the tests use of ``subprocess.Popen``."""

    def __init__(
        self, code: str, *words: str, environment: dict[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=_outputs()))
        for name in ("out", "err"):
            (self.folder / name).touch()
        given = (code, words, environment or {}, self.folder, cwd)
        self.process: ForkServerProcess = _server().Process(target=_execute, args=given)
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float) -> None:
        self.process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a script", timeout)

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """What it wrote to standard output and to standard error, when it has ended."""
        self.wait(timeout)
        output, errors = ((self.folder / name).read_text() for name in ("out", "err"))
        output = _GLOO.sub("", output)
        return output, errors


def free_port() -> int:
    """A port that no test beside this one is given, though it is free only until somebody takes it."""
    mine = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    for _ in range(1000):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = int(listener.getsockname()[1])
        if port // 2 % count == mine:  # Linux gives either even ones or odd ones
            return port
    raise AssertionError("no port in a thousand is this process's")


def launch(count: int, code: str, *words: str) -> list[Started]:
    """Start a script so many times, each with its rank in the environment."""
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        Started(code, *words, environment={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]


def finish(processes: list[Started], seconds: float = 120) -> list[tuple[int, str, str]]:
    """(exit code, standard output, standard error) of each; those that outlast the first failure are killed."""
    ended = []
    for process in processes:
        if any(code for code, _, _ in ended):
            kill([process])
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            kill(processes)
            raise
        assert process.returncode is not None
        ended.append((process.returncode, output, errors))
    return ended


def kill(processes: list[Started]) -> None:
    """SIGKILL to all of them and to their workers."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.process.kill()  # has no session of its own yet

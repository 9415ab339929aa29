"""Scripts in several processes that know of each other, as torchrun starts them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import gfocal


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def launch(count: int, *command: str) -> list[subprocess.Popen[str]]:
    """Start ``python COMMAND...`` so many times, each with its rank in the environment."""
    shared = {
        **os.environ,
        "PYTHONPATH": str(Path(gfocal.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for rank in range(count)
    ]


def finish(processes: list[subprocess.Popen[str]], seconds: float = 120) -> list[tuple[int, str, str]]:
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
        ended.append((process.returncode, output, errors))
    return ended


def kill(processes: list[subprocess.Popen[str]]) -> None:
    """SIGKILL to all of them and to their workers."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

"""The processor: its name, and how many threads a computation has by default."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path


def processor_name() -> str:
    """What the processor calls itself."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


MOST_THREADS = 4096
"""Of a computation. Runtimes start as many as they are told, and some millions take all memory of a machine."""


def asked_threads() -> int | None:
    """What ``OMP_NUM_THREADS`` says, of its levels the outermost, at most :data:`MOST_THREADS`; None: nothing."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(int(asked), MOST_THREADS) if asked.isdecimal() and int(asked) else None


def usual_threads() -> int:
    """What ``OMP_NUM_THREADS`` says, or one for each processor that this process may use."""
    with suppress(AttributeError):  # not on every system
        return asked_threads() or len(os.sched_getaffinity(0))
    return asked_threads() or os.cpu_count() or 1

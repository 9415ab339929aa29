"""How long the command line takes to answer, in processes of their own."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable

from harness import Candidate, Row, compare


def children_time() -> float:
    """Processor time of processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def runs(*arguments: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def rows(repeats: int) -> list[Row]:
    candidates = [
        Candidate("python -c 'import torch'", runs("-c", "import torch")),
        Candidate("python -c 'import torchvision'", runs("-c", "import torchvision")),
        Candidate("python -c pass", runs("-c", "pass")),
        Candidate("gfocal --version", runs("-m", "gfocal", "--version"), True),
        Candidate("gfocal --help", runs("-m", "gfocal", "--help"), True),
        Candidate("gfocal train --help", runs("-m", "gfocal", "train", "--help"), True),
    ]
    return compare("start-up", candidates, repeats=repeats, warmup=1, clock=children_time)

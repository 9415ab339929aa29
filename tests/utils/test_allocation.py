"""Freed memory is kept while it is asked to be, and given back afterwards."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from gfocal.utils import allocation
from gfocal.utils.allocation import kept_memory

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

FAULTS = """
import resource, sys
import torch
from gfocal.utils.allocation import kept_memory
def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        [torch.ones(16, 2**20) for _ in range(3)]  # blocks of 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def resident():
    return int(open("/proc/self/statm").read().split()[1])
kept = sys.argv[1] == "kept"
with kept_memory(kept):
    page_faults()
    with kept_memory(kept):
        page_faults()
    inside = page_faults()  # the inner one has given nothing back
    held = resident()
print(inside, held - resident())
"""


def measured(word: str, **environment: str) -> tuple[int, int]:
    """(page faults inside, pages that were given back at the end) of a process of its own."""
    clean = {name: value for name, value in os.environ.items() if name not in allocation._SAID}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, word], env={**clean, **environment}, capture_output=True, text=True, check=True
    )
    faults, back = done.stdout.split()
    return int(faults), int(back)


@GLIBC
def test_keeps_blocks_inside_and_gives_them_back_at_the_end() -> None:
    faults, back = measured("kept")
    assert faults < 1000  # 4 times 192 MB are 196,608 pages of 4 KiB
    assert back > 40_000


@GLIBC
@pytest.mark.parametrize(
    ("word", "environment"),
    [("not", {}), ("kept", {"MALLOC_TRIM_THRESHOLD_": "131072"}), ("kept", {"GLIBC_TUNABLES": "glibc.malloc.check=0"})],
    ids=["not wanted", "said by a variable", "said by tunables"],
)
def test_changes_nothing_where_it_shall_not(word: str, environment: dict[str, str]) -> None:
    faults, back = measured(word, **environment)
    assert faults > 10_000
    assert back < 1000


@GLIBC
def test_what_is_kept_counts_as_available() -> None:
    code = FAULTS.partition("kept = ")[0] + (
        "from gfocal.runtime.memory import available_memory\n"
        "with kept_memory():\n"
        "    page_faults()\n"
        "    held = resident()\n"
        "    available_memory(torch.device('cpu'))\n"
        "    print(held - resident())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 40_000


def test_does_nothing_where_the_library_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda name: object())
    with kept_memory():
        pass


def test_ends_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), kept_memory():
        1 / 0  # noqa: B018

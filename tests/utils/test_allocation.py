"""Freed memory is kept while it is asked to be, and given back afterwards."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gfocal.utils import allocation
from gfocal.utils.allocation import kept_memory

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

BLOCKS = """
import os, resource, sys
from gfocal.utils.allocation import kept_memory
def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        [bytearray(2**26) for _ in range(3)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def resident():
    return int(open("/proc/self/statm").read().split()[1])
"""
INSIDE = """
kept = sys.argv[1] == "kept"
with kept_memory(kept):
    page_faults()
    with kept_memory(kept):
        page_faults()
    inside = page_faults()  # the inner one has given nothing back
    held = resident()
print(inside, held - resident())
"""
AVAILABLE = """
import torch
from gfocal.runtime.memory import available_memory
with kept_memory():
    page_faults()
    held = resident()
    available_memory(torch.device("cpu"))
    print(held - resident())
"""
FORKED = """
with kept_memory():
    page_faults()
    read, write = os.pipe()
    if not os.fork():
        before = resident()
        bytearray(2**29)  # more than its parent has kept
        os.write(write, str(resident() - before).encode())
        os._exit(0)
    os.wait()
    page_faults()  # pages that the child shared are written again for the first time
    print(os.read(read, 20).decode(), page_faults())
"""


def measured(code: str, word: str = "", **environment: str) -> list[int]:
    """What a process of its own prints."""
    clean = {name: value for name, value in os.environ.items() if name not in allocation._SAID}
    words = [sys.executable, "-c", BLOCKS + code, word]
    done = subprocess.run(words, env={**clean, **environment}, capture_output=True, text=True, check=True)
    return [int(number) for number in done.stdout.split()]


@GLIBC
def test_keeps_blocks_inside_and_gives_them_back_at_the_end() -> None:
    faults, back = measured(INSIDE, "kept")
    assert faults < 1000  # 4 times 192 MB are 196,608 pages of 4 KiB
    assert back > 40_000


@GLIBC
@pytest.mark.parametrize(
    ("word", "environment"),
    [("not", {}), ("kept", {"MALLOC_TRIM_THRESHOLD_": "131072"}), ("kept", {"GLIBC_TUNABLES": "glibc.malloc.check=0"})],
    ids=["not wanted", "said by a variable", "said by tunables"],
)
def test_changes_nothing_where_it_shall_not(word: str, environment: dict[str, str]) -> None:
    faults, back = measured(INSIDE, word, **environment)
    assert faults > 10_000
    assert back < 1000


@GLIBC
def test_what_is_kept_counts_as_available() -> None:
    assert measured(AVAILABLE)[0] > 40_000


@GLIBC
def test_a_forked_child_gives_back_and_its_parent_still_keeps() -> None:
    grown, faults = measured(FORKED)
    assert grown < 1000
    assert faults < 1000


class Library:
    """A C library that notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.trims = 0

    def gnu_get_libc_version(self) -> None: ...

    def mallopt(self, option: int, value: int) -> int:
        self.asked.append((option, value))
        return 1

    def malloc_trim(self, pad: int) -> int:
        self.trims += 1
        return 1


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library()
    for name in allocation._SAID:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda name: library)
    return library


INTO, OUT_OF = list(allocation._INSIDE), list(allocation._OUTSIDE)


def test_ends_after_an_error(library: Library) -> None:
    with pytest.raises(ZeroDivisionError), kept_memory():
        1 / 0  # noqa: B018
    assert library.asked == INTO + OUT_OF
    assert library.trims == 1


def test_the_last_thread_out_gives_back(library: Library) -> None:
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with kept_memory():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=work)
    with kept_memory():
        thread.start()
        inside.wait(10)
    assert library.asked == INTO
    leave.set()
    thread.join()
    assert library.asked == INTO + OUT_OF


def test_does_nothing_where_the_library_is_another(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda name: object())
    with kept_memory():
        assert allocation._inside == 0
    assert library.asked == []


MODULES = ["training.train", "training.fitting.step_time", "evaluation.detection.trained", "prediction.predict"]


@pytest.mark.parametrize("where", MODULES)
def test_training_evaluation_and_prediction_keep_it(
    where: str, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    import gfocal
    from gfocal.training.fitting.step_time import seconds_per_image
    from gfocal.zoo import build_detector
    from helpers.small_runs import small

    wanted: list[bool] = []

    @contextmanager
    def noted(asked: bool) -> Iterator[None]:
        wanted.append(asked)
        yield

    monkeypatch.setattr(importlib.import_module(f"gfocal.{where}"), "kept_memory", noted)
    train, val = (gfocal.open_dataset(scenes, split) for split in ("train", "val"))
    recipe = small("schedule.epochs=1", "schedule.eval_every=9", "data.workers=0")
    if where == "training.train":
        gfocal.train(recipe, train, None, tmp_path / "run", progress=False, plots=False)
    elif where == "training.fitting.step_time":
        seconds_per_image(recipe, 2)
    else:
        detector = build_detector(recipe, train.names)
        if where == "prediction.predict":
            gfocal.predict(detector, sorted((scenes / "images").rglob("*.*"))[:1], tmp_path / "out")
        else:
            gfocal.evaluate(detector, val, workers=0)
    assert wanted == [True]

"""Fixtures that many tests share."""

from __future__ import annotations

import functools
import gc
import importlib.metadata
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# `make test` starts a process a core. Results depend on the count, so that one test alone has no more either.
# OpenMP reads it when torch is loaded, so before any import of torch. Here torch is imported where it is used: the
# process that only hands out tests would wait seconds for it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Every training notes the versions of its libraries. Reading them takes as long as a step of a tiny network.
importlib.metadata.version = functools.cache(importlib.metadata.version)

if TYPE_CHECKING:
    from gfocal import DataIndex

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported here stays: the garbage collector need not look through a million objects again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate-public-names", action="store_true", help="write tests/public_names.txt again")
    parser.addoption(
        "--device", choices=("cuda", "cpu"), default="cuda", help="of tests/cuda; cpu tries them where there is no GPU"
    )
    parser.addoption("--regenerate-models-page", action="store_true", help="write the list in docs/models.md again")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data, known answers and weights, kept beside a checkout and never inside it."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder `shared` beside the repository (real data and known answers)")
    return SHARED


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 12 images to train on and 4 to measure on, 64 x 64; image 10 of train is empty."""
    from gfocal import make_scenes

    out = tmp_path_factory.mktemp("scenes")
    make_scenes(out, train=12, val=4, size=64)
    return out


@pytest.fixture(scope="session")
def train_index(scenes: Path) -> DataIndex:
    from gfocal import open_dataset

    return open_dataset(scenes, "train")


@pytest.fixture(scope="session")
def val_index(scenes: Path) -> DataIndex:
    from gfocal import open_dataset

    return open_dataset(scenes, "val")


@pytest.fixture
def drawn() -> None:
    """For tests of what a run draws at its end; in others it draws nothing, which would take half of their time."""


@pytest.fixture(autouse=True)
def no_drawings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    from gfocal.training import drawings

    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(drawings, "draw_run", lambda *_, **__: [])


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Runs set the number of threads for the whole process; other tests must not notice."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

"""A few tiny pictures, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gfocal.data.formats.open import open_split
from gfocal.data.index.data_index import DataIndex
from gfocal.data.scenes.generate import make_scenes


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 12 pictures to train on and 4 to measure on, 64 x 64; picture 10 of train is empty."""
    out = tmp_path_factory.mktemp("scenes")
    make_scenes(out, train=12, val=4, size=64)
    return out


@pytest.fixture(scope="session")
def train_index(scenes: Path) -> DataIndex:
    return open_split(scenes, "train")


@pytest.fixture(scope="session")
def val_index(scenes: Path) -> DataIndex:
    return open_split(scenes, "val")


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Runs set the number of threads for the whole process; other tests must not notice."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

"""A home of its own for every test, no proxy, and no patience."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.file_server import FileServer, running

VARIABLES = ("OFFLINE", "MIRROR", "TIMEOUT", "YES")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [f"GFOCAL_{each}" for each in VARIABLES] + ["HF_HUB_OFFLINE", "WORLD_SIZE", "RANK"]:
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr("gfocal.catalogue.download._PAUSE", 0.0)
    place = tmp_path / "gfocal-home"
    monkeypatch.setenv("GFOCAL_HOME", str(place))
    return place


@pytest.fixture
def server() -> Iterator[FileServer]:
    with running(FileServer()) as server:
        yield server

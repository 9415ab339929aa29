"""A hub on this machine, and nothing of this machine's own hub settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.fake_hub import Hub, fake_hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with fake_hub(monkeypatch, tmp_path / "hf-cache") as running:
        yield running


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Of a tiny detector of two classes."""
    import torch

    from gfocal.runs.checkpoint import save_detector
    from gfocal.zoo import build_detector
    from helpers.small_runs import small

    torch.manual_seed(0)
    names = ("cat", "dog")
    detector = build_detector(small(), names)
    file = tmp_path_factory.mktemp("weights") / "best.safetensors"
    save_detector(file, detector.state_dict(), small(), names)
    return file.read_bytes()

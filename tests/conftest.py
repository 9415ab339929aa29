"""Fixtures that many tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Two cores: torch's own threads and the test's workers would fight for them, and results depend on the count.
os.environ.setdefault("OMP_NUM_THREADS", "2")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data, known answers and weights, kept beside a checkout and never inside it."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder `shared` beside the repository (real data and known answers)")
    return SHARED

"""Tests that compare a CUDA device with the CPU, and train and measure on one.

``pytest -m cuda -n 8`` runs them; with ``--device cpu`` where there is no GPU, to see that the tests themselves work.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    name = request.config.getoption("--device")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device(name)


@pytest.fixture(autouse=True)
def exact(device: torch.device) -> Iterator[None]:
    """Convolutions in float32, not in TF32: results are compared with a CPU's."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture(params=["fp32", "bf16", "fp16"])
def precision(request: pytest.FixtureRequest, device: torch.device) -> str:
    if request.param == "fp16" and device.type == "cpu":
        pytest.skip("fp16 needs a CUDA device")
    return str(request.param)

"""What a training step takes, as training takes it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gfocal.detector import DenseDetector
from gfocal.runtime.memory import synthetic_loss
from gfocal.training.fitting import step_time
from helpers.small_runs import small


@pytest.mark.parametrize(("asked", "last"), [("auto", True), ("true", True), ("false", False)])
def test_it_is_timed_in_the_layout_of_a_run(asked: str, last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def loss(detector: DenseDetector, size: tuple[int, int], batch: int) -> Tensor:
        kernels = [own for own in detector.parameters() if own.dim() == 4 and min(own.shape) > 1]
        seen.append({own.is_contiguous(memory_format=torch.channels_last) for own in kernels})
        return synthetic_loss(detector, size, batch)

    monkeypatch.setattr(step_time, "synthetic_loss", loss)
    assert step_time.seconds_per_image(small(f"runtime.channels_last={asked}"), 3) > 0
    assert seen == [{last}] * 3

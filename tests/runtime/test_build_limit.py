"""Networks that are larger than they may be are not built."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gfocal.runtime.build_limit import SPARE, TIMES, NetworkTooLarge, parameters_within


def test_what_is_within_the_limit_is_built() -> None:
    with parameters_within(0):
        assert nn.Linear(30, 40).weight.shape == (40, 30)
    half = SPARE // 2 // 1024
    with parameters_within(SPARE // TIMES), torch.device("meta"):  # twice the spare numbers in all
        parts = [nn.Linear(1024, half, bias=False) for _ in range(4)]
    assert len(parts) == 4


def test_what_is_over_the_limit_is_not() -> None:
    def build() -> None:
        for _ in range(3):  # each is dropped again, and counts all the same
            nn.Linear(1024, SPARE // 2 // 1024, bias=False)

    with pytest.raises(NetworkTooLarge, match="over 67,108,864"), parameters_within(0), torch.device("meta"):
        build()
    assert nn.Linear(1024, SPARE // 512, device="meta").weight.numel() == 2 * SPARE, "the limit ends with the block"


def test_a_layer_beyond_any_memory() -> None:
    for side in (2**24, 2**33):
        with pytest.raises(NetworkTooLarge), parameters_within(1000):
            nn.Linear(side, side)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="mine"), parameters_within(0):
        raise RuntimeError("mine")

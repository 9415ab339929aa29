"""Seeds that follow from (seed, epoch, position)."""

from __future__ import annotations

import numpy as np

SHUFFLE, AUGMENT, MOSAIC, REPEAT, SIDE = range(5)  # Streams that never share a seed.


def mix(*numbers: int) -> int:
    """A well-mixed 63-bit seed; neighbouring numbers give unrelated ones."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))

"""Which picture comes when, from (seed, epoch) alone, and where the random numbers of each come from.

Each picture of an epoch has a position in it. Which picture stands at a position follows from (seed, epoch); every
random number of its augmentation from (seed, epoch, position).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch.utils.data import Sampler

from gfocal.errors import UsageError

Key = tuple[int, int, int]
"""(index, epoch, position): which picture, and what its random numbers come from."""

_SHUFFLE, AUGMENT, MOSAIC = 0, 1, 2  # Streams that never share a seed.


def mix(*numbers: int) -> int:
    """A well-mixed 63-bit seed; neighbouring numbers give unrelated ones."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class PositionSampler(Sampler[Key]):
    """Yields the keys of one epoch in order, from any position on.

    Args:
        count: pictures in the data set.
        seed: >= 0, the run's seed.
        epoch: >= 0.
        start: the first position to yield.
        shuffle: a new permutation each epoch; otherwise the order of the data set.
    """

    def __init__(self, count: int, *, seed: int, epoch: int, start: int = 0, shuffle: bool = True) -> None:
        if min(seed, epoch, start) < 0:
            raise UsageError(f"seed, epoch and start must not be negative, got {seed}, {epoch}, {start}")
        self.count, self.seed, self.epoch, self.start, self.shuffle = count, seed, epoch, start, shuffle

    def __len__(self) -> int:
        return max(0, self.count - self.start)

    def __iter__(self) -> Iterator[Key]:
        order = np.arange(self.count)
        if self.shuffle:
            generator = torch.Generator().manual_seed(mix(self.seed, self.epoch, _SHUFFLE))
            order = torch.randperm(self.count, generator=generator).numpy()
        for position in range(self.start, self.count):
            yield int(order[position]), self.epoch, position


class RunBatches(Sampler[list[Key]]):
    """The batches of a whole training run, epoch after epoch, from any batch of any epoch on.

    One loader serves the run, so workers start once and read ahead across the end of an epoch.

    Args:
        count: pictures in the data set.
        seed: >= 0, the run's seed.
        batch_size: pictures a batch.
        batches: of each epoch; what remains of an epoch is left out.
        epochs: of the run.
        epoch, batch: where to start.
    """

    def __init__(
        self, count: int, *, seed: int, batch_size: int, batches: int, epochs: int, epoch: int = 0, batch: int = 0
    ) -> None:
        self.count, self.seed, self.batch_size = count, seed, batch_size
        self.batches, self.epochs, self.epoch, self.batch = batches, epochs, epoch, batch

    def __len__(self) -> int:
        return max(self.epochs - self.epoch, 0) * self.batches - self.batch

    def __iter__(self) -> Iterator[list[Key]]:
        for epoch in range(self.epoch, self.epochs):
            first = self.batch if epoch == self.epoch else 0
            keys = iter(
                PositionSampler(self.count, seed=self.seed, epoch=epoch, start=first * self.batch_size, shuffle=True)
            )
            for _ in range(first, self.batches):
                yield list(islice(keys, self.batch_size))

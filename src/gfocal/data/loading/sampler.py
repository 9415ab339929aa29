"""Which image comes when: a function of (seed, epoch) alone.

Each image of an epoch has a position in it. Which image stands at a position follows from (seed, epoch); every
random number of its augmentation from (seed, epoch, position); the size of a step's images from (seed, step). All
epochs have one length, so the number of steps done says where a run goes on. Positions and sizes are those of the whole
run: each of several processes takes its share of every batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch.utils.data import Sampler

from gfocal.data.seeding import REPEAT, SHUFFLE, SIDE, mix
from gfocal.errors import UsageError

Key = tuple[int, ...]
"""(index, epoch, position): which image, and what its random numbers come from; with multi-scale training a fourth
number, the side to train at, see :meth:`gfocal.images.io.Resize.at`."""


def epoch_length(count: int, repeats: np.ndarray | None = None) -> int:
    """Images an epoch: all of them, or the sum of how often each comes on average, rounded down."""
    return count if repeats is None else int(repeats.sum() + 1e-6)


def epoch_order(count: int, seed: int, epoch: int, repeats: np.ndarray | None = None) -> np.ndarray:
    """(L,) int64: the images of an epoch in their order, L = :func:`epoch_length`.

    Args:
        count: images in the data set.
        seed: of the run.
        epoch: >= 0.
        repeats: (count,) >= 0, how often each image comes on average; None for once. It comes as often as that
            rounded up or down, drawn again each epoch.
    """
    order = _permutation(count, mix(seed, epoch, SHUFFLE))
    if repeats is None:
        return order
    # Systematic sampling: marks at distance 1 along the images' repeats, in random order. Each image gets its
    # repeats rounded up or down, with the right probability, and yet all of them together never vary by more than one:
    # rounding each image alone would make epochs of different lengths.
    offset = (mix(seed, epoch, REPEAT) % 2**20 + 0.5) / 2**20
    ends = np.floor(np.cumsum(repeats[order]) + offset).astype(np.int64)
    drawn = np.repeat(order, np.diff(ends, prepend=0))
    # Copies stand side by side now.
    return drawn[_permutation(len(drawn), mix(seed, epoch, SHUFFLE, REPEAT))][: epoch_length(count, repeats)]


def _permutation(count: int, seed: int) -> np.ndarray:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).numpy()


class PositionSampler(Sampler[Key]):
    """Yields the keys of one epoch in order, from any position on.

    Args:
        count: images in the data set.
        seed: >= 0, the run's seed.
        epoch: >= 0.
        start: the first position to yield.
        shuffle: a new permutation each epoch; otherwise the order of the data set.
        repeats: how often each image comes on average, see :func:`epoch_order`; only shuffled.
        step: how far the next position is: so many processes share the images.
    """

    def __init__(
        self,
        count: int,
        *,
        seed: int,
        epoch: int,
        start: int = 0,
        shuffle: bool = True,
        repeats: np.ndarray | None = None,
        step: int = 1,
    ) -> None:
        if min(seed, epoch, start) < 0:
            raise UsageError(f"seed, epoch and start must not be negative, got {seed}, {epoch}, {start}")
        self.count, self.seed, self.epoch, self.start, self.shuffle = count, seed, epoch, start, shuffle
        self.repeats, self.step = repeats if shuffle else None, step

    def __len__(self) -> int:
        return len(range(self.start, epoch_length(self.count, self.repeats), self.step))

    def __iter__(self) -> Iterator[Key]:
        order = np.arange(self.count)
        if self.shuffle:
            order = epoch_order(self.count, self.seed, self.epoch, self.repeats)
        for position in range(self.start, len(order), self.step):
            yield int(order[position]), self.epoch, position


class RunBatches(Sampler[list[Key]]):
    """The batches of a whole training run, epoch after epoch, from any batch of any epoch on.

    One loader serves the run, so workers start once and read ahead across the end of an epoch.

    Args:
        count: images in the data set.
        seed: >= 0, the run's seed.
        batch_size: images per batch of one process; a batch of the run has as many from each.
        batches: of each epoch; what remains of an epoch is left out.
        epochs: of the run.
        epoch, batch: where to start.
        repeats: how often each image comes on average in an epoch, see :func:`epoch_order`.
        sides: multi-scale training: what the side of each step's images is drawn from; () for none.
        accumulate: batches an optimizer step; all of them have one side.
        rank: of this process, 0..processes - 1.
        processes: that share each batch of the run, in the order of its positions.

    Raises:
        UsageError: an epoch has fewer images than there are processes.
    """

    def __init__(
        self,
        count: int,
        *,
        seed: int,
        batch_size: int,
        batches: int,
        epochs: int,
        epoch: int = 0,
        batch: int = 0,
        repeats: np.ndarray | None = None,
        sides: Sequence[int] = (),
        accumulate: int = 1,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        length = epoch_length(count, repeats)
        if length < processes:
            raise UsageError(f"an epoch of {length} pictures is too short for {processes} processes")
        self.count, self.seed, self.repeats, self.sides = count, seed, repeats, tuple(sides)
        self.batch_size, self.batches, self.accumulate = batch_size, batches, accumulate
        self.epochs, self.epoch, self.batch = epochs, epoch, batch
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        return max(self.epochs - self.epoch, 0) * self.batches - self.batch

    def __iter__(self) -> Iterator[list[Key]]:
        size = self.batch_size * self.processes
        for epoch in range(self.epoch, self.epochs):
            first = self.batch if epoch == self.epoch else 0
            keys = iter(
                PositionSampler(self.count, seed=self.seed, epoch=epoch, start=first * size, repeats=self.repeats)
            )
            for batch in range(first, self.batches):
                side = self._side((epoch * self.batches + batch) // self.accumulate)
                yield [(*key, *side) for key in self._share(list(islice(keys, size)))]

    def _share(self, keys: list[Key]) -> list[Key]:
        # A data set that is smaller than a batch of the run is shared too.
        return keys[len(keys) * self.rank // self.processes : len(keys) * (self.rank + 1) // self.processes]

    def _side(self, step: int) -> tuple[int, ...]:
        return (self.sides[mix(self.seed, step, SIDE) % len(self.sides)],) if self.sides else ()

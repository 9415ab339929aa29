"""From an index to batches, the same ones whatever the number of workers and wherever a run was cut off.

Each picture of an epoch has a position in it. Which picture stands at a position follows from (seed, epoch); every
random number of its augmentation from (seed, epoch, position).
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from gfocal.data.coco import CocoIndex
from gfocal.errors import BrokenInputError, UsageError
from gfocal.pictures import pad_batch, read_picture
from gfocal.structures import Batch, Targets

Key = tuple[int, int, int]
"""(index, epoch, position): which picture, and what its random numbers come from."""
Transform = Callable[[Tensor, Targets], tuple[Tensor, Targets]]

_SHUFFLE, _AUGMENT = 0, 1  # Two streams that never share a seed.


def _mix(*numbers: int) -> int:
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
            generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch, _SHUFFLE))
            order = torch.randperm(self.count, generator=generator).numpy()
        for position in range(self.start, self.count):
            yield int(order[position]), self.epoch, position


@dataclass(frozen=True)
class Sample:
    """One picture on its way into a batch; the fields are those of :class:`Batch`."""

    picture: Tensor
    targets: Targets
    image_id: int
    original_size: tuple[int, int]
    skipped: tuple[str, ...] = ()


class DetectionDataset(Dataset[Sample]):
    """Reads and transforms pictures of an index.

    Args:
        index: the pictures and their boxes.
        transform: (picture, targets) -> (picture, targets).
        seed: >= 0, the run's seed.
        skip_broken: take the next picture of the index that can be read in place of one that cannot, and say so in
            :attr:`Sample.skipped`.
    """

    def __init__(self, index: CocoIndex, transform: Transform, *, seed: int, skip_broken: bool = False) -> None:
        self.index, self.transform, self.seed, self.skip_broken = index, transform, seed, skip_broken

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: Key) -> Sample:
        """The sample of a key.

        Raises:
            BrokenInputError: its picture cannot be read or has another size than the annotations say.
        """
        index, epoch, position = key
        index, picture, skipped = self._read_from(index)
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would seed the accelerators as well, which the fork does not restore.
            torch.default_generator.manual_seed(_mix(self.seed, epoch, position, _AUGMENT))
            changed, targets = self.transform(picture, self.index.targets(index))
        size = int(picture.shape[-2]), int(picture.shape[-1])
        return Sample(changed, targets, int(self.index.image_ids[index]), size, skipped)

    def _read_from(self, index: int) -> tuple[int, Tensor, tuple[str, ...]]:
        skipped: list[str] = []
        for step in range(len(self)):
            candidate = (index + step) % len(self)
            try:
                return candidate, read_indexed(self.index, candidate), tuple(skipped)
            except BrokenInputError as error:
                if not self.skip_broken:
                    raise
                skipped.append(str(error))
        raise UsageError(f"none of the {len(self)} pictures in {self.index.pictures_dir} can be read; {skipped[0]}")


def read_indexed(index: CocoIndex, i: int) -> Tensor:
    """Picture ``i`` of an index, turned the way in which its annotations were made.

    Returns:
        (3, H, W) uint8 of the annotated size.

    Raises:
        BrokenInputError: it cannot be read, or has the annotated size neither with nor without its EXIF rotation.
    """
    path, wanted = index.path(i), (int(index.heights[i]), int(index.widths[i]))
    picture = read_picture(path)
    if tuple(picture.shape[-2:]) == wanted:
        return picture
    # Some tools annotate the pixels as they are stored and never look at the EXIF orientation.
    stored = read_picture(path, apply_exif=False)
    if tuple(stored.shape[-2:]) == wanted:
        return stored
    height, width = picture.shape[-2:]
    raise BrokenInputError(
        f"picture {path} is {width}x{height} pixels, but {index.annotations} says {wanted[1]}x{wanted[0]} "
        f"(image {index.image_ids[i]}): its boxes would be wrong; correct width and height or the file"
    )


@dataclass(frozen=True)
class BatchLoader:
    """Iterates over the batches of one epoch, or of the rest of it.

    Workers hand a broken picture over as a value; raised here, the error keeps its own one-line message instead of the
    traceback text that the DataLoader would wrap around it.
    """

    loader: DataLoader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        with warnings.catch_warnings():
            # Python 3.12 warns of any fork beside other threads; torch's are idle while the workers are made.
            warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
            batches = iter(self.loader)
        try:
            for batch in batches:
                if isinstance(batch, UsageError):
                    # A new error: raising `batch` would tie it to this frame in a cycle, and workers that the cycle
                    # collector ends, rather than the next line, keep the process waiting for seconds.
                    hint = "; --skip-broken leaves it out" if isinstance(batch, BrokenInputError) else ""
                    raise type(batch)(f"{batch}{hint}")
                yield batch
        finally:
            del batches


class _Caught(Dataset):
    """Samples, or the error of a broken one as a value."""

    def __init__(self, dataset: DetectionDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> Sample | UsageError:
        try:
            return self.dataset[key]
        except UsageError as error:
            return error


def collate(samples: list[Sample | UsageError], multiple: int = 32) -> Batch | UsageError:
    """Samples as a :class:`Batch`; the first error among them, if there is one."""
    for sample in samples:
        if isinstance(sample, UsageError):
            return sample
    good = [sample for sample in samples if isinstance(sample, Sample)]
    sizes = torch.tensor([s.picture.shape[-2:] for s in good])
    original = torch.tensor([s.original_size for s in good])
    return Batch(
        pictures=pad_batch([s.picture for s in good], multiple),
        targets=tuple(s.targets for s in good),
        image_ids=torch.tensor([s.image_id for s in good]),
        original_sizes=original,
        scales=(sizes / original).flip(1),
        sizes=sizes,
        skipped=tuple(line for s in good for line in s.skipped),
    )


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)
    # Ctrl-C reaches the whole process group. The main process decides what to do; a worker that dies of it would make
    # the last checkpoint impossible.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def make_loader(
    dataset: DetectionDataset,
    *,
    batch_size: int,
    epoch: int = 0,
    start_batch: int = 0,
    shuffle: bool = False,
    workers: int = 0,
    drop_last: bool = False,
    multiple: int = 32,
) -> BatchLoader:
    """The batches of one epoch from batch ``start_batch`` on.

    Args:
        dataset: the pictures.
        batch_size: pictures a batch.
        epoch: >= 0; with the data set's seed it decides the order and all random numbers.
        start_batch: batches of the epoch that were done before.
        shuffle: False keeps the order of the index.
        workers: processes that read ahead; 0 reads in this one. The batches are the same.
        drop_last: leave out a last batch that is not full.
        multiple: pictures are padded to a multiple of this many pixels.
    """
    sampler = PositionSampler(
        len(dataset), seed=dataset.seed, epoch=epoch, start=start_batch * batch_size, shuffle=shuffle
    )
    return BatchLoader(
        DataLoader(
            _Caught(dataset),
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=partial(collate, multiple=multiple),
            drop_last=drop_last,
            worker_init_fn=_start_worker,
            # The iterator draws a base seed: from its own generator it leaves the caller's random numbers alone.
            generator=torch.Generator().manual_seed(0),
        )
    )


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


def make_run_loader(dataset: DetectionDataset, batches: RunBatches, *, workers: int = 0) -> BatchLoader:
    """The batches of a run; see :func:`make_loader` for what workers change (nothing but the speed)."""
    return BatchLoader(
        DataLoader(
            _Caught(dataset),
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=collate,
            worker_init_fn=_start_worker,
            generator=torch.Generator().manual_seed(0),
        )
    )

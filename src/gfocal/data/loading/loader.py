"""From an index to batches, the same ones whatever the number of workers and wherever a run was cut off.

The order and what is random follow from :mod:`gfocal.data.loading.sampler`.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from gfocal.data.augment.mosaic import Mosaic
from gfocal.data.index.data_index import DataIndex
from gfocal.data.loading.hangs import POLL, WORKER_TIMEOUT, HungWorker, Watch, end_workers, is_timeout, kill_at_exit
from gfocal.data.loading.sampler import Key, PositionSampler, RunBatches
from gfocal.data.loading.workers import Board, raise_file_limit
from gfocal.data.seeding import AUGMENT, mix
from gfocal.errors import BrokenInputError, UsageError
from gfocal.images.depth import ValueRange
from gfocal.images.io import Resize, broken_image, pad_batch, read_image
from gfocal.images.tiling import cut_out
from gfocal.structures import Batch, Targets
from gfocal.utils.signals import ENDING


class Transform(Protocol):
    """(image, targets) -> (image, targets); ``finish`` takes images that have their final size already."""

    @property
    def resize(self) -> Resize:
        """Its ``fill`` is what batches are padded with."""

    def __call__(self, image: Tensor, targets: Targets) -> tuple[Tensor, Targets]: ...

    def finish(self, image: Tensor, targets: Targets) -> tuple[Tensor, Targets]: ...

    def at(self, side: int) -> Transform:
        """The same with another size, see :meth:`gfocal.images.io.Resize.at`."""


@dataclass(frozen=True)
class Sample:
    """One image on its way into a batch; the fields are those of :class:`Batch`."""

    image: Tensor
    targets: Targets
    image_id: int
    original_size: tuple[int, int]
    skipped: tuple[str, ...] = ()


class DetectionDataset(Dataset[Sample]):
    """Reads and transforms images of an index.

    Args:
        index: the images and their boxes.
        transform: what happens to an image and its boxes.
        seed: >= 0, the run's seed.
        skip_broken: take the next image of the index that can be read in place of one that cannot, and say so in
            :attr:`Sample.skipped`.
        mosaic: which images become mosaics, and how; None for none. A mosaic counts as its first image.
        read: gives image i of the index; where boxes alone matter, a blank of its size does.
        repeats: (I,) how often each image is drawn to be part of another one's mosaic, beside the others; None: all
            as often.
        value_range: how more than 8 bits become 8, see :mod:`gfocal.images.depth`.
    """

    def __init__(
        self,
        index: DataIndex,
        transform: Transform,
        *,
        seed: int,
        skip_broken: bool = False,
        mosaic: Mosaic | None = None,
        read: Callable[[DataIndex, int], Tensor] | None = None,
        repeats: np.ndarray | None = None,
        value_range: ValueRange = "type",
    ) -> None:
        self.index, self.transform, self.seed, self.skip_broken = index, transform, seed, skip_broken
        self.mosaic, self.read = mosaic, read or partial(read_indexed, value_range=value_range)
        self.ends = None if repeats is None or mosaic is None else np.cumsum(repeats)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: Key) -> Sample:
        """The sample of a key.

        Raises:
            BrokenInputError: its image cannot be read or has another size than the annotations say.
        """
        index, epoch, position, *side = key
        transform = self.transform.at(*side) if side else self.transform
        plan = self.mosaic.plan(self.seed, epoch, position, len(self), self.ends) if self.mosaic else None
        index, image, skipped = self._read_from(index)
        tiles = [(image, self.index.targets(index))]
        for partner in plan.partners if plan else ():
            partner, other, more = self._read_from(partner)
            tiles.append((other, self.index.targets(partner)))
            skipped += more
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would seed the accelerators as well, which the fork does not restore.
            torch.default_generator.manual_seed(mix(self.seed, epoch, position, AUGMENT))
            if self.mosaic and plan:
                changed, targets = transform.finish(*self.mosaic.paint(plan, tiles, transform.resize))
            else:
                changed, targets = transform(*tiles[0])
        size = int(image.shape[-2]), int(image.shape[-1])
        return Sample(changed, targets, int(self.index.image_ids[index]), size, skipped)

    def _read_from(self, index: int) -> tuple[int, Tensor, tuple[str, ...]]:
        skipped: dict[Path, str] = {}  # the next tile may be of the same file
        for step in range(len(self)):
            candidate = (index + step) % len(self)
            try:
                return candidate, self.read(self.index, candidate), tuple(skipped.values())
            except BrokenInputError as error:
                if not self.skip_broken:
                    raise
                skipped.setdefault(error.path, str(error))
        first = next(iter(skipped.values()))
        raise UsageError(f"none of the {len(self)} pictures in {self.index.images_dir} can be read; {first}")


def read_indexed(index: DataIndex, i: int, *, value_range: ValueRange = "type") -> Tensor:
    """Image ``i`` of an index, or tile, turned the way in which its annotations were made.

    ``value_range``: how more than 8 bits become 8, see :mod:`gfocal.images.depth`.

    Returns:
        (3, H, W) uint8 of the annotated size.

    Raises:
        BrokenInputError: it cannot be read, or has the annotated size neither with nor without its EXIF rotation.
    """
    path, wanted = index.path(i), (int(index.heights[i]), int(index.widths[i]))
    if (tiles := index.tiles) is not None:
        left, top = int(tiles.left[i]), int(tiles.top[i])
        whole = read_indexed(tiles.of, int(tiles.image[i]), value_range=value_range)
        return cut_out(whole, (left, top, left + wanted[1], top + wanted[0]))
    image = read_image(path, value_range=value_range)
    if tuple(image.shape[-2:]) == wanted:
        return image
    # Some tools annotate the pixels as they are stored and never look at the EXIF orientation.
    stored = read_image(path, apply_exif=False, value_range=value_range)
    if tuple(stored.shape[-2:]) == wanted:
        return stored
    height, width = image.shape[-2:]
    raise broken_image(
        path,
        f"is {width}x{height} pixels, but {index.annotations} says {wanted[1]}x{wanted[0]} "
        f"(image {index.image_ids[i]}): its boxes would be wrong",
        "correct width and height or the file",
    )


@dataclass(frozen=True)
class BatchLoader:
    """Iterates over the batches of one epoch, or of the rest of it.

    Workers hand a broken image over as a value; raised here, the error keeps its own one-line message instead of the
    traceback text that the DataLoader would wrap around it. Workers that hang are named, and given up in the end.
    """

    loader: DataLoader
    board: Board | None = None
    worker_timeout: float = WORKER_TIMEOUT

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        with warnings.catch_warnings():
            # Python 3.12 warns of any fork beside other threads; torch's are idle while the workers are made.
            warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
            if self.board is not None:
                self.board.close(False)
            batches = iter(self.loader)
        if self.board is not None:
            kill_at_exit(batches)
        try:
            while (batch := self._next(batches)) is not None:
                if isinstance(batch, UsageError):
                    # A new error: raising `batch` would tie it to this frame in a cycle, and workers that the cycle
                    # collector ends, rather than the next line, keep the process waiting for seconds.
                    if isinstance(batch, BrokenInputError):
                        message = f"{batch}; --skip-broken leaves it out"
                        raise BrokenInputError(message, batch.path, batch.reason)
                    raise type(batch)(str(batch))
                yield batch
        finally:
            if self.board is not None:
                self.board.close()
            del batches

    def _next(self, batches: Iterator[Batch | UsageError]) -> Batch | UsageError | None:
        """The next one, None at the end.

        Raises:
            HungWorker: no worker has done anything for ``worker_timeout`` seconds.
        """
        watch = None
        while True:
            try:
                return next(batches, None)
            except RuntimeError as error:
                if self.board is None or not is_timeout(error):
                    raise
            watch = watch or Watch(self.board, self.worker_timeout)
            try:
                watch.waited(self.loader.timeout)
            except HungWorker:
                end_workers(batches)
                raise


class _Caught(Dataset):
    """Samples, or the error of a broken one as a value."""

    def __init__(self, dataset: DetectionDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> Sample | UsageError:
        try:
            return self.dataset[key]
        except UsageError as error:
            return error


def collate(
    samples: list[Sample | UsageError], multiple: int = 32, fill: Sequence[int] = (0, 0, 0)
) -> Batch | UsageError:
    """Samples as a :class:`Batch`, padded with a colour; the first error among them, if there is one."""
    for sample in samples:
        if isinstance(sample, UsageError):
            return sample
    good = [sample for sample in samples if isinstance(sample, Sample)]
    sizes = torch.tensor([s.image.shape[-2:] for s in good])
    original = torch.tensor([s.original_size for s in good])
    return Batch(
        images=pad_batch([s.image for s in good], multiple, fill),
        targets=tuple(s.targets for s in good),
        image_ids=torch.tensor([s.image_id for s in good]),
        original_sizes=original,
        scales=(sizes / original).flip(1),
        sizes=sizes,
        skipped=tuple(line for s in good for line in s.skipped),
    )


def _start_worker(worker: int, board: Board) -> None:
    torch.set_num_threads(1)
    board.start(worker, os.getpid())
    own = get_worker_info()
    if own is not None and isinstance(own.dataset, _Caught):  # of this process alone
        own.dataset.dataset.read = board.watched(worker, own.dataset.dataset.read)

    def end(number: int, frame: object) -> None:
        if board.is_closed():
            os._exit(128 + number)

    # Ctrl-C and what schedulers send reach all processes of a job. The main process decides what to do; a worker that
    # dies of it would make the last checkpoint impossible. SIGTERM is also how torch ends a worker that is stuck.
    for number in ENDING:
        signal.signal(number, end if number == signal.SIGTERM else signal.SIG_IGN)


def _batches(dataset: DetectionDataset, workers: int, worker_timeout: float, **options: Any) -> BatchLoader:
    """A loader whose workers are watched."""
    board = None
    if workers:
        raise_file_limit()
        board = Board(dataset.index, workers)
    loader = DataLoader(
        _Caught(dataset),
        num_workers=workers,
        worker_init_fn=None if board is None else partial(_start_worker, board=board),
        timeout=0 if board is None else POLL,
        # The iterator draws a base seed: from its own generator it leaves the caller's random numbers alone.
        generator=torch.Generator().manual_seed(0),
        **options,
    )
    return BatchLoader(loader, board, worker_timeout)


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
    rank: int = 0,
    processes: int = 1,
    worker_timeout: float = WORKER_TIMEOUT,
) -> BatchLoader:
    """The batches of one epoch from batch ``start_batch`` on.

    Args:
        dataset: the images.
        batch_size: images per batch.
        epoch: >= 0; with the data set's seed it decides the order and all random numbers.
        start_batch: batches of the epoch that were done before.
        shuffle: False keeps the order of the index.
        workers: processes that read ahead; 0 reads in this one. The batches are the same.
        drop_last: leave out a last batch that is not full.
        multiple: images are padded to a multiple of this many pixels.
        rank, processes: this loader is one of several, of which each gives every n-th image.
        worker_timeout: seconds without any image read after which it ends, naming what hangs; 0 for never.
    """
    start = start_batch * batch_size * processes + rank
    sampler = PositionSampler(
        len(dataset), seed=dataset.seed, epoch=epoch, start=start, shuffle=shuffle, step=processes
    )
    return _batches(
        dataset,
        workers,
        worker_timeout,
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=partial(collate, multiple=multiple, fill=dataset.transform.resize.fill),
        drop_last=drop_last,
    )


def make_run_loader(
    dataset: DetectionDataset, batches: RunBatches, *, workers: int = 0, worker_timeout: float = WORKER_TIMEOUT
) -> BatchLoader:
    """The batches of a run; see :func:`make_loader` for what workers change (nothing but the speed)."""
    fill = dataset.transform.resize.fill
    return _batches(dataset, workers, worker_timeout, batch_sampler=batches, collate_fn=partial(collate, fill=fill))

"""How much memory a training takes, how much there is, and which batch size would fit."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gfocal.data.loading.workers import shared_memory_note
from gfocal.detector import DenseDetector
from gfocal.errors import GfocalError
from gfocal.recipe import DataRecipe, Recipe
from gfocal.runtime.batch_norm import batch_norm_untouched
from gfocal.structures import Targets
from gfocal.utils.allocation import give_back

KEEP = 0.85
"""Share of the memory that a training may take: allocators leave gaps, and other programs run."""
_OVERHEAD = 1.15  # of what a CPU holds at the peak to what autograd keeps for the backward pass
_WORKER = 150 * 2**20  # bytes that a loader process takes for itself


class OutOfMemory(GfocalError):
    """A step did not fit into memory; the message says which batch size would."""


@dataclass(frozen=True)
class Need:
    """Bytes that a training takes beside what the process has when it starts.

    Attributes:
        fixed: gradients, optimizer, averaged weights, loader processes.
        image: of each image of a batch, at the largest size that enters.
    """

    fixed: int
    image: int

    def of(self, batch: int) -> int:
        return self.fixed + batch * self.image

    def fits(self, available: int) -> int:
        """The largest batch, 0 where not even one image fits."""
        return max(int((KEEP * available - self.fixed) // max(self.image, 1)), 0)


def largest_size(data: DataRecipe) -> tuple[int, int]:
    """Height and width in pixels of the largest image that enters, padded."""
    resize = data.resize
    height, width = (resize.size, resize.size) if resize.kind == "square" else (resize.short_side, resize.long_side)
    if data.multi_scale:
        factor = max(data.sides) / (resize.size if resize.kind == "square" else resize.short_side)
        height, width = round(height * factor), round(width * factor)
    return -(-height // 32) * 32, -(-width // 32) * 32


def need_of(detector: DenseDetector, recipe: Recipe) -> Need:
    """What training this detector takes on its device; a forward and a backward pass of one or two images tell it."""
    size = largest_size(recipe.data)
    learnt = sum(p.nbytes for p in detector.parameters() if p.requires_grad)
    moments = 2 if recipe.optim.kind == "adamw" else 1
    state = sum(t.nbytes for t in detector.state_dict().values())
    # While it is measured, averaged weights stand in for the training weights, which are put aside.
    fixed = learnt * (1 + moments) + (2 * state if recipe.schedule.ema else 0)
    if detector.device.type == "cuda":
        one, two = (peak_of(detector, size, batch) for batch in (1, 2))
        return Need(fixed + max(2 * one - two, 0), max(two - one, 1))
    workers = recipe.data.workers
    raw = 3 * size[0] * size[1]
    return Need(fixed + workers * _WORKER, int(_OVERHEAD * saved_bytes(detector, size)) + (2 * workers + 1) * raw)


def synthetic_loss(detector: DenseDetector, size: tuple[int, int], batch: int) -> Tensor:
    """The loss of a batch of empty images with a few objects, in training mode."""
    height, width = size
    images = torch.zeros(batch, 3, height, width, dtype=torch.uint8, device=detector.device)
    boxes = torch.tensor([[x * width, 0.2 * height, (x + 0.3) * width, 0.6 * height] for x in (0.1, 0.3, 0.5)])
    targets = [Targets(boxes, torch.zeros(3, dtype=torch.int64))] * batch
    out = detector(images)
    assignment = detector.assign_batch(images, targets, out)
    return sum(detector.losses(out, assignment, size).values(), torch.zeros((), device=detector.device))


def saved_bytes(detector: DenseDetector, size: tuple[int, int]) -> int:
    """Bytes that autograd keeps of one image between forward and backward pass; the detector stays as it is."""
    own = {t.untyped_storage().data_ptr() for t in (*detector.parameters(), *detector.buffers())}
    seen: dict[int, int] = {}
    kept: list[Tensor] = []  # a storage that were freed could come again as another one

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor.detach())
        return tensor

    # Batch norm cannot learn from a single cell.
    images = 2 if max(size) <= max(detector.strides) else 1
    with untouched(detector), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        synthetic_loss(detector, size, images)
    return sum(seen.values()) // images


def peak_of(detector: DenseDetector, size: tuple[int, int], batch: int) -> int:
    """Bytes that a forward and a backward pass take on a CUDA device at their peak; gradients are dropped."""
    before = torch.cuda.memory_allocated(detector.device)
    torch.cuda.reset_peak_memory_stats(detector.device)
    with untouched(detector):
        learnt = [p for p in detector.parameters() if p.requires_grad]
        torch.autograd.grad(synthetic_loss(detector, size, batch), learnt, allow_unused=True)
    return torch.cuda.max_memory_allocated(detector.device) - before


@contextmanager
def untouched(detector: DenseDetector) -> Iterator[None]:
    """Training mode inside; mode, statistics and random numbers are as before afterwards."""
    training = detector.training
    try:
        with torch.random.fork_rng(), batch_norm_untouched(detector.train()):
            yield
    finally:
        detector.train(training)


def available_memory(device: torch.device, files: Path = Path("/")) -> int | None:
    """Bytes that are free for this process: on a CUDA device, or of the machine and its container; None if unknown.

    Args:
        device: where the detector is.
        files: root of the file system that tells it.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch holds, but does not use, is free for it.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    give_back()  # what this process only keeps is free too
    known = [number for read in (_machine, _container) if (number := read(files)) is not None]
    return min(known, default=None)


def _machine(files: Path) -> int | None:
    with suppress(OSError, ValueError):
        for line in (files / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _container(files: Path) -> int | None:
    """Room below the limit of this process's control group (version 2, then 1)."""
    groups = files / "sys/fs/cgroup"
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):
            room = int((groups / limit).read_text()) - int((groups / used).read_text())
            return max(room + _idle_pages((groups / limit).with_name("memory.stat")), 0)
    return None


def _idle_pages(stat: Path) -> int:
    """Bytes of files' pages that a control group gives up when memory is short."""
    with suppress(OSError, ValueError):
        for line in stat.read_text().splitlines():
            if line.startswith(("inactive_file ", "total_inactive_file ")):
                return int(line.split()[1])
    return 0


def smaller(batch: int, accumulate: int, fits: int) -> tuple[int, int] | None:
    """Batch size and accumulation with as many images per step and batches that fit; None where no batch does."""
    divisors = [size for size in range(1, min(batch, fits) + 1) if batch % size == 0]
    return (divisors[-1], accumulate * batch // divisors[-1]) if divisors else None


def advice(recipe: Recipe, fits: int) -> str:
    """What to set so that a batch fits and a step learns from as many images as before."""
    batch, accumulate = recipe.schedule.batch_size, recipe.schedule.accumulate
    found = smaller(batch, accumulate, fits)
    if found is None:
        return "not even one picture fits: choose smaller ones (data.resize) or a smaller detector"
    size, passes = found
    keep = f" --set schedule.accumulate={passes}" if passes != accumulate else ""
    return f"--set schedule.batch_size={size}{keep}" + (" learns from as many pictures per step" if keep else "")


def memory_notes(detector: DenseDetector, recipe: Recipe) -> list[str]:
    """Lines about a training that will not fit into memory, before it starts."""
    height, width = largest_size(recipe.data)
    batch, workers = recipe.schedule.batch_size, recipe.data.workers
    lines = [shared_memory_note(3 * height * width * batch, workers)]
    if detector.device.type == "cpu" and (available := available_memory(detector.device)) is not None:
        need = need_of(detector, recipe)
        if need.of(batch) > KEEP * available:
            lines.append(
                f"warning: training takes about {need.of(batch) / 2**30:.1f} GB (batches of {batch}, "
                f"{need.image / 2**20:,.0f} MB per picture of {width} x {height}), and {available / 2**30:.1f} GB are "
                f"free: {advice(recipe, need.fits(available))}"
            )
    return [line for line in lines if line is not None]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python could not get memory."""
    words = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")
    by_name = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or by_name


def out_of_memory(
    error: BaseException,
    recipe: Recipe,
    detector: DenseDetector,
    saved: Path | None = None,
) -> OutOfMemory | None:
    """What to say where ``error`` is a lack of memory; None where it is something else.

    Args:
        error: of a training step.
        recipe: of the run.
        detector: on its device.
        saved: the state of the run, if it has one.
    """
    if not is_out_of_memory(error):
        return None
    traceback.clear_frames(error.__traceback__)  # they hold the tensors of the step
    gc.collect()
    for parameter in detector.parameters():
        parameter.grad = None
    if detector.device.type == "cuda":
        torch.cuda.empty_cache()
    batch = recipe.schedule.batch_size
    what = "the GPU" if detector.device.type == "cuda" else "this machine"
    try:
        free = available_memory(detector.device)
        fits = None if free is None else min(need_of(detector, recipe).fits(free), batch - 1)
    except (RuntimeError, MemoryError):
        fits = 0
    do = "use smaller batches (schedule.batch_size)" if fits is None else advice(recipe, fits)
    kept = ""
    if saved is not None and saved.is_file():
        kept = f"; {saved} is intact, but a run keeps its batch size: start a new one with --init {saved.parent}"
    return OutOfMemory(f"{what} does not have enough memory for batches of {batch} pictures: {do}{kept}")

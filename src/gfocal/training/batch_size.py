"""The largest batch that fits: found by taking real steps, on a copy of the detector."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch

from gfocal.data.index.data_index import DataIndex
from gfocal.data.pipeline import images_per_epoch, in_tiles
from gfocal.detector import DenseDetector
from gfocal.errors import GfocalError, UsageError
from gfocal.recipe import Recipe, load_recipe
from gfocal.runtime.distributed import launched
from gfocal.runtime.layout import in_layout
from gfocal.runtime.memory import (
    KEEP,
    available_memory,
    is_out_of_memory,
    largest_size,
    need_of,
    synthetic_loss,
    untouched,
)
from gfocal.runtime.precision import autocast, real_precision
from gfocal.training.optimizer import AveragedWeights, make_optimizer
from gfocal.utils.locks import locked_folder
from gfocal.zoo import add_assistant, build_detector

MOST = 1024

Probe = Callable[[int], int]
"""Takes a step with a batch of this many images and gives the bytes at its peak; raises what torch raises."""


def largest_batch(probe: Probe, limit: int, most: int = MOST) -> int:
    """The largest batch whose step takes no more than ``limit`` bytes; 0 where not even one image does.

    Sizes are doubled until the next one would not fit by the line through the last two peaks. The size that this line
    gives for ``limit`` is tried as well, and lowered by a fifth until it fits.

    Args:
        probe: takes a step.
        limit: bytes.
        most: never more images than this.
    """
    peaks: dict[int, int] = {}

    def fits(size: int) -> bool:
        try:
            peaks[size] = probe(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return False
        return peaks[size] <= limit

    size, good = 1, 0
    while size <= most and fits(size):
        good, size = size, 2 * size
        if good > 1 and _line(peaks, limit) < size:
            break
    if good < 2:
        return good
    wanted = min(_line(peaks, limit), most)
    while wanted > good and not fits(_even(wanted)):
        wanted = int(0.8 * wanted)
    return max(good, _even(wanted))


def _line(peaks: dict[int, int], limit: int) -> int:
    """The size at which the line through the two largest sizes that fit reaches ``limit``."""
    small, large = sorted(size for size, peak in peaks.items() if peak <= limit)[-2:]
    each = max((peaks[large] - peaks[small]) / (large - small), 1)
    return int(large + (limit - peaks[large]) / each)


def _even(size: int) -> int:
    """Rounded down to a multiple of 8, of small ones to one of 2: kernels like them better."""
    step = 8 if size >= 16 else 2 if size > 2 else 1
    return size // step * step


def find_batch_size(recipe: Recipe, index: DataIndex, device: torch.device | None = None) -> int:
    """The batch size that training with this recipe should have on this machine.

    On a CUDA device: the largest that keeps :data:`gfocal.runtime.memory.KEEP` of the free memory, by real steps. On a
    CPU larger batches are no faster: the recipe's own, or the largest part of it that the estimate of memory allows.
    Neither weights nor random numbers of the caller change.

    Args:
        recipe: whose ``schedule.batch_size`` is looked for.
        index: what it will learn from, cut into tiles here where the recipe has ``data.tile``; a batch is never larger.
        device: by default the one that training takes.

    Raises:
        GfocalError: not even one image fits.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng():
        detector = build_detector(recipe, index.names, pretrained=False)
        add_assistant(detector, recipe)
        detector = in_layout(detector, recipe.runtime.channels_last).to(device)
        most = min(images_per_epoch(recipe, in_tiles(recipe, index)), MOST)
        free = available_memory(device)
        if device.type == "cuda":
            found = largest_batch(lambda size: step_peak(detector, recipe, size), int(KEEP * (free or 0)), most)
        elif free is None:
            found = recipe.schedule.batch_size
        else:
            fits = min(need_of(detector, recipe).fits(free), recipe.schedule.batch_size)
            found = min(_even(fits), most)
    if found < 1:
        raise GfocalError(
            "not even one picture fits into memory: choose smaller ones (data.resize) or a smaller detector"
        )
    return found


def step_peak(detector: DenseDetector, recipe: Recipe, batch: int) -> int:
    """Bytes at the peak of a step of a copy of the detector on its CUDA device, optimizer and averages included."""
    device = detector.device
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    other = copy.deepcopy(detector)
    with untouched(other):
        average = AveragedWeights(other, recipe.schedule.ema) if recipe.schedule.ema else None
        optimizer = make_optimizer(other, recipe.optim)
        for _ in range(2):  # the first step makes the optimizer's state, the second has it
            with autocast(device, real_precision(recipe.runtime.precision)):
                loss = synthetic_loss(other, largest_size(recipe.data), batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    del average, optimizer, loss, other
    return torch.cuda.max_memory_allocated(device) - before


def batch_number(batch: str) -> int:
    """What ``--batch`` says where it is not "auto".

    Raises:
        UsageError: it is no number of images.
    """
    if not batch.isdecimal() or int(batch) < 1:
        raise UsageError(f"--batch takes a number of pictures or auto, not {batch!r}")
    return int(batch)


def with_batch(
    recipe: Recipe, batch: str | None, index: DataIndex, out: Path, *, resume: bool, write: bool = True
) -> Recipe:
    """The recipe with the batch size that ``--batch`` asks for: a number, or "auto" for one that fits.

    A run that is resumed has found its size before: it is in the run folder. Without ``write`` that is not held, and
    not made, while the size is looked for.

    Raises:
        UsageError: neither, or "auto" in several processes.
    """
    if batch is None:
        return recipe
    kept = out / "recipe.yaml"
    if batch != "auto":
        size = batch_number(batch)
    elif resume and kept.is_file():
        size = load_recipe(kept).schedule.batch_size
    elif launched():
        raise UsageError("--batch auto works in a single process: find the size there, then give the number to all")
    else:
        with locked_folder(out) if write else nullcontext():  # where another command trains, nothing is measured
            size = find_batch_size(recipe, index)
    return recipe.model_copy(update={"schedule": recipe.schedule.model_copy(update={"batch_size": size})})

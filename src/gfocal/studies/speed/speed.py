"""How fast detectors are beside each other: the network alone, and with the post-processing; FLOPs beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from gfocal.errors import UsageError
from gfocal.evaluation.speed import measure_interleaved, paired_ratio, summary
from gfocal.images.io import pad_batch
from gfocal.recipe import Recipe, load_recipe
from gfocal.runtime.flops import NetworkCost, network_cost
from gfocal.studies.speed.equal_work import build_alike, candidates_of, example_image
from gfocal.studies.speed.records import RowSpeed, SpeedResult
from gfocal.utils.text import counted

IMAGE = (800, 1333)
"""(height, width) of the published recipes' images."""
REPEATS = 15
"""Rounds by default."""
_WARMUP = 2

Progress = Callable[[int, int], None]


def speed_of(
    recipes: Sequence[str],
    *,
    image: tuple[int, int] | None = None,
    overrides: Sequence[str] = (),
    num_classes: int = 80,
    repeats: int = REPEATS,
    threads: int | None = None,
    progress: Progress | None = None,
) -> SpeedResult:
    """How fast the detectors of some recipes are beside each other.

    Args:
        recipes: names or YAML files, each once; ratios are to the first.
        image: (height, width); by default the size that the first recipe resizes to.
        overrides: recipe keys, for all of them.
        num_classes, repeats, threads, progress: see :func:`measure_rows`.

    Returns:
        The rows' keys are the recipes.

    Raises:
        UsageError: no recipe, one twice, or an unknown one; or as :func:`measure_rows`.
    """
    if not recipes or len(set(recipes)) < len(recipes):
        raise UsageError(f"give one or several recipes, each once; got {', '.join(recipes) or 'none'}")
    loaded = {name: load_recipe(name, overrides) for name in recipes}
    resize = next(iter(loaded.values())).data.resize
    own = (resize.size, resize.size) if resize.kind == "square" else (resize.short_side, resize.long_side)
    return measure_rows(
        loaded, image or own, num_classes=num_classes, repeats=repeats, threads=threads, progress=progress
    )


def measure_rows(
    recipes: Mapping[str, Recipe],
    image: tuple[int, int] = IMAGE,
    *,
    num_classes: int = 80,
    repeats: int = REPEATS,
    threads: int | None = None,
    progress: Progress | None = None,
) -> SpeedResult:
    """Time, FLOPs and parameters of detectors with random weights, one image at a time.

    All of them take turns in this process, on the same image, in float32 and evaluation mode, in the memory layout
    that their recipe asks for; :mod:`gfocal.studies.speed.equal_work` gives each the same work after the network.

    Args:
        recipes: at least one; ratios are to the first.
        image: (height, width) in pixels; it is padded to multiples of 32.
        num_classes: C >= 1.
        repeats: rounds, >= 1; two more before them do not count.
        threads: of torch, >= 1; by default as many as it has.
        progress: called with (rounds done, rounds in all).

    Raises:
        UsageError: a number is out of range, no recipe is given, or an image of this size does not fit a detector.
    """
    height, width = image
    counts = {"repeats": repeats, "number of classes": num_classes, "threads": 1 if threads is None else threads}
    for name, value in counts.items():
        if value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")
    if min(image) < 32:
        raise UsageError(f"pictures must be at least 32 pixels high and wide, got {height}x{width}")
    if not recipes:
        raise UsageError("no recipe is given: there is nothing to measure")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with threads_of_torch(threads), torch.no_grad():
        shown = pad_batch([example_image(height, width)]).to(device)
        sizes = torch.tensor([[height, width]])
        detectors = build_alike(recipes, num_classes, shown)
        costs = {key: network_cost(one, shown) for key, one in detectors.items()}
        functions: dict[str, Callable[[], object]] = {}
        for key, one in detectors.items():
            functions[f"network {key}"] = partial(one.raw, shown)
            functions[f"whole {key}"] = partial(one.detect, shown, sizes)
        times = measure_interleaved(functions, warmup=_WARMUP, repeats=repeats, progress=progress)
        used = torch.get_num_threads()
    return SpeedResult(
        image=(height, width),
        threads=used,
        device=device.type,
        repeats=repeats,
        candidates=candidates_of(next(iter(detectors.values())), shown),
        rows=tuple(_row(key, costs, times) for key in detectors),
    )


def _row(key: str, costs: Mapping[str, NetworkCost], times: Mapping[str, Sequence[float]]) -> RowSpeed:
    first = next(iter(costs))
    network, whole = times[f"network {key}"], times[f"whole {key}"]
    whole_times = summary(whole)
    return RowSpeed(
        key=key,
        flops=costs[key].flops,
        parameters=costs[key].parameters,
        network=summary(network),
        whole=whole_times,
        ratio_network=paired_ratio(network, times[f"network {first}"]),
        ratio_whole=paired_ratio(whole, times[f"whole {first}"]),
        ratio_flops=costs[key].flops / costs[first].flops,
        fps=1000 / whole_times.median_ms,
    )


@contextmanager
def threads_of_torch(count: int | None) -> Iterator[None]:
    """So many threads inside; None: as many as before."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


def describe_speed(found: SpeedResult) -> list[str]:
    """What :func:`measure_rows` gave as a table for a terminal, one string a line."""
    height, width = found.image
    on = f"{found.device}, {counted(found.threads, 'thread')}" if found.device == "cpu" else found.device
    lines = [
        f"one picture of {height} x {width} pixels, {on}, {found.repeats} rounds in turns; "
        f"about {found.candidates:,} candidates pass the threshold of each",
        "",
    ]
    head = ("", "GFLOPs", "parameters", "network ms", "whole ms", "10 % - 90 %", "pictures/s")
    cells = [head, *(_cells(row) for row in found.rows)]
    lines += _aligned(cells)
    first, *others = found.rows
    if others:
        lines += ["", f"times {first.key} (ratios within each round: median, 95 % interval)"]
        lines += _aligned([("", "FLOPs", "network", "whole"), *(_ratio_cells(row) for row in others)])
    return lines


def _cells(row: RowSpeed) -> tuple[str, ...]:
    return (
        row.key,
        f"{row.flops / 1e9:.2f}",
        f"{row.parameters:,}",
        f"{row.network.median_ms:.1f}",
        f"{row.whole.median_ms:.1f}",
        f"{row.whole.p10_ms:.1f} - {row.whole.p90_ms:.1f}",
        f"{row.fps:.2f}",
    )


def _ratio_cells(row: RowSpeed) -> tuple[str, ...]:
    ratios = (f"{own.median:.3f} ({own.low:.3f} to {own.high:.3f})" for own in (row.ratio_network, row.ratio_whole))
    return row.key, f"{row.ratio_flops:.4f}", *ratios


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]

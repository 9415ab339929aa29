"""Which memory layout trains faster on this processor: a few interleaved steps tell.

Channels last wins on most processors and for most networks, but not on all: with AVX2 alone it costs a ResNet time and
saves a ShuffleNet some. The layout changes the last bits of what is learnt, so a run keeps the one it began with.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from gfocal.detector import DenseDetector
from gfocal.recipe import Recipe
from gfocal.runtime.layout import in_layout
from gfocal.runtime.memory import largest_size, synthetic_loss, untouched
from gfocal.runtime.precision import autocast, has_fast_bf16, real_precision

LEAST_PIXELS = 300_000_000
"""A run that learns from fewer than these, counted as often as it sees them, is over before measuring pays: it takes
channels last. ``gfl_nano`` takes a minute or two for them on two cores. What is timed is a hundredth of them."""
CLEAR = 0.97
"""A layout wins by taking less than this share of the other's time. Between, it is a tie."""
BF16_PAYS = 0.9
_PAIRS = 7
_LEAST_PAIRS = 4
_SECONDS = 4.0  # after which no further pair begins
_IMAGES = 2  # batch norm takes no fewer
_PIXELS = _IMAGES * 320 * 320  # of a timed step at most; of fewer the layouts would not differ as in a real step


@dataclass(frozen=True)
class LayoutTimes:
    """Seconds of interleaved training steps of the same images.

    Attributes:
        plain: with one channel after another, a step of each round.
        last: with channels last.
        half: with channels last in bf16, of the first rounds; () where that was not tried.
        images: of a step.
        size: their height and width in pixels.
    """

    plain: tuple[float, ...]
    last: tuple[float, ...]
    half: tuple[float, ...]
    images: int
    size: tuple[int, int]

    @property
    def channels_last(self) -> bool:
        """The choice. A tie, or rounds that do not agree, go to channels last: what is taken where nobody measures."""
        shares = _shares(self.plain, self.last)
        agree = sum(share < 1 for share in shares) >= len(shares) - len(shares) // _PAIRS
        return not (agree and median(shares) < CLEAR)

    @property
    def half_share(self) -> float | None:
        """Time in bf16 as a share of that in float32, both with channels last."""
        return median(_shares(self.half, self.last[: len(self.half)])) if self.half else None

    def describe(self) -> list[str]:
        """What was chosen and why; and what bf16 would bring, which is nobody's choice but the person's."""
        chosen = f"runtime.channels_last={str(self.channels_last).lower()}"
        height, width = self.size
        lines = [
            f"memory layout: {chosen} ({self.images} pictures of {width} x {height}: {_ms(self.last)} a step with "
            f"channels last, {_ms(self.plain)} without; medians of {len(self.last)}). --set {chosen} repeats it exactly"
        ]
        if self.half_share is not None and self.half_share < BF16_PAYS:
            lines.append(
                f"bf16 would take {100 * self.half_share:.0f} % of the time on this processor, with other rounding: "
                "--set runtime.precision=bf16"
            )
        return lines


def is_long(recipe: Recipe, images: int) -> bool:
    """Whether measuring pays for a run that sees so many images, counted each time."""
    height, width = largest_size(recipe.data)
    return images * height * width >= LEAST_PIXELS


def time_layouts(
    detector: DenseDetector,
    recipe: Recipe,
    most: float = math.inf,
    clock: Callable[[], float] = time.process_time,
) -> LayoutTimes | None:
    """Time training steps of copies of a detector on the CPU, in turns; neither it nor any random number changes.

    Args:
        detector: that will be trained.
        recipe: of the run.
        most: seconds that it may take.
        clock: seconds. By default those that this process computed: what else runs on the machine counts less.

    Returns:
        The times; None where ``most`` is too little.
    """
    size = _timed_size(recipe)
    precision = real_precision(recipe.runtime.precision)
    ways = [(True, precision), (False, precision)]
    if recipe.runtime.precision == "auto" and has_fast_bf16():
        ways.append((True, "bf16"))
    copies = {way: in_layout(copy.deepcopy(detector), way) for way in (False, True)}

    def step(way: tuple[bool, str]) -> float:
        begin = clock()
        with autocast(detector.device, way[1]):
            loss = synthetic_loss(copies[way[0]], size, _IMAGES)
        torch.autograd.grad(loss, [p for p in copies[way[0]].parameters() if p.requires_grad], allow_unused=True)
        return clock() - begin

    taken: dict[tuple[bool, str], list[float]] = {way: [] for way in ways}
    with untouched(copies[False]), untouched(copies[True]):
        for way in ways:
            # The first one chooses kernels and gets memory.
            if step(way) * len(ways) * (1 + _LEAST_PAIRS) > most:
                return None
        begin = time.perf_counter()
        for pair in range(_PAIRS):
            if pair >= _LEAST_PAIRS and time.perf_counter() - begin > _SECONDS:
                break
            now = ways if pair < _LEAST_PAIRS else ways[:2]
            for way in now if pair % 2 else reversed(now):
                taken[way].append(step(way))
    last, plain, *half = (tuple(taken[way]) for way in ways)
    return LayoutTimes(plain, last, half[0] if half else (), _IMAGES, size)


def _timed_size(recipe: Recipe) -> tuple[int, int]:
    """Height and width of the images of a timed step: those of the run, smaller in proportion where they are many."""
    height, width = largest_size(recipe.data)
    shrink = min(1.0, (_PIXELS / _IMAGES / (height * width)) ** 0.5)
    square = recipe.data.resize.kind == "square"
    if square and recipe.model.points.kind == "ssd":
        return height, width  # its levels are made for one size
    return max(32, int(height * shrink) // 32 * 32), max(32, int(width * shrink) // 32 * 32)


def _shares(of: Sequence[float], whole: Sequence[float]) -> list[float]:
    return [one / max(other, 1e-9) for one, other in zip(of, whole, strict=True)]


def _ms(seconds: Sequence[float]) -> str:
    return f"{1000 * median(seconds):.0f} ms"

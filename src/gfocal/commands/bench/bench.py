"""Measuring models in turns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gfocal.commands.bench.inputs import input_size, open_index, timed_images
from gfocal.commands.bench.records import (
    Accuracy,
    BenchReport,
    BenchRow,
    Call,
    Cost,
    How,
    Job,
    Latency,
    Memory,
    Opened,
)
from gfocal.commands.bench.worker import Worker
from gfocal.data.formats.common import Split
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import GfocalError, UsageError, require_number
from gfocal.evaluation.measured import check_names
from gfocal.evaluation.speed import paired_ratio, turns
from gfocal.exported.open import is_exported
from gfocal.runs.datasets import spread
from gfocal.utils.processor import MOST_THREADS, processor_name, usual_threads
from gfocal.utils.progress import ProgressBar, notice
from gfocal.utils.signals import exit_code
from gfocal.utils.text import Say, counted, distinct, join_some

SECONDS = 5.0
"""Of measuring, for each model, unless the rounds are given."""
WARMUP = 3
"""Rounds that do not count."""
LEAST, MOST = 5, 10_000
"""Rounds, where the seconds decide."""


@dataclass
class _Measured:
    """A model while it is measured; ``no_ap`` says why its AP cannot be."""

    label: str
    worker: Worker
    opened: Opened
    calls: list[Call] = field(default_factory=list)
    memory: Memory | None = None
    cost: Cost | None = None
    accuracy: Accuracy | None = None
    no_ap: str = ""


@dataclass
class _Names:
    """Of a model's classes."""

    names: Sequence[str]


def bench_models(
    models: Sequence[str],
    *,
    data: Path | None = None,
    split: Split = "val",
    samples: int | None = None,
    batch: int = 1,
    size: str | None = None,
    repeats: int | None = None,
    seconds: float | None = None,
    threads: int | None = None,
    device: str | None = None,
    provider: str | None = None,
    overrides: Sequence[str] = (),
    skip_broken: bool = False,
    say: Say | None = None,
) -> BenchReport:
    """Time, size, memory and accuracy of models, each in a process of its own; they take turns.

    Args:
        models: what ``predict`` takes, or recipes, which get random weights; ratios are to the first.
        data: a data set: its images are timed, and AP is measured on it. None: generated images.
        split, samples: of the data; at most so many images for AP.
        batch: images at a time.
        size: "320", or "480x640" (shorter and longer side that images fit into), in place of each model's own.
        repeats: rounds.
        seconds: of measuring, for each model, in place of ``repeats``.
        threads: of each model; by default ``OMP_NUM_THREADS``, or one a processor.
        device: of torch's models, "cpu" or "cuda".
        provider: of exported files, see :data:`gfocal.exported.onnx_session.PROVIDERS`.
        overrides: recipe keys, for torch's models.
        skip_broken: leave out what is broken of the data, and say what.
        say: gets lines about the models and data.

    Returns:
        What was measured; after Ctrl-C what was measured by then.

    Raises:
        UsageError: a model, an option or the data are wrong.
        GfocalError: a model failed, or its process ended.
    """
    say = _once(say or notice)
    if not models:
        raise UsageError("give one MODEL or several")
    if repeats is not None and seconds is not None:
        raise UsageError("give --repeats or --seconds, not both")
    for name, value in {"batch": batch, "repeats": repeats, "threads": threads, "samples": samples}.items():
        if value is not None:
            most = MOST_THREADS if name == "threads" else None
            require_number(name, value, least=1, most=most, whole=True)
    if seconds is not None:
        require_number("seconds", seconds, least=0, below=86_400)
    _check_options([is_exported(model) for model in models], device=device, provider=provider, overrides=overrides)
    resize, generated = input_size(size)
    paths, untrained = _resolved(models, say)
    index = open_index(paths[0], data, split, skip_broken=skip_broken)
    how = How(
        overrides=tuple(overrides),
        device=device,
        provider=provider,
        threads=threads or usual_threads(),
        batch=batch,
        resize=resize,
        images=timed_images(index),
        generated=generated,
        data=data,
        split=split,
        samples=samples,
        skip_broken=skip_broken,
    )
    jobs = [Job(path, random, how) for path, random in zip(paths, untrained, strict=True)]
    index = None if index is None else spread(index, samples)
    measured, ended = _in_processes(distinct(models), jobs, index, repeats, seconds, say)
    rounds = min(len(one.calls) for one in measured)
    return BenchReport(
        rows=tuple(_row(one, measured[0], batch, rounds) for one in measured),
        processor=processor_name(),
        threads=how.threads,
        batch=batch,
        rounds=rounds,
        shown=_shown(how),
        notes=tuple(_notes(measured, untrained, how, rounds)),
        signal=ended,
    )


def _in_processes(
    labels: Sequence[str],
    jobs: Sequence[Job],
    index: DataIndex | None,
    repeats: int | None,
    seconds: float | None,
    say: Say,
) -> tuple[list[_Measured], int | None]:
    """Measure each model in its process; and the signal that ended this early."""
    measured: list[_Measured] = []
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(label, job, say)) for label, job in zip(labels, jobs, strict=True)]
        try:
            measured += [_Measured(worker.label, worker, worker.opened()) for worker in workers]
            _check_classes(measured, index, say)
            _measure(measured, repeats, seconds)
            _finish(measured, index is not None)
        except KeyboardInterrupt as error:
            if not measured or not measured[-1].calls:
                raise
            for one in measured:  # what takes no time
                one.memory = one.memory or one.worker.ask("memory")
            return measured, exit_code(error) - 128
    return measured, None


def _once(say: Say) -> Say:
    """What several models have to say about the same data is said once."""
    said = set[str]()

    def tell(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    return tell


def _check_options(
    exported: Sequence[bool], *, device: str | None, provider: str | None, overrides: Sequence[str]
) -> None:
    """Refuse options that none of the models takes."""
    if all(exported) and (device is not None or overrides):
        raise UsageError("--device and --set are for models of torch; an exported file is fixed, and takes --provider")
    if not any(exported) and provider is not None:
        raise UsageError("--provider is for exported files, and none is given; models of torch take --device")
    if device not in (None, "cpu", "cuda"):
        raise UsageError(f"--device is cpu or cuda, not {device!r}")


def _resolved(models: Sequence[str], say: Say) -> tuple[list[str], list[bool]]:
    """The paths that the models stand for, fetched where they must be; and which of them are recipes."""
    paths, untrained = list[str](), list[bool]()
    for model in models:
        recipe = False
        if not is_exported(model):
            from gfocal.catalogue.resolve import is_recipe, model_path

            recipe = is_recipe(model)
            model = model if recipe else str(model_path(model, say=say))
        paths.append(model)
        untrained.append(recipe)
    return paths, untrained


def _check_classes(measured: Sequence[_Measured], index: DataIndex | None, say: Say) -> None:
    """Say before the long work whose classes are not those of the data; its time is measured all the same.

    Here and not in the model's process, where the index would count as memory of the model.
    """
    for one in measured if index is not None else ():
        assert index is not None
        try:
            check_names(_Names(one.worker.ask("names")), index)
        except UsageError as error:
            one.no_ap = str(error)
            say(f"note: AP of {one.label} is not measured: {error}")


def _measure(measured: Sequence[_Measured], repeats: int | None, seconds: float | None) -> None:
    """Rounds in which each model runs one batch, the same images for all."""
    most = repeats or MOST
    allowed = len(measured) * (SECONDS if seconds is None else seconds)
    order = turns(range(len(measured)))
    began = time.monotonic()
    with ProgressBar(WARMUP + most, "measuring") as bar:
        for number in range(WARMUP + most):
            if number == WARMUP:
                began = time.monotonic()
            done = number - WARMUP
            spent = time.monotonic() - began
            if repeats is None and done >= LEAST and spent >= allowed:
                break
            calls = {i: measured[i].worker.ask("call", number) for i in next(order)}
            if done >= 0:  # whole rounds alone
                for i, call in calls.items():
                    measured[i].calls.append(call)
            likely = most if repeats else _likely(done + 1, time.monotonic() - began, allowed)
            bar.callback(number + 1, WARMUP + max(likely, done + 1))


def _likely(done: int, spent: float, allowed: float) -> int:
    """Rounds that there will be."""
    return LEAST if done < 1 else min(MOST, max(LEAST, round(done * allowed / max(spent, 1e-9))))


def _finish(measured: Sequence[_Measured], labelled: bool) -> None:
    """What is asked once. Memory first: the rest takes some of its own."""
    for one in measured:
        one.memory = one.worker.ask("memory")
    for one in measured:
        one.cost = one.worker.ask("cost", _size(one))
    for one in measured if labelled else ():
        if one.no_ap:
            continue
        try:
            with ProgressBar(1, f"AP of {one.label}") as bar:
                one.accuracy = one.worker.ask("accuracy", progress=bar.callback)
        except GfocalError as error:  # what was timed is not lost with it
            one.no_ap = str(error)


def _size(one: _Measured) -> tuple[int, int]:
    return max((call.size for call in one.calls), key=lambda size: size[0] * size[1])


def _row(one: _Measured, first: _Measured, batch: int, rounds: int) -> BenchRow:
    spent, baseline = ([call.ms for call in each.calls[:rounds]] for each in (one, first))
    latency = latency_of(spent, batch)
    return BenchRow(
        model=one.label,
        opened=one.opened,
        latency=latency,
        network=latency_of([call.network_ms for call in one.calls[:rounds]], batch),
        images_per_second=1000 / latency.p50_ms,
        ratio=paired_ratio(spent, baseline),
        size=_size(one),
        detections=float(np.mean([call.detections for call in one.calls[:rounds]])) / batch,
        memory=one.memory,
        cost=one.cost,
        accuracy=one.accuracy,
    )


def latency_of(milliseconds: Sequence[float], batch: int) -> Latency:
    """Percentiles for an image, of at least one batch's time."""
    return Latency(*(np.percentile(milliseconds, (50, 90, 99)) / batch).tolist())


def _shown(how: How) -> str:
    if how.data is None:
        return f"generated images of {how.generated[0]}x{how.generated[1]} pixels"
    return f"{counted(len(how.images), 'image')} of {how.data}"


def _notes(measured: Sequence[_Measured], untrained: Sequence[bool], how: How, rounds: int) -> list[str]:
    """What should be known about the numbers."""
    labels = [one.label for one in measured]
    notes = []
    if any(untrained):
        which = join_some([label for label, random in zip(labels, untrained, strict=True) if random])
        ap = "; its AP says nothing" if how.data is not None else ""
        notes.append(f"random weights: {which}; it finds other numbers of boxes than a trained one does{ap}")
    if rounds < 100:
        notes.append(f"{counted(rounds, 'round')}: p99 is next to the longest; --repeats 300 tells more")
    for one in measured:
        if one.no_ap:
            notes.append(f"AP of {one.label} is not measured: {one.no_ap}")
        if one.opened.fixed_batch not in (None, how.batch):
            notes.append(f"{one.label} takes {one.opened.fixed_batch} images a run, whatever --batch says")
        if one.opened.tiles:
            notes.append(f"{one.label} cuts large images into tiles, and was timed so")
    return notes

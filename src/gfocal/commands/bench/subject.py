"""A model that is measured, in the process that holds nothing else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gfocal.commands.bench.records import Accuracy, Call, Cost, How, Job, Memory, Opened
from gfocal.data.scenes.drawing import example_scene
from gfocal.detections import Detections
from gfocal.errors import BrokenInputError, UsageError
from gfocal.evaluation.evaluator import evaluate
from gfocal.evaluation.speed import wait_for_device
from gfocal.exported.contract import MULTIPLE, ExportInfo
from gfocal.exported.detector import ExportedDetector, Session
from gfocal.exported.open import SessionOptions, files_of, is_exported
from gfocal.images.depth import ValueRange
from gfocal.images.reading import read_array
from gfocal.images.resizing import padded_size
from gfocal.prediction.open import OpenedModel, open_any, open_untrained
from gfocal.runs.datasets import open_measured, spread
from gfocal.utils.text import Say, say_lines

_RUNTIMES = {".onnx": "onnx", ".pt2": "pt2", ".xml": "openvino"}
GENERATED = 4
"""Generated images that the calls go round."""


class Stopwatch:
    """How long something took that is entered and left, in all; and the largest (height, width) that it was given."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.seconds, self.size = 0.0, (0, 0)

    def start(self, size: tuple[int, int]) -> None:
        self.size = max(self.size, size, key=lambda sides: sides[0] * sides[1])
        wait_for_device()
        self._since = time.perf_counter()

    def stop(self) -> None:
        wait_for_device()
        self.seconds += time.perf_counter() - self._since


class TimedSession:
    """A session whose runs are timed."""

    def __init__(self, session: Session, watch: Stopwatch) -> None:
        self.info: ExportInfo = session.info
        self._session, self._watch = session, watch

    def run(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """See :class:`gfocal.exported.detector.Session`."""
        self._watch.start((images.shape[1], images.shape[2]))
        outputs = self._session.run(images, sizes)
        self._watch.stop()
        return outputs


class Subject:
    """An opened model and the images that it is shown.

    Args:
        job: what is measured, and how.

    Raises:
        UsageError: the model cannot be opened, or an option does not go with it.
        BrokenInputError: an image cannot be read.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.watch = job, Stopwatch()
        self.model = _open(job)
        detector = self.model.detector
        if job.how.resize is not None:
            _check_fixed(detector, job)
            detector.resize = replace(job.how.resize, fill=detector.resize.fill)
        if job.how.images:
            self.images = _readable(job.how, detector.value_range)
        else:
            self.images = [example_scene(*job.how.generated, seed=1 + i) for i in range(GENERATED)]
        self._find = _timed(self.model, job, self.watch)

    def opened(self) -> Opened:
        """What runs it."""
        model, detector, job = self.model, self.model.detector, self.job
        exported = isinstance(detector, ExportedDetector)
        files = files_of(model.path) if exported else (model.file,)
        return Opened(
            runtime=_RUNTIMES[model.path.suffix.lower()] if exported else "torch",
            device=(job.how.provider or "cpu") if isinstance(detector, ExportedDetector) else detector.device.type,
            precision=detector.info.precision if isinstance(detector, ExportedDetector) else model.precision,
            bytes=None if job.untrained else sum(file.stat().st_size for file in files),
            tiles=detector.tiling is not None,
            fixed_batch=detector.info.batch if isinstance(detector, ExportedDetector) else None,
        )

    def names(self) -> tuple[str, ...]:
        """Of its classes."""
        return tuple(self.model.detector.names)

    def call(self, number: int) -> Call:
        """Time one batch: images from ``number * batch`` on, round and round."""
        first = number * self.job.how.batch
        batch = [self.images[(first + i) % len(self.images)] for i in range(self.job.how.batch)]
        self.watch.reset()
        wait_for_device()
        begin = time.perf_counter()
        found = self._find(batch)
        wait_for_device()
        ms = 1000 * (time.perf_counter() - begin)
        return Call(ms, 1000 * self.watch.seconds, self.watch.size, sum(map(len, found)))

    def memory(self) -> Memory:
        """The peak so far."""
        torch = sys.modules.get("torch")
        cuda = not isinstance(self.model.detector, ExportedDetector) and self.model.detector.device.type == "cuda"
        return Memory(peak_of_process(), torch.cuda.max_memory_allocated() if cuda and torch is not None else None)

    def cost(self, size: tuple[int, int]) -> Cost:
        """FLOPs of an image of this (height, width), and parameters; of an exported file those of its recipe."""
        try:
            import torch

            from gfocal.runtime.flops import network_cost
        except ImportError:
            return Cost(None, None)
        network, most = self.model.detector, None
        if isinstance(network, ExportedDetector):
            from gfocal.prediction.load import network_of

            most = self.opened().bytes or 0  # a parameter takes a byte or more
            made_of = network_of(network.info.recipe, network.names, most)
            if made_of is None:
                return Cost(None, None)
            network = made_of
        found = network_cost(network, torch.zeros(1, 3, *size, dtype=torch.uint8, device=network.device))
        if most is not None and found.parameters > most:  # the recipe is that of another file
            return Cost(None, None)
        return Cost(found.flops, found.parameters)

    def accuracy(self, progress: Callable[[int, int], None], say: Say) -> Accuracy:
        """AP on the data of the job.

        Raises:
            UsageError: the data do not fit the model.
            BrokenInputError: an image cannot be read.
        """
        job, model = self.job, self.model
        if job.how.data is None:
            raise UsageError("AP needs --data")
        index = open_measured(
            str(model.path), job.how.data, job.how.split, format=None, skip_broken=job.how.skip_broken, say=say
        )
        options = {
            **model.measured_by,
            "workers": 0,
            "skip_broken": job.how.skip_broken,
        }  # no more processes beside those that are measured
        index = spread(index, job.how.samples)
        found = evaluate(model.detector, index, batch_size=model.usual_batch, progress=progress, **options)
        say_lines([f"left out: {line}" for line in found.skipped], say)
        stats = found.result.stats
        return Accuracy(float(stats["AP"]), float(stats["AP50"]), found.result.num_images)


def peak_of_process() -> int | None:
    """Bytes of memory that this process has had at most, shared libraries included; None: the system does not tell."""
    with suppress(OSError, ValueError):  # not getrusage: on Linux its peak begins with that of the parent
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    with suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return None


def _readable(how: How, value_range: ValueRange) -> list[np.ndarray]:
    """The images; without those that cannot be read, where these are to be left out; one has to be left."""
    found, broken = list[np.ndarray](), None
    for path in how.images:
        try:
            found.append(read_array(path, value_range=value_range))
        except BrokenInputError as error:
            if not how.skip_broken:
                raise
            broken = error
    if broken is not None and not found:
        raise broken
    return found


def _open(job: Job) -> OpenedModel:
    if is_exported(job.model):
        return open_any(job.model, session=SessionOptions(job.how.provider, job.how.threads))
    import torch

    if job.untrained:
        opened = open_untrained(job.model, job.how.overrides, device=job.how.device)
    else:  # what was taken for the model has been said
        opened = open_any(job.model, job.how.overrides, device=job.how.device, say=lambda line: None)
    torch.set_num_threads(job.how.threads)
    return opened


def _check_fixed(detector: Any, job: Job) -> None:
    """Refuse a size that an exported file does not take; it would fill up what is missing, and say nothing."""
    if not isinstance(detector, ExportedDetector) or job.how.resize is None:
        return
    wanted = padded_size([job.how.resize.target_size(*job.how.generated)], MULTIPLE)
    fixed = detector.info.height or wanted[0], detector.info.width or wanted[1]
    if fixed != wanted:
        raise UsageError(
            f"{job.model} takes images of {fixed[0]}x{fixed[1]} pixels alone, not {wanted[0]}x{wanted[1]}: leave "
            "--size away, or export it without --static"
        )


def _timed(model: OpenedModel, job: Job, watch: Stopwatch) -> Callable[[list[np.ndarray]], list[Detections]]:
    """From decoded images to what is found on them, as ``predict`` does; the network's own time goes to ``watch``."""
    detector = model.detector
    if isinstance(detector, ExportedDetector):
        detector.session = TimedSession(detector.session, watch)
        return partial(detector.predict, batch_size=job.how.batch) if detector.tiling is not None else detector.find
    from gfocal.images.io import to_image
    from gfocal.runtime.precision import autocast

    detector.register_forward_pre_hook(lambda module, given: watch.start(tuple(given[0].shape[-2:])))
    detector.register_forward_hook(lambda module, given, out: watch.stop())

    def find(images: list[np.ndarray]) -> list[Detections]:
        with autocast(detector.device, model.precision):
            if detector.tiling is not None:
                return detector.predict(images, batch_size=job.how.batch)
            return detector.find([to_image(image) for image in images])

    return find

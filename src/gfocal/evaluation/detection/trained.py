"""Detecting by torch: images come from loader processes, and several processes may share them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from gfocal.data.augment.transforms import EvalTransform
from gfocal.data.index.data_index import DataIndex
from gfocal.data.index.tiled import Unchanged
from gfocal.data.loading.hangs import WORKER_TIMEOUT
from gfocal.data.loading.loader import BatchLoader, DetectionDataset, make_loader
from gfocal.detections import Detections
from gfocal.detector import DenseDetector, to_original
from gfocal.evaluation.measured import Evaluation, FoundPart, measure_parts
from gfocal.evaluation.trust.samples import light
from gfocal.runtime.distributed import ALONE, Processes
from gfocal.runtime.failures import explained_failures
from gfocal.runtime.precision import autocast, require_precision
from gfocal.structures import Batch
from gfocal.utils.allocation import kept_memory


@explained_failures()
@torch.no_grad()
def evaluate_trained(
    detector: DenseDetector,
    index: DataIndex,
    *,
    batch_size: int,
    workers: int,
    precision: str,
    progress: Callable[[int, int], None] | None,
    skip_broken: bool,
    processes: Processes | None,
    resamples: int,
    keep_matches: bool,
    beyond: int | None,
    keep_findings: bool,
    worker_timeout: float | None,
) -> Evaluation:
    """:func:`gfocal.evaluation.evaluator.evaluate` for a detector of torch and data in its classes."""
    require_precision(precision)
    processes = processes or ALONE
    transform = EvalTransform(detector.resize) if detector.tiling is None else Unchanged(detector.resize)
    dataset = DetectionDataset(index, transform, seed=0, skip_broken=skip_broken, value_range=detector.value_range)
    training, started = detector.training, time.perf_counter()
    detector.eval()
    try:
        with processes.own_errors(), kept_memory(detector.device.type == "cpu"):
            timeout = WORKER_TIMEOUT if worker_timeout is None else worker_timeout
            loader = _loader(detector, dataset, batch_size, workers, timeout, processes)
            own = _detect_all(detector, loader, len(dataset), batch_size, precision, progress, processes)
    finally:
        detector.train(training)
    with processes.own_errors():
        parts = processes.gather(own)
    seconds = time.perf_counter() - started
    result = measure_parts(index, parts, seconds, resamples, keep_matches, beyond) if processes.main else None
    return _shared(result, processes, keep_findings)


def _loader(
    detector: DenseDetector,
    dataset: DetectionDataset,
    batch_size: int,
    workers: int,
    worker_timeout: float,
    processes: Processes,
) -> BatchLoader:
    tiled = detector.tiling is not None
    return make_loader(
        dataset,
        batch_size=1 if tiled else batch_size,
        workers=workers,
        multiple=1 if tiled else 32,
        rank=processes.rank,
        processes=processes.count,
        worker_timeout=worker_timeout,
    )


def _detect_all(
    detector: DenseDetector,
    loader: BatchLoader,
    images: int,
    batch_size: int,
    precision: str,
    progress: Callable[[int, int], None] | None,
    processes: Processes,
) -> FoundPart:
    part = FoundPart()
    tiled = detector.tiling is not None
    for batch in loader:
        begin = time.perf_counter()
        with autocast(detector.device, precision):
            found = [detector.predict(batch.images[0], batch_size=batch_size)] if tiled else _detect(detector, batch)
        part.busy += time.perf_counter() - begin
        part.skipped.extend(batch.skipped)
        for image_id, one in zip(batch.image_ids.tolist(), found, strict=True):
            # An image that stands in for a broken one has its own turn too; a broken one never comes.
            if image_id not in part.found:
                part.found[image_id] = light(one)
        part.done += len(batch)
        if progress is not None:
            progress(min(part.done * processes.count, images), images)
    return part


def _detect(detector: DenseDetector, batch: Batch) -> list[Detections]:
    found = detector.detect(batch.images.to(detector.device), batch.sizes)
    sizes = zip(batch.sizes.tolist(), batch.original_sizes.tolist(), strict=True)
    return [to_original(one.cpu(), *size) for one, size in zip(found, sizes, strict=True)]


def _shared(result: Evaluation | None, processes: Processes, keep_findings: bool) -> Evaluation:
    """What the main process measured; its findings, which are large, stay there."""
    if result is None:
        return processes.from_main(None)
    findings = result.findings if keep_findings else None
    return replace(processes.from_main(replace(result, findings=None)), findings=findings)

"""Measuring a detector on a data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

import numpy as np
import torch

from gfocal.data.augment.transforms import EvalTransform
from gfocal.data.index.class_match import compare_classes
from gfocal.data.index.data_index import DataIndex
from gfocal.data.index.tiled import Unchanged
from gfocal.data.loading.hangs import WORKER_TIMEOUT
from gfocal.data.loading.loader import BatchLoader, DetectionDataset, make_loader
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError, require_number
from gfocal.evaluation import CocoEvaluator, EdgeUncertainty, EvalResult, Matches
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.evaluation.uncertainty import UncertaintyResult
from gfocal.models.postprocess import to_original
from gfocal.recipe import Recipe
from gfocal.runtime.distributed import ALONE, Processes
from gfocal.runtime.failures import explained_failures
from gfocal.runtime.precision import autocast, require_precision, usable_precision
from gfocal.structures import Batch, Detections
from gfocal.utils.records import FLAT, fields_to_json, from_json, named
from gfocal.utils.text import counted, join_some


@dataclass(frozen=True)
class _Speed:
    ms_per_image: float = field(metadata=named("ms_per_picture"))
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Written:
    """An evaluation in the form that its JSON has."""

    result: EvalResult = field(metadata=FLAT)
    edge_uncertainty: UncertaintyResult | None = None  # the first version knew none
    speed: _Speed
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """Accuracy and speed.

    Attributes:
        result: COCO's numbers and the score-IoU correlation.
        ms_per_image: network and post-processing, mean over the images, in batches.
        seconds: the whole evaluation, reading included.
        skipped: one line for each image that could not be read and is not part of the result.
        edge_uncertainty: see :meth:`gfocal.evaluation.EdgeUncertainty.compute`; None unless the data say how uncertain
            their edges are and the detector predicts it.
        matches: which detection found which object, in all images that could be read; None unless asked for, and not
            in :meth:`to_dict`.
        findings: every detection beside the ground truth, in the detector's classes; None unless asked for, and not in
            :meth:`to_dict`. Of several processes the main one has it.
    """

    result: EvalResult
    ms_per_image: float
    seconds: float
    skipped: tuple[str, ...] = ()
    edge_uncertainty: UncertaintyResult | None = None
    matches: Matches | None = field(default=None, repr=False, compare=False)
    findings: Findings | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON types: the 12 numbers at the top, beside the rest."""
        speed = _Speed(round(self.ms_per_image, 3), round(self.seconds, 3))
        return fields_to_json(
            _Written(result=self.result, edge_uncertainty=self.edge_uncertainty, speed=speed, skipped=self.skipped)
        )

    @classmethod
    def from_dict(cls, content: object) -> Evaluation:
        """What :meth:`to_dict` made, in this version or an earlier one; times are rounded then.

        Raises:
            ValueError: it is something else.
        """
        found = from_json(_Written, content)
        return cls(found.result, found.speed.ms_per_image, found.speed.seconds, found.skipped, found.edge_uncertainty)


def check_names(detector: DenseDetector, index: DataIndex) -> DataIndex:
    """The data set with the detector's classes in the detector's order, matched by name.

    The data may lack some of them: a class without objects has no AP and is not part of the mean.

    Raises:
        UsageError: there are boxes of a class that the detector does not know.
    """
    try:
        return index.with_classes(detector.names)
    except UsageError:
        found = compare_classes(index.names, np.asarray(index.labels), detector.names)
        unknown = join_some([f"{name} ({counted(boxes, 'box', 'boxes')})" for name, boxes in found.unknown.items()])
        names = join_some(found.only_detector, 12)
        also = f", which has also {names}" if names else ""
        like = "".join(f" ({pair}?)" for pair in found.renames()[:1])
        raise UsageError(
            f"the classes of {index.annotations} are not the detector's: it does not know {unknown}; "
            f"{len(found.common)} of the data's {len(index.names)} classes are in the detector{also}. `gfocal eval` "
            f"has --rename OLD=NEW for two names of one class{like}, and --only-common to leave out the boxes of what "
            "the detector does not know"
        ) from None


class MeasuredBy(TypedDict):
    """Options of :func:`evaluate` and :func:`gfocal.evaluation.positives.find_positives` that a recipe decides."""

    workers: int
    precision: str
    worker_timeout: float


def measured_by(recipe: Recipe, detector: DenseDetector) -> MeasuredBy:
    """How a recipe has its detector measured, on the device where that is: options to hand over with ``**``."""
    data = recipe.data
    precision = usable_precision(detector, recipe)
    return MeasuredBy(workers=data.workers, precision=precision, worker_timeout=data.worker_timeout)


@explained_failures()
@torch.no_grad()
def evaluate(
    detector: DenseDetector,
    index: DataIndex,
    *,
    batch_size: int = 16,
    workers: int = 2,
    precision: str = "fp32",
    progress: Callable[[int, int], None] | None = None,
    skip_broken: bool = False,
    processes: Processes = ALONE,
    resamples: int = 0,
    keep_matches: bool = False,
    beyond: int | None = None,
    keep_findings: bool = False,
    worker_timeout: float = WORKER_TIMEOUT,
) -> Evaluation:
    """Run the detector over every image and compare with the ground truth; in tiles, if it has a ``tiling``.

    Several processes take every n-th image each; the main one puts together what they found and measures.

    Args:
        detector: in any mode; it is left as it was.
        index: the data set; the detector must know its classes, in any order.
        batch_size: images, or tiles of one image, a forward pass.
        workers: loader processes.
        precision: "fp32", "bf16" or "fp16" (autocast).
        progress: called with (images done, images in all).
        skip_broken: leave images that cannot be read out, with their objects, and list them, instead of stopping.
        processes: that evaluate together, each with the same detector; all of them get the result.
        resamples: sets of images to draw for AP's intervals; 0 for none.
        keep_matches: return :class:`~gfocal.evaluation.Matches` too, for comparisons of detectors on one set of
            images.
        beyond: detections of a class in an image at which AP is measured too, above COCO's 100.
        keep_findings: return every detection too, for
            :func:`~gfocal.evaluation.write_evaluation`.
        worker_timeout: seconds, see :func:`gfocal.data.loading.loader.make_loader`.

    Raises:
        UsageError: no images, none that can be read, or boxes of a class that the detector does not know.
        BrokenInputError: an image that cannot be read, unless ``skip_broken``.
    """
    require_number("batch_size", batch_size, least=1, whole=True)
    require_number("workers", workers, least=0, whole=True)
    require_number("resamples", resamples, least=0, whole=True)
    require_precision(precision)
    if len(index) == 0:
        raise UsageError(f"{index.annotations} lists no pictures: there is nothing to evaluate")
    index = check_names(detector, index)
    transform = EvalTransform(detector.resize) if detector.tiling is None else Unchanged(detector.resize)
    dataset = DetectionDataset(index, transform, seed=0, skip_broken=skip_broken, value_range=detector.value_range)
    training, started = detector.training, time.perf_counter()
    detector.eval()
    try:
        with processes.own_errors():
            loader = _loader(detector, dataset, batch_size, workers, worker_timeout, processes)
            own = _detect_all(detector, loader, len(dataset), batch_size, precision, progress, processes)
    finally:
        detector.train(training)
    with processes.own_errors():
        parts = processes.gather(own)
    seconds = time.perf_counter() - started
    result = _measure(index, parts, seconds, resamples, keep_matches, beyond) if processes.main else None
    return _shared(result, processes, keep_findings)


@dataclass
class _Part:
    """What one process found; ``skipped`` are the lines about images that it could not read."""

    found: dict[int, Detections] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    busy: float = 0.0
    done: int = 0


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
) -> _Part:
    part = _Part()
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
                part.found[image_id] = replace(one, edge_probs=None)  # large, and nothing here reads them
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


def _measure(
    index: DataIndex, parts: Sequence[_Part], seconds: float, resamples: int, keep_matches: bool, beyond: int | None
) -> Evaluation:
    """The numbers from what all processes found, whatever their number: images in the order of the index."""
    found = {image_id: detections for part in parts for image_id, detections in part.found.items()}
    seen = [image_id for image_id in index.image_ids.tolist() if image_id in found]
    kept = [found[image_id] for image_id in seen]
    evaluator = CocoEvaluator(index)
    evaluator.update(seen, kept)
    evaluator.leave_out([image_id for image_id in index.image_ids.tolist() if image_id not in found])
    edges = None if index.edge_ambiguity is None else EdgeUncertainty(index, index.edge_ambiguity)
    if edges is not None:
        edges.update(seen, kept)
    skipped = dict.fromkeys(line for part in parts for line in part.skipped)
    return Evaluation(
        evaluator.compute(resamples, beyond=beyond),
        ms_per_image=1000 * sum(part.busy for part in parts) / max(sum(part.done for part in parts), 1),
        seconds=seconds,
        skipped=tuple(f"{line} (left out of the evaluation)" for line in skipped),
        edge_uncertainty=None if edges is None else edges.compute(),
        matches=evaluator.matches() if keep_matches else None,
        findings=evaluator.findings(),
    )

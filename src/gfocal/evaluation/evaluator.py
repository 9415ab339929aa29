"""Measuring a detector on a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict

from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError, require_number
from gfocal.evaluation.measured import Evaluation, check_names
from gfocal.exported.detector import ExportedDetector

if TYPE_CHECKING:  # an exported file is measured where torch is not
    from gfocal.detector import DenseDetector
    from gfocal.recipe import Recipe
    from gfocal.runtime.distributed import Processes

__all__ = ["Evaluation", "MeasuredBy", "check_names", "evaluate", "measured_by"]


class MeasuredBy(TypedDict):
    """Options of :func:`evaluate` and :func:`gfocal.evaluation.positives.find_positives` that a recipe decides."""

    workers: int
    precision: str
    worker_timeout: float


def measured_by(recipe: Recipe, detector: DenseDetector) -> MeasuredBy:
    """How a recipe has its detector measured, on the device where that is: options to hand over with ``**``."""
    from gfocal.runtime.precision import usable_precision

    data = recipe.data
    precision = usable_precision(detector, recipe)
    return MeasuredBy(workers=data.workers, precision=precision, worker_timeout=data.worker_timeout)


def evaluate(
    detector: DenseDetector | ExportedDetector,
    index: DataIndex,
    *,
    batch_size: int = 16,
    workers: int = 2,
    precision: str = "fp32",
    progress: Callable[[int, int], None] | None = None,
    skip_broken: bool = False,
    processes: Processes | None = None,
    resamples: int = 0,
    keep_matches: bool = False,
    beyond: int | None = None,
    keep_findings: bool = False,
    worker_timeout: float | None = None,
) -> Evaluation:
    """Run the detector over every image and compare with the ground truth; in tiles, if it has a ``tiling``.

    Several processes take every n-th image each; the main one puts together what they found and measures.

    Args:
        detector: in any mode; it is left as it was. An exported file is measured image by image in this process:
            ``workers``, ``precision`` and ``processes`` are not for it.
        index: the data set; the detector must know its classes, in any order.
        batch_size: images, or tiles of one image, a forward pass.
        workers: loader processes.
        precision: "fp32", "bf16" or "fp16" (autocast).
        progress: called with (images done, images in all).
        skip_broken: leave images that cannot be read out, with their objects, and list them, instead of stopping.
        processes: that evaluate together, each with the same detector; all of them get the result. None: this alone.
        resamples: sets of images to draw for AP's intervals; 0 for none.
        keep_matches: return :class:`~gfocal.evaluation.Matches` too, for comparisons of detectors on one set of
            images.
        beyond: detections of a class in an image at which AP is measured too, above COCO's 100.
        keep_findings: return every detection too, for
            :func:`~gfocal.evaluation.write_evaluation`.
        worker_timeout: seconds, see :func:`gfocal.data.loading.loader.make_loader`; None: the usual ones.

    Raises:
        UsageError: no images, none that can be read, or boxes of a class that the detector does not know.
        BrokenInputError: an image that cannot be read, unless ``skip_broken``.
    """
    require_number("batch_size", batch_size, least=1, whole=True)
    require_number("workers", workers, least=0, whole=True)
    require_number("resamples", resamples, least=0, whole=True)
    if len(index) == 0:
        raise UsageError(f"{index.annotations} lists no pictures: there is nothing to evaluate")
    index = check_names(detector, index)
    if isinstance(detector, ExportedDetector):
        from gfocal.evaluation.detection.exported import evaluate_exported

        return evaluate_exported(
            detector,
            index,
            batch_size=batch_size,
            progress=progress,
            skip_broken=skip_broken,
            resamples=resamples,
            keep_matches=keep_matches,
            beyond=beyond,
        )
    from gfocal.evaluation.detection.trained import evaluate_trained

    return evaluate_trained(
        detector,
        index,
        batch_size=batch_size,
        workers=workers,
        precision=precision,
        progress=progress,
        skip_broken=skip_broken,
        processes=processes,
        resamples=resamples,
        keep_matches=keep_matches,
        beyond=beyond,
        keep_findings=keep_findings,
        worker_timeout=worker_timeout,
    )

"""Detecting by an exported file: image by image, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable

from gfocal.data.index.data_index import DataIndex
from gfocal.errors import BrokenInputError
from gfocal.evaluation.measured import Evaluation, FoundPart, measure_parts
from gfocal.evaluation.trust.samples import light
from gfocal.exported.detector import ExportedDetector
from gfocal.images.reading import read_array


def evaluate_exported(
    detector: ExportedDetector,
    index: DataIndex,
    *,
    batch_size: int,
    progress: Callable[[int, int], None] | None,
    skip_broken: bool,
    resamples: int,
    keep_matches: bool,
    beyond: int | None,
) -> Evaluation:
    """:func:`gfocal.evaluation.evaluator.evaluate` for an exported file and data in its classes.

    Images go one by one: in a batch of several the padding of one depends on the others, and few runtimes on a CPU gain
    by batches.
    """
    part, started = FoundPart(), time.perf_counter()
    for i, image_id in enumerate(index.image_ids.tolist()):
        try:
            image = read_array(index.path(i), value_range=detector.value_range)
        except BrokenInputError as error:
            if not skip_broken:
                raise
            part.skipped.append(str(error))
        else:
            begin = time.perf_counter()
            found = detector.predict(image, batch_size=batch_size)
            part.busy += time.perf_counter() - begin
            part.found[image_id] = light(found)
            part.done += 1
        if progress is not None:
            progress(i + 1, len(index))
    return measure_parts(index, [part], time.perf_counter() - started, resamples, keep_matches, beyond)

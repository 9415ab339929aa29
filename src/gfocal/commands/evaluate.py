"""`gfocal eval`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gfocal.data.formats.open import SPLITS, Format
from gfocal.errors import UsageError
from gfocal.evaluation.evaluator import Evaluation, evaluate
from gfocal.prediction.load import open_model, usable_precision, usual_batch
from gfocal.runs.checkpoint import find_weights
from gfocal.runs.datasets import open_measured
from gfocal.runtime.distributed import ALONE, launched, processes_of
from gfocal.training.step import make_accelerator
from gfocal.utils.progress import ProgressBar
from gfocal.utils.records import FLAT

RESAMPLES = 200
"""Sets of images that are drawn for the intervals of AP."""


@dataclass(frozen=True)
class EvaluationReport:
    """What a model came to, and on what.

    Attributes:
        evaluation: the numbers; what could not be read is among its ``skipped``, broken records too.
        model: the file of the weights.
        data: the annotations.
        split: "train", "val" or "test".
        tile, tile_overlap: of the detector's tiling; None for whole images.
    """

    evaluation: Evaluation = field(metadata=FLAT)
    model: str
    data: str
    split: str
    tile: int | None
    tile_overlap: float | None


def evaluate_files(
    model: str,
    data: Path,
    *,
    split: str = "val",
    format: Format | None = None,
    overrides: Sequence[str] = (),
    tile: int | None = None,
    overlap: float | None = None,
    batch_size: int | None = None,
    skip_broken: bool = False,
    warn: Callable[[list[str]], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> EvaluationReport:
    """Measure a model on a data set; where a launcher started several processes, each takes its share.

    Args:
        model, overrides, tile, overlap: see :func:`gfocal.prediction.load.open_model`.
        data: data set.
        split: "train", "val" or "test"; what the run set apart is "val", see :mod:`gfocal.data.split`.
        format: of the data; by default what is found.
        batch_size: images, or tiles, a forward pass; by default 16, or 2 where images keep their shape.
        skip_broken: leave out what is broken.
        warn: called with one line for everything left out.
        say: called with lines about how the data are understood.
    """
    which = next((name for name in SPLITS if name == split), None)
    if which is None:
        raise UsageError(f"--split is train, val or test, not {split!r}")
    detector, recipe, _ = open_model(model, overrides, tile=tile, overlap=overlap)
    processes = processes_of(make_accelerator("fp32")) if launched() else ALONE
    index = open_measured(model, data, which, format=format, skip_broken=skip_broken, say=say)
    with ProgressBar(len(index), "evaluating", shown=processes.main) as bar:
        measured = evaluate(
            detector.to(processes.device) if launched() else detector,
            index,
            batch_size=batch_size or usual_batch(recipe),
            workers=recipe.data.workers,
            precision=usable_precision(detector, recipe),
            progress=bar.callback,
            skip_broken=skip_broken,
            processes=processes,
            resamples=RESAMPLES,
        )
    skipped = [*index.skipped, *measured.skipped]
    if warn is not None:
        warn(skipped)
    tiling = detector.tiling
    return EvaluationReport(
        evaluation=replace(measured, skipped=tuple(skipped)),
        model=str(find_weights(Path(model))),
        data=str(index.annotations),
        split=split,
        tile=None if tiling is None else tiling.side,
        tile_overlap=None if tiling is None else tiling.overlap,
    )

"""`gfocal eval`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gfocal.calibration.stored import Calibration
from gfocal.data.checks.crowding import COCO_DETECTIONS, Crowding, crowding, describe_crowding
from gfocal.data.fingerprint import file_hashes, fingerprint
from gfocal.data.formats.open import SPLITS, Format, Split
from gfocal.data.index.class_match import ClassComparison, compare_classes, describe_comparison
from gfocal.data.index.data_index import DataIndex
from gfocal.data.index.rename import keep_classes, parse_renames, rename_classes
from gfocal.data.index.tiled import cut_into_tiles
from gfocal.errors import UsageError
from gfocal.evaluation import Confusion, Findings, confusion_at, write_evaluation
from gfocal.evaluation.evaluator import evaluate
from gfocal.evaluation.measured import Evaluation
from gfocal.evaluation.thresholds.folder import claim_folder
from gfocal.evaluation.trust.check import CalibrationCheck
from gfocal.evaluation.trust.overlap import overlap_of
from gfocal.exported.detector import ExportedDetector
from gfocal.exported.open import USUAL, SessionOptions
from gfocal.prediction.open import OpenedModel, open_any
from gfocal.runs.datasets import open_measured
from gfocal.utils.progress import ProgressBar, notice
from gfocal.utils.records import FLAT, IF_ANY, named
from gfocal.utils.text import Say, counted, join_some, say_lines

if TYPE_CHECKING:  # an exported file is measured where torch is not
    from gfocal.detector import DenseDetector
    from gfocal.runtime.distributed import Processes

RESAMPLES = 200
"""Sets of images that are drawn for the intervals of AP."""


@dataclass(frozen=True)
class Measured:
    """What a model was measured on.

    Attributes:
        images: that could be read.
        boxes: to find on them, crowds and ignored ones aside.
        renamed: new name of each class that got one.
        only_common: the boxes of classes that the detector does not know were left out.
        classes: of the data beside those of the detector, renamed ones under their new names.
        crowding: images with more objects than are found or counted.
    """

    images: int = field(metadata=named("pictures"))
    boxes: int
    renamed: dict[str, str]
    only_common: bool
    classes: ClassComparison
    crowding: Crowding

    def describe(self) -> list[str]:
        """What should be known about it, a sentence for each thing."""
        renamed = [f"{old} -> {new}" for old, new in self.renamed.items()]
        return [
            *([f"renamed: {join_some(renamed)}"] if renamed else []),
            *describe_comparison(self.classes, left_out=self.only_common),
            *describe_crowding(self.crowding),
        ]


@dataclass(frozen=True)
class EvaluationReport:
    """What a model came to, and on what.

    Attributes:
        evaluation: the numbers; what could not be read is among its ``skipped``, broken records too.
        model: the file of the weights.
        data: the annotations.
        split: "train", "val" or "test".
        tile, tile_overlap: of the detector's tiling; None for whole images.
        measured: what was measured on, in numbers and classes.
        confusion: of classes; None in all processes but the main one.
        plots: files that were drawn.
    """

    evaluation: Evaluation = field(metadata=FLAT)
    model: str
    data: str
    split: str
    tile: int | None
    tile_overlap: float | None
    measured: Measured
    confusion: Confusion | None = field(default=None, metadata=IF_ANY)
    plots: tuple[str, ...] = ()


@dataclass(frozen=True)
class MeasuredFiles:
    """A measurement with all that was found, for whoever shows more of it than numbers.

    Attributes:
        report: the numbers, without ``confusion`` and ``plots``.
        index: what was measured on, in the data's own classes.
        findings: every detection; None in all processes but the main one.
        detector: where it ran.
    """

    report: EvaluationReport
    index: DataIndex
    findings: Findings | None
    detector: DenseDetector | ExportedDetector


def evaluate_files(
    model: str,
    data: Path,
    *,
    split: str = "val",
    format: Format | None = None,
    images_dir: Path | None = None,
    overrides: Sequence[str] = (),
    tile: int | None = None,
    overlap: float | None = None,
    batch_size: int | None = None,
    skip_broken: bool = False,
    rename: Sequence[str] = (),
    only_common: bool = False,
    plots: Path | None = None,
    examples: int = 6,
    score: float | None = None,
    session: SessionOptions = USUAL,
    warn: Callable[[list[str]], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> EvaluationReport:
    """Measure a model on a data set; where a launcher started several processes, each takes its share.

    Args:
        model, overrides, tile, overlap: see :func:`gfocal.prediction.open.open_any`.
        data: data set.
        split: "train", "val" or "test"; what the run set apart is "val", see :mod:`gfocal.data.split`.
        format: of the data; by default what is found.
        images_dir: the folder of the images, or one around it; by default near the annotations.
        batch_size: images, or tiles, a forward pass; by default 16, or 2 where images keep their shape.
        skip_broken: leave out what is broken.
        rename: ``OLD=NEW``: a class of the data under the name that the model has for it; all of them at once.
        only_common: leave out the boxes of classes that the model does not know.
        plots: a folder for curves and drawn images, see :func:`gfocal.evaluation.write_evaluation`.
        examples: images of each kind that are drawn there.
        score: detections above it are in the confusion matrix and those images; by default the threshold of the best
            F1.
        session: how an exported file is run.
        warn: called with one line for everything left out.
        say: called with lines about how the data are understood.
    """
    _check_plots(plots, score)  # before the long work
    measured = measure_files(
        model,
        data,
        split=split,
        format=format,
        images_dir=images_dir,
        overrides=overrides,
        tile=tile,
        overlap=overlap,
        batch_size=batch_size,
        skip_broken=skip_broken,
        rename=rename,
        only_common=only_common,
        session=session,
        warn=warn,
        say=say,
    )
    found, index, report = measured.findings, measured.index, measured.report
    if found is None:
        return report
    title = f"{Path(model).name} on {index.annotations.name}, {counted(report.measured.images, 'picture')}"
    draw = partial(
        write_evaluation, score=score, examples=examples, title=title, value_range=measured.detector.value_range
    )
    drawn = [] if plots is None else draw(plots, found, index.path)
    return replace(report, confusion=confusion_at(found, score), plots=tuple(map(str, drawn)))


def measure_files(
    model: str,
    data: Path,
    *,
    split: str = "val",
    format: Format | None = None,
    images_dir: Path | None = None,
    overrides: Sequence[str] = (),
    tile: int | None = None,
    overlap: float | None = None,
    batch_size: int | None = None,
    skip_broken: bool = False,
    rename: Sequence[str] = (),
    only_common: bool = False,
    session: SessionOptions = USUAL,
    warn: Callable[[list[str]], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> MeasuredFiles:
    """What :func:`evaluate_files` makes numbers and plots of; see there."""
    which = _split_of(split)
    opened, processes = _opened(model, overrides, session, say or notice, tile=tile, overlap=overlap)
    detector, limit, tiling = opened.detector, opened.max_detections, opened.detector.tiling
    index = open_measured(
        str(opened.path), data, which, format=format, images_dir=images_dir, skip_broken=skip_broken, say=say
    )
    print_of = _calibrated_print(detector, index, say)
    index, about = _select(index, detector, limit, rename, only_common)
    with ProgressBar(len(index), "evaluating", shown=processes is None or processes.main) as bar:
        measured = evaluate(
            detector,
            index,
            batch_size=batch_size or opened.usual_batch,
            progress=bar.callback,
            skip_broken=skip_broken,
            resamples=RESAMPLES,
            beyond=limit if about.crowding.coco_images and limit > COCO_DETECTIONS else None,
            keep_findings=True,
            processes=processes,
            **opened.measured_by,
        )
    skipped, result, found = [*index.skipped, *measured.skipped], measured.result, measured.findings
    if warn is not None:
        warn(skipped)
    report = EvaluationReport(
        evaluation=replace(measured, skipped=tuple(skipped), calibration=_checked(measured, detector, index, print_of)),
        model=str(opened.file),
        data=str(index.annotations),
        split=split,
        tile=None if tiling is None else tiling.side,
        tile_overlap=None if tiling is None else tiling.overlap,
        measured=replace(about, images=result.num_images, boxes=result.num_objects or 0),
    )
    return MeasuredFiles(report, index, found, detector)


def _opened(
    model: str, overrides: Sequence[str], session: SessionOptions, say: Say, *, tile: int | None, overlap: float | None
) -> tuple[OpenedModel, Processes | None]:
    """The model where this process computes, and the processes that a launcher started; None: this one is alone."""
    opened = open_any(model, overrides, tile=tile, overlap=overlap, session=session, say=say)
    if isinstance(opened.detector, ExportedDetector):
        return opened, None
    from gfocal.runtime.distributed import launched, processes_of  # not above: an exported file does without torch
    from gfocal.training.step import make_accelerator

    if not launched():
        return opened, None
    processes = processes_of(make_accelerator("fp32"))
    return replace(opened, detector=opened.detector.to(processes.device)), processes


def calibration_misfit(detector: DenseDetector | ExportedDetector) -> str:
    """Why the calibration of a detector does not hold as it is used now; "" where it does, or there is none."""
    own, tiling = detector.calibration, detector.tiling
    if own is None:
        return ""
    return own.resized_by(asdict(detector.resize)).used_with(tile=None if tiling is None else tiling.side).unfit


def _calibrated_print(detector: DenseDetector | ExportedDetector, index: DataIndex, say: Say | None) -> str | None:
    """Fingerprint of what a calibrated detector is measured on; a line where its calibration does not hold."""
    if detector.calibration is None:
        return None
    unfit = calibration_misfit(detector)
    say_lines([f"note: the calibration is not measured: {unfit}"] if unfit else [], say)
    return fingerprint(index)


def _checked(
    measured: Evaluation, detector: DenseDetector | ExportedDetector, index: DataIndex, print_of: str | None
) -> CalibrationCheck | None:
    """What the calibration is worth here, and whether it was made of these very images, or some of them."""
    check, own = measured.calibration, detector.calibration
    if check is None or not isinstance(own, Calibration):
        return check
    overlap = overlap_of(own, file_hashes(index)) if own.image_hashes else None
    return replace(check, seen=own.data == print_of, overlap=overlap)


def _split_of(name: str) -> Split:
    for split in SPLITS:
        if split == name:
            return split
    raise UsageError(f"--split is train, val or test, not {name!r}")


def _check_plots(plots: Path | None, score: float | None) -> None:
    if score is not None and not 0 <= score < 1:
        raise UsageError(f"--score must be at least 0 and below 1, got {score:g}")
    if plots is not None:
        claim_folder(plots)


def _select(
    index: DataIndex, detector: DenseDetector | ExportedDetector, limit: int, rename: Sequence[str], only_common: bool
) -> tuple[DataIndex, Measured]:
    """What is measured, under the names that are wanted, and what there is to know about it before it is."""
    renames = parse_renames(rename, index.names)
    index = rename_classes(index, renames)
    classes = compare_classes(index.names, np.asarray(index.labels), detector.names)
    if only_common:
        if not classes.common:
            raise UsageError(f"--only-common: {index.annotations} and the model have no class in common")
        index = keep_classes(index, detector.names)
    crowded = crowding(index if detector.tiling is None else cut_into_tiles(index, detector.tiling), limit)
    about = Measured(
        images=len(index), boxes=0, renamed=renames, only_common=only_common, classes=classes, crowding=crowded
    )
    return index, about

"""The proof of an exported file: it is loaded by its own runtime and runs beside the detector, from image files on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from gfocal.data.index.data_index import DataIndex
from gfocal.detections import Detections
from gfocal.detector import DenseDetector, to_original
from gfocal.evaluation import CocoEvaluator
from gfocal.evaluation.uncertainty import EdgeCoverage, edge_coverage, interval_coverage
from gfocal.export.parity import BARS, Bar, Parity, beyond, compare, undecided
from gfocal.export.trace import OPEN, GraphShape, entering
from gfocal.exported.contract import ExportInfo
from gfocal.exported.detector import ExportedDetector
from gfocal.exported.open import files_of, open_exported
from gfocal.images.io import read_image
from gfocal.runtime.environment import host
from gfocal.utils.records import FLAT, IF_ANY


@dataclass(frozen=True)
class ApOfBoth:
    """COCO's AP of the detector and of the exported file, on the same images."""

    detector: float
    exported: float


@dataclass(frozen=True)
class EdgesOfBoth:
    """How often the interval of an edge holds the annotated one."""

    detector: EdgeCoverage
    exported: EdgeCoverage


@dataclass(frozen=True)
class Milliseconds:
    """From the image file to the boxes: medians of images that both took in turn.

    Attributes:
        detector: an image.
        exported: a run, which is an image, but of a file with a fixed batch as many as that.
    """

    detector: float
    exported: float


@dataclass(frozen=True)
class FixedSize:
    """What a fixed size costs: images get more padding than the detector gives them by itself, and networks see it.

    Attributes:
        images: that get more.
        parity: from the detector as it predicts by itself.
        ap: of both; None where no image has labels.
    """

    images: int
    parity: Parity = field(metadata=FLAT)
    ap: ApOfBoth | None = field(default=None, metadata=IF_ANY)


@dataclass(frozen=True)
class Proof:
    """What became of running an exported file beside the detector that it was made of.

    Attributes:
        parity: the differences.
        bar: what is allowed.
        beyond: what is not as it should be, a sentence for each thing; empty: proved.
        ap: None where no image has labels.
        edges: of the 90 % interval of ``edge_std``; None where no image has labels, or boxes have no ``edge_std``.
        intervals: of those of the calibration, at its own level; None where no image has labels, or there is none.
        fixed_size: None where the file takes images as the detector does.
        without_labels: why labels do not decide, where the bar leaves it to them; None: they do, or need not.
        ms_per_image: of both.
        data: what the images are.
        file, sha256: of the exported file.
        bytes: of it and, where its weights are another, of that.
        info: what the file says about itself.
        processor, threads: of the machine.
    """

    parity: Parity = field(metadata=FLAT)
    bar: Bar
    beyond: tuple[str, ...]
    ms_per_image: Milliseconds
    data: str
    file: str
    bytes: int
    sha256: str
    info: ExportInfo
    processor: str
    threads: int
    ap: ApOfBoth | None = field(default=None, metadata=IF_ANY)
    edges: EdgesOfBoth | None = field(default=None, metadata=IF_ANY)
    intervals: EdgesOfBoth | None = field(default=None, metadata=IF_ANY)
    fixed_size: FixedSize | None = field(default=None, metadata=IF_ANY)
    without_labels: str | None = field(default=None, metadata=IF_ANY)

    @property
    def holds(self) -> bool:
        """Whether nothing is beyond the bar."""
        return not self.beyond


def prove(
    detector: DenseDetector,
    file: Path,
    images: Sequence[Path],
    *,
    data: str,
    index: DataIndex | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Proof:
    """Run an exported file and its detector over images, and compare.

    Args:
        detector: what was exported, in evaluation mode.
        file: the exported file.
        images: image files, at least one.
        data: what they are, for the report.
        index: their labels, in the same order and in the detector's classes; None: there are none.
        progress: called with (images done, images in all).

    Raises:
        UsageError: the file cannot be run.
        BrokenInputError: an image cannot be read.
    """
    exported = open_exported(file)
    info = exported.info
    shape = GraphShape(info.batch, info.height, info.width)
    ours, theirs, spent = list[Detections](), list[Detections](), list[tuple[float, float]]()
    for number, path in enumerate(images):
        first = number == 0
        if first:  # untimed: memory and kernels are chosen
            _detected(detector, path, shape), _exported(exported, path)
        runs = [lambda: _detected(detector, path, shape), lambda: _exported(exported, path)]  # noqa: B023
        found, seconds = {}, {}
        for which in (0, 1) if number % 2 else (1, 0):
            begin = time.perf_counter()
            found[which] = runs[which]()
            seconds[which] = time.perf_counter() - begin
        ours.append(found[0])
        theirs.append(found[1])
        spent.append((seconds[0], seconds[1]))
        if progress is not None:
            progress(number + 1, len(images))
    bar, limits = BARS[info.precision], info.thresholds
    parity = compare(ours, theirs, threshold=limits.score_threshold, limit=limits.max_detections, rounding=bar.rounding)
    ap = None if index is None else _ap_of_both(index, ours, theirs)
    both = None if ap is None else (ap.detector, ap.exported)
    ms = (1000 * np.median(spent, axis=0)).round(3).tolist()
    machine = host()
    return Proof(
        parity=parity,
        bar=bar,
        beyond=tuple(beyond(parity, bar, both, _objects(index))),
        ap=ap,
        edges=None if index is None else _edges_of_both(edge_coverage, index, ours, theirs),
        intervals=None if index is None else _edges_of_both(interval_coverage, index, ours, theirs),
        ms_per_image=Milliseconds(*ms),
        data=data,
        file=file.name,
        bytes=sum(part.stat().st_size for part in files_of(file)),
        sha256=_sha256(file),
        info=info,
        processor=machine["cpu"],
        threads=machine["threads"],
        fixed_size=None if info.height is None else _fixed_size(detector, images, info, index, (ours, theirs)),
        without_labels=undecided(bar, both, _objects(index)),
    )


def _fixed_size(
    detector: DenseDetector,
    images: Sequence[Path],
    info: ExportInfo,
    index: DataIndex | None,
    found: tuple[list[Detections], list[Detections]],
) -> FixedSize | None:
    """The file beside the detector as it predicts by itself, if that pads any image less.

    Args:
        detector, images, info, index: as in :func:`prove`.
        found: by the detector on images that are padded as the file's, and by the file.
    """
    ours, theirs = list(found[0]), found[1]
    further = 0
    for i, path in enumerate(images):
        batch, _ = entering(detector, read_image(path, value_range=detector.value_range), OPEN)
        if tuple(batch.shape[-2:]) != (info.height, info.width):
            further += 1
            ours[i] = _detected(detector, path, OPEN)
    if not further:
        return None
    limits = info.thresholds
    parity = compare(ours, theirs, threshold=limits.score_threshold, limit=limits.max_detections, rounding=0.0)
    return FixedSize(further, parity, None if index is None else _ap_of_both(index, ours, theirs))


@torch.no_grad()
def _detected(detector: DenseDetector, path: Path, shape: GraphShape) -> Detections:
    """As :meth:`DenseDetector.predict`, on the size that the file has where that is fixed: padding is seen, too."""
    image = read_image(path, value_range=detector.value_range)
    batch, size = entering(detector, image, shape)
    (found,) = detector.detect(batch, torch.tensor([size]))
    return to_original(found, size, image.shape[-2:])


def _exported(exported: ExportedDetector, path: Path) -> Detections:
    found: Detections = exported.predict(path, tile=0)
    return found


def _objects(index: DataIndex | None) -> int:
    return 0 if index is None else int((~(index.crowd | index.ignore)).sum())


def _ap_of_both(index: DataIndex, ours: Sequence[Detections], theirs: Sequence[Detections]) -> ApOfBoth | None:
    aps = []
    for found in (ours, theirs):
        evaluator = CocoEvaluator(index)
        evaluator.update(index.image_ids.tolist(), found)
        aps.append(float(evaluator.compute().stats["AP"]))
    return None if np.isnan(aps).any() else ApOfBoth(*aps)


def _edges_of_both(
    coverage: Callable[[DataIndex, Sequence[int], Sequence[Detections]], EdgeCoverage | None],
    index: DataIndex,
    ours: Sequence[Detections],
    theirs: Sequence[Detections],
) -> EdgesOfBoth | None:
    own, other = (coverage(index, index.image_ids.tolist(), found) for found in (ours, theirs))
    return None if own is None or other is None else EdgesOfBoth(own, other)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()

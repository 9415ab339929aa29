"""The images that `gfocal export` proves a file on, and calibrates INT8 with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gfocal.data.formats.open import Split
from gfocal.data.index.class_match import compare_classes
from gfocal.data.index.data_index import DataIndex
from gfocal.data.index.rename import keep_classes
from gfocal.data.scenes.generate import make_scenes
from gfocal.detector import DenseDetector
from gfocal.errors import BrokenInputError, UsageError, require_number
from gfocal.export.formats import CalibrationImages
from gfocal.exported.contract import Precision
from gfocal.images.reading import read_array
from gfocal.prediction.search import search_images
from gfocal.runs.datasets import open_measured, spread_rows
from gfocal.utils.text import Say, counted, say_lines

IMAGES = 16
"""Generated images that a proof looks at."""
DATA_IMAGES = 100
"""Images of a data set that it looks at, at most."""
CALIBRATION_IMAGES = 300
"""Images that INT8 is calibrated with, at most."""
FEW = 30
"""With fewer the ranges of INT8 depend on which images they are: `gfocal export` says so."""
_SCENE = 320  # pixels


@dataclass(frozen=True)
class LookedAt:
    """Images to prove a file on."""

    images: list[Path]
    words: str
    index: DataIndex | None = None  # their labels, in the detector's classes
    broken: tuple[Path, ...] = ()  # that were left out

    def part(self, rows: np.ndarray, words: str) -> LookedAt:
        """Some of the images, in their order."""
        return LookedAt(
            [self.images[i] for i in rows.tolist()], words, None if self.index is None else self.index.take(rows)
        )


def unlabelled_images(data: Path, most: int | None) -> LookedAt:
    """Images of files, a folder or a pattern, at most so many, to prove a file on.

    Raises:
        UsageError: there are none.
    """
    every = list(search_images([data]).images)  # by name: the first ones may be of one day, or one camera
    found = [every[i] for i in spread_rows(len(every), most or DATA_IMAGES).tolist()]
    return LookedAt(found, f"{counted(len(found), 'image')} of {data}, without labels")


def generated_images(folder: Path, most: int | None) -> LookedAt:
    """Images to prove a file on, written into a folder."""
    count = most or IMAGES
    make_scenes(folder / "scenes", train=0, val=count, size=_SCENE)
    images = sorted((folder / "scenes" / "images").glob("*.jpg"))
    return LookedAt(images, f"{counted(count, 'generated image')} of {_SCENE}x{_SCENE} pixels")


@dataclass(frozen=True)
class ProofData:
    """What is asked of the images of a proof.

    Attributes:
        data: a data set, or image files, folders or patterns.
        model: what is exported; its run may have set images of the data apart.
        split: of the data set.
        samples: images of the proof, at most; None: as many as there should be.
        skip_broken: leave out annotations and images that are broken, and say so.
    """

    data: Path
    model: Path
    split: Split = "val"
    samples: int | None = None
    skip_broken: bool = False


def proof_images(asked: ProofData, detector: DenseDetector, say: Say | None = None) -> LookedAt:
    """Images to prove a file on, with labels in the detector's classes where there are such.

    Args:
        asked: which ones.
        detector: that is exported.
        say: called with lines about how the data are understood.

    Raises:
        BrokenInputError: an annotation is broken.
        UsageError: there are no images.
    """
    try:
        index = _index(asked, asked.split, say)
    except BrokenInputError:
        raise
    except UsageError as error:
        try:  # images without labels are enough for all but AP
            unlabelled = unlabelled_images(asked.data, asked.samples)
        except UsageError:
            raise error from None
        return _readable(unlabelled, asked, detector, say)
    if not len(index):
        raise UsageError(f"{asked.data} lists no pictures: there is nothing to prove the file on")
    index = index.take(spread_rows(len(index), asked.samples or DATA_IMAGES))
    paths = [index.path(i) for i in range(len(index))]
    words = f"{counted(len(index), 'image')} of {asked.split} of {asked.data}"
    classes = compare_classes(index.names, np.asarray(index.labels), detector.names)
    if not classes.common:
        say_lines(["the data have none of the detector's classes: AP is not measured"], say)
        return _readable(LookedAt(paths, words), asked, detector, say)
    return _readable(LookedAt(paths, words, keep_classes(index, detector.names)), asked, detector, say)


def check_calibration(precision: Precision, data: Path | None, calibration: int | None) -> None:
    """Raises: UsageError: INT8 without images to calibrate with, or a number of them for another precision."""
    if precision != "int8":
        if calibration is not None:
            raise UsageError("--calibration is the number of images that INT8 is calibrated with: add --precision int8")
        return
    if data is None:
        raise UsageError(
            "INT8 is calibrated with images of the kind that the detector will see: give --data, a data set or images"
        )
    if calibration is not None:
        require_number("calibration", calibration, least=1, whole=True)


def calibration_images(
    looked_at: LookedAt, asked: ProofData, most: int, detector: DenseDetector, say: Say | None = None
) -> tuple[LookedAt, CalibrationImages]:
    """Images of the proof, and others to calibrate INT8 with: what a file was fitted to proves nothing.

    Calibrated is with the train split where there is one. Where there is none, or the proof looks at it, the proof
    leaves at least half of the images over.

    Raises:
        UsageError: there are not two images.
    """
    pool, words = _pool(asked)
    others = _others(pool, [*looked_at.images, *looked_at.broken])
    if len(others) < len(pool) / 2 or not pool:  # they are images of the proof
        words = f"{asked.data}, those that the proof does not look at"
        both = len(looked_at.images) + len(others)
        keep = min(both // 2, len(looked_at.images))
        if not keep:
            raise UsageError(f"{asked.data} has one picture: INT8 is calibrated with some and proved on others")
        rows = spread_rows(len(looked_at.images), keep)
        others += [looked_at.images[i] for i in np.setdiff1d(np.arange(len(looked_at.images)), rows).tolist()]
        looked_at = looked_at.part(rows, f"{counted(keep, 'image')} of {asked.data}")
    some = LookedAt([others[i] for i in spread_rows(len(others), most).tolist()], words)
    chosen = _readable(some, asked, detector, say)
    count = len(chosen.images)
    if count < FEW:
        line = f"note: INT8 is calibrated with {counted(count, 'picture')}: values that these do not show are cut off"
        say_lines([f"{line}; {CALIBRATION_IMAGES} of every kind are usual"], say)
    return looked_at, CalibrationImages(chosen.images, f"{counted(count, 'image')} of {words}")


def _index(asked: ProofData, split: Split, say: Say | None, *, skip_broken: bool = False) -> DataIndex:
    skip = asked.skip_broken or skip_broken
    return open_measured(str(asked.model), asked.data, split, format=None, skip_broken=skip, say=say)


def _pool(asked: ProofData) -> tuple[list[Path], str]:
    """Images to calibrate with, and what they are: of the train split, or without labels."""
    try:
        index = _index(asked, "train", None, skip_broken=True)  # labels are of no use here
    except UsageError:
        with suppress(UsageError):
            return list(search_images([asked.data]).images), f"{asked.data}, without labels"
        return [], ""
    return [index.path(i) for i in range(len(index))], f"train of {asked.data}"


def _others(pool: Sequence[Path], images: Sequence[Path]) -> list[Path]:
    taken = {os.path.realpath(path) for path in images}
    return [path for path in pool if os.path.realpath(path) not in taken]


def _readable(looked_at: LookedAt, asked: ProofData, detector: DenseDetector, say: Say | None) -> LookedAt:
    """All of them; with ``skip_broken`` those that can be read.

    Raises:
        UsageError: none can.
    """
    if not asked.skip_broken:
        return looked_at
    kept, broken, lines = list[int](), list[Path](), list[str]()
    for row, path in enumerate(looked_at.images):
        try:
            read_array(path, value_range=detector.value_range)
        except BrokenInputError as error:
            broken.append(path)
            lines.append(f"left out: {error}")
        else:
            kept.append(row)
    if not kept:
        raise UsageError(f"none of {looked_at.words} can be read; the first: {lines[0]}")
    say_lines(lines, say)
    words = f"{looked_at.words}, without {counted(len(lines), 'broken one')}" if lines else looked_at.words
    return replace(looked_at.part(np.array(kept), words), broken=tuple(broken))

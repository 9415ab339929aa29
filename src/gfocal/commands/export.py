"""`gfocal export`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gfocal.catalogue.resolve import model_path
from gfocal.data.formats.open import Split
from gfocal.data.index.class_match import compare_classes
from gfocal.data.index.data_index import DataIndex
from gfocal.data.index.rename import keep_classes
from gfocal.data.scenes.generate import make_scenes
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError, require_number
from gfocal.export.formats import (
    CalibrationImages,
    ExportOptions,
    fixed_shape,
    held_calibration,
    write_detector,
)
from gfocal.export.places import named_after, page_place, place_of
from gfocal.export.proof import Proof, prove
from gfocal.export.trace import OPEN, GraphShape
from gfocal.export.web.page import write_page
from gfocal.export.web.runtime import WebRuntime, web_runtime
from gfocal.exported.contract import Precision, Suppression
from gfocal.exported.open import files_of
from gfocal.images.resizing import Resize
from gfocal.prediction.search import search_images
from gfocal.runs.checkpoint import load_detector
from gfocal.runs.datasets import open_measured, spread_rows
from gfocal.utils.files import explained_writing, new_file_mode, write_atomically
from gfocal.utils.locks import locked_file
from gfocal.utils.progress import ProgressBar, notice
from gfocal.utils.records import FLAT, IF_ANY, to_json
from gfocal.utils.text import Say, counted, say_lines

IMAGES = 16
"""Generated images that a proof looks at."""
DATA_IMAGES = 100
"""Images of a data set that it looks at, at most."""
CALIBRATION_IMAGES = 300
"""Images that INT8 is calibrated with, at most."""
_SCENE = 320  # pixels


@dataclass(frozen=True)
class ExportReport:
    """What an export came to.

    Attributes:
        proof: the comparison with the detector.
        path: the exported file; with ``drift`` in its name if it is not as it should be and nobody allowed that.
        parity: the proof as a JSON file beside it.
        kept: whether the file has the name that was asked for.
        page: what a browser opens; None for other formats, and where the file is not kept.
    """

    proof: Proof = field(metadata=FLAT)
    path: Path
    parity: Path
    kept: bool
    page: Path | None = field(default=None, metadata=IF_ANY)


def export_files(
    model: str,
    *,
    out: Path | None = None,
    format: str = "onnx",
    precision: Precision = "fp32",
    nms: Suppression | None = None,
    static: str | None = None,
    opset: int | None = None,
    edge_probs: bool = False,
    runtime: Path | None = None,
    data: Path | None = None,
    split: Split = "val",
    samples: int | None = None,
    calibration: int | None = None,
    allow_drift: bool = False,
    overrides: Sequence[str] = (),
    say: Say | None = None,
) -> ExportReport:
    """Write a detector for another runtime, run the file by that beside the detector, and say how far they are apart.

    Args:
        model: a MODEL, see :func:`gfocal.catalogue.resolve.model_path`.
        out: the file, or the folder of a page; by default beside the weights, with the ending of the format; of
            published weights and of the hub in the current folder, with their name.
        format: "web" for a page with an ONNX file inside; else as ``precision``, ``opset`` and ``edge_probs`` see
            :class:`gfocal.export.formats.ExportOptions`.
        nms: as there; None: in the graph, but for a page, which suppresses by itself.
        static: a fixed shape, see :func:`gfocal.export.formats.fixed_shape`; None: any batch and size, but for a page
            of a detector of one size, which looks at one image at a time.
        runtime: of a page, see :func:`gfocal.export.web.runtime.web_runtime`.
        data: a data set, or image files, to prove it on; by default generated images.
        split: of the data set.
        samples: images to prove it on, at most; by default 16 generated ones, or 100 of ``data``.
        calibration: images that INT8 is calibrated with, at most, by default 300: of the train split of ``data`` where
            it has one, and none that the proof looks at.
        allow_drift: keep a file under its name that is farther from the detector than it should be.
        overrides: recipe keys; of ``model`` only ``pixels``.
        say: called with lines about how the data are understood.

    Raises:
        UsageError: the model, options or data do not fit; or a package is missing. Nothing is written then.
    """
    if samples is not None:
        require_number("samples", samples, least=1, whole=True)
    _check_calibration(precision, data, calibration)
    web = format == "web"
    _check_page(web, nms, edge_probs, runtime)
    found = model_path(model)
    detector, recipe, about = load_detector(found, overrides)
    if about.calibration is not None and held_calibration(about, detector) is None:
        say_lines(["note: the calibration is left out: it was made with another data.resize or other tiles"], say)
    shape = _shape(static, detector.resize, web)
    options = ExportOptions(
        "onnx" if web else format, precision, nms or ("out" if web else "in"), shape, opset, edge_probs
    )
    beside = named_after(model, found)
    title = Path(model).name if Path(model).is_dir() else beside.stem
    out = page_place(beside, out, options) if web else place_of(beside, out, options)
    runs_it = web_runtime(runtime, say or notice) if web else None
    with ExitStack() as stack:
        stack.enter_context(locked_file(out))
        shown = stack.enter_context(tempfile.TemporaryDirectory())
        looked_at = _images(data, found, detector, Path(shown), split, samples, say)
        chosen = None
        if precision == "int8" and data is not None:
            looked_at, chosen = _apart(looked_at, data, found, samples, calibration or CALIBRATION_IMAGES)
        folder = stack.enter_context(_beside(out))
        file = Path(folder) / out.name
        with explained_writing(out):
            write_detector(detector, recipe, about, options, file, chosen)
        with ProgressBar(len(looked_at.images), "proving") as bar:
            proof = prove(
                detector,
                file,
                looked_at.images,
                data=looked_at.words,
                index=looked_at.index,
                progress=bar.callback,
            )
        kept = proof.holds or allow_drift
        place = out if kept else out.with_name(f"{out.stem}.drift{out.suffix}")
        report = _keep(file, proof, place, kept)
        return report if runs_it is None or not kept else _with_page(report, runs_it, title)


def _check_page(web: bool, nms: Suppression | None, edge_probs: bool, runtime: Path | None) -> None:
    """Refuse what a page does not do, and what only a page has."""
    if web and nms not in (None, "out"):
        raise UsageError(f"a page suppresses by itself: format web takes --nms out alone, got {nms}")
    if web and edge_probs:
        raise UsageError("a page shows the spread of each edge, not its distribution: leave --edge-probs away")
    if runtime is not None and not web:
        raise UsageError("--runtime is for format web alone")


def _shape(static: str | None, resize: Resize, web: bool) -> GraphShape:
    if static is None and web:  # one image at a time; WebGPU is quicker where it knows the size
        return fixed_shape("1", resize) if resize.kind == "square" else GraphShape(batch=1)
    return OPEN if static is None else fixed_shape(static, resize)


def _with_page(report: ExportReport, runs_it: WebRuntime, title: str) -> ExportReport:
    return replace(report, page=write_page(report.path, report.proof.info, runs_it, title or report.path.stem))


def _beside(out: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder on the same disk, so that the file is moved in one step."""
    with explained_writing(out):
        return tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent)


def _keep(file: Path, proof: Proof, place: Path, kept: bool) -> ExportReport:
    parity = place.with_name(f"{place.name}.parity.json")
    report = ExportReport(proof=proof, path=place, parity=parity, kept=kept)
    with explained_writing(place):
        for part, goal in zip(files_of(file), files_of(place), strict=True):
            os.chmod(part, new_file_mode())
            with part.open("rb") as written:
                os.fsync(written.fileno())
            os.replace(part, goal)
    content = json.dumps(to_json(report), indent=2, allow_nan=False) + "\n"
    write_atomically(parity, lambda part: part.write_text(content, encoding="utf-8"))
    return report


@dataclass(frozen=True)
class LookedAt:
    """Images to prove a file on."""

    images: list[Path]
    words: str
    index: DataIndex | None = None  # their labels, in the detector's classes

    def part(self, rows: np.ndarray, words: str) -> LookedAt:
        """Some of the images, in their order."""
        return LookedAt(
            [self.images[i] for i in rows.tolist()], words, None if self.index is None else self.index.take(rows)
        )


def images_for_proof(data: Path | None, folder: Path, most: int | None) -> LookedAt:
    """Images without labels to prove a file on.

    Args:
        data: files, folders or patterns; None generates them.
        folder: where generated ones go.
        most: their number.

    Raises:
        UsageError: there are none.
    """
    if data is not None:
        every = list(search_images([data]).images)  # by name: the first ones may be of one day, or one camera
        found = [every[i] for i in spread_rows(len(every), most or DATA_IMAGES).tolist()]
        return LookedAt(found, f"{counted(len(found), 'image')} of {data}, without labels")
    count = most or IMAGES
    make_scenes(folder / "scenes", train=0, val=count, size=_SCENE)
    images = sorted((folder / "scenes" / "images").glob("*.jpg"))
    return LookedAt(images, f"{counted(count, 'generated image')} of {_SCENE}x{_SCENE} pixels")


def _images(
    data: Path | None,
    model: Path,
    detector: DenseDetector,
    folder: Path,
    split: Split,
    most: int | None,
    say: Say | None,
) -> LookedAt:
    if data is None:
        return images_for_proof(None, folder, most)
    most = most or DATA_IMAGES
    try:
        index = open_measured(str(model), data, split, format=None, skip_broken=False, say=say)
    except UsageError as error:
        try:  # images without labels are enough for all but AP
            return images_for_proof(data, folder, most)
        except UsageError:
            raise error from None
    if not len(index):
        raise UsageError(f"{data} lists no pictures: there is nothing to prove the file on")
    index = index.take(spread_rows(len(index), most))
    paths = [index.path(i) for i in range(len(index))]
    words = f"{counted(len(index), 'image')} of {split} of {data}"
    classes = compare_classes(index.names, np.asarray(index.labels), detector.names)
    if not classes.common:
        say_lines(["the data have none of the detector's classes: AP is not measured"], say)
        return LookedAt(paths, words)
    return LookedAt(paths, words, keep_classes(index, detector.names))


def _check_calibration(precision: Precision, data: Path | None, calibration: int | None) -> None:
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


def _apart(
    looked_at: LookedAt, data: Path, model: Path, samples: int | None, most: int
) -> tuple[LookedAt, CalibrationImages]:
    """Images of the proof, and others to calibrate INT8 with: what a file was fitted to proves nothing.

    Calibrated is with the train split where there is one. Where there is none, or it is what the proof looks at, the
    proof leaves at least half of the images over.

    Raises:
        UsageError: there are not two images.
    """
    pool, words = _pool(data, model)
    if not _others(pool, looked_at.images):
        pool, words = looked_at.images, f"{data}, those that the proof does not look at"
        keep = min(len(pool) // 2, samples or DATA_IMAGES)
        if not keep:
            raise UsageError(f"{data} has one picture: INT8 is calibrated with some and proved on others")
        looked_at = looked_at.part(spread_rows(len(pool), keep), f"{counted(keep, 'image')} of {data}")
    pool = _others(pool, looked_at.images)
    chosen = [pool[i] for i in spread_rows(len(pool), most).tolist()]
    return looked_at, CalibrationImages(chosen, f"{counted(len(chosen), 'image')} of {words}")


def _pool(data: Path, model: Path) -> tuple[list[Path], str]:
    """Images to calibrate with, and what they are: of the train split, or without labels."""
    try:
        index = open_measured(str(model), data, "train", format=None, skip_broken=True)
    except UsageError:
        with suppress(UsageError):
            return list(search_images([data]).images), f"{data}, without labels"
        return [], ""
    return [index.path(i) for i in range(len(index))], f"train of {data}"


def _others(pool: Sequence[Path], images: Sequence[Path]) -> list[Path]:
    taken = {os.path.realpath(path) for path in images}
    return [path for path in pool if os.path.realpath(path) not in taken]

"""`gfocal export`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from gfocal.catalogue.resolve import model_path
from gfocal.commands.export.images import (
    CALIBRATION_IMAGES,
    LookedAt,
    ProofData,
    calibration_images,
    check_calibration,
    generated_images,
    proof_images,
)
from gfocal.data.formats.open import Split
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError, require_number
from gfocal.export.formats import ExportOptions, fixed_shape, held_calibration, write_detector
from gfocal.export.places import named_after, page_place, place_of
from gfocal.export.proof import Proof, prove
from gfocal.export.trace import OPEN, GraphShape
from gfocal.export.web.page import write_page
from gfocal.export.web.runtime import WebRuntime, web_runtime
from gfocal.exported.contract import Precision, Suppression
from gfocal.exported.open import files_of
from gfocal.images.resizing import Resize
from gfocal.runs.checkpoint import load_detector
from gfocal.utils.files import explained_writing, new_file_mode
from gfocal.utils.locks import locked_file
from gfocal.utils.progress import ProgressBar, notice
from gfocal.utils.records import FLAT, IF_ANY, to_json
from gfocal.utils.text import Say, say_lines


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
    skip_broken: bool = False,
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
        skip_broken: leave out annotations and images of ``data`` that are broken, and say so, instead of stopping.
        allow_drift: keep a file under its name that is farther from the detector than it should be.
        overrides: recipe keys; of ``model`` only ``pixels``.
        say: called with lines about how the data are understood.

    Raises:
        BrokenInputError: an annotation or image of ``data`` is broken, unless ``skip_broken``.
        UsageError: the model, options or data do not fit; or a package is missing. Nothing is written then.
    """
    if samples is not None:
        require_number("samples", samples, least=1, whole=True)
    check_calibration(precision, data, calibration)
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
        chosen = None
        if data is None:
            looked_at = generated_images(Path(shown), samples)
        else:
            asked = ProofData(data, found, split, samples, skip_broken)
            looked_at = proof_images(asked, detector, say)
            if precision == "int8":
                most = calibration or CALIBRATION_IMAGES
                looked_at, chosen = calibration_images(looked_at, asked, most, detector, say)
        folder = stack.enter_context(_beside(out))
        file = Path(folder) / out.name
        with explained_writing(out):
            write_detector(detector, recipe, about, options, file, chosen)
        proof = _proved(detector, file, looked_at)
        kept = proof.holds or allow_drift
        place = out if kept else out.with_name(f"{out.stem}.drift{out.suffix}")
        report = _keep(file, proof, place, kept)
        return report if runs_it is None or not kept else _with_page(report, runs_it, title)


def _proved(detector: DenseDetector, file: Path, on: LookedAt) -> Proof:
    with ProgressBar(len(on.images), "proving") as bar:
        return prove(detector, file, on.images, data=on.words, index=on.index, progress=bar.callback)


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
    """A folder on the same disk, so that the file is moved in one step.

    It has the longest name of all that is written there: one that the disk does not take is told now, not at the end.
    """
    with explained_writing(out):
        return tempfile.TemporaryDirectory(prefix=f".{out.name}.drift.parity.json.", dir=out.parent)


def _keep(file: Path, proof: Proof, place: Path, kept: bool) -> ExportReport:
    parity = place.with_name(f"{place.name}.parity.json")
    report = ExportReport(proof=proof, path=place, parity=parity, kept=kept)
    content = json.dumps(to_json(report), indent=2, allow_nan=False) + "\n"
    with explained_writing(place):
        told = file.with_name("parity.json")  # whole before the file takes its name
        told.write_text(content, encoding="utf-8")
        os.chmod(told, new_file_mode())
        for part, goal in zip(files_of(file), files_of(place), strict=True):
            os.chmod(part, new_file_mode())
            with part.open("rb") as written:
                os.fsync(written.fileno())
            os.replace(part, goal)
        os.replace(told, parity)
    return report

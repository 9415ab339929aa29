"""From files to detections: finding images, drawing and writing what was found."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

import numpy as np
from PIL import Image

import gfocal
from gfocal.detections import Detections
from gfocal.errors import BrokenInputError, UsageError, require_number, require_path
from gfocal.exported.detector import ExportedDetector
from gfocal.images.drawing import PARTS, Part, draw
from gfocal.images.reading import read_array
from gfocal.prediction.remarks import Remarks, nothing_read, reasons_of
from gfocal.prediction.search import RESULTS
from gfocal.utils.allocation import kept_memory
from gfocal.utils.files import explained_writing, real_path, write_atomically
from gfocal.utils.locks import locked_folder

if TYPE_CHECKING:  # an exported file is used where torch is not
    from gfocal.detector import DenseDetector

_WRITTEN_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Prediction:
    """What :func:`predict` did.

    Attributes:
        drawings: the drawn images written.
        results: the COCO JSON file.
        num_detections: in all images.
        skipped: one line for each image that could not be read.
        left_out: images given that are drawings of an earlier call.
        num_images: that were looked at.
        passed_over: lines about files, folders and frames that were found and are not read.
        warnings: lines about images that were read, and hardly as they should be.
        reasons: what ``skipped`` says, one line for each reason with the first files and their number.
    """

    drawings: tuple[Path, ...]
    results: Path
    num_detections: int
    skipped: tuple[str, ...]
    left_out: tuple[Path, ...] = ()
    num_images: int = 0
    passed_over: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


def predict(
    detector: DenseDetector | ExportedDetector,
    images: Sequence[str | Path],
    out: str | Path,
    *,
    score_threshold: float | None = 0.3,
    category_ids: Sequence[int] | None = None,
    precision: str = "fp32",
    batch_size: int = 8,
    parts: Sequence[Part] = PARTS,
    line_width: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Find objects in image files; write a drawing of each and one ``predictions.json`` into ``out``.

    The JSON is in COCO's format (images, annotations, categories); each annotation also has a score and, where the
    boxes have it, edge_std: the standard deviation of left, top, right, bottom in pixels of the image. A calibrated
    detector adds score_calibrated, the chance that the box is right, and edge_interval: the lowest and the highest
    position of left, top, right, bottom in pixels, at edge_level.

    Args:
        detector: what looks for objects: what :func:`gfocal.load` gives, of an exported file too.
        images: files, see :func:`gfocal.find_images` for those of folders and patterns. One that cannot be read is
            left out, unless none is left; so is what an earlier call drew, into ``out`` or beside the images.
        out: a folder, made where missing. Files in it are replaced only if an earlier call wrote them.
        score_threshold: in [0, 1); None takes the detector's own.
        category_ids: the data set's id of each class; by default 1..C.
        precision: "fp32", "bf16" or "fp16" (autocast); an exported file has its own.
        batch_size: tiles a forward pass, where the detector has a ``tiling``.
        parts: what is drawn of each detection, see :func:`gfocal.draw`; without any no drawings are written.
        line_width: of the drawings, in their pixels; by default what suits each.
        progress: called with (images done, images in all).

    Raises:
        BrokenInputError: no image can be read; it is about the first.
        UsageError: ``out`` cannot be written to, no images are given or all of them are drawings of an earlier call,
            or ``images`` is one path and no list.
    """
    given = _checked_images(images)
    require_path("out", out)
    require_number("batch_size", batch_size, least=1, whole=True)
    if score_threshold is not None:
        require_number("score_threshold", score_threshold, least=0, below=1)
    if category_ids is not None:
        _check_ids(category_ids, len(detector.names))
    _check_precision(detector, precision)
    out = Path(out)
    on_cpu = not isinstance(detector, ExportedDetector) and detector.device.type == "cpu"
    with locked_folder(out), kept_memory(on_cpu):
        return _predict(
            given,
            out,
            search=_Search(detector, score_threshold=score_threshold, precision=precision, batch_size=batch_size),
            drawn=_Drawn(parts=parts, line_width=line_width),
            category_ids=category_ids,
            progress=progress,
        )


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """How detections are drawn; without ``parts`` they are not."""

    parts: Sequence[Part]
    line_width: int | None

    def on(self, image: np.ndarray, found: Detections) -> Image.Image:
        return draw(image, found, parts=self.parts, line_width=self.line_width)


@dataclass(frozen=True)
class _Search:
    """A detector, and how it looks at an image."""

    detector: DenseDetector | ExportedDetector
    _: KW_ONLY
    score_threshold: float | None
    precision: str
    batch_size: int

    def find(self, image: np.ndarray) -> Detections:
        detector = self.detector
        if isinstance(detector, ExportedDetector):
            return detector.predict(image, score_threshold=self.score_threshold, batch_size=self.batch_size)
        from gfocal.runtime.precision import autocast

        with autocast(detector.device, self.precision):
            return detector.predict(image, score_threshold=self.score_threshold, batch_size=self.batch_size)


def _check_precision(detector: DenseDetector | ExportedDetector, precision: str) -> None:
    if isinstance(detector, ExportedDetector):
        if precision != "fp32":
            raise UsageError(f"an exported file has its own precision: leave precision={precision!r} away")
        return
    from gfocal.runtime.precision import require_precision

    require_precision(precision)


def _predict(
    given: Sequence[Path],
    out: Path,
    *,
    search: _Search,
    drawn: _Drawn,
    category_ids: Sequence[int] | None,
    progress: Callable[[int, int], None] | None,
) -> Prediction:
    detector, names = search.detector, _OutputNames(out, given)
    inputs = names.inputs
    if not inputs:
        raise UsageError("all pictures given are drawings of an earlier call; give the pictures themselves")
    records: list[_Image] = []
    annotations: list[_Annotation] = []
    broken: list[BrokenInputError] = []
    remarks = Remarks(detector.value_range)
    for done, path in enumerate(inputs, start=1):
        try:
            image = read_array(path, value_range=detector.value_range)
        except BrokenInputError as error:
            broken.append(error)
        else:
            remarks.look(path, image)
            remarks.found(found := search.find(image))
            height, width = image.shape[:2]
            image_id = len(records) + 1
            record = _Image(id=image_id, file_name=path.as_posix(), width=width, height=height)
            if drawn.parts:
                drawing = names.take(path)
                _save(drawn.on(image, found), drawing)
                record["drawing"] = drawing.name
            records.append(record)
            annotations += _annotations(found, image_id, len(annotations) + 1, category_ids)
        if progress is not None:
            progress(done, len(inputs))
    if broken and not records:
        raise nothing_read(broken)
    content = {
        "info": {"generator": "gfocal predict", "version": gfocal.__version__, "written": names.written()},
        "images": records,
        "annotations": annotations,
        "categories": _categories(detector.names, category_ids),
    }
    write_atomically(out / RESULTS, lambda file: _write_json(file, content))
    drawings = tuple(out / record["drawing"] for record in records if "drawing" in record)
    left_out = tuple(path for path in given if path not in inputs)
    return Prediction(
        *(drawings, out / RESULTS, len(annotations), tuple(map(str, broken)), left_out, len(records)),
        passed_over=tuple(remarks.passed_over()),
        warnings=tuple(remarks.warnings()),
        reasons=tuple(reasons_of(broken)),
    )


def _categories(names: Sequence[str], category_ids: Sequence[int] | None) -> list[dict[str, int | str]]:
    ids = range(1, len(names) + 1) if category_ids is None else category_ids
    return [{"id": int(i), "name": name} for i, name in zip(ids, names, strict=True)]


def _checked_images(images: object) -> list[Path]:
    if isinstance(images, str | Path):  # a text is a sequence too, of letters
        raise UsageError(f"pictures must be a list of files, such as [{str(images)!r}], not a single path")
    if not isinstance(images, Iterable):
        raise UsageError(f"pictures must be a list of files, not {type(images).__name__}")
    given = list(images)
    if not given:
        raise UsageError("no pictures were given: there is nothing to look at")
    for path in given:
        require_path("a picture", path)
    return [Path(path) for path in given]


def _check_ids(category_ids: object, classes: int) -> None:
    if isinstance(category_ids, str) or not isinstance(category_ids, Sequence) or len(category_ids) != classes:
        raise UsageError(
            f"category_ids must be a list of {classes} whole numbers, one for each class, got {category_ids}"
        )
    for number in category_ids:
        require_number("each of category_ids", number, whole=True)


class _Image(TypedDict):
    """One entry of ``images``; ``drawing`` is a file beside the results, if there is one."""

    id: int
    file_name: str
    width: int
    height: int
    drawing: NotRequired[str]


class _Annotation(TypedDict):
    """One entry of ``annotations``: what :meth:`gfocal.structures.Detections.to_coco` gives, and what COCO adds."""

    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    score: float
    edge_std: NotRequired[list[float]]
    score_calibrated: NotRequired[float]
    edge_interval: NotRequired[list[list[float]]]
    edge_level: NotRequired[float]
    area: float
    iscrowd: int


def _annotations(
    found: Detections, image_id: int, first_id: int, category_ids: Sequence[int] | None
) -> list[_Annotation]:
    return [
        {"id": number, **entry, "area": round(entry["bbox"][2] * entry["bbox"][3], 3), "iscrowd": 0}
        for number, entry in enumerate(found.to_coco(image_id, category_ids), start=first_id)
    ]


def _write_json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, allow_nan=False, separators=(",", ":")), encoding="utf-8")


def _save(drawing: Image.Image, path: Path) -> None:
    with explained_writing(path):
        drawing.save(path, quality=92)


class _NotOurs(Exception):
    """A file of results that another program wrote, or a damaged one."""


def _written_into(folder: Path) -> set[str]:
    """The names of the drawings that earlier calls wrote into a folder."""
    file = folder / RESULTS
    if not file.exists():
        return set()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["info"]["generator"] == "gfocal predict":
            return {str(name) for name in content["info"]["written"]}
    except (ValueError, KeyError, TypeError):
        pass
    raise _NotOurs


class _OutputNames:
    """Names in the output folder: never an input, never a file of somebody else, never one twice."""

    def __init__(self, out: Path, inputs: Sequence[Path]) -> None:
        self.out = out
        existing = {p.name for p in out.iterdir()}
        self.ours = self._written_before() & existing
        real = {p: Path(os.path.realpath(p)) for p in inputs}  # Path.resolve fails on a link to itself.
        drawn = {real_path(out) / name for name in self.ours}
        for folder in {path.parent for path in real.values()}:
            with suppress(OSError, _NotOurs):
                drawn |= {folder / name for name in _written_into(folder)}
        self.inputs = [p for p in inputs if real[p] not in drawn]
        # Lower case, since file systems exist on which x.JPG and x.jpg are one file.
        self.taken = {name.lower() for name in existing - self.ours} | {RESULTS}
        self.taken |= {real[p].name.lower() for p in self.inputs if real[p].parent == real_path(out)}

    def _written_before(self) -> set[str]:
        try:
            return _written_into(self.out)
        except (OSError, _NotOurs):
            raise UsageError(f"{self.out / RESULTS} was not written by gfocal predict; give another --out") from None

    def take(self, path: Path) -> Path:
        suffix = path.suffix.lower() if path.suffix.lower() in _WRITTEN_SUFFIXES else ".png"
        name, number = f"{path.stem}{suffix}", 1
        while name.lower() in self.taken:
            number += 1
            name = f"{path.stem}-{number}{suffix}"
        self.taken.add(name.lower())
        self.ours.add(name)
        return self.out / name

    def written(self) -> list[str]:
        """The drawings in the folder, earlier calls' too: another call may replace them."""
        return sorted(self.ours)

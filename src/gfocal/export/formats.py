"""The formats, one line each, and what all of them share: from a detector to a file."""

from __future__ import annotations

import copy
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

import gfocal
from gfocal.calibration.stored import Calibration
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.export.graph import DetectorGraph
from gfocal.export.int8 import Batch, Int8
from gfocal.export.suppression import Suppress
from gfocal.export.trace import OPEN, GraphShape, entering, output_names, trace
from gfocal.exported.contract import (
    INPUTS,
    MULTIPLE,
    ExportInfo,
    Precision,
    ResizeRule,
    Suppression,
    Thresholds,
    TileRule,
)
from gfocal.exported.onnx_file import OLDEST_OPSET
from gfocal.images.io import read_image
from gfocal.images.resizing import Resize
from gfocal.models import PostProcess
from gfocal.models.deformable import DeformableConv
from gfocal.models.protocols import KINDS
from gfocal.recipe import Recipe
from gfocal.recipe.forms import NECKS
from gfocal.runs.checkpoint import CheckpointInfo

DEFORMABLE_OPSET = 19
"""Of ONNX, that has deformable convolutions first."""
LICENCE = "the licence of the weights is that of what they were trained from; gfocal itself is Apache-2.0"


EXTRAS = {"onnx": "onnx", "onnxscript": "onnx", "onnxruntime": "onnx", "openvino": "openvino", "nncf": "int8"}
"""Of gfocal, by the package that they bring."""


class Writer(Protocol):
    """A module that writes a format."""

    def best(self, values: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Of each row, of equal ones the first, as the format is quickest: a :data:`gfocal.export.ranking.Best`."""
        ...

    def suppression(self, post: PostProcess, classes: int) -> Suppress:
        """Non-maximum suppression as the format says it best."""
        ...

    def write(self, program: ExportedProgram, info: ExportInfo, file: Path, int8: Int8 | None = None) -> ExportInfo:
        """Write a traced graph, with what it says about itself; that is given back, with what became of ``int8``."""
        ...


@dataclass(frozen=True)
class ExportFormat:
    """A format.

    Attributes:
        suffix: of its files; what runs them is in :data:`gfocal.exported.open.SESSIONS`.
        module: what writes it, a :class:`Writer`; named, not imported.
        precisions: that it has.
        packages: that writing and proving take.
        int8_packages: what INT8 takes beside them.
        opsets: oldest, usual and newest; None where there is no such thing.
    """

    suffix: str
    module: str
    precisions: tuple[Precision, ...]
    packages: tuple[str, ...] = ()
    int8_packages: tuple[str, ...] = ()
    opsets: tuple[int, int, int] | None = None

    def writer(self, precision: Precision) -> Writer:
        """Raises: UsageError: a package is missing."""
        needed = self.packages + (self.int8_packages if precision == "int8" else ())
        missing = [name for name in needed if not _has(name)]
        if missing:
            extras = ",".join(dict.fromkeys(EXTRAS[name] for name in missing))
            raise UsageError(f"{precision} of this format needs {', '.join(missing)}: pip install 'gfocal[{extras}]'")
        return cast(Writer, importlib.import_module(self.module))


FORMATS: dict[str, ExportFormat] = {
    "onnx": ExportFormat(
        ".onnx",
        "gfocal.export.onnx_file",
        ("fp32", "fp16", "int8"),
        ("onnx", "onnxscript", "onnxruntime"),
        opsets=(OLDEST_OPSET, 20, 23),
    ),
    "pt2": ExportFormat(".pt2", "gfocal.export.pt2_file", ("fp32", "fp16")),
    "openvino": ExportFormat(
        ".xml",
        "gfocal.export.openvino_file",
        ("fp32", "fp16", "bf16", "int8"),
        ("onnx", "onnxscript", "openvino"),
        ("nncf",),
    ),
}


@dataclass(frozen=True)
class CalibrationImages:
    """Image files that INT8 is calibrated with, and what they are, in words."""

    images: Sequence[Path]
    words: str


@dataclass(frozen=True)
class ExportOptions:
    """What is asked of an export.

    Attributes:
        format: a name of :data:`FORMATS`.
        precision: of the network.
        nms: suppression, see :class:`gfocal.exported.contract.ExportInfo`.
        shape: what is fixed of the batch.
        opset: of ONNX; None: the usual one.
        edge_probs: give the distributions of the edges, too.

    Raises:
        UsageError: no such format, or an opset that it has not.
    """

    format: str = "onnx"
    precision: Precision = "fp32"
    nms: Suppression = "in"
    shape: GraphShape = OPEN
    opset: int | None = None
    edge_probs: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (
            ("format", self.format, tuple(FORMATS)),
            ("nms", self.nms, ("in", "out", "none")),
        ):
            if value not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        precisions = FORMATS[self.format].precisions
        if self.precision not in precisions:
            raise UsageError(
                f"precision of format {self.format} is one of {', '.join(precisions)}, got {self.precision!r}"
            )
        opsets = FORMATS[self.format].opsets
        if self.opset is not None and (opsets is None or not opsets[0] <= self.opset <= opsets[2]):
            what = "has no opset" if opsets is None else f"takes opsets {opsets[0]} to {opsets[2]}"
            raise UsageError(f"format {self.format} {what}, got {self.opset}")


def _check_operators(detector: DenseDetector, opset: int) -> None:
    if opset < DEFORMABLE_OPSET and any(isinstance(module, DeformableConv) for module in detector.modules()):
        raise UsageError(f"deformable convolutions are operators of opset {DEFORMABLE_OPSET} and later, got {opset}")


def held_calibration(about: CheckpointInfo, detector: DenseDetector) -> Calibration | None:
    """What is exported of a checkpoint's calibration: nothing where the detector is used in another way than then."""
    if about.calibration is None:
        return None
    found = Calibration.from_dict(about.calibration, "the checkpoint")
    tile = None if detector.tiling is None else detector.tiling.side
    return None if replace(found, resize_now=asdict(detector.resize), tile_now=tile).unfit else found


def write_detector(
    detector: DenseDetector,
    recipe: Recipe,
    about: CheckpointInfo,
    options: ExportOptions,
    file: Path,
    calibration: CalibrationImages | None = None,
) -> ExportInfo:
    """Write a detector as one file that says what it is.

    Args:
        detector: in evaluation mode, on the CPU.
        recipe: of the detector.
        about: what its checkpoint says.
        options: what is asked for.
        file: the file.
        calibration: what INT8 is calibrated with; None for other precisions.

    Returns:
        What the file says about itself.

    Raises:
        UsageError: the detector has no such form: no edge distributions, a fixed size that is another one, or a size
            that does not hold its images; INT8 without images; or a package is missing.
    """
    form, thresholds = FORMATS[options.format], _thresholds(detector.postprocess)
    writer = form.writer(options.precision)
    if (options.precision == "int8") != (calibration is not None):
        raise UsageError("images to calibrate with are what INT8 needs, and it alone")
    if options.edge_probs and detector.box_coder.edge_probs(torch.zeros(1, detector.box_coder.channels)) is None:
        raise UsageError("the boxes of this detector have no distributions of their edges: leave --edge-probs away")
    if form.opsets is not None:
        _check_operators(detector, options.opset or form.opsets[1])
    shape = _shape(options.shape, recipe, detector.resize)
    half = options.precision == "fp16"
    trust = held_calibration(about, detector)
    needs = () if trust is None else trust.edges.scale.needs
    graph = DetectorGraph(
        _halved(detector) if half else detector,
        writer.suppression(detector.postprocess, len(detector.names)) if options.nms == "in" else None,
        writer.best,
        half=half,
        edge_probs=options.edge_probs or "edge_probs" in needs,
        levels="levels" in needs,
    ).eval()
    program = trace(graph, shape, max(detector.strides))
    info = ExportInfo(
        names=detector.names,
        resize=ResizeRule(**asdict(detector.resize)),
        thresholds=thresholds,
        tiling=None if detector.tiling is None else TileRule(**asdict(detector.tiling)),
        nms=options.nms,
        precision=options.precision,
        outputs=output_names(program),
        batch=shape.batch,
        height=shape.height,
        width=shape.width,
        value_range=detector.value_range,
        category_ids=None if about.category_ids is None else tuple(about.category_ids),
        recipe=recipe.to_dict(),
        versions=_versions(("torch", *form.packages, *(form.int8_packages if calibration else ()))),
        opset=options.opset or (None if form.opsets is None else form.opsets[1]),
        notes=about.notes,
        licence=str(about.notes.get("licence") or LICENCE),
        calibration=None if trust is None else about.calibration,
    )
    int8 = None if calibration is None else _int8(detector, shape, calibration)
    return writer.write(program, info, file, int8)


def _int8(detector: DenseDetector, shape: GraphShape, calibration: CalibrationImages) -> Int8:
    """What quantisers ask for, found through the head's own protocol."""
    # They are views, and start inside the parameters that they are rows of.
    starts = [layer.weight.data_ptr() for kind in KINDS for layer in detector.head.output_layers(kind)]

    def batch_of(path: Path) -> Batch:
        image, size = entering(detector, read_image(path, value_range=detector.value_range), shape)
        many = shape.batch or 1
        images = image.permute(0, 2, 3, 1).expand(many, -1, -1, -1).contiguous()
        return dict(zip(INPUTS, (images.numpy(), np.array([size] * many, np.int64)), strict=True))

    return Int8(
        calibration.images,
        calibration.words,
        batch_of,
        frozenset(
            f"detector.{name}"
            for name, weight in detector.named_parameters()
            if any(0 <= start - weight.data_ptr() < weight.nbytes for start in starts)
        ),
    )


def _thresholds(post: PostProcess) -> Thresholds:
    """What the file does with candidates.

    Raises:
        UsageError: boxes vote, which no file does.
    """
    values = asdict(post)
    if values.pop("voting") is not None:
        raise UsageError("exported files do not vote on edges: export it with --set predict.voting=null")
    return Thresholds(**values)


def _halved(detector: DenseDetector) -> DenseDetector:
    """A copy whose network computes in float16; what decodes and scores does not."""
    own = copy.deepcopy(detector)
    for part in (own.backbone, own.neck, own.head):
        part.half()  # type: ignore[union-attr]
    return own


def _shape(asked: GraphShape, recipe: Recipe, resize: Resize) -> GraphShape:
    """What is fixed: what was asked for, and the size of a network that takes one alone."""
    only = NECKS[recipe.model.neck].image_size
    if only:
        if {asked.height or only, asked.width or only} != {only}:
            raise UsageError(f"neck {recipe.model.neck} takes images of {only}x{only} pixels alone")
        asked = replace(asked, height=only, width=only)
    if asked.height is None and asked.width is None:
        return asked
    for side in (asked.height, asked.width):
        if side is None or side < MULTIPLE or side % MULTIPLE:
            raise UsageError(f"a fixed size takes height and width, multiples of {MULTIPLE}, got {side}")
    least = resize.size if resize.kind == "square" else resize.long_side
    if min(asked.height or 0, asked.width or 0) < least:
        padded = -(-least // MULTIPLE) * MULTIPLE
        raise UsageError(
            f"a size of {asked.width}x{asked.height} does not hold every image: data.resize makes sides of up to "
            f"{least} pixels; give {padded}x{padded}, or set data.resize"
        )
    return asked


def fixed_shape(text: str, resize: Resize) -> GraphShape:
    """The shape that ``--static`` names: "4" (images a batch) or "4x320x320" (and height and width).

    Without height and width the size is what holds every image that the detector's resize makes.

    Raises:
        UsageError: it is neither.
    """
    parts = text.lower().split("x")
    numbers = [int(part) for part in parts if part.isascii() and part.isdigit() and int(part) > 0]
    if len(numbers) != len(parts) or len(parts) not in (1, 3):
        raise UsageError(
            f"--static takes a batch such as 1, or batch, height and width such as 1x320x320; got {text!r}"
        )
    if len(numbers) == 1:
        side = resize.size if resize.kind == "square" else resize.long_side
        numbers += [-(-side // MULTIPLE) * MULTIPLE] * 2
    return GraphShape(*numbers)


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {"gfocal": gfocal.__version__}
    for name in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None

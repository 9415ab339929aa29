"""What an exported file takes and gives, and what it says about itself; the writers and the runtimes share it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gfocal.errors import UsageError
from gfocal.utils.records import fields_from_json, fields_to_json

ABOUT = "gfocal"
"""Where an exported file's text about itself stands in its metadata."""
FORMAT = 1

INPUTS = ("images", "sizes")
"""``images``: (B, H, W, 3) uint8 RGB, each at the top left, H and W multiples of :data:`MULTIPLE`. ``sizes``: (B, 2)
int64, height and width of each inside the padding."""
OUTPUTS = ("boxes", "scores", "labels", "edge_std", "edge_probs", "levels", "count")
"""(B, N, 4) float xyxy in pixels of ``images``, (B, N) float, (B, N) int64, (B, N, 4) float pixels, (B, N, 4, n + 1)
float, (B, N) int64, (B,) int64. Rows from ``count`` on are 0, their labels -1; ``edge_std`` and ``edge_probs`` are
there where the boxes have them, ``levels`` where a calibration looks at them."""
MULTIPLE = 32
"""Height and width of a batch are multiples of this."""

Suppression = Literal["in", "out", "none"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]


RESIZE_METHOD = "bilinear with antialiasing, 8 bits"
"""How images are resized, in words that a file carries: the only method there is."""


@dataclass(frozen=True)
class ResizeRule:
    """How large an image enters the network, see :class:`gfocal.images.resizing.Resize`."""

    kind: Literal["square", "short_long"]
    size: int
    short_side: int
    long_side: int
    fill: tuple[int, int, int]
    method: str = RESIZE_METHOD


@dataclass(frozen=True)
class Thresholds:
    """How candidates become detections, see :class:`gfocal.models.PostProcess`."""

    score_threshold: float
    pre_nms_top_k: int
    nms_iou: float
    max_detections: int
    clip_margin: float
    class_agnostic: bool


@dataclass(frozen=True)
class TileRule:
    """How large images are cut, see :class:`gfocal.images.tiling.Tiling`."""

    side: int
    overlap: float
    whole: bool


@dataclass(frozen=True)
class Quantization:
    """How the INT8 numbers of a file were found.

    Attributes:
        method: in words, with its library.
        images: that the ranges of the activations were measured on.
        data: what these are.
        layers: convolutions that compute in INT8.
        float_layers: convolutions that do not: those that give the outputs, and what comes after them.
    """

    method: str
    images: int
    data: str
    layers: int
    float_layers: int


@dataclass(frozen=True, kw_only=True)
class ExportInfo:
    """What an exported file says about itself.

    Attributes:
        names: of the classes.
        resize, thresholds, tiling: of the detector; the thresholds are part of the graph.
        nms: "in" the graph; "out" of it, left to the runtime; or "none", for a program with a suppression of its own.
            gfocal suppresses where the graph does not, by ``thresholds``.
        precision: of the network; inputs are uint8, outputs float32. "int8": of all its convolutions but the last ones.
        outputs: those of :data:`OUTPUTS` that there are.
        batch, height, width: of the graph where they are fixed; None: any (sides in multiples of :data:`MULTIPLE`).
        value_range: how values of more than 8 bits become 8, see :mod:`gfocal.images.depth`.
        category_ids: the data set's id of each class.
        recipe: what the detector is, as plain data.
        versions: of what wrote it.
        opset: of ONNX; None for other formats.
        notes: what the checkpoint says about itself: data, metrics, where the weights come from.
        licence: about the weights.
        calibration: of scores and edges, see :class:`gfocal.calibration.Calibration`; None: there is none.
        quantization: of an INT8 file; None for others.
        layout: of ``images``.
        colours: of ``images``; the order that the network wants is the graph's matter.
    """

    names: tuple[str, ...]
    resize: ResizeRule
    thresholds: Thresholds
    tiling: TileRule | None
    nms: Suppression
    precision: Precision
    outputs: tuple[str, ...]
    batch: int | None
    height: int | None
    width: int | None
    value_range: Any
    category_ids: tuple[int, ...] | None
    recipe: dict[str, Any]
    versions: dict[str, str]
    opset: int | None
    notes: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    calibration: dict[str, Any] | None = None
    quantization: Quantization | None = None
    layout: str = "NHWC"
    colours: str = "RGB"

    def to_text(self) -> str:
        """The text that stands in the file."""
        return json.dumps({"format": FORMAT, **fields_to_json(self)}, allow_nan=False)

    @staticmethod
    def from_texts(texts: Mapping[str, str], where: str) -> ExportInfo:
        """What a file's metadata say.

        Args:
            texts: the metadata.
            where: the file, for the message.

        Raises:
            UsageError: no gfocal wrote it, a newer one did, or it is damaged.
        """
        text = texts.get(ABOUT)
        if text is None:
            raise UsageError(
                f"{where} has no metadata of gfocal: another program wrote it, or removed them. Export it with "
                "`gfocal export MODEL`; what the graph takes and gives cannot be guessed"
            )
        try:
            content = json.loads(text)
            newer = int(content["format"]) > FORMAT
            info = None if newer else fields_from_json(ExportInfo, content)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise UsageError(
                f"{where}: its metadata of gfocal cannot be read ({error}); the file is damaged, export it again"
            ) from None
        if info is None:
            raise UsageError(f"{where} was written by a newer gfocal: update gfocal to read it")
        return info

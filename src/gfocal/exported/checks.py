"""Whether what a file says, and what it gives, is what an exported file may: files come from anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from gfocal.errors import UsageError
from gfocal.exported.contract import MULTIPLE, OUTPUTS, RESIZE_METHOD, ExportInfo
from gfocal.images.depth import check_range
from gfocal.images.resizing import Resize
from gfocal.images.tiling import Tiling

MOST_PIXELS, MOST_BATCH, MOST_DETECTIONS, MOST_NAMES = 16_384, 4_096, 1_000_000, 100_000
"""Of a side, of a fixed batch, of an image, of classes: far beyond what real files have."""
_NEEDED = {"boxes", "scores", "labels", "count"}


def check_info(info: ExportInfo, where: str) -> None:
    """Refuse numbers out of their ranges.

    Args:
        info: what a file says about itself.
        where: the file, for the message.

    Raises:
        UsageError: naming the first of them.
    """
    try:
        _check_ranges(info)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{where}: its metadata of gfocal cannot be right ({error}); the file is damaged, export it again"
        ) from None


def _check_ranges(info: ExportInfo) -> None:
    _require(0 < len(info.names) <= MOST_NAMES, f"names: {len(info.names)} classes")
    ids = info.category_ids
    _require(ids is None or len(ids) == len(info.names), "category_ids: not one for each class")
    rule = info.resize
    resize_of(info)
    _require(rule.method == RESIZE_METHOD, f"resize.method: {rule.method!r}, which this gfocal does not have")
    for name, side in {"size": rule.size, "short_side": rule.short_side, "long_side": rule.long_side}.items():
        _require(side <= MOST_PIXELS, f"resize.{name}: {side} pixels")
    for name, fixed in {"height": info.height, "width": info.width}.items():
        _require(fixed is None or (0 < fixed <= MOST_PIXELS and fixed % MULTIPLE == 0), f"{name}: {fixed} pixels")
        fits = fixed is None or rule.kind != "square" or rule.size <= fixed
        _require(fits, f"resize.size: {rule.size} pixels, and the file takes a {name} of {fixed}")
    _require(info.batch is None or 0 < info.batch <= MOST_BATCH, f"batch: {info.batch} images")
    limits = info.thresholds
    for name, number in {"score_threshold": limits.score_threshold, "nms_iou": limits.nms_iou}.items():
        _require(0 <= number <= 1, f"thresholds.{name}: {number}")
    for name, count in {"pre_nms_top_k": limits.pre_nms_top_k, "max_detections": limits.max_detections}.items():
        _require(0 < count <= MOST_DETECTIONS, f"thresholds.{name}: {count}")
    _require(math.isfinite(limits.clip_margin), f"thresholds.clip_margin: {limits.clip_margin}")
    if info.tiling is not None:
        Tiling(**asdict(info.tiling))
    check_range(value_range_of(info))
    _require(set(info.outputs) >= _NEEDED and set(info.outputs) <= set(OUTPUTS), f"outputs: {', '.join(info.outputs)}")
    _require((info.layout, info.colours) == ("NHWC", "RGB"), f"images: {info.layout} {info.colours}, not NHWC RGB")


def resize_of(info: ExportInfo) -> Resize:
    """How an image is brought to the input size."""
    return Resize(**{key: value for key, value in asdict(info.resize).items() if key != "method"})


def value_range_of(info: ExportInfo) -> Any:
    """How values of more than 8 bits become 8."""
    given = info.value_range
    return tuple(given) if isinstance(given, list) else given


def _require(holds: bool, words: str) -> None:
    if not holds:
        raise ValueError(words)


_SHAPES = {"boxes": (4,), "scores": (), "labels": (), "edge_std": (4,), "edge_probs": (4, None), "levels": ()}
"""Behind (B, N); None: any."""
_WHOLE = {"labels", "levels"}


def check_outputs(outputs: Mapping[str, np.ndarray], info: ExportInfo, images: int, where: str) -> None:
    """Refuse what no detections can be made of.

    Args:
        outputs: of a run, by name.
        info: of the file.
        images: B that went in.
        where: the file, for the message.

    Raises:
        UsageError: a shape, type or number is not as :mod:`gfocal.exported.contract` has it.
    """
    rows = outputs["scores"].shape[1] if outputs["scores"].ndim > 1 else 0
    counts = outputs["count"]
    _fits(where, "count", counts.shape == (images,) and counts.dtype.kind in "iu", counts)
    _fits(where, "count", bool(((counts >= 0) & (counts <= rows)).all()), counts)
    real = np.arange(rows) < counts[:, None]
    for name, rest in _SHAPES.items():
        if name not in outputs:
            continue
        values = outputs[name]
        wanted = (images, rows, *rest)
        same = len(wanted) == values.ndim and all(n in (None, m) for n, m in zip(wanted, values.shape, strict=True))
        _fits(where, name, same and values.dtype.kind == ("i" if name in _WHOLE else "f"), values)
        if name == "labels":
            labels = values[real]
            _fits(where, name, bool(((labels >= 0) & (labels < len(info.names))).all()), values, "of a class it lacks")
        elif name == "levels":
            _fits(where, name, bool((values[real] >= 0).all()), values, "below 0")
        else:
            _fits(where, name, bool(np.isfinite(values[real]).all()), values, "that are infinite or no numbers")


def _fits(where: str, name: str, holds: bool, values: np.ndarray, what: str = "") -> None:
    if not holds:
        found = what or f"of shape {values.shape} and type {values.dtype}, or out of range"
        raise UsageError(f"{where} gives {name} {found}: it is damaged, or not what gfocal wrote; export it again")

"""Crops around suspect labels, as parts of a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gfocal.errors import BrokenInputError
from gfocal.evaluation.audit.suspects import Suspect
from gfocal.images.depth import ValueRange
from gfocal.images.drawing import Colour, Mark, Style, canvas_of, draw_marks, shortened
from gfocal.images.reading import read_array
from gfocal.run_report.blocks import Half

_LABEL: Colour = (255, 125, 0)
_MODEL: Colour = (30, 120, 255)
_TWIN: Colour = (190, 60, 190)
_SIDE = 420  # pixels of the longer side of a crop
_LEAST = 160  # of what a small crop is enlarged to
_AROUND = 0.6  # of the boxes' longer side, on each side of them
_QUALITY = 72


def crops_of(
    shown: Sequence[Suspect], path: Callable[[int], Path], value_range: ValueRange = "type"
) -> dict[int, Half | None]:
    """By rank; None where the image cannot be read. Each image is read once."""
    found: dict[int, Half | None] = {}
    for row in dict.fromkeys(one.row for one in shown):
        own = [one for one in shown if one.row == row]
        try:
            image, factor = canvas_of(read_array(path(row), value_range=value_range), enlarge=False)
        except BrokenInputError:
            found |= {one.rank: None for one in own}
            continue
        found |= {one.rank: _encoded(_crop(image, factor, one)) for one in own}
    return found


def _crop(image: Image.Image, factor: int, one: Suspect) -> Image.Image:
    """The boxes and what is around them, label solid and model dashed."""
    boxes = [
        (np.asarray(box) * factor, colour, text, dashed)
        for box, colour, text, dashed in (
            (one.label_box, _LABEL, f"label: {shortened(one.class_name or '')}", False),
            (one.twin_box, _TWIN, f"label {one.twin_id}", False),
            (one.model_box, _MODEL, f"model: {shortened(one.model_class or '')}", True),
        )
        if box is not None
    ]
    corners = np.array([box for box, *_ in boxes])
    low, high = corners[:, :2].min(0), corners[:, 2:].max(0)
    margin = max(_AROUND * float((high - low).max()), 12.0)
    size = np.array(image.size)
    start = np.clip(np.floor(low - margin), 0, size - 1).astype(int)
    end = np.maximum(np.clip(np.ceil(high + margin), 1, size).astype(int), start + 1)
    part = image.crop((*start.tolist(), *end.tolist()))
    longer = max(part.size)
    scale = min(_SIDE, max(longer, _SIDE if longer < _LEAST else longer)) / longer
    part = part.resize(
        (max(1, round(part.width * scale)), max(1, round(part.height * scale))), Image.Resampling.LANCZOS
    )
    marks = [
        Mark(((box - np.tile(start, 2)) * scale).tolist(), colour, text, dashed=dashed)
        for box, colour, text, dashed in boxes
    ]
    draw_marks(part, marks, Style.of(part.size, [mark.box for mark in marks], line_width=2, font_size=13))
    return part


def _encoded(image: Image.Image) -> Half:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY, optimize=True)
    return Half(f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}", *image.size)

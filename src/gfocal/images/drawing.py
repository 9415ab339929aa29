"""Drawing detections: boxes, names, scores, and how sure the detector is of each edge."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gfocal.images.io import to_image
from gfocal.structures import Detections

Rectangle = tuple[float, float, float, float]
Colour = tuple[int, int, int]

SMALLEST_SIDE = 560
"""Smaller images are enlarged by a whole number until their longer side has this many pixels, or text covers them."""
_LEAST_STD = 0.02  # of the side of a box: less uncertainty than that is not drawn
_PALETTE: tuple[Colour, ...] = (
    (30, 120, 255),
    (255, 125, 0),
    (40, 190, 60),
    (235, 40, 70),
    (165, 80, 255),
    (0, 205, 215),
    (255, 215, 0),
    (255, 95, 195),
    (150, 95, 50),
    (140, 225, 40),
    (0, 130, 115),
    (120, 130, 165),
)


@dataclass(frozen=True)
class _Style:
    """Line width and font of one image, both growing with it."""

    line: int
    font: Any

    @staticmethod
    def of(width: int, height: int) -> _Style:
        side = math.sqrt(width * height)
        return _Style(max(3, round(side / 300)), ImageFont.load_default(max(12, round(side / 52))))


def colour_of(label: int) -> Colour:
    """A colour for each class, the same in every image; the first twelve differ clearly."""
    if label < len(_PALETTE):
        return _PALETTE[label]
    # Multiples of the golden ratio spread any number of hues evenly.
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1.0, 0.9 if label % 2 else 0.6, 1.0 if label % 3 else 0.8)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw(image: Any, detections: Detections, *, enlarge: bool = True) -> Image.Image:
    """The image with its detections.

    Every box has the colour of its class, its name and its score. The error bar across the middle of an edge reaches
    one standard deviation to either side of it: a long bar is an edge that the detector is unsure of. An edge without
    a bar is sure to about 2 % of the box's side.

    Args:
        image: anything that :func:`gfocal.images.io.to_image` takes.
        detections: boxes in pixels of ``image``; a score of NaN is not written.
        enlarge: enlarge small images so that names can be read; otherwise the result has the size of ``image``.

    Returns:
        An RGB image.
    """
    drawn = Image.fromarray(np.ascontiguousarray(to_image(image).permute(1, 2, 0).numpy()))
    factor = max(1, math.ceil(SMALLEST_SIDE / max(drawn.size))) if enlarge else 1
    if factor > 1:
        drawn = drawn.resize((drawn.width * factor, drawn.height * factor), Image.Resampling.BICUBIC)
    style = _Style.of(*drawn.size)
    boxes = (detections.boxes.double() * factor).tolist()
    labels, scores = detections.labels.tolist(), detections.scores.tolist()
    stds = None if detections.edge_std is None else (detections.edge_std.double() * factor).tolist()
    canvas = ImageDraw.Draw(drawn)
    # The best comes last and so on top; its label takes its place first.
    for i in reversed(range(len(boxes))):
        _draw_outline(canvas, boxes[i], colour_of(labels[i]), style)
        if stds is not None:
            _draw_error_bars(canvas, boxes[i], stds[i], colour_of(labels[i]), style)
    taken: list[Rectangle] = []
    placed = [
        (i, _caption(detections.names, labels[i], scores[i]), _place(canvas, boxes, i, detections, style, taken))
        for i in range(len(boxes))
    ]
    for i, text, place in reversed(placed):
        _draw_label(canvas, text, place, colour_of(labels[i]), style)
    return drawn


def _caption(names: Sequence[str], label: int, score: float) -> str:
    name = names[label] if label < len(names) else f"class {label}"
    number = "" if math.isnan(score) else f" {score:.2f}"
    return f"{name if len(name) <= 28 else name[:27] + '…'}{number}"


def _draw_error_bars(
    canvas: ImageDraw.ImageDraw, box: Sequence[float], std: Sequence[float], colour: Colour, style: _Style
) -> None:
    """An error bar across the middle of each edge, one standard deviation to either side of it.

    Only where it is long enough to be seen beside the line of the box: sure edges stay as they are.
    """
    x1, y1, x2, y2 = box
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    places = ((x1, middle_y, True), (middle_x, y1, False), (x2, middle_y, True), (middle_x, y2, False))
    for (x, y, lies), length in zip(places, std, strict=True):
        side = x2 - x1 if lies else y2 - y1
        if math.isfinite(length) and length >= max(_LEAST_STD * side, style.line):
            # Caps shorter than the other side, or the bars of a small box run into each other.
            cap = min(2.5 * style.line, 0.2 * ((y2 - y1) if lies else (x2 - x1)))
            _draw_error_bar(canvas, (x, y), length, cap, lies=lies, colour=colour, style=style)


def _draw_error_bar(
    canvas: ImageDraw.ImageDraw,
    centre: tuple[float, float],
    length: float,
    cap: float,
    *,
    lies: bool,
    colour: Colour,
    style: _Style,
) -> None:
    width = max(2, style.line // 2 + 1)
    along = ((-length, 0.0, length, 0.0), (-length, -cap, -length, cap), (length, -cap, length, cap))
    lines = [part if lies else (part[1], part[0], part[3], part[2]) for part in along]
    x, y = centre
    # All that is dark first: no part of the bar covers the colour of another.
    for fill, thickness in (((20, 20, 20), width + 2), (colour, width)):
        for left, top, right, bottom in lines:
            grow = (thickness - width) / 2
            half = (thickness - 1) / 2
            flat = top == bottom
            rectangle = (
                x + left - (grow if flat else half),
                y + top - (half if flat else grow),
                x + right + (grow if flat else half),
                y + bottom + (half if flat else grow),
            )
            canvas.rectangle(_whole(rectangle), fill=fill)


def _draw_outline(canvas: ImageDraw.ImageDraw, box: Sequence[float], colour: Colour, style: _Style) -> None:
    half = style.line / 2
    x1, y1, x2, y2 = box
    # Inside the image: the edge of a box that ends at the border of the image would be half cut off.
    right, bottom = canvas.im.size
    corners = _whole([max(x1 - half, 0), max(y1 - half, 0), min(x2 + half, right - 1), min(y2 + half, bottom - 1)])
    # A dark hairline keeps light colours visible on light images.
    canvas.rectangle([corners[0] - 1, corners[1] - 1, corners[2] + 1, corners[3] + 1], outline=(20, 20, 20), width=1)
    canvas.rectangle(corners, outline=colour, width=style.line)


def _place(
    canvas: ImageDraw.ImageDraw,
    boxes: Sequence[Sequence[float]],
    i: int,
    detections: Detections,
    style: _Style,
    taken: list[Rectangle],
) -> Rectangle:
    """Where the label of box ``i`` goes: the place near its box that covers the fewest labels placed before."""
    text = _caption(detections.names, int(detections.labels[i]), float(detections.scores[i]))
    # The height of the font, not of the text: labels with and without descenders look the same.
    width, height = canvas.textlength(text, font=style.font) + 2 * style.line + 2, sum(style.font.getmetrics()) + 2
    image_width, image_height = canvas.im.size
    best, least = (0.0, 0.0, width, height), math.inf
    for x, y in _candidates(boxes[i], width, height, style.line):
        x, y = max(0.0, min(x, image_width - width)), max(0.0, min(y, image_height - height))
        place = (x, y, x + width, y + height)
        covered = sum(_overlap(place, other) for other in taken)
        if covered < least:
            best, least = place, covered
    taken.append(best)
    return best


def _candidates(box: Sequence[float], width: float, height: float, line: int) -> Iterator[tuple[float, float]]:
    """Corners of a label, the most usual place first: above, below, then inside."""
    x1, y1, x2, y2 = box
    half = line / 2
    yield x1 - half, y1 - half - height
    yield x2 + half - width, y1 - half - height
    yield x1 - half, y2 + half
    yield x2 + half - width, y2 + half
    yield x1 + half, y1 + half
    yield x2 - half - width, y2 - half - height


def _overlap(a: Rectangle, b: Rectangle) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _draw_label(canvas: ImageDraw.ImageDraw, text: str, place: Rectangle, colour: Colour, style: _Style) -> None:
    canvas.rectangle(_whole(place), fill=colour)
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    at = (round(place[0]) + style.line + 1, round(place[1]) + 1)
    canvas.text(at, text, font=style.font, fill=(0, 0, 0) if luminance > 120 else (255, 255, 255))


def _whole(values: Sequence[float]) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (round(v) for v in values)
    return x1, y1, max(x1, x2), max(y1, y2)


def contact_sheet(images: Sequence[Image.Image | Path], *, columns: int = 4, cell: int = 480) -> Image.Image:
    """Images side by side, each fitted into a square cell.

    Args:
        images: at least one.
        columns: cells a row.
        cell: side of a cell in pixels.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    gap = max(2, cell // 60)
    sheet = Image.new("RGB", (columns * (cell + gap) + gap, rows * (cell + gap) + gap), (245, 245, 245))
    for position, source in enumerate(images):
        image = source if isinstance(source, Image.Image) else Image.open(source)
        factor = cell / max(image.size)
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        fitted = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        row, column = divmod(position, columns)
        x, y = gap + column * (cell + gap), gap + row * (cell + gap)
        sheet.paste(fitted, (x + (cell - size[0]) // 2, y + (cell - size[1]) // 2))
        if image is not source:
            image.close()
    return sheet

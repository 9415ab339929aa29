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

from gfocal.pictures import to_picture
from gfocal.structures import Detections

Rectangle = tuple[float, float, float, float]
Colour = tuple[int, int, int]

SMALLEST_SIDE = 560
"""Smaller pictures are enlarged by a whole number until their longer side has this many pixels, or text covers them."""
_OPACITY = 0.5  # of the patches that show uncertainty
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
    """Line width and font of one picture, both growing with it."""

    line: int
    font: Any

    @staticmethod
    def of(width: int, height: int) -> _Style:
        side = math.sqrt(width * height)
        return _Style(max(3, round(side / 300)), ImageFont.load_default(max(12, round(side / 52))))


def colour_of(label: int) -> Colour:
    """A colour for each class, the same in every picture; the first twelve differ clearly."""
    if label < len(_PALETTE):
        return _PALETTE[label]
    # Multiples of the golden ratio spread any number of hues evenly.
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1.0, 0.9 if label % 2 else 0.6, 1.0 if label % 3 else 0.8)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw(picture: Any, detections: Detections, *, enlarge: bool = True) -> Image.Image:
    """The picture with its detections.

    Every box has the colour of its class, its name and its score. The translucent patch on the middle of an edge
    reaches one standard deviation to either side of it: a wide patch is an edge that the detector is unsure of.

    Args:
        picture: anything that :func:`gfocal.pictures.to_picture` takes.
        detections: boxes in pixels of ``picture``.
        enlarge: enlarge small pictures so that names can be read; otherwise the result has the size of ``picture``.

    Returns:
        An RGB picture.
    """
    image = Image.fromarray(np.ascontiguousarray(to_picture(picture).permute(1, 2, 0).numpy()))
    factor = max(1, math.ceil(SMALLEST_SIDE / max(image.size))) if enlarge else 1
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    style = _Style.of(*image.size)
    boxes = (detections.boxes.double() * factor).tolist()
    labels, scores = detections.labels.tolist(), detections.scores.tolist()
    if detections.edge_std is not None:
        for box, std, label in zip(boxes, (detections.edge_std.double() * factor).tolist(), labels, strict=True):
            _draw_bands(image, box, std, colour_of(label), style)
    canvas = ImageDraw.Draw(image)
    # The best comes last and so on top; its label takes its place first.
    for i in reversed(range(len(boxes))):
        _draw_outline(canvas, boxes[i], colour_of(labels[i]), style)
    taken: list[Rectangle] = []
    placed = [
        (i, _caption(detections.names, labels[i], scores[i]), _place(canvas, boxes, i, detections, style, taken))
        for i in range(len(boxes))
    ]
    for i, text, place in reversed(placed):
        _draw_label(canvas, text, place, colour_of(labels[i]), style)
    return image


def _caption(names: Sequence[str], label: int, score: float) -> str:
    name = names[label] if label < len(names) else f"class {label}"
    return f"{name if len(name) <= 28 else name[:27] + '…'} {score:.2f}"


def _draw_bands(image: Image.Image, box: Sequence[float], std: Sequence[float], colour: Colour, style: _Style) -> None:
    """A translucent patch on the middle of each edge, one standard deviation wide to either side of it.

    Not along the whole edge: on real pictures that would cover most of what is in a box.
    """
    x1, y1, x2, y2 = box
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    along_x, along_y = (min(0.15 * side, 3.5 * style.line) for side in (x2 - x1, y2 - y1))
    left, top, right, bottom = (s if math.isfinite(s) else 0.0 for s in std)
    patches = (
        (x1 - left, middle_y - along_y, x1 + left, middle_y + along_y),
        (middle_x - along_x, y1 - top, middle_x + along_x, y1 + top),
        (x2 - right, middle_y - along_y, x2 + right, middle_y + along_y),
        (middle_x - along_x, y2 - bottom, middle_x + along_x, y2 + bottom),
    )
    for patch in patches:
        area = _whole([max(patch[0], 0), max(patch[1], 0), min(patch[2], image.width), min(patch[3], image.height)])
        if area[0] < area[2] and area[1] < area[3]:
            size = (area[2] - area[0], area[3] - area[1])
            image.paste(colour, area, Image.new("L", size, round(255 * _OPACITY)))


def _draw_outline(canvas: ImageDraw.ImageDraw, box: Sequence[float], colour: Colour, style: _Style) -> None:
    half = style.line / 2
    x1, y1, x2, y2 = box
    # Inside the picture: the edge of a box that ends at the border of the picture would be half cut off.
    right, bottom = canvas.im.size
    corners = _whole([max(x1 - half, 0), max(y1 - half, 0), min(x2 + half, right - 1), min(y2 + half, bottom - 1)])
    # A dark hairline keeps light colours visible on light pictures.
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


def contact_sheet(pictures: Sequence[Image.Image | Path], *, columns: int = 4, cell: int = 480) -> Image.Image:
    """Pictures side by side, each fitted into a square cell.

    Args:
        pictures: at least one.
        columns: cells a row.
        cell: side of a cell in pixels.
    """
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    gap = max(2, cell // 60)
    sheet = Image.new("RGB", (columns * (cell + gap) + gap, rows * (cell + gap) + gap), (245, 245, 245))
    for position, source in enumerate(pictures):
        picture = source if isinstance(source, Image.Image) else Image.open(source)
        factor = cell / max(picture.size)
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        fitted = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        row, column = divmod(position, columns)
        x, y = gap + column * (cell + gap), gap + row * (cell + gap)
        sheet.paste(fitted, (x + (cell - size[0]) // 2, y + (cell - size[1]) // 2))
        if picture is not source:
            picture.close()
    return sheet

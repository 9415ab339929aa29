"""Drawing detections: boxes, names, scores, and how sure the detector is of each edge."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gfocal.detections import Detections
from gfocal.errors import UsageError
from gfocal.images.depth import ValueRange
from gfocal.images.labels import Rectangle, place_labels
from gfocal.images.reading import to_array

Part = Literal["boxes", "names", "scores", "edges"]
PARTS: tuple[Part, ...] = get_args(Part)
"""What a drawing shows of each detection: its outline, its class, its score, error bars of its edges."""
Colour = tuple[int, int, int]

SMALLEST_SIDE = 560
"""Smaller images are enlarged by a whole number until their longer side has this many pixels, or text covers them."""
_LEAST_STD = 0.02  # of the side of a box: less uncertainty than that is not drawn
_SMALLEST_FONT = 11  # pixels: less cannot be read
_ALWAYS, _THIRD = 12, 1 / 3  # see draw_marks
_DARK = (20, 20, 20)
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
class Style:
    """Line width and font of one image, in its pixels.

    Attributes:
        line: width of an outline.
        font: of the labels.
    """

    line: int
    font: Any

    @staticmethod
    def of(
        size: tuple[int, int],
        boxes: Sequence[Sequence[float]] = (),
        *,
        line_width: int | None = None,
        font_size: int | None = None,
    ) -> Style:
        """What suits an image of that (width, height) and its boxes: both grow with it, and shrink in crowds.

        Args:
            size: (width, height).
            boxes: N times xyxy.
            line_width, font_size: in pixels, instead of what suits.

        Raises:
            UsageError: one of them is below 1.
        """
        for name, value in (("line_width", line_width), ("font_size", font_size)):
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1 pixel, got {value}")
        side = math.sqrt(size[0] * size[1])
        sides = [min(x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes]
        # Half of the boxes are smaller than that: their lines must leave something to be seen inside.
        usual = float(np.median(sides)) if sides else math.inf
        line = line_width or max(1, round(min(side / 240, max(usual / 12, side / 600))))
        least = max(_SMALLEST_FONT, side / 90) if side >= 300 else max(6, side / 28)
        crowd = 0.5 * side / math.sqrt(max(len(sides), 1))  # side of the square that each box has for itself
        font = font_size or round(max(least, min(side / 48, crowd / 3)))
        return Style(line, ImageFont.load_default(font))


@dataclass(frozen=True)
class Mark:
    """One box of a drawing.

    Attributes:
        box: xyxy in pixels of the canvas.
        colour: of line and label.
        text: the label; "" for none.
        std: standard deviation of left, top, right, bottom in pixels; None: no error bars.
        dashed: the line is.
        outlined: there is a line.
    """

    box: Sequence[float]
    colour: Colour
    text: str = ""
    std: Sequence[float] | None = None
    dashed: bool = False
    outlined: bool = field(default=True, kw_only=True)


def colour_of(label: int) -> Colour:
    """A colour for each class, the same in every image; the first twelve differ clearly."""
    if label < len(_PALETTE):
        return _PALETTE[label]
    # Multiples of the golden ratio spread any number of hues evenly.
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1.0, 0.9 if label % 2 else 0.6, 1.0 if label % 3 else 0.8)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw(
    image: Any,
    detections: Detections,
    *,
    parts: Sequence[Part] = PARTS,
    line_width: int | None = None,
    font_size: int | None = None,
    enlarge: bool = True,
    value_range: ValueRange = "type",
) -> Image.Image:
    """The image with its detections.

    Every box has the colour of its class, its name and its score. The error bar across the middle of an edge reaches
    one standard deviation to either side of it: a long bar is an edge that the detector is unsure of. An edge without
    a bar is sure to about 2 % of the box's side. Lines and text grow with the image, and shrink in crowds.

    Args:
        image: anything that :func:`gfocal.images.io.to_image` takes.
        detections: boxes in pixels of ``image``; a score of NaN is not written.
        parts: what is drawn of each, some of :data:`PARTS`.
        line_width, font_size: in pixels of the drawing; by default what suits the image.
        enlarge: enlarge small images so that names can be read; otherwise the result has the size of ``image``.
        value_range: how values of more than 8 bits become 8: a detector's ``value_range``.

    Returns:
        An RGB image.

    Raises:
        UsageError: a part that is none, or a width or size below 1.
    """
    if not isinstance(detections, Detections):
        raise UsageError(f"detections must be what a detector's predict gives, not {type(detections).__name__}")
    if isinstance(parts, str) or (wrong := [part for part in parts if part not in PARTS]):
        named = repr(parts) if isinstance(parts, str) else ", ".join(map(repr, wrong))
        raise UsageError(f"parts must be a list of {', '.join(PARTS)}; got {named}")
    drawn, factor = canvas_of(image, enlarge=enlarge, value_range=value_range)
    found = detections.numpy()
    labels, scores = found.labels.tolist(), found.scores.tolist()
    boxes = (np.asarray(found.boxes, np.float64) * factor).tolist()
    stds: list[Any] = [None] * len(boxes)
    if found.edge_std is not None and "edges" in parts:
        stds = (np.asarray(found.edge_std, np.float64) * factor).tolist()
    marks = [
        Mark(box, colour_of(label), _caption(detections.names, label, score, parts), std, outlined="boxes" in parts)
        for box, label, score, std in zip(boxes, labels, scores, stds, strict=True)
    ]
    draw_marks(drawn, marks, Style.of(drawn.size, boxes, line_width=line_width, font_size=font_size))
    return drawn


def canvas_of(image: Any, *, enlarge: bool = True, value_range: ValueRange = "type") -> tuple[Image.Image, int]:
    """A copy of an image to draw on, and by which factor it was enlarged."""
    drawn = Image.fromarray(np.ascontiguousarray(to_array(image, value_range=value_range)))
    factor = max(1, math.ceil(SMALLEST_SIDE / max(drawn.size))) if enlarge else 1
    if factor > 1:
        drawn = drawn.resize((drawn.width * factor, drawn.height * factor), Image.Resampling.BICUBIC)
    return drawn, factor


def draw_marks(drawn: Image.Image, marks: Sequence[Mark], style: Style) -> None:
    """Draw boxes into an image, the most important first in the list: it lies on top, and its label is placed first.

    Labels take a third of the image at most, and beyond the first few none lies over another one by more than a
    third of itself: those that would are left out, or in a crowd nothing could be seen or read.
    """
    canvas = ImageDraw.Draw(drawn)
    for mark in reversed(marks):
        if mark.outlined:
            _draw_outline(canvas, mark, style)
        if mark.std is not None:
            _draw_error_bars(canvas, mark.box, mark.std, mark.colour, style)
    # The height of the font, not of the text: labels with and without descenders look the same.
    height = sum(style.font.getmetrics()) + 2
    labels: list[tuple[int, tuple[float, float]]] = []
    room = _THIRD * drawn.width * drawn.height
    for number, mark in enumerate(marks):
        size = canvas.textlength(mark.text, font=style.font) + 2 * style.line + 2, height
        room -= size[0] * height if mark.text else 0
        if mark.text and (room >= 0 or not labels):
            labels.append((number, size))
    placed = place_labels([mark.box for mark in marks], labels, drawn.size, line=style.line)
    for rank, ((number, _), found) in reversed(list(enumerate(zip(labels, placed, strict=True)))):
        if rank < _ALWAYS or found.shared <= _THIRD:
            _draw_label(canvas, marks[number].text, found.place, marks[number].colour, style)


def _caption(names: Sequence[str], label: int, score: float, parts: Sequence[Part] = PARTS) -> str:
    name = names[label] if label < len(names) else f"class {label}"
    words = [shortened(name)] if "names" in parts else []
    words += [f"{score:.2f}"] if "scores" in parts and not math.isnan(score) else []
    return " ".join(words)


def shortened(name: str) -> str:
    """A name in one line of at most 28 characters that can be drawn, whatever it holds."""
    name = drawable(name)
    return name if len(name) <= 28 else name[:27] + "…"


def drawable(text: str) -> str:
    """On one line, and without what no font can be asked for: bytes of a file name that are no UTF-8."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _draw_error_bars(
    canvas: ImageDraw.ImageDraw, box: Sequence[float], std: Sequence[float], colour: Colour, style: Style
) -> None:
    """An error bar across the middle of each edge, one standard deviation to either side of it.

    Only where it is long enough to be seen beside the line of the box: sure edges stay as they are.
    """
    x1, y1, x2, y2 = box
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    places = ((x1, middle_y, True), (middle_x, y1, False), (x2, middle_y, True), (middle_x, y2, False))
    for (x, y, lies), length in zip(places, std, strict=True):
        side = x2 - x1 if lies else y2 - y1
        if math.isfinite(length) and length > max(_LEAST_STD * side, style.line):
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
    style: Style,
) -> None:
    width = max(2, style.line // 2 + 1)
    along = ((-length, 0.0, length, 0.0), (-length, -cap, -length, cap), (length, -cap, length, cap))
    lines = [part if lies else (part[1], part[0], part[3], part[2]) for part in along]
    x, y = centre
    # All that is dark first: no part of the bar covers the colour of another.
    for fill, thickness in ((_DARK, width + 2), (colour, width)):
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


def _draw_outline(canvas: ImageDraw.ImageDraw, mark: Mark, style: Style) -> None:
    half = style.line / 2
    x1, y1, x2, y2 = mark.box
    # Inside the image: the edge of a box that ends at the border of the image would be half cut off.
    right, bottom = canvas.im.size
    corners = _whole([max(x1 - half, 0), max(y1 - half, 0), min(x2 + half, right - 1), min(y2 + half, bottom - 1)])
    if mark.dashed:
        _draw_dashes(canvas, corners, mark.colour, style)
        return
    # A dark hairline keeps light colours visible on light images.
    canvas.rectangle([corners[0] - 1, corners[1] - 1, corners[2] + 1, corners[3] + 1], outline=_DARK, width=1)
    canvas.rectangle(corners, outline=mark.colour, width=style.line)


def _draw_dashes(canvas: ImageDraw.ImageDraw, corners: tuple[int, int, int, int], colour: Colour, style: Style) -> None:
    """The outline with dark gaps: on any image one of the two can be seen."""
    x1, y1, x2, y2 = corners
    line, dash = style.line, 4 * style.line
    canvas.rectangle([x1 - 1, y1 - 1, x2 + 1, y2 + 1], outline=_DARK, width=line + 1)
    for x in range(x1, x2 + 1, 2 * dash):
        end = min(x + dash, x2)
        canvas.rectangle(_whole((x, y1, end, y1 + line - 1)), fill=colour)
        canvas.rectangle(_whole((x, y2 - line + 1, end, y2)), fill=colour)
    for y in range(y1, y2 + 1, 2 * dash):
        end = min(y + dash, y2)
        canvas.rectangle(_whole((x1, y, x1 + line - 1, end)), fill=colour)
        canvas.rectangle(_whole((x2 - line + 1, y, x2, end)), fill=colour)


def _draw_label(canvas: ImageDraw.ImageDraw, text: str, place: Rectangle, colour: Colour, style: Style) -> None:
    canvas.rectangle(_whole(place), fill=colour)
    at = (round(place[0]) + style.line + 1, round(place[1]) + 1)
    canvas.text(at, text, font=style.font, fill=text_colour(colour))


def text_colour(ground: Colour) -> Colour:
    """Black or white, whichever can be read on a colour."""
    luminance = 0.299 * ground[0] + 0.587 * ground[1] + 0.114 * ground[2]
    return (0, 0, 0) if luminance > 120 else (255, 255, 255)


def _whole(values: Sequence[float]) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (math.floor(v + 0.5) for v in values)  # not to even: lines would differ in width
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

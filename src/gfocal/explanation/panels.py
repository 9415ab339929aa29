"""A crop with a box, above and beside it the distributions of its edges: drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from gfocal.calibration.quantiles import FloatArray
from gfocal.report.plot import bare

Window = tuple[float, float, float, float]
TRUE, FOUND = "#222222", "#D55E00"
"""Colours of an object's box and of the predicted one."""
BELIEVED = "#0072B2"
"""Of a distribution."""
_SHOWN = 500  # pixels: more than that of a crop are averaged


@dataclass(frozen=True)
class DrawnEdge:
    """The distribution of an edge.

    Attributes:
        places: (M,) pixels.
        heights: (M,) in [0, 1]: the probability of a bin, or a density as a share of its peak.
        colour: of it.
        interval: lowest and highest position in pixels; None: none is drawn.
    """

    places: FloatArray
    heights: FloatArray
    colour: str = BELIEVED
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class DrawnBox:
    """A box, as it is drawn.

    Attributes:
        box: (4,) xyxy in pixels.
        edges: four of them; of boxes without distributions their places are empty.
        truth: (4,) xyxy of the object; None where it is not known.
        bars: whether distributions have bins; else they are curves.
        unit: of the heights.
    """

    box: FloatArray
    edges: Sequence[DrawnEdge]
    truth: FloatArray | None = None
    bars: bool = True
    unit: str = "probability"


def draw_box(cell: Any, image: np.ndarray, drawn: DrawnBox, part: Window) -> Any:
    """The crop, above it the distributions of left and right, beside it those of top and bottom.

    Args:
        cell: a figure or a part of one.
        image: (H, W, 3) uint8.
        drawn: what goes onto it.
        part: xyxy of the crop.

    Returns:
        The panel above, for a title.
    """
    from matplotlib.patches import Rectangle

    height, width = image.shape[:2]
    panels = cell.subplots(2, 2, width_ratios=[3, 1], height_ratios=[1, 3])
    above, corner, crop, beside = panels.flat
    corner.set_axis_off()
    x1, y1, x2, y2 = part
    side = max(x2 - x1, y2 - y1)  # a narrow image keeps its form, with room beside it
    shown_x, shown_y = ((low + high - side) / 2 for low, high in ((x1, x2), (y1, y2)))
    left, top, right, bottom = int(x1), int(y1), int(np.ceil(x2)), int(np.ceil(y2))
    extent = (left, min(right, width), min(bottom, height), top)
    shown = Image.fromarray(np.ascontiguousarray(image[top:bottom, left:right]))
    shown = shown.reduce(max(1, min(shown.size) // _SHOWN))  # crops of large images would fill the memory
    crop.imshow(shown, extent=extent, interpolation="nearest")
    boxes = [(drawn.box, FOUND, "-")] if drawn.truth is None else [(drawn.truth, TRUE, "--"), (drawn.box, FOUND, "-")]
    for corners, colour, style in boxes:
        start, sides = corners[:2].tolist(), (corners[2:] - corners[:2]).tolist()
        # White round it: seen on any colour.
        crop.add_patch(Rectangle(start, *sides, fill=False, edgecolor="white", linewidth=3.4))
        crop.add_patch(Rectangle(start, *sides, fill=False, edgecolor=colour, linewidth=1.8, linestyle=style))
    across, down = (shown_x, shown_x + side), (shown_y + side, shown_y)
    crop.set(xlim=across, ylim=down, aspect="auto")
    for i, edge in enumerate(drawn.edges):
        _draw_edge(above if i % 2 == 0 else beside, edge, drawn, i)
    above.set(xlim=across, ylim=(0, 1), xticks=[], yticks=[0, 0.5, 1], ylabel=drawn.unit)
    beside.set(ylim=down, xlim=(0, 1), yticks=[], xticks=[0, 0.5, 1], xlabel=drawn.unit)
    crop.set_xlabel("x in pixels")
    crop.set_ylabel("y in pixels")
    bare(above)
    bare(beside)
    return above


def _draw_edge(panel: Any, edge: DrawnEdge, drawn: DrawnBox, side: int) -> None:
    across = side % 2 == 1
    bars, line, span = (
        (panel.barh, panel.axhline, panel.axhspan) if across else (panel.bar, panel.axvline, panel.axvspan)
    )
    if edge.interval is not None:
        span(*edge.interval, color=edge.colour, alpha=0.15, linewidth=0)
    if len(edge.places) and drawn.bars:
        bars(edge.places, edge.heights, 0.86 * abs(edge.places[1] - edge.places[0]), color=edge.colour, alpha=0.85)
    elif len(edge.places):
        fill = panel.fill_betweenx if across else panel.fill_between
        fill(edge.places, edge.heights, color=edge.colour, alpha=0.6, linewidth=0)
    line(drawn.box[side], color=FOUND, linewidth=1.6)
    if drawn.truth is not None:
        line(drawn.truth[side], color=TRUE, linewidth=1.4, linestyle="--")

"""The PNG file of an image: it with its boxes, and each of them with the distributions of its edges."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from PIL import Image

from gfocal.detections import Detections
from gfocal.explanation.charts import density
from gfocal.explanation.page import label_box, part_of
from gfocal.explanation.panels import BELIEVED, FOUND, TRUE, DrawnBox, DrawnEdge, draw_box
from gfocal.explanation.records import Explained, PictureFacts
from gfocal.images.drawing import draw
from gfocal.report.plot import plain_text

_COLUMNS = 3
_DPI = 90
_MOST = 30  # detections: a higher drawing is more than programs open
_WHOLE = 1400  # longer side of the image above them, in its own pixels


def with_boxes(picture: PictureFacts, image: np.ndarray) -> Image.Image:
    """The image with the detections that are told, as ``gfocal predict`` draws them."""
    names = tuple(dict.fromkeys(one.label for one in picture.detections))
    stds = [[edge.std for edge in one.edges] for one in picture.detections]
    known = bool(stds) and all(std is not None for row in stds for std in row)
    # Arrays behind attributes that are typed as tensors, as an exported file gives them.
    found: Any = {
        "boxes": np.array([one.box for one in picture.detections], np.float64).reshape(-1, 4),
        "scores": np.array([one.score for one in picture.detections]),
        "labels": np.array([names.index(one.label) for one in picture.detections], np.int64),
        "edge_std": np.array(stds, np.float64) if known else None,
    }
    return draw(image, Detections(names=names, **found))


def picture_figure(picture: PictureFacts, image: np.ndarray, whole: Image.Image, level: float) -> Any:
    """A figure of matplotlib.

    Args:
        picture: what is told.
        image: (H, W, 3) uint8.
        whole: it with its boxes.
        level: of the intervals.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    told = picture.detections[:_MOST]
    rows = -(-len(told) // _COLUMNS)
    tall = float(np.clip(4.4 * _COLUMNS * whole.height / whole.width, 2.0, 8.0))
    figure = Figure(figsize=(4.4 * _COLUMNS, 0.9 + tall + 4.7 * rows), layout="constrained")
    figure.suptitle(plain_text(f"{picture.name}: {len(told)} of {picture.found} detections"), fontsize=12)
    bands: Any = figure.subfigures(rows + 1, 1, squeeze=False, height_ratios=[tall, *[4.7] * rows])
    panel = bands[0, 0].subplots()
    small = whole.copy()
    small.thumbnail((_WHOLE, _WHOLE))
    panel.imshow(small)
    panel.set_axis_off()
    for row, band in enumerate(bands[1:, 0]):
        some = told[row * _COLUMNS : (row + 1) * _COLUMNS]
        for cell, one in zip(band.subfigures(1, _COLUMNS), some, strict=False):
            _draw(cell, one, image)
    handles: list[Any] = [Line2D([], [], color=FOUND, linewidth=2, label="predicted box")]
    if picture.labelled:
        handles.append(Line2D([], [], color=TRUE, linewidth=1.6, linestyle="--", label="label"))
    edges = [edge for one in told for edge in one.edges]
    if any(edge.std is not None for edge in edges):
        handles.append(Patch(color=BELIEVED, label="distribution of the edge"))
    if any(edge.after or edge.before for edge in edges):
        which = "calibrated interval" if any(edge.after for edge in edges) else "interval of the distribution"
        handles.append(Patch(color=BELIEVED, alpha=0.15, label=f"{100 * level:g} % {which}"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def png_of(picture: PictureFacts, image: np.ndarray, whole: Image.Image, level: float) -> bytes:
    """The file's content."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = picture_figure(picture, image, whole, level)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # of a name in other letters
        FigureCanvasAgg(figure)
        figure.savefig(stream, dpi=_DPI, format="png")
    return stream.getvalue()


def _draw(cell: Any, one: Explained, image: np.ndarray) -> None:
    edges = []
    for edge in one.edges:
        places, heights = density(edge)
        edges.append(DrawnEdge(places, heights, interval=edge.before if edge.after is None else edge.after))
    label = label_box(one)
    drawn = DrawnBox(
        np.array(one.box),
        edges,
        None if label is None else np.array(label),
        bars=bool(one.edges[0].bins),
        unit="probability" if one.edges[0].bins else "density / peak" if len(edges[0].places) else "",
    )
    height, width = image.shape[:2]
    above = draw_box(cell, image, drawn, part_of(one, (height, width)))
    chance = "" if one.chance is None else f", calibrated {one.chance:.2f}"
    above.set_title(plain_text(f"{one.id}: {one.label[:40]}, score {one.score:.2f}{chance}"), fontsize=10, loc="left")

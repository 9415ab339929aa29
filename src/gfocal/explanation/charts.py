"""Drawings of the page: SVG that follows its light or dark form. All that goes in are numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from gfocal.calibration.quantiles import FloatArray
from gfocal.explanation.panels import Window
from gfocal.explanation.records import SIDES, EdgeFacts, Explained

LONGER = 300.0  # side of the crop, in units of the drawing
STRIP = 62.0  # above and beside it, for the distributions
_WIDTH, _HEIGHT, _BASE = 340.0, 146.0, 88.0  # of a panel, and where its bars stand
_LEAST_SHOWN = 0.004  # probability of a bin: the axis holds all that are likelier


def density(edge: EdgeFacts) -> tuple[FloatArray, FloatArray]:
    """(M,) pixels and (M,) heights in [0, 1] of an edge: bins, or a normal curve; empty if neither is known."""
    if edge.bins:
        return np.array(edge.bins), np.array(edge.probs)
    if edge.std is None or edge.mean is None or not math.isfinite(edge.std):
        return np.zeros(0), np.zeros(0)
    z = np.linspace(-3.5, 3.5, 57)
    return edge.mean + edge.std * z, np.exp(-(z**2) / 2)


def crop_size(part: Window) -> tuple[float, float]:
    """Width and height of a crop in the drawing."""
    width, height = part[2] - part[0], part[3] - part[1]
    scale = LONGER / max(width, height)
    return max(width * scale, 24.0), max(height * scale, 24.0)  # a picture of one row is still something to point at


def view(one: Explained, part: Window, source: str, label: Sequence[float] | None) -> Markup:
    """The crop with box, label, runners-up and point; above and beside it the distributions.

    Args:
        one: the detection.
        part: xyxy of the crop.
        source: data URI of its image.
        label: xyxy of the labelled object; None without one.
    """
    width, height = crop_size(part)
    place = _Place(part, width, height)
    shapes = [
        f'<image href="{source}" x="0" y="{STRIP:g}" width="{width:.1f}" height="{height:.1f}" '
        'preserveAspectRatio="none"/>',
        *(f'<rect class="removed" {place.rectangle(other.box)}/>' for other in one.removed),
        *_bands(one, place),
        *([] if label is None else [f'<rect class="halo" {place.rectangle(label)}/>']),
        *([] if label is None else [f'<rect class="label" {place.rectangle(label)}/>']),
        f'<rect class="halo" {place.rectangle(one.box)}/>',
        f'<rect class="box" {place.rectangle(one.box)}/>',
        *_marks(one, place),
        *([] if one.point is None else [place.dot(one.point.x, one.point.y)]),
    ]
    words = f"Detection {one.id} on its part of the picture, with the distributions of its edges above and beside it."
    total = f"0 0 {width + STRIP:.1f} {height + STRIP:.1f}"
    strips = "".join(_strips(one, place))
    return Markup(
        f'<svg class="view" viewBox="{total}" role="img" aria-label="{words}">{strips}'
        f'<svg x="0" y="0" width="{width:.1f}" height="{height + STRIP:.1f}">{"".join(shapes)}</svg></svg>'
    )


def hits(one: Explained, part: Window) -> list[str]:
    """For each edge the CSS place, in percent of the drawing, where a pointer finds it."""
    width, height = crop_size(part)
    place = _Place(part, width, height)
    whole_x, whole_y = width + STRIP, height + STRIP
    x1, y1, x2, y2 = place.corners(one.box)
    found = []
    for side, at in enumerate((x1, y1, x2, y2)):
        lying = side % 2 == 1
        room = (y2 - y1) if lying else (x2 - x1)
        half = min(max(room / 4, 3.0), 11.0)  # edges of a small box have a pixel or two each
        outer = 11.0
        low, high = (at - outer, at + half) if side < 2 else (at - half, at + outer)
        start, end = (x1, x2) if lying else (y1, y2)
        # The distribution belongs to it, up in its strip or over to its own.
        box = (start, low, width + STRIP, high) if lying else (low, 0.0, high, end)
        left, top, right, bottom = box
        found.append(
            f"left:{100 * left / whole_x:.2f}%;top:{100 * top / whole_y:.2f}%;"
            f"width:{100 * max(right - left, 6) / whole_x:.2f}%;height:{100 * max(bottom - top, 6) / whole_y:.2f}%"
        )
    return found


def panel(edge: EdgeFacts) -> Markup:
    """The distribution of one edge over pixels, with its intervals and its label."""
    places, heights = density(edge)
    low, high = _range(edge, places, heights)

    def x(position: float) -> float:
        return 8 + (_WIDTH - 16) * (position - low) / (high - low)

    peak = max(float(heights.max()), 1e-9) if len(heights) else 1.0
    drawn = []
    if edge.bins:
        step = max(0.86 * abs(x(places[1]) - x(places[0])), 1.0) if len(places) > 1 else 4.0
        for at, probability in zip(places, heights, strict=True):
            if low <= at <= high:
                tall = 72 * probability / peak
                drawn.append(
                    f'<rect class="bar" x="{x(at) - step / 2:.1f}" y="{_BASE - tall:.1f}" width="{step:.1f}" '
                    f'height="{tall:.1f}"><title>{at:.1f} px: {100 * probability:.1f} %</title></rect>'
                )
    elif len(places):
        line = " ".join(f"{x(at):.1f},{_BASE - 72 * tall:.1f}" for at, tall in zip(places, heights, strict=True))
        drawn.append(f'<polygon class="bar" points="{line}"/>')
    drawn.append(f'<line class="axis" x1="4" x2="{_WIDTH - 4:g}" y1="{_BASE:g}" y2="{_BASE:g}"/>')
    for name, span, y in (("before", edge.before, _BASE + 7), ("after", edge.after, _BASE + 19)):
        if span is not None:
            wide = max(x(span[1]) - x(span[0]), 1.5)
            drawn.append(f'<rect class="{name}" x="{x(span[0]):.1f}" y="{y:g}" width="{wide:.1f}" height="8" rx="2"/>')
    drawn.append(_upright("at", x(edge.position), _BASE + 30))
    if edge.label is not None:
        drawn.append(_upright("label", x(edge.label), _BASE + 30))
    ends = [(low, "start", 8.0), (high, "end", _WIDTH - 8)]
    drawn += [f'<text x="{at:g}" y="{_HEIGHT - 6:g}" text-anchor="{end}">{v:.1f} px</text>' for v, end, at in ends]
    words = f"Where the {edge.side} edge may be, from {low:.1f} to {high:.1f} pixels."
    return Markup(
        f'<svg class="panel-chart" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{words}">'
        f"{''.join(drawn)}</svg>"
    )


def _range(edge: EdgeFacts, places: FloatArray, heights: FloatArray) -> tuple[float, float]:
    shown = [edge.position, *([] if edge.bins else places.tolist())]
    shown += [*(edge.before or ()), *(edge.after or ()), *([] if edge.label is None else [edge.label])]
    if edge.bins and len(places) > 1:  # whole bars
        half = 0.5 * abs(float(places[1] - places[0]))
        likely = places[heights >= _LEAST_SHOWN]
        shown += [*(likely - half).tolist(), *(likely + half).tolist()]
    shown = [value for value in shown if math.isfinite(value)]
    low, high = min(shown), max(shown)
    margin = max(0.05 * (high - low), 0.5)
    return low - margin, high + margin


def _upright(name: str, x: float, bottom: float) -> str:
    return f'<line class="{name}" x1="{x:.1f}" x2="{x:.1f}" y1="8" y2="{bottom:g}"/>'


class _Place:
    """From pixels of the image to units of the drawing."""

    def __init__(self, part: Window, width: float, height: float) -> None:
        self.part, self.width, self.height = part, width, height

    def x(self, value: float) -> float:
        return (value - self.part[0]) * self.width / (self.part[2] - self.part[0])

    def y(self, value: float) -> float:
        return STRIP + (value - self.part[1]) * self.height / (self.part[3] - self.part[1])

    def corners(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        return self.x(box[0]), self.y(box[1]), self.x(box[2]), self.y(box[3])

    def rectangle(self, box: Sequence[float]) -> str:
        """Attributes; a box beyond the crop ends a little outside of it, where it is cut off."""
        x1, y1, x2, y2 = self.corners(box)
        x1, x2 = (min(max(v, -9.0), self.width + 9) for v in (x1, x2))
        y1, y2 = (min(max(v, STRIP - 9.0), STRIP + self.height + 9) for v in (y1, y2))
        return f'x="{x1:.1f}" y="{y1:.1f}" width="{max(x2 - x1, 0.5):.1f}" height="{max(y2 - y1, 0.5):.1f}"'

    def dot(self, x: float, y: float) -> str:
        return f'<circle class="point" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3.4"/>'


def _bands(one: Explained, place: _Place) -> list[str]:
    """Where each edge may be: its calibrated interval, else that of its distribution."""
    x1, y1, x2, y2 = one.box
    found = []
    for side, edge in enumerate(one.edges):
        span = edge.before if edge.after is None else edge.after
        if span is not None:
            box = (x1, span[0], x2, span[1]) if side % 2 else (span[0], y1, span[1], y2)
            found.append(f'<rect class="band e{side}" {place.rectangle(box)}/>')
    return found


def _marks(one: Explained, place: _Place) -> list[str]:
    """A stronger line for each edge: the chosen one is shown."""
    x1, y1, x2, y2 = place.corners(one.box)
    lines = ((x1, y1, x1, y2), (x1, y1, x2, y1), (x2, y1, x2, y2), (x1, y2, x2, y2))
    return [
        f'<line class="mark e{side}" x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" y2="{d:.1f}"/>'
        for side, (a, b, c, d) in enumerate(lines)
    ]


def _strips(one: Explained, place: _Place) -> list[str]:
    """Distributions of left and right above the crop, of top and bottom beside it."""
    both = [density(edge) for edge in one.edges]
    peak = max((float(heights.max()) for _, heights in both if len(heights)), default=1.0)
    found = []
    for side, (places, heights) in enumerate(both):
        lying = side % 2 == 1
        to, limit = (place.y, place.height + STRIP) if lying else (place.x, place.width)
        start = STRIP if lying else 0.0
        at = np.array([to(float(value)) for value in places])
        step = max(0.8 * abs(at[1] - at[0]), 0.8) if one.edges[side].bins and len(at) > 1 else 0.0
        shapes = []
        for middle, height in zip(at, heights, strict=True):
            long = (STRIP - 6) * height / max(peak, 1e-9)
            wide = step or max(abs(at[1] - at[0]), 0.8)
            if long >= 0.3 and start <= middle <= limit:
                shapes.append(
                    f'<rect x="{place.width + 3:.1f}" y="{middle - wide / 2:.1f}" width="{long:.1f}" '
                    f'height="{wide:.1f}"/>'
                    if lying
                    else f'<rect x="{middle - wide / 2:.1f}" y="{STRIP - 3 - long:.1f}" width="{wide:.1f}" '
                    f'height="{long:.1f}"/>'
                )
        found.append(f'<g class="strip e{side}"><title>{SIDES[side]}</title>{"".join(shapes)}</g>')
    return found

"""Shapes, textures and uncertain edges: the pieces that :mod:`gfocal.data.scenes.drawing` composes.

Coordinates are pixels with pixel i covering [i, i + 1), so an edge is a real number and a box is xyxy.
Nothing here draws on an image; every function returns an array and takes its randomness from ``rng``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Floats = NDArray[np.float32]
Coordinates = NDArray[np.float64]

CLASSES = ("disc", "square", "triangle", "star", "ring", "cross")
TRUNCATION = 2.0
"""An uncertain edge lies within this many standard deviations of its centre, both drawn and labelled."""

_NORMAL = NormalDist()
_QUANTILES = 33
# Small turns keep a square from becoming a diamond, and a cross from becoming an X: those read as other classes.
_MAX_TURN = {"square": 12.0, "triangle": 15.0, "cross": 14.0}


def truncated_normal(uniform: float) -> float:
    """Return the ``uniform``-quantile of the standard normal truncated to +-:data:`TRUNCATION` (std 0.880)."""
    low = _NORMAL.cdf(-TRUNCATION)
    return _NORMAL.inv_cdf(low + uniform * (1.0 - 2.0 * low))


_OFFSETS = np.array([truncated_normal((k + 0.5) / _QUANTILES) for k in range(_QUANTILES)])


def _circle(count: int, radius: float = 1.0) -> Coordinates:
    angles = np.arange(count) * (2.0 * math.pi / count)
    return radius * np.stack([np.sin(angles), -np.cos(angles)], axis=1)


def _unit_outlines(name: str) -> list[Coordinates]:
    """Return the outer outline and, for a ring, the outline of its hole, about the origin."""
    if name == "disc":
        return [_circle(96)]
    if name == "ring":
        return [_circle(96), _circle(96, 0.56)]
    if name == "square":
        return [np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=float)]
    if name == "triangle":
        return [_circle(3)]
    if name == "star":
        return [_circle(10) * np.where(np.arange(10) % 2 == 0, 1.0, 0.42)[:, None]]
    if name == "cross":
        arm, quarter = 0.34, np.array([[0, 1], [-1, 0]], dtype=float)
        corner = np.array([[-arm, -1.0], [arm, -1.0], [arm, -arm]])
        turned = [corner]
        for _ in range(3):
            turned.append(turned[-1] @ quarter)
        return [np.concatenate(turned)]
    raise ValueError(f"no shape is called {name!r}; there are {', '.join(CLASSES)}")


def outlines(name: str, width: float, height: float, rng: np.random.Generator) -> list[Coordinates]:
    """Turn a shape at random and fit it into the box (0, 0, width, height), touching all four sides.

    Args:
        name: one of :data:`CLASSES`.
        width: pixels, > 0.
        height: pixels, > 0.
        rng: source of the turn.

    Returns:
        The polygons (K, 2) of x, y: the outline, then the outlines of holes.
    """
    limit = _MAX_TURN.get(name, 180.0)
    angle = math.radians(rng.uniform(-limit, limit))
    if name == "triangle" and rng.random() < 0.5:
        angle += math.pi
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    polygons = [polygon @ turn for polygon in _unit_outlines(name)]
    low, high = polygons[0].min(axis=0), polygons[0].max(axis=0)
    scale = np.array([width, height]) / (high - low)
    return [(polygon - low) * scale for polygon in polygons]


def rasterise(polygons: Sequence[Coordinates], width: int, height: int) -> Floats:
    """Return the share of every pixel that lies in the first polygon and in none of the others.

    Args:
        polygons: the outline, then holes; (K, 2) x, y in pixels.
        width: of the result, pixels.
        height: of the result, pixels.

    Returns:
        (height, width) float32 in [0, 1].
    """
    factor = 4 if max(width, height) < 160 else 3
    image = Image.new("L", (width * factor, height * factor))
    draw = ImageDraw.Draw(image)
    for position, polygon in enumerate(polygons):
        # Pillow cuts coordinates to whole pixels and paints both ends, so that everything is a pixel too large.
        fine = polygon * factor
        low, high = fine.min(axis=0), fine.max(axis=0)
        fine = (fine - low) * ((high - low - 1.0) / (high - low)) + low + 0.5
        draw.polygon(fine.ravel().tolist(), fill=0 if position else 255)
    return np.asarray(image.reduce(factor), dtype=np.float32) * np.float32(1 / 255)


def smear(alpha: Floats, edge: int, edges: Coordinates, std: float) -> Floats:
    """Replace a shape by its mean over where one of its edges may lie.

    The half of the shape at the uncertain edge is stretched so that the edge falls on every quantile of the
    truncated normal, and the results are averaged. The drawn ramp is then the edge's distribution itself:
    its width is proportional to ``std`` by construction, for a flat side and for a tip.

    Args:
        alpha: (H, W) coverage in [0, 1].
        edge: which one, 0..3 for left, top, right, bottom.
        edges: (4,) their coordinates, pixels.
        std: standard deviation of the edge before truncation, pixels, > 0.

    Returns:
        (H, W) float32; the half of the shape across from the edge is as before.
    """
    profile = alpha.T if edge % 2 == 0 else alpha
    anchor = 0.5 * float(edges[edge] + edges[(edge + 2) % 4])
    near = slice(0, math.ceil(anchor) + 1) if edge < 2 else slice(math.floor(anchor) - 1, len(profile))
    matrix = _smearing(len(profile), float(edges[edge]), anchor, std)[near, near]
    result = profile.copy()
    # Not `@`: BLAS would start its threads in every worker process, and they would fight for the cores.
    result[near] = np.einsum("ij,jk->ik", matrix, profile[near])
    return result.T if edge % 2 == 0 else result


def _smearing(count: int, edge: float, anchor: float, std: float) -> Floats:
    """Return the (count, count) matrix whose product with a profile stretches it from ``anchor`` to the edge."""
    centres = np.arange(count) + 0.5
    stretch = (edge - anchor) / (edge + std * _OFFSETS[:, None] - anchor)
    moved = anchor + (centres - anchor) * stretch
    side = centres < anchor if edge < anchor else centres > anchor
    source = np.clip(np.where(side, moved, centres) - 0.5, 0.0, count - 1.0)
    lower = np.minimum(source.astype(np.int64), count - 2)
    upper_share = source - lower
    cells = np.arange(count) * count + lower
    flat = np.bincount(
        np.concatenate([cells.ravel(), cells.ravel() + 1]),
        weights=np.concatenate([(1.0 - upper_share).ravel(), upper_share.ravel()]),
        minlength=count * count,
    )
    return (flat.reshape(count, count) / _QUANTILES).astype(np.float32)


def blotches(width: int, height: int, cells: int, channels: int, rng: np.random.Generator) -> Floats:
    """Return smooth random fields, ``cells`` bumps across: (height, width, channels) float32 in [0, 1]."""
    shape = (cells, cells) if channels == 1 else (cells, cells, channels)
    coarse = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
    fine = coarse.resize((width, height), Image.Resampling.BICUBIC)
    return (np.asarray(fine, dtype=np.float32) * np.float32(1 / 255)).reshape(height, width, channels)


def pattern(width: int, height: int, period: float, rng: np.random.Generator) -> Floats:
    """Return a random texture: stripes, checks, dots, blotches, a gradient or nearly nothing.

    Args:
        width: pixels.
        height: pixels.
        period: rough length of one repetition, pixels, > 0.
        rng: source of the kind, direction and phase.

    Returns:
        (height, width) float32 in [0, 1].
    """
    kind = int(rng.integers(6))
    angle, phase_u, phase_v = rng.uniform(0.0, 2.0 * math.pi, 3)
    if kind == 0:
        cells = max(2, min(24, round(max(width, height) / period) + 1))
        return blotches(width, height, cells, 1, rng)[:, :, 0]
    x = np.arange(width, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    along: Floats = cosine * x + sine * y
    if kind == 1:
        along -= along.min()
        return along / np.float32(max(float(along.max()), 1.0))
    wave: Floats = np.sin(along * np.float32(2.0 * math.pi / period) + np.float32(phase_u))
    if kind in (2, 3):
        steepness = np.float32(0.5 if kind == 2 else 1.8)
        return (0.5 + steepness * wave).clip(0.0, 1.0)
    across: Floats = np.sin((cosine * y - sine * x) * np.float32(2.0 * math.pi / period) + np.float32(phase_v))
    rise = np.float32(0.5 if kind == 4 else -0.6)
    return (rise + np.float32(3.0) * wave * across).clip(0.0, 1.0)

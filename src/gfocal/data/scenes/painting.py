"""Paint backgrounds and objects: colours, textures, unlabelled clutter, shadow and fog.

A canvas is (size, size, 3) float32 in 0..1, painted in place.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gfocal.data.scenes.shapes import Floats, blotches, pattern

_LUMA = np.array([0.30, 0.59, 0.11], dtype=np.float32)

Bools = NDArray[np.bool_]


@dataclass
class Piece:
    """An object in its own frame, whose origin lands on the image's whole pixel ``at``.

    ``mask`` is the shape with sharp edges, ``drawn`` the shape and the clutter that belongs to it, and
    ``shown`` what later objects left in sight of ``drawn``.
    """

    label: int
    edges: NDArray[np.float64]
    std: NDArray[np.float64]
    causes: list[str]
    alpha: Floats
    bars: list[tuple[int, tuple[int, int, int, int]]]
    mask: Bools
    drawn: Bools
    shown: Bools
    at: tuple[int, int] = (0, 0)
    overlapped: bool = False
    strips: list[Bools] = field(default_factory=list)

    @property
    def box(self) -> NDArray[np.float64]:
        x, y = self.at
        return self.edges + np.array([x, y, x, y])

    def clear_mask(self) -> Bools:
        """Return the shape without what its own clutter hides."""
        clear = self.mask.copy()
        for _, (x1, y1, x2, y2) in self.bars:
            clear[y1:y2, x1:x2] = False
        return clear


def background(size: int, rng: np.random.Generator) -> Floats:
    """Return (size, size, 3) float32 in 0..1: soft colours, a faint texture, grain and loose clutter."""
    base = rng.uniform(0.15, 0.85, 3).astype(np.float32)
    canvas = blotches(size, size, int(rng.integers(3, 8)), 3, rng)
    canvas *= np.float32(rng.uniform(0.1, 0.4))
    canvas += base - canvas.mean(axis=(0, 1))
    texture = pattern(size, size, size * rng.uniform(0.02, 0.2), rng)
    canvas += (np.float32(rng.uniform(0.03, 0.12)) * (texture - 0.5))[:, :, None]
    for _ in range(int(rng.integers(0, 4))):
        length, thickness = size * rng.uniform(0.08, 0.5), max(2.0, size * rng.uniform(0.006, 0.03))
        along_x = bool(rng.random() < 0.5)
        width, height = (length, thickness) if along_x else (thickness, length)
        x, y = rng.uniform(0, size - width), rng.uniform(0, size - height)
        _paint_bar(canvas, (int(x), int(y), int(x + width) + 1, int(y + height) + 1), not along_x, rng)
    return canvas


def _paint_bar(canvas: Floats, rectangle: tuple[int, int, int, int], upright: bool, rng: np.random.Generator) -> None:
    """Paint a rod, shaded as if round: the clutter that carries no label."""
    size = canvas.shape[0]
    colour = rng.uniform(0.1, 0.9, 3).astype(np.float32)
    x1, y1, x2, y2 = rectangle
    across = np.linspace(-1.0, 1.0, (x2 - x1) if upright else (y2 - y1), dtype=np.float32)
    shade = 1.0 - 0.45 * (across - 0.25) ** 2
    rod = (shade[None, :, None] if upright else shade[:, None, None]) * colour
    rod = np.broadcast_to(rod, (y2 - y1, x2 - x1, 3))
    left, top = max(x1, 0), max(y1, 0)
    right, bottom = min(x2, size), min(y2, size)
    canvas[top:bottom, left:right] = rod[top - y1 : bottom - y1, left - x1 : right - x1]


def _two_colours(under: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw two colours for an object that both stand out, in brightness above all, from what is ``under`` it."""
    first = rng.uniform(0.03, 0.97, (12, 3))
    second = np.clip(first + rng.uniform(-0.3, 0.3, (12, 3)), 0.0, 1.0)
    away = np.stack([first, second], axis=1) - under
    contrast = (np.abs((away * _LUMA).sum(axis=2)) + 0.35 * np.abs(away).mean(axis=2)).min(axis=1)
    # The first that is good enough, not the best: the best would always be black or white.
    chosen = int(np.argmax(contrast > 0.3)) if (contrast > 0.3).any() else int(np.argmax(contrast))
    return first[chosen].astype(np.float32), second[chosen].astype(np.float32)


def _veil(piece: Piece, edge: int, rows: slice, columns: slice, rng: np.random.Generator) -> Floats:
    """Return the strength 0..1 of a shadow or fog about an edge; as wide as the edge is uncertain."""
    axis = edge % 2
    spread = 2.0 * float(piece.std[edge]) + 1.0
    position = (np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop))
    across = np.exp(-0.5 * ((position[axis] + 0.5 - piece.edges[edge]) / spread) ** 2)
    start, stop = piece.edges[1 - axis], piece.edges[3 - axis]
    fade = 0.1 * (stop - start) + 1.0
    u = position[1 - axis] + 0.5
    along = np.clip((u - start) / fade + 1.0, 0.0, 1.0) * np.clip((stop - u) / fade + 1.0, 0.0, 1.0)
    strength = across[None, :] * along[:, None] if axis == 0 else across[:, None] * along[None, :]
    return (rng.uniform(0.5, 0.7) * strength).astype(np.float32)[:, :, None]


def paint(canvas: Floats, piece: Piece, rng: np.random.Generator) -> None:
    """Paint a placed object, then what makes its edges uncertain, onto the canvas (S, S, 3) in 0..1."""
    size = canvas.shape[0]
    x, y = piece.at
    height, width = piece.mask.shape
    rows, columns = slice(max(0, -y), min(height, size - y)), slice(max(0, -x), min(width, size - x))
    view = canvas[y + rows.start : y + rows.stop, x + columns.start : x + columns.stop]
    alpha = piece.alpha[rows, columns][:, :, None]
    weight = alpha[::2, ::2]
    under = (view[::2, ::2] * weight).sum(axis=(0, 1)) / max(float(weight.sum()), 1e-3)
    first, second = _two_colours(under, rng)
    side = float((piece.edges[2:] - piece.edges[:2]).min())
    texture = pattern(view.shape[1], view.shape[0], max(4.0, side * rng.uniform(0.12, 0.5)), rng)[:, :, None]
    view += alpha * (first + (second - first) * texture - view)
    for edge in np.flatnonzero(piece.std):
        if piece.causes[edge] in ("shadow", "fog"):
            veil = _veil(piece, int(edge), rows, columns, rng)
            tone = np.float32(0.02 if piece.causes[edge] == "shadow" else rng.uniform(0.8, 0.95))
            view += veil * (tone - view)
    for bar_edge, (x1, y1, x2, y2) in piece.bars:
        _paint_bar(canvas, (x + x1, y + y1, x + x2, y + y2), bar_edge % 2 == 0, rng)

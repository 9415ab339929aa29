"""One labelled scene: objects are sketched, placed so that every labelled edge stays in sight, and painted.

An edge of a box is sharp, or uncertain for a visible reason (:data:`CAUSES`). The labelled coordinate of an
uncertain edge is drawn from a truncated normal about the edge's centre; what is painted there is as wide as
that distribution, so the image tells how sure one can be but not where the label is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gfocal.data.scenes.painting import Bools, Piece, background, paint
from gfocal.data.scenes.shapes import CLASSES, TRUNCATION, outlines, rasterise, smear, truncated_normal

CAUSES = ("blur", "shadow", "fog", "clutter")

_MIN_VISIBLE = 0.4
_MIN_EDGE_VISIBLE = 0.5
_MIN_SIDE = 8.0


@dataclass(frozen=True)
class SceneStyle:
    """What sets scenes of a kind apart; shares are of the image's side, or of the object's.

    Attributes:
        sides: of an object before its uncertain edges move, least and largest share of the image.
        common_side: the most common one.
        ambiguity: standard deviation of an uncertain edge, least and largest share of the object's side.
        by_ratio: whether ambiguities are spread evenly over their logarithm, so that narrow ones are as common as wide.
        objects: least and largest number that are tried for an image.
    """

    sides: tuple[float, float]
    common_side: float
    ambiguity: tuple[float, float]
    by_ratio: bool
    objects: tuple[int, int]


STYLES = {
    # An uncertain edge may move a label by 2 * 6 % of the side: within these the labelled sides stay in 5-60 %.
    "plain": SceneStyle((0.058, 0.53), 0.19, (0.02, 0.06), False, (5, 11)),
    # For edge_std: at 512 pixels ambiguities of 2 to 30 pixels, most of them wider than the bins of a detector.
    "hard": SceneStyle((0.16, 0.53), 0.3, (0.02, 0.12), True, (3, 6)),
}
"""By name: ``plain``; ``hard``, larger objects with edges of more different ambiguity."""


@dataclass(frozen=True)
class Scene:
    """An image and its N objects, the last painted last.

    Attributes:
        image: (size, size, 3) uint8 RGB.
        boxes: (N, 4) xyxy as labelled, pixels.
        centres: (N, 4) xyxy, the mean of every edge's distribution; equals ``boxes`` where an edge is sharp.
        ambiguity: (N, 4) standard deviation of l, t, r, b before truncation, pixels; 0 where sharp.
        causes: N times four of :data:`CAUSES`, or "" where sharp.
        labels: (N,) index into ``CLASSES``.
        visible: (N,) share of the object's area that nothing covers, 0..1.
        overlapped: (N,) whether another object covers some of it, or it covers some of another one.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    centres: NDArray[np.float64]
    ambiguity: NDArray[np.float64]
    causes: list[list[str]]
    labels: NDArray[np.int64]
    visible: NDArray[np.float64]
    overlapped: NDArray[np.bool_]


def _choose_edges(
    sides: NDArray[np.float64], style: SceneStyle, rng: np.random.Generator
) -> tuple[NDArray[np.float64], list[str]]:
    """Make about a third of the edges of half the objects uncertain, at most one per axis."""
    std, causes = np.zeros(4), [""] * 4
    if rng.random() < 0.5:
        first = int(rng.integers(4))
        chosen = [first] if rng.random() < 0.7 else [first, (first + int(rng.choice([1, 3]))) % 4]
        for edge in chosen:
            side = sides[edge % 2]
            least, most = style.ambiguity
            share = (
                math.exp(rng.uniform(math.log(least), math.log(most))) if style.by_ratio else rng.uniform(least, most)
            )
            std[edge] = max(side * share, min(1.0, most * side))
            causes[edge] = CAUSES[int(rng.integers(len(CAUSES)))]
    return std, causes


def _bar_rectangle(
    edges: NDArray[np.float64], edge: int, std: float, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return x1, y1, x2, y2 of the clutter that hides exactly the range where the edge may lie."""
    axis = edge % 2
    start, stop = edges[edge] - TRUNCATION * std, edges[edge] + TRUNCATION * std
    along = (edges[1 - axis], edges[3 - axis])
    reach = rng.uniform(0.05, 0.3, 2) * (along[1] - along[0])
    low = [0, 0]
    high = [0, 0]
    low[axis], high[axis] = round(start), max(round(stop), round(start) + 1)
    low[1 - axis], high[1 - axis] = round(along[0] - reach[0]), round(along[1] + reach[1])
    height, width = shape
    return max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)


def _strip(piece: Piece, edge: int) -> Bools:
    """Return the pixels of ``drawn`` that tell where an edge is."""
    axis = edge % 2
    side = piece.edges[axis + 2] - piece.edges[axis]
    depth = max(0.08 * side, 2.5 * piece.std[edge], 2.0)
    position = np.arange(piece.drawn.shape[1 - axis]) + 0.5
    near = np.abs(position - piece.edges[edge]) <= depth
    return piece.drawn & (near[None, :] if axis == 0 else near[:, None])


def sketch(size: int, rng: np.random.Generator, style: SceneStyle = STYLES["plain"]) -> Piece:
    """Make a random object for an image of ``size`` pixels, not yet placed."""
    label = int(rng.integers(len(CLASSES)))
    low, high = max(style.sides[0] * size, _MIN_SIDE), style.sides[1] * size
    # Log-triangular: few sides at either end.
    peak = math.log(min(max(style.common_side * size, low * 1.1), high))
    side = math.exp(rng.triangular(math.log(low), peak, math.log(high)))
    stretch = math.exp(rng.uniform(-0.14, 0.14))
    sides = np.clip(np.array([side * stretch, side / stretch]), low, high)
    std, causes = _choose_edges(sides, style, rng)
    margin = math.ceil(max(6.0 * float(std.max()), 0.0)) + 2
    offset = margin + rng.random(2)
    edges = np.concatenate([offset, offset + sides])
    width, height = (math.ceil(value) + margin for value in edges[2:])
    polygons = [polygon + offset for polygon in outlines(CLASSES[label], sides[0], sides[1], rng)]
    alpha = rasterise(polygons, width, height)
    mask = alpha > 0.5
    bars = []
    drawn = mask.copy()
    for edge in np.flatnonzero(std):
        if causes[edge] == "clutter":
            rectangle = _bar_rectangle(edges, int(edge), float(std[edge]), mask.shape, rng)
            bars.append((int(edge), rectangle))
            drawn[rectangle[1] : rectangle[3], rectangle[0] : rectangle[2]] = True
        else:
            alpha = smear(alpha, int(edge), edges, float(std[edge]))
    piece = Piece(label, edges, std, causes, alpha, bars, mask, drawn, drawn.copy())
    piece.strips = [_strip(piece, edge) for edge in range(4)]
    return piece


def _shared(a: Piece, b: Piece) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Return the common rectangle of two placed frames, in the frame of each; None where there is none."""
    x1, y1 = max(a.at[0], b.at[0]), max(a.at[1], b.at[1])
    x2 = min(a.at[0] + a.mask.shape[1], b.at[0] + b.mask.shape[1])
    y2 = min(a.at[1] + a.mask.shape[0], b.at[1] + b.mask.shape[0])
    if x1 >= x2 or y1 >= y2:
        return None
    first, second = (
        (slice(y1 - piece.at[1], y2 - piece.at[1]), slice(x1 - piece.at[0], x2 - piece.at[0])) for piece in (a, b)
    )
    return first, second


def _stays_fair(piece: Piece, shown: Bools) -> bool:
    """Tell whether enough of the object and of every edge would stay in sight."""
    if (piece.clear_mask() & shown).sum() < _MIN_VISIBLE * piece.mask.sum():
        return False
    return all((strip & shown).sum() >= _MIN_EDGE_VISIBLE * strip.sum() for strip in piece.strips)


def _fits(new: Piece, pieces: Sequence[Piece]) -> bool:
    """Put ``new`` on top of the others where that leaves them all fair; change nothing where it does not."""
    changes: list[tuple[Piece, Bools, bool]] = []
    for old in pieces:
        windows = _shared(new, old)
        if windows is None:
            continue
        in_new, in_old = windows
        cover = new.drawn[in_new]
        if not (cover & old.shown[in_old]).any():
            continue
        shown = old.shown.copy()
        shown[in_old] &= ~cover
        if not _stays_fair(old, shown):
            return False
        common = int((new.mask[in_new] & old.mask[in_old]).sum())
        smaller = min(int(new.mask.sum()), int(old.mask.sum()))
        changes.append((old, shown, common >= max(3.0, 0.01 * smaller)))
    for old, shown, overlaps in changes:
        old.shown = shown
        old.overlapped |= overlaps
        new.overlapped |= overlaps
    return True


def place(new: Piece, pieces: Sequence[Piece], size: int, rng: np.random.Generator, tries: int = 12) -> bool:
    """Find a place for ``new`` on top of ``pieces`` and set it; every uncertain edge stays inside the image.

    Returns:
        Whether a fair place was found.
    """
    reach = TRUNCATION * new.std
    low = np.ceil(reach[:2] - new.edges[:2]).astype(int)
    high = np.floor(size - reach[2:] - new.edges[2:]).astype(int)
    middle = 0.5 * (new.edges[:2] + new.edges[2:])
    for _ in range(tries):
        if pieces and rng.random() < 0.55:
            other = pieces[int(rng.integers(len(pieces)))].box
            half = 0.5 * (other[2:] - other[:2] + new.edges[2:] - new.edges[:2])
            target = 0.5 * (other[:2] + other[2:]) + rng.uniform(-0.9, 0.9, 2) * half - middle
            x, y = np.clip(np.round(target).astype(int), low, high)
        else:
            x, y = rng.integers(low, high + 1)
        new.at = (int(x), int(y))
        if _fits(new, pieces):
            return True
    return False


def draw_scene(
    size: int, rng: np.random.Generator, *, background_only: bool = False, style: SceneStyle = STYLES["plain"]
) -> Scene:
    """Draw one scene.

    Args:
        size: side of the image, pixels, >= 64.
        rng: the only source of randomness.
        background_only: draw no object.
        style: one of :data:`STYLES`.

    Returns:
        The image with its labels; the labelled sides of a plain scene are 5-60 % of the image.
    """
    pieces: list[Piece] = []
    if not background_only:
        for _ in range(int(rng.integers(style.objects[0], style.objects[1] + 1))):
            piece = sketch(size, rng, style)
            if _stays_fair(piece, piece.shown) and place(piece, pieces, size, rng):
                pieces.append(piece)
    canvas = background(size, rng)
    for piece in pieces:
        paint(canvas, piece, rng)
    canvas *= 255.0
    grain = np.frombuffer(rng.bytes(size * size), dtype=np.uint8).reshape(size, size, 1)
    canvas += (grain.astype(np.float32) - 127.5) * np.float32(rng.uniform(0.02, 0.09))
    image = np.clip(canvas, 0.0, 255.0).astype(np.uint8)
    centres = np.array([piece.box for piece in pieces]).reshape(-1, 4)
    std = np.array([piece.std for piece in pieces]).reshape(-1, 4)
    shifts = np.vectorize(truncated_normal, otypes=[float])(rng.random(std.shape)) if len(pieces) else std
    return Scene(
        image=image,
        boxes=centres + std * shifts,
        centres=centres,
        ambiguity=std,
        causes=[piece.causes for piece in pieces],
        labels=np.array([piece.label for piece in pieces], dtype=np.int64),
        visible=np.array([(p.clear_mask() & p.shown).sum() / p.mask.sum() for p in pieces]),
        overlapped=np.array([piece.overlapped for piece in pieces], dtype=bool),
    )


def example_scene(height: int, width: int, seed: int = 1) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB: the top left of a scene, the same for each seed."""
    return np.ascontiguousarray(draw_scene(max(height, width, 64), np.random.default_rng(seed)).image[:height, :width])

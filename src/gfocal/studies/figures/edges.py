"""Boxes with the distributions of their four edges, sharp ones and ambiguous ones: the paper's Figure 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gfocal.detector import DenseDetector
from gfocal.evaluation.uncertainty import match_objects
from gfocal.explanation.panels import FOUND, TRUE, DrawnBox, DrawnEdge, draw_box
from gfocal.explanation.places import bins_by_edge, window
from gfocal.structures import Detections
from gfocal.studies.figures.data import Source
from gfocal.studies.figures.theory import BLUE, ORANGE

IMAGES = 100
"""Predicted on, at most."""
_MIN_SCORE = 0.3
_COLUMNS = 3
_SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class Found:
    """One detection that found its object.

    Attributes:
        image: row of the index.
        detection: that one.
        truth: (4,) xyxy of the object.
        ambiguity: (4,) pixels, how uncertain left, top, right, bottom were made; NaN where it is not known.
    """

    image: int
    detection: Detections
    truth: np.ndarray
    ambiguity: np.ndarray

    @property
    def side(self) -> float:
        """Square root of the object's area, pixels."""
        return float(np.sqrt(np.prod(self.truth[2:] - self.truth[:2])))

    @property
    def known(self) -> bool:
        """Whether its edges are known to be sharp or not."""
        return bool(np.isfinite(self.ambiguity).all())


def found_objects(detector: DenseDetector, source: Source, *, images: int = IMAGES) -> list[Found]:
    """Detections with a score of at least 0.3 that found an object, those at the border of an image left out."""
    index = source.index.with_classes(detector.names)
    result = []
    for i in range(min(images, len(index))):
        found = detector.predict(source.image(i), score_threshold=_MIN_SCORE)
        border = torch.tensor([0.0, 0.0, float(index.widths[i]), float(index.heights[i])])
        inside = ((found.boxes - border).abs() > 1).all(1)
        found = found[inside]
        for mine, theirs in zip(*match_objects(index, i, found), strict=True):
            truth = np.asarray(index.boxes[theirs : theirs + 1], np.float64)[0]
            ambiguity = np.full(4, np.nan) if index.edge_ambiguity is None else index.edge_ambiguity[theirs]
            result.append(Found(i, found[int(mine)], truth, ambiguity))
    return result


def choose_shown(found: Sequence[Found]) -> tuple[list[Found], list[Found]]:
    """Three objects with unclear edges and three with sharp ones, no two of one image.

    By the annotations alone, where they say how uncertain an edge is: those whose least certain edge is the most
    uncertain for their size, and of the objects with four sharp edges those nearest to them in size. Otherwise by the
    predicted spread, the widest and the narrowest for their size.
    """
    if any(one.known for one in found):
        known = [one for one in found if one.known]
        unclear = sorted((o for o in known if o.ambiguity.max() > 0), key=lambda o: -o.ambiguity.max() / o.side)
        sharp = [one for one in known if one.ambiguity.max() == 0]
    else:
        unclear = sorted(found, key=lambda o: -_widest(o) / o.side)
        sharp = unclear[::-1]
    shown = _of_different_images(unclear, ())
    beside: list[Found] = []
    for one in shown:
        near = sorted(sharp, key=lambda o: abs(o.side - one.side)) if one.known else sharp
        beside += _of_different_images(near, [*shown, *beside])[:1]
    return shown, beside


def _widest(one: Found) -> float:
    return 0.0 if one.detection.edge_std is None else float(one.detection.edge_std.max())


def _of_different_images(ordered: Sequence[Found], others: Sequence[Found]) -> list[Found]:
    taken = {one.image for one in others}
    chosen: list[Found] = []
    for one in ordered:
        if one.image not in taken and len(chosen) < _COLUMNS:
            taken.add(one.image)
            chosen.append(one)
    return chosen


def bins_in_pixels(one: Found, detector: DenseDetector, image_size: tuple[int, int]) -> np.ndarray:
    """(4, n + 1) where each bin of left, top, right, bottom lies, in pixels of the image.

    A bin lies as far from the edge of the box as it lies from the mean of the distribution: the point itself is not
    part of a detection.

    Args:
        one: with ``edge_probs`` and ``levels``.
        detector: that found it.
        image_size: (height, width).
    """
    detection = one.detection
    assert detection.edge_probs is not None, "only General boxes have bins"
    assert detection.levels is not None
    probs = detection.edge_probs.double().numpy()
    delta = float(getattr(detector.box_coder, "delta", 1.0))
    stride = detector.strides[int(detection.levels[0])]
    height, width = detector.resize.target_size(*image_size)
    y, x = image_size[0] / height, image_size[1] / width
    outwards = delta * stride * np.array([[-x, -y, x, y]])
    return bins_by_edge(detection.boxes.double().numpy(), probs, outwards)[0]


def edges_figure(detector: DenseDetector, source: Source) -> Figure | None:
    """Crops with the predicted box, and beside them what the detector believes of each edge; None if nothing is found.

    Args:
        detector: with General boxes.
        source: images; where their annotations say how uncertain an edge is, that decides what is shown.
    """
    found = found_objects(detector, source)
    unclear, sharp = choose_shown(found)
    rows = [row for row in (sharp, unclear) if row]
    if not rows:
        return None
    figure = Figure(figsize=(4.6 * _COLUMNS, 0.9 + 4.9 * len(rows)), layout="constrained")
    figure.suptitle(f"What a detector believes of each edge\n{_described(found, source)}", fontsize=12)
    bands: Any = figure.subfigures(len(rows), 1, squeeze=False)
    for band, row in zip(bands[:, 0], rows, strict=True):
        if len(rows) > 1:
            known = row[0].known
            names = ("four sharp edges", "an uncertain edge") if known else ("least uncertain", "most uncertain")
            band.suptitle(names[row is unclear].capitalize(), fontsize=12, fontweight="bold")
        for cell, one in zip(band.subfigures(1, _COLUMNS), row, strict=False):
            _draw_object(cell, one, detector, source)
    figure.legend(handles=_legend(any(one.known for one in found)), loc="outside lower center", ncols=5, frameon=False)
    return figure


def _described(found: Sequence[Found], source: Source) -> str:
    known = [one for one in found if one.known and one.detection.edge_std is not None]
    if not known:
        return f"{source.title}; chosen by the predicted spread, widest and narrowest for their size"
    std = np.concatenate([one.detection.edge_std.double().numpy() for one in known])  # type: ignore[union-attr]
    unclear = np.stack([one.ambiguity for one in known]) > 0
    spreads = [f"{np.median(std[which]):.1f} px" if which.any() else "-" for which in (~unclear, unclear)]
    return (
        f"{source.title}; objects chosen by the annotations, not by the prediction\n"
        f"median predicted standard deviation of {len(known)} objects found: sharp edges {spreads[0]}, uncertain ones "
        f"{spreads[1]}"
    )


def _legend(known: bool) -> list[Any]:
    handles: list[Any] = [
        Line2D([], [], color=FOUND, linewidth=2, label="predicted box (mean of the bins)"),
        Line2D([], [], color=TRUE, linewidth=1.6, linestyle="--", label="ground truth"),
        Patch(color=BLUE, label="probability of the bins" + (" of a sharp edge" if known else "")),
    ]
    return [*handles, Patch(color=ORANGE, label="of an uncertain edge")] if known else handles


def _draw_object(cell: Any, one: Found, detector: DenseDetector, source: Source) -> None:
    """The crop, above it the distributions of left and right, beside it those of top and bottom."""
    image = source.image(one.image).permute(1, 2, 0).numpy()
    height, width = image.shape[:2]
    box = one.detection.boxes[0].double().numpy()
    assert one.detection.edge_probs is not None
    probs = one.detection.edge_probs[0].double().numpy()
    places = bins_in_pixels(one, detector, (height, width))
    unclear = [one.known and one.ambiguity[side] > 0 for side in range(4)]
    edges = [DrawnEdge(places[side], probs[side], ORANGE if unclear[side] else BLUE) for side in range(4)]
    part = window(np.stack((box, one.truth)), height, width)
    above = draw_box(cell, image, DrawnBox(box, edges, one.truth), part)
    above.set_title(_caption(one), fontsize=10, loc="left")


def _caption(one: Found) -> str:
    name = one.detection.names[int(one.detection.labels[0])]
    title = f"{name}, score {float(one.detection.scores[0]):.2f}"
    unclear = [f"{_SIDES[i]} (σ {one.ambiguity[i]:.1f} px)" for i in range(4) if one.known and one.ambiguity[i] > 0]
    return f"{title}\nuncertain: {', '.join(unclear)}" if unclear else title

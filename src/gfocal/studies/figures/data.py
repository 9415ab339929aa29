"""What the figures are drawn from: data of a person, or generated scenes; and the histogram of regression targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from gfocal.analysis.assignment import Assigned, assign, choose_images
from gfocal.commands.statistics import size_words
from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.data.scenes.generate import draw_indexed
from gfocal.data.scenes.shapes import CLASSES
from gfocal.errors import MissingSplitError
from gfocal.images.depth import ValueRange
from gfocal.images.io import read_image
from gfocal.recipe import Recipe
from gfocal.report.plot import bare
from gfocal.studies.figures.theory import BLACK, BLUE, ORANGE, RED
from gfocal.utils.files import real_path
from gfocal.utils.text import counted, percent

SCENES = 200
"""Scenes that are generated where no data are given."""
REACHES = (7, 16)
"""n of the small recipes and of the published ones."""
_SHOWN = 20.0  # strides


@dataclass(frozen=True)
class Source:
    """Images with their objects.

    Attributes:
        index: the objects.
        image: gives (3, H, W) uint8 RGB of a row of the index.
        title: what these are, for people.
    """

    index: DataIndex
    image: Callable[[int], Tensor]
    title: str


def open_source(
    data: Path | None, size: int, images_dir: Path | None = None, value_range: ValueRange = "type"
) -> Source:
    """The validation images of a data set (all of one that is not split), or generated scenes.

    Args:
        data: data set; None for scenes of the validation split, which no run learns from.
        size: side of the scenes in pixels.
        images_dir: the folder of the images, or one around it; None for near the annotations.
        value_range: how more than 8 bits become 8, see :mod:`gfocal.images.depth`.

    Raises:
        UsageError, BrokenInputError: see :func:`gfocal.data.formats.open.open_dataset`.
    """
    if data is None:
        return _scenes(size)
    try:
        index = open_dataset(data, "val", whole=True, images_dir=images_dir)
    except MissingSplitError:
        index = open_dataset(data, "train", images_dir=images_dir)
    title = f"{real_path(data).name}, {counted(len(index), 'picture')}"
    return Source(index, lambda i: read_image(index.path(i), value_range=value_range), title)


@lru_cache(maxsize=2)
def _scenes(size: int) -> Source:
    scenes = [draw_indexed(size, 0, 1, number) for number in range(1, SCENES + 1)]
    index = DataIndex.build(
        images_dir=Path("generated"),
        annotations=Path("generated scenes"),
        image_ids=np.arange(1, SCENES + 1),
        file_names=[f"{number}.jpg" for number in range(1, SCENES + 1)],
        widths=[size] * SCENES,
        heights=[size] * SCENES,
        box_start=np.cumsum([0, *(len(scene.boxes) for scene in scenes)]),
        boxes=np.concatenate([scene.boxes for scene in scenes]),
        labels=np.concatenate([scene.labels for scene in scenes]),
        names=CLASSES,
        edge_ambiguity=np.concatenate([scene.ambiguity for scene in scenes]),
    )
    images = [torch.from_numpy(scene.image).permute(2, 0, 1) for scene in scenes]
    return Source(index, images.__getitem__, f"{SCENES} generated scenes of {size} pixels")


def targets_figure(source: Source, recipe: Recipe, name: str, *, images: int = 5000) -> Figure:
    """How far the edges of all positives lie from their points, in strides: the paper's Figure 5(c).

    Args:
        source: the data.
        recipe: of the detector whose points and assigner are asked.
        name: of the recipe, for people.
        images: looked at, at most.
    """
    assigned = assign(source.index, recipe, choose_images(len(source.index), images, 0))
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    panel = figure.subplots()
    figure.suptitle("Regression targets: how many bins an edge needs", fontsize=13)
    title = f"{source.title}; points and assigner of {name} at {size_words(recipe)}"
    panel.set_title(f"{title}\n{len(assigned.owner):,} positives, four edges each", fontsize=10)
    panel.set_xlabel("distance from point to edge in strides")
    panel.set_ylabel("percent of the edges, in bins of 0.5")
    bare(panel)
    if not len(assigned.owner):
        panel.text(0.5, 0.5, "no object is learnt", ha="center", transform=panel.transAxes)
        return figure
    edges = assigned.edges.flatten().numpy()
    inside = edges[edges <= _SHOWN]
    weights = np.full(len(inside), 100 / len(edges))
    start = min(0.0, float(np.floor(edges.min())))
    panel.hist(inside, np.arange(start, _SHOWN + 0.5, 0.5).tolist(), weights=weights, color=BLUE)
    top = panel.get_ylim()[1] * 1.08
    panel.set_ylim(0, top)
    for reach, colour in zip(REACHES, (ORANGE, RED), strict=True):
        panel.axvline(reach, color=colour, linewidth=2, linestyle="--")
        panel.text(reach + 0.2, top * 0.95, f"n = {reach}\n{beyond(assigned, reach)}", va="top", color=BLACK)
    if len(inside) < len(edges):
        panel.text(_SHOWN, top * 0.02, f"{percent(1 - len(inside) / len(edges))} lie farther", ha="right", va="bottom")
    panel.set_xlim(start, _SHOWN)
    panel.set_xticks(np.arange(0, _SHOWN + 1, 2))
    return figure


def beyond(assigned: Assigned, reach: float) -> str:
    """The share of edges that lie farther from their points than so many strides, in words."""
    return f"{percent(float((assigned.edges > reach).float().mean()))} beyond"

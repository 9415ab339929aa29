"""What of a data set a detector can represent, before any training: by level, by size and by shape of the objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from gfocal.analysis.assignment import Assigned, Progress, assign, choose_images, reach_in_strides
from gfocal.analysis.coverage import smallest_by_delta
from gfocal.analysis.recommend import Proposal, propose
from gfocal.boxes import aligned_iou
from gfocal.data.checks.crowding import Crowding, crowding
from gfocal.data.index.data_index import DataIndex
from gfocal.data.pipeline import in_tiles
from gfocal.errors import require_number
from gfocal.recipe import Recipe
from gfocal.recipe.forms import ASSIGNERS
from gfocal.utils.records import FLAT, IF_ANY, fields_to_json, named
from gfocal.zoo import anchor_shapes

IMAGES = 5000
"""Looked at by default: enough for a share of 0.1 %, and seconds even for large data sets."""
SIZES = (0.0, 8.0, 16.0, 32.0, 96.0)
"""Pixels at which the rows of the table by size begin."""
ASPECTS = (0.0, 1 / 4, 1 / 2, 2.0, 4.0)
"""Width over height at which the rows of the table by shape begin."""
PERCENTILES = (50.0, 90.0, 99.0, 99.9)


@dataclass(frozen=True)
class Totals:
    """The counts of :class:`gfocal.training.step.Counts` and their shares."""

    objects: int
    missed: int
    edges: int
    truncated: int
    missed_share: float
    truncated_share: float


@dataclass(frozen=True)
class LevelStatistics:
    """What a level of the pyramid learns.

    Attributes:
        level: 0 the finest.
        stride: in pixels.
        positives: points that learn an object.
        objects: that they learn.
        edges: four of each positive.
        truncated: edges that no code can reach.
        truncated_share: of the edges; None without any.
        behind: edges on the other side of their point.
        largest: distance in strides from a point to its edge; None without positives.
        percentiles: of those distances, by percent; None without positives.
    """

    level: int
    stride: int
    positives: int
    objects: int
    edges: int
    truncated: int
    truncated_share: float | None
    behind: int
    largest: float | None
    percentiles: dict[str, float | None]


@dataclass(frozen=True)
class ObjectGroup:
    """Objects of which some value lies in a range.

    Attributes:
        begin: where the range begins, itself included.
        end: where it ends, itself not included; None: nowhere.
        objects, missed, edges, truncated: as in :class:`Totals`.
        missed_share: None without objects.
        truncated_share: None without edges.
    """

    begin: float = field(metadata=named("from"))
    end: float | None = field(metadata=named("to"))
    objects: int
    missed: int
    missed_share: float | None
    edges: int
    truncated: int
    truncated_share: float | None


@dataclass(frozen=True)
class AspectGroup:
    """Objects by width over height.

    Attributes:
        group: they themselves.
        unlike_anchors: how many of them no anchor resembles; None where none must.
    """

    group: ObjectGroup = field(metadata=FLAT)
    unlike_anchors: int | None


@dataclass(frozen=True)
class Tiny:
    """Objects with a side below a pixel, and with both sides below the finest stride, as they enter."""

    below_a_pixel: int
    below_a_stride: int


@dataclass(frozen=True)
class DataStatistics:
    """What of a data set the detector of a recipe can represent.

    Attributes:
        tile: ``data.tile``.
        images: that were looked at.
        images_in_all: of so many.
        augmented: with what the recipe does at random.
        counted: "positives"; "candidates" where the assigner looks at predictions: all points that may become positive
            of an object, for each object. What of them learns is not known before training.
        totals: as training counts them; of candidates, the edges too.
        positives: points that learn an object, or may.
        reach_strides: how far boxes reach from their point, in strides; None: unlimited.
        levels: a row for each.
        sizes: by the square root of the area, in pixels as they enter.
        aspects: by width over height.
        tiny: objects of next to no pixels.
        crowding: objects beyond ``predict.max_detections`` and beyond COCO's limit, of all images.
        smallest_reg_max: the least n, by delta, that leaves at most 0.1 % of each level's edges out; None where boxes
            have no bins, nothing is positive, or candidates are counted.
        proposal: of a recipe that fits better; None where none was asked for.
    """

    tile: int | None
    images: int = field(metadata=named("pictures"))
    images_in_all: int = field(metadata=named("pictures_in_all"))
    augmented: bool
    counted: Literal["positives", "candidates"]
    totals: Totals = field(metadata=FLAT)
    positives: int
    reach_strides: float | None
    levels: tuple[LevelStatistics, ...]
    sizes: tuple[ObjectGroup, ...]
    aspects: tuple[AspectGroup, ...]
    tiny: Tiny
    crowding: Crowding
    smallest_reg_max: dict[str, int] | None
    proposal: Proposal | None = field(default=None, metadata=IF_ANY)

    def to_dict(self) -> dict[str, Any]:
        """JSON types, as ``gfocal data stats --json`` prints them."""
        return fields_to_json(self)


def data_statistics(
    index: DataIndex,
    recipe: Recipe,
    *,
    images: int = IMAGES,
    seed: int = 0,
    augmented: bool = False,
    proposal: bool = True,
    progress: Callable[[str], Progress] | None = None,
) -> tuple[DataStatistics, Assigned]:
    """What of this data the detector of a recipe can represent.

    Args:
        index: the data; where the recipe has ``data.tile``, its tiles are what "images" are here.
        recipe: with the size that it trains at.
        images: of so many, chosen by the seed; 0 for all.
        seed: >= 0.
        augmented: with what the recipe does at random (``data.scale``, crops, mosaics): so many images of the first
            epoch, in its order; by default every image is only resized.
        proposal: whether to look for a recipe that fits better.
        progress: gives what is called with (done, all) for each pass over the images, from the pass's name.

    Returns:
        The statistics, and what they are made from.

    Example:
        >>> from gfocal.recipe import load_recipe
        >>> from gfocal.data.formats.open import open_dataset
        >>> found, _ = data_statistics(open_dataset("bccd", "train"), load_recipe("gfl_nano"))  # doctest: +SKIP
        >>> found.totals.truncated_share  # doctest: +SKIP
        6.458835687219259e-05
    """
    index = in_tiles(recipe, index)
    require_number("images", images, least=0, whole=True)
    require_number("seed", seed, least=0, whole=True)
    chosen = choose_images(len(index), images, seed)
    named = progress or (lambda name: lambda done, total: None)
    now = assign(index, recipe, chosen, augmented=augmented, progress=named("assigning"))
    found = DataStatistics(
        tile=recipe.data.tile,
        images=len(chosen),
        images_in_all=len(index),
        augmented=augmented,
        counted="candidates" if now.dynamic else "positives",
        totals=totals(now),
        positives=len(now.owner),
        reach_strides=reach_in_strides(recipe),
        levels=tuple(_levels(now)),
        sizes=tuple(group for group, _ in _groups(now, now.sides, SIZES)),
        aspects=tuple(_aspects(now, recipe)),
        tiny=_tiny(now),
        crowding=crowding(index, recipe.predict.max_detections),
        smallest_reg_max=smallest_by_delta(recipe, now),
        proposal=propose(index, recipe, chosen, now, augmented=augmented, progress=named) if proposal else None,
    )
    return found, now


def totals(assigned: Assigned) -> Totals:
    """Counted over all levels."""
    return Totals(
        objects=len(assigned.boxes),
        missed=int(assigned.missed.sum()),
        edges=assigned.truncated.numel(),
        truncated=int(assigned.truncated.sum()),
        missed_share=assigned.missed_share,
        truncated_share=assigned.truncated_share,
    )


def _levels(assigned: Assigned) -> Iterator[LevelStatistics]:
    for level, stride in enumerate(assigned.strides):
        edges, cut = assigned.of_level(level)
        owners = assigned.owner[assigned.level == level]
        known = edges.double().sort().values
        yield LevelStatistics(
            level=level,
            stride=stride,
            positives=len(owners),
            objects=len(owners.unique()),
            edges=len(edges),
            truncated=int(cut.sum()),
            truncated_share=int(cut.sum()) / len(edges) if len(edges) else None,
            behind=int((edges < 0).sum()),
            largest=float(known[-1]) if len(edges) else None,
            percentiles={f"{p:g}": _percentile(known, p) if len(edges) else None for p in PERCENTILES},
        )


def _percentile(ordered: Tensor, percent: float) -> float:
    """The least value that so many percent do not exceed; no two values are mixed."""
    rank = -(-len(ordered) * percent // 100)
    return float(ordered[max(int(rank), 1) - 1])


def _groups(assigned: Assigned, value: Tensor, begins: tuple[float, ...]) -> Iterator[tuple[ObjectGroup, Tensor]]:
    """Objects by a value of theirs, from one number to below the next; and which objects are in each group."""
    missed = assigned.missed
    edges_of = torch.zeros(len(value), dtype=torch.int64).scatter_add_(
        0, assigned.owner, torch.full_like(assigned.owner, 4)
    )
    cut_of = torch.zeros(len(value), dtype=torch.int64).scatter_add_(0, assigned.owner, assigned.truncated.sum(1))
    for low, high in zip(begins, (*begins[1:], None), strict=True):
        mine = value >= low if high is None else (value >= low) & (value < high)
        objects, lost, edges = int(mine.sum()), int((mine & missed).sum()), int(edges_of[mine].sum())
        group = ObjectGroup(
            begin=low,
            end=high,
            objects=objects,
            missed=lost,
            missed_share=lost / objects if objects else None,
            edges=edges,
            truncated=int(cut_of[mine].sum()),
            truncated_share=int(cut_of[mine].sum()) / edges if edges else None,
        )
        yield group, mine


def _aspects(assigned: Assigned, recipe: Recipe) -> Iterator[AspectGroup]:
    """An anchor resembles an object if their IoU reaches ``positive_iou`` with both centres in one place, the best."""
    size = assigned.boxes[:, 2:] - assigned.boxes[:, :2]
    unlike = None
    if "positive_iou" in ASSIGNERS[recipe.model.assigner.kind].keys:
        best = torch.zeros(len(size))
        for shape in {shape for level in anchor_shapes(recipe) for shape in level}:
            centred = torch.tensor([-shape[0], -shape[1], shape[0], shape[1]]) / 2
            best = best.maximum(aligned_iou(centred, torch.cat((-size, size), 1) / 2))
        unlike = best < recipe.model.assigner.positive_iou
    for group, mine in _groups(assigned, size[:, 0] / size[:, 1], ASPECTS):
        yield AspectGroup(group, None if unlike is None else int((mine & unlike).sum()))


def _tiny(assigned: Assigned) -> Tiny:
    size = assigned.boxes[:, 2:] - assigned.boxes[:, :2]
    return Tiny(
        below_a_pixel=int((size < 1).any(1).sum()),
        below_a_stride=int((size < assigned.strides[0]).all(1).sum()),
    )

"""What each point of a data set would learn, by arithmetic: no network is run and no image is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from gfocal.assigners import DynamicAssigner
from gfocal.boxes import boxes_to_distances
from gfocal.data.index.data_index import DataIndex
from gfocal.data.loading.loader import DetectionDataset
from gfocal.data.loading.sampler import RunBatches
from gfocal.data.pipeline import mosaic_of, repeats_of, train_transform
from gfocal.data.seeding import mix
from gfocal.errors import UsageError
from gfocal.points import Points, grid_sizes
from gfocal.recipe import Recipe
from gfocal.structures import Targets
from gfocal.zoo import Matching, build_matching

ALLOWED = 0.001
"""Share of a level's edges that may lie beyond the reach before gfocal warns: 0.1 %."""
PADDED_TO = 32  # pixels, as batches are
_SAMPLE = 3  # a stream of random numbers that neither the order of an epoch nor its augmentation uses
_LONGEST = 2**30  # pixels of a side: torch counts those of the image in 63 bits
_SIZES_KEPT = 64  # image sizes whose points are kept

Progress = Callable[[int, int], None]
Learning = tuple[Targets, tuple[int, int]]
"""The objects of an image as they are learnt, and (height, width) of the image then."""


@dataclass(frozen=True)
class Assigned:
    """What the points of some images learn: G objects, N positives.

    Attributes:
        dynamic: that the recipe's assigner looks at predictions. No network is run here, so the positives are then all
            points that may become one, and a point may stand for several objects.
        strides: of the L levels.
        images: that were looked at.
        points: of all of them together.
        pixels: of all of them together, padded.
        boxes: (G, 4) float32 xyxy of the objects, in pixels of the image as it enters.
        owner: (N,) int64: the object of each positive.
        level: (N,) int64.
        edges: (N, 4) float32: distances from the point to left, top, right and bottom, in strides.
        truncated: (N, 4) bool: edges that no code can reach, as training counts them.
    """

    dynamic: bool
    strides: tuple[int, ...]
    images: int
    points: int
    pixels: int
    boxes: Tensor
    owner: Tensor
    level: Tensor
    edges: Tensor
    truncated: Tensor

    @property
    def missed(self) -> Tensor:
        """(G,) bool: objects that no point learns."""
        missed = torch.ones(len(self.boxes), dtype=torch.bool)
        missed[self.owner] = False
        return missed

    @property
    def sides(self) -> Tensor:
        """(G,) square root of the area of each object, in pixels."""
        return (self.boxes[:, 2:] - self.boxes[:, :2]).prod(1).sqrt()

    @property
    def missed_share(self) -> float:
        """Of the objects."""
        return int(self.missed.sum()) / max(len(self.boxes), 1)

    @property
    def truncated_share(self) -> float:
        """Of the edges."""
        return int(self.truncated.sum()) / max(self.truncated.numel(), 1)

    def of_level(self, level: int) -> tuple[Tensor, Tensor]:
        """(edges in strides, whether they are truncated), both flat, of one level's positives."""
        mine = self.level == level
        return self.edges[mine].flatten(), self.truncated[mine].flatten()

    @property
    def worst_share(self) -> float:
        """The largest share of truncated edges that a level has."""
        shares = [int(cut.sum()) / len(cut) for _, cut in map(self.of_level, range(len(self.strides))) if len(cut)]
        return max(shares, default=0.0)


def choose_images(count: int, wanted: int, seed: int) -> np.ndarray:
    """The numbers of up to ``wanted`` of ``count`` images, ascending; all of them where ``wanted`` is 0.

    Raises:
        UsageError: wanted or seed is negative.
    """
    if min(wanted, seed) < 0:
        raise UsageError(f"the number of pictures and the seed must not be negative, got {wanted} and {seed}")
    if not 0 < wanted < count:
        return np.arange(count)
    return np.sort(np.random.default_rng(mix(seed, _SAMPLE)).choice(count, wanted, replace=False))


def resized(index: DataIndex, matching: Matching) -> Callable[[int], Learning]:
    """Objects at the size that an image is resized to, without anything random.

    The numbers are those of :class:`gfocal.data.augment.transforms.EvalTransform`, which would need the image.
    """

    def learnt(i: int) -> Learning:
        before = int(index.heights[i]), int(index.widths[i])
        height, width = matching.resize.target_size(*before)
        targets = index.targets(i)
        factor = torch.tensor([width / before[1], height / before[0]] * 2)
        return Targets(targets.boxes * factor, targets.labels), (height, width)

    return learnt


def as_trained(index: DataIndex, recipe: Recipe, count: int) -> Iterator[Learning]:
    """The first ``count`` images of a run's first epoch, in one process: with everything that is random.

    They go through the very transforms, blank: boxes move as in training, and no file is opened.
    """
    data, schedule = recipe.data, recipe.schedule
    colourless = recipe.model_copy(update={"data": data.model_copy(update={"photometric": 0.0})})
    repeats = repeats_of(recipe, index)
    dataset = DetectionDataset(
        index,
        train_transform(colourless, build_matching(recipe).resize),
        seed=recipe.runtime.seed,
        mosaic=mosaic_of(recipe),
        read=_blank,
        repeats=repeats if index.tiles is not None else None,
    )
    batches = RunBatches(
        len(index),
        seed=recipe.runtime.seed,
        batch_size=schedule.batch_size,
        batches=-(-count // schedule.batch_size),
        epochs=1,
        repeats=repeats,
        sides=data.sides if data.multi_scale else (),
        accumulate=schedule.accumulate,
    )
    for key in islice((key for batch in batches for key in batch), count):
        sample = dataset[key]
        yield sample.targets, (sample.image.shape[-2], sample.image.shape[-1])


def _blank(index: DataIndex, i: int) -> Tensor:
    """(3, H, W) uint8 of the size of image ``i``, without memory: annotations may claim any size."""
    height, width = (min(int(side[i]), _LONGEST) for side in (index.heights, index.widths))
    return torch.empty(1, dtype=torch.uint8, device="meta").expand(3, height, width)


def assign(
    index: DataIndex,
    recipe: Recipe,
    images: np.ndarray | None = None,
    *,
    augmented: bool = False,
    start: bool = False,
    progress: Progress | None = None,
) -> Assigned:
    """Assign the objects of some images to the points of a recipe's detector.

    Args:
        index: the data.
        recipe: of the detector.
        images: numbers of the images; by default all.
        augmented: with what the recipe does at random; then not these images, but as many of the first epoch.
        start: as the first epoch does it: by the static assigner, where the recipe's starts with one.
        progress: called with (images done, images in all) now and then.
    """
    matching = build_matching(recipe)
    numbers = np.arange(len(index)) if images is None else images
    plain = map(resized(index, matching), numbers.tolist())
    learning = as_trained(index, recipe, len(numbers)) if augmented else plain
    if start and matching.static_assigner is not None:
        matching = replace(matching, assigner=matching.static_assigner)
    return _gather(recipe, matching, learning, len(numbers), progress)


def _gather(
    recipe: Recipe,
    matching: Matching,
    images: Iterator[Learning],
    count: int,
    progress: Progress | None,
) -> Assigned:
    kept: dict[tuple[int, int], tuple[Points, int]] = {}  # by size: where objects are assigned, and all places
    objects, owners, levels, edges, cut = [], [], [], [], []
    total = points_seen = pixels = 0
    for done, (targets, size) in enumerate(images, start=1):
        padded = -(-size[0] // PADDED_TO) * PADDED_TO, -(-size[1] // PADDED_TO) * PADDED_TO
        if size not in kept:
            if len(kept) >= _SIZES_KEPT:
                kept.clear()
            made = matching.make_points(grid_sizes(*padded, recipe.model.strides), device="cpu")
            kept[size] = made if recipe.model.assigner.in_padding else made.within(*size)[0], len(made)
        points, places = kept[size]
        points_seen, pixels = points_seen + places, pixels + math.prod(padded)
        if len(targets):
            own, positive = _learners(matching, points, targets.boxes)
            at = points[positive]
            boxes = targets.boxes[own]
            owners.append(own + total)
            levels.append(at.level)
            edges.append(boxes_to_distances(at.xy, boxes) / at.stride[:, None])
            cut.append(matching.box_coder.truncated(at, boxes))
            objects.append(targets.boxes)
            total += len(targets)
        if progress is not None and (done % 200 == 0 or done == count):
            progress(done, count)
    whole = torch.zeros(0, dtype=torch.int64)
    return Assigned(
        dynamic=isinstance(matching.assigner, DynamicAssigner),
        strides=recipe.model.strides,
        images=count,
        points=points_seen,
        pixels=pixels,
        boxes=torch.cat([torch.zeros(0, 4), *objects]),
        owner=torch.cat([whole, *owners]),
        level=torch.cat([whole, *levels]),
        edges=torch.cat([torch.zeros(0, 4), *edges]),
        truncated=torch.cat([torch.zeros(0, 4, dtype=torch.bool), *cut]),
    )


def _learners(matching: Matching, points: Points, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) object and (N,) point of the positives; of an assigner that looks at predictions, of its candidates."""
    assigner = matching.assigner
    if isinstance(assigner, DynamicAssigner):
        return assigner.candidates(points, boxes)
    index = assigner(points, boxes).gt_index
    positive = (index >= 0).nonzero().squeeze(1)
    return index[positive], positive


def reach_in_strides(recipe: Recipe) -> float | None:
    """How far an edge may lie from its point, in strides; None where any distance can be learnt."""
    return build_matching(recipe).box_coder.reach(recipe.model.points.scale)


def smallest_reg_max(edges: Tensor, delta: float, allowed: float = ALLOWED) -> int:
    """The least n >= 1 with which at most a share ``allowed`` of the edges lies beyond n * delta.

    Args:
        edges: any shape, float32 distances in strides.
        delta: distance of two bins in strides, > 0.
        allowed: in [0, 1).

    Example:
        >>> smallest_reg_max(torch.tensor([0.5, 3.0, 6.2]), 1.0), smallest_reg_max(torch.tensor([0.5, 3.0, 6.2]), 2.0)
        (7, 4)
    """
    # The hundredth of an edge is for the rounding of the product: 0.001 * 3000 must allow 3.
    spare = math.floor(allowed * edges.numel() + 0.01)
    if spare >= edges.numel():
        return 1
    farthest = edges.flatten().topk(spare + 1).values[-1]  # the farthest edge that must be reached
    n = max(1, math.ceil(float(farthest) / delta))
    # The division may round to either side: the comparison that GeneralBoxes.truncated makes decides.
    while n > 1 and not farthest > (n - 1) * delta:
        n -= 1
    while farthest > n * delta:
        n += 1
    return n

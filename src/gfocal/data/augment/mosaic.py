"""Four images on one canvas: a detector meets more objects, smaller ones, and ones beside what is never beside them.

Source: YOLOv4 (arXiv 2004.10934, section 3.4). The canvas has the size that the first image would get alone, so no
pixel is painted that training does not see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gfocal.data.augment.crops import Window, blank, clip, crop_axis, paint
from gfocal.data.augment.draws import TileDraws
from gfocal.data.seeding import MOSAIC, mix
from gfocal.errors import UsageError
from gfocal.images.resizing import Resize, check_colour
from gfocal.structures import Targets

TILES = 4
_MARGIN = 0.25  # The corner where the four meet keeps this share of the sides from the border.


@dataclass(frozen=True)
class MosaicPlan:
    """All that is random in one mosaic.

    Attributes:
        partners: the images beside and below the first; one may be the first itself.
        centre: (y, x) where the four meet, as shares of the canvas.
        tiles: four, how large each image is and which part of it is shown.
    """

    partners: tuple[int, ...]
    centre: tuple[float, float]
    tiles: tuple[TileDraws, ...]


@dataclass(frozen=True)
class Mosaic:
    """Which images become mosaics, and how they look.

    Each image gets between ``scale[0]`` and ``scale[1]`` times the size that it would have alone. Of one larger than
    its quarter a random part is shown; a smaller one touches the centre.

    Attributes:
        share: probability of a mosaic.
        epochs: the first epochs that have mosaics; the last ones should show images as they will be met.
        scale: range of the sizes.
        fill: colour of what no image covers, RGB in 0..255.
        min_visible: a box of which its quarter shows a smaller share than this is dropped, in [0, 1].
        min_side: a box with a side shorter than this many pixels in its quarter is dropped.

    Raises:
        UsageError: a value out of range.
    """

    share: float
    epochs: int
    scale: tuple[float, float] = (0.5, 1.0)
    fill: tuple[int, int, int] = (124, 116, 104)
    min_visible: float = 0.2
    min_side: float = 1.0

    def __post_init__(self) -> None:
        for name in ("share", "min_visible"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"mosaic {name} must lie in [0, 1], got {getattr(self, name)}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise UsageError(f"mosaic scale must be two positive numbers, the smaller first, got {list(self.scale)}")
        check_colour("mosaic fill", self.fill)

    def plan(
        self, seed: int, epoch: int, position: int, count: int, ends: np.ndarray | None = None
    ) -> MosaicPlan | None:
        """The mosaic at a position of an epoch, or None: that image is shown alone.

        Args:
            seed: of the run.
            epoch: >= 0.
            position: in the epoch.
            count: images in the data set, of which the partners are drawn.
            ends: (count,) running sums of how often each is drawn; None: each as likely.
        """
        if epoch >= self.epochs:
            return None
        generator = np.random.default_rng(mix(seed, epoch, position, MOSAIC))
        if generator.random() >= self.share:
            return None
        y, x = (_MARGIN + (1 - 2 * _MARGIN) * generator.random(2)).tolist()
        chosen = generator.random(TILES - 1)
        rows = chosen * count if ends is None else np.searchsorted(ends, chosen * ends[-1], side="right")
        partners = tuple(np.minimum(rows.astype(np.int64), count - 1).tolist())
        tiles = tuple(TileDraws(*draws) for draws in generator.random((TILES, 3)).tolist())
        return MosaicPlan(partners, (y, x), tiles)

    def paint(
        self, plan: MosaicPlan, tiles: Sequence[tuple[Tensor, Targets]], resize: Resize
    ) -> tuple[Tensor, Targets]:
        """The mosaic of four images.

        Args:
            plan: what is random.
            tiles: four images (3, H, W) uint8 and their boxes: top left, top right, bottom left, bottom right.
            resize: the sizes that they would get alone; the canvas has that of the first.

        Returns:
            (3, h, w) uint8 in channels-last memory, and the boxes left in its pixels.
        """
        height, width = resize.target_size(*tiles[0][0].shape[-2:])
        canvas = blank((height, width), self.fill, tiles[0][0].device)
        y, x = (min(max(round(c * s), 1), s - 1) for c, s in zip(plan.centre, (height, width), strict=True))
        boxes, labels = [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)]
        for i, (image, targets) in enumerate(tiles):
            below, right = divmod(i, 2)
            quarter = (height - y if below else y, width - x if right else x)
            if min(quarter) < 1:  # a canvas of one pixel has no room for two
                continue
            part, kept = self._tile(image, targets, quarter, plan.tiles[i], resize)
            h, w = part.shape[-2:]
            top, left = y if below else y - h, x if right else x - w
            canvas[:, top : top + h, left : left + w] = part
            boxes.append(kept.boxes + torch.tensor([left, top, left, top]))
            labels.append(kept.labels)
        return canvas, Targets(torch.cat(boxes), torch.cat(labels))

    def _tile(
        self, image: Tensor, targets: Targets, quarter: tuple[int, int], draws: TileDraws, resize: Resize
    ) -> tuple[Tensor, Targets]:
        """What a quarter of (height, width) pixels shows of an image: as large as that, or smaller."""
        shape = image.shape[-2:]
        scale = self.scale[0] + (self.scale[1] - self.scale[0]) * draws.scale
        whole = resize.target_size(*shape)
        top, part_height, height = crop_axis(shape[0], quarter[0], whole[0] * scale, draws.y)
        left, part_width, width = crop_axis(shape[1], quarter[1], whole[1] * scale, draws.x)
        window = Window(left, top, part_width, part_height)
        painted, boxes = paint(image, targets.boxes, window, (height, width), self.fill)
        limits = {"min_visible": self.min_visible, "min_side": self.min_side}
        return painted, clip(boxes, targets.labels, (height, width), **limits)

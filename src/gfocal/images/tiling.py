"""How an image is cut into overlapping tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gfocal.errors import UsageError, require_number

if TYPE_CHECKING:
    from torch import Tensor

LEAST_SIDE = 32
MOST_OVERLAP = 0.9
NEAR_BORDER = 0.01
"""A box is cut where it ends this near to an inner border, as a share of the tile's side: none is hit exactly."""
HELD_INSIDE, HELD_SCORE = 0.5, 0.5
"""A doubtful box goes where this share of it lies in a sound one, which has at least this share of its score."""


@dataclass(frozen=True)
class Tiling:
    """How images are cut into tiles.

    The first tile of a row lies at the border, each next one ``step`` pixels further, and the last is moved inwards to
    end at the other border. So an object whose sides are at most ``shared`` pixels is whole in at least one tile. A
    image with no side longer than a tile is one tile; a side shorter than a tile is not filled up.

    Attributes:
        side: of a tile in pixels of the image, >= 32.
        overlap: least share of its side that a tile has in common with the next one, in [0, 0.9].
        whole: look at the whole image too, where large objects are found.

    Raises:
        UsageError: a value out of range.

    Example:
        >>> Tiling(64, 0.25).windows(64, 150).tolist()
        [[0, 0, 150, 64], [0, 0, 64, 64], [48, 0, 112, 64], [86, 0, 150, 64]]
    """

    side: int
    overlap: float = 0.2
    whole: bool = True

    def __post_init__(self) -> None:
        if not (isinstance(self.side, int) and self.side >= LEAST_SIDE):
            raise UsageError(f"the side of a tile must be at least {LEAST_SIDE} pixels, got {self.side}")
        require_number("the overlap of tiles", self.overlap)
        if not 0 <= self.overlap <= MOST_OVERLAP:
            raise UsageError(f"the overlap of tiles must lie in [0, {MOST_OVERLAP}], got {self.overlap}")

    @classmethod
    def chosen(
        cls,
        own: Tiling | None,
        side: int | None,
        overlap: float | None,
        *,
        usual: tuple[float, bool] = (0.2, True),
        dashes: str = "",
    ) -> Tiling | None:
        """What is asked for, and the rest as a detector has it; None for whole images alone.

        Args:
            own: the detector's.
            side: asked for; 0 for no tiles, None for the detector's.
            overlap: asked for; None for the detector's.
            usual: overlap and ``whole`` of a detector that has no tiles.
            dashes: what stands before ``tile`` and ``overlap`` where they are typed.

        Raises:
            UsageError: a value out of range, or an overlap without tiles.
        """
        if side == 0 or (side is None and own is None):
            if overlap is not None:
                raise UsageError(f"{dashes}overlap is that of tiles: give {dashes}tile too")
            return None
        base = own or cls(LEAST_SIDE, *usual)
        return cls(base.side if side is None else side, base.overlap if overlap is None else overlap, base.whole)

    @property
    def shared(self) -> int:
        """Pixels that neighbours have in common, at least."""
        return math.ceil(self.side * self.overlap - 1e-9)

    @property
    def step(self) -> int:
        """Pixels from one tile to the next."""
        return max(1, self.side - self.shared)

    def counts(self, lengths: np.ndarray) -> np.ndarray:
        """Tiles along sides of images of so many pixels: int64, at least 1, in the shape given."""
        over = np.maximum(np.asarray(lengths, np.int64) - self.side, 0)
        return 1 + -(-over // self.step)

    def starts(self, numbers: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Where tiles begin, from their numbers along sides of so many pixels; int64."""
        return np.minimum(numbers * self.step, np.maximum(np.asarray(lengths, np.int64) - self.side, 0))

    def windows(self, height: int, width: int) -> np.ndarray:
        """(T, 4) int64 xyxy: what is looked at of an image.

        First all of it, if ``whole`` and there are several tiles, then the tiles row by row.
        """
        sides = np.array([width, height])
        left, top = (self.starts(np.arange(n), side) for n, side in zip(self.counts(sides), sides, strict=True))
        y, x = (grid.ravel() for grid in np.meshgrid(top, left, indexing="ij"))
        tiles = np.stack([x, y, np.minimum(x + self.side, width), np.minimum(y + self.side, height)], 1)
        return np.concatenate([[[0, 0, width, height]], tiles]) if self.whole and len(tiles) > 1 else tiles


def cut_out(image: Tensor, window: Sequence[int]) -> Tensor:
    """What a window (x1, y1, x2, y2) shows of an image (3, H, W): a copy, in channels-last memory.

    All of it is handed back as it is. A part is copied since torchvision takes the strides of a view for the slow
    order, and since a view would keep the whole image in memory.
    """
    import torch

    x1, y1, x2, y2 = (int(v) for v in window)
    if (x1, y1, x2, y2) == (0, 0, image.shape[-1], image.shape[-2]):
        return image
    part = image[:, y1:y2, x1:x2].permute(1, 2, 0)
    return torch.empty(part.shape, dtype=part.dtype).copy_(part).permute(2, 0, 1)

"""Points and anchors of every level, flat, in one fixed order: level by level, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Points:
    """The places that predict; every row is one place (one anchor, where a location has several).

    Attributes:
        xy: (P, 2) position in input pixels.
        anchors: (P, 4) xyxy box centred there.
        stride: (P,) float, input pixels per cell of the level.
        level: (P,) int64.
        grids: (height, width) of each level while the set is whole; () after indexing.
        strides: stride of each level.
        offset: position of the first point in cells: 0 (corner) or 0.5 (centre).
    """

    xy: Tensor
    anchors: Tensor
    stride: Tensor
    level: Tensor
    grids: tuple[tuple[int, int], ...] = ()
    strides: tuple[int, ...] = ()
    offset: float = 0.0

    def __len__(self) -> int:
        return len(self.xy)

    def __getitem__(self, index: Any) -> Points:
        return Points(
            self.xy[index],
            self.anchors[index],
            self.stride[index],
            self.level[index],
            strides=self.strides,
            offset=self.offset,
        )

    @property
    def level_counts(self) -> list[int]:
        """Points of each level."""
        return [height * width for height, width in self.grids]


def grid_sizes(height: int, width: int, strides: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """(height, width) of the maps of a padded picture: sizes divided by the stride, rounded up."""
    return tuple((-(-height // stride), -(-width // stride)) for stride in strides)


def make_points(
    grids: Sequence[tuple[int, int]],
    strides: Sequence[int],
    *,
    anchor_scale: float,
    offset: float,
    device: torch.device | str = "cpu",
) -> Points:
    """One square anchor a location.

    Args:
        grids: (height, width) of each level's map.
        strides: stride of each level, in input pixels.
        anchor_scale: side of the anchor in strides.
        offset: where point (0, 0) lies, in cells: (column + offset) * stride. It matters: weights trained
            with 0.5 and run with 0 lose half of their AP.
        device: where the tensors live.

    Raises:
        ValueError: if grids and strides differ in number, or anchor_scale <= 0.

    Example:
        >>> points = make_points([(1, 2)], [8], anchor_scale=2, offset=0.5)
        >>> points.xy.tolist(), points.anchors[0].tolist()
        ([[4.0, 4.0], [12.0, 4.0]], [-4.0, -4.0, 12.0, 12.0])
    """
    if len(grids) != len(strides):
        raise ValueError(f"as many grids as strides, got {len(grids)} grids and {len(strides)} strides")
    if not anchor_scale > 0:
        raise ValueError(f"anchor_scale must be > 0, got {anchor_scale}")
    xy, stride_of, level_of = [], [], []
    for level, ((height, width), stride) in enumerate(zip(grids, strides, strict=True)):
        rows = (torch.arange(height, device=device, dtype=torch.float32) + offset) * stride
        columns = (torch.arange(width, device=device, dtype=torch.float32) + offset) * stride
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        xy.append(torch.stack((x, y), -1).view(-1, 2))
        stride_of.append(torch.full((height * width,), float(stride), device=device))
        level_of.append(torch.full((height * width,), level, device=device))
    centres, per_point = torch.cat(xy), torch.cat(stride_of)
    half = (per_point * anchor_scale / 2)[:, None]
    return Points(
        xy=centres,
        anchors=torch.cat((centres - half, centres + half), -1),
        stride=per_point,
        level=torch.cat(level_of),
        grids=tuple((int(h), int(w)) for h, w in grids),
        strides=tuple(int(s) for s in strides),
        offset=offset,
    )

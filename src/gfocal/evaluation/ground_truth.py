"""What an evaluation needs to know of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]


class Values(Protocol):
    """An array, or what is read like one but kept smaller: by slices, integer arrays and ``np.asarray``."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...

    def __array__(self) -> NDArray[Any]: ...


class GroundTruth(Protocol):
    """What is read of a data set of I images, N boxes and C classes.

    :class:`gfocal.data.index.data_index.DataIndex` has it.
    """

    @property
    def image_ids(self) -> IntArray:
        """(I,) the data set's own ids, each once."""

    @property
    def box_start(self) -> IntArray:
        """(I + 1,): boxes of image i are rows ``box_start[i]:box_start[i + 1]``."""

    @property
    def boxes(self) -> Values:
        """(N, 4) xyxy in original pixels."""

    @property
    def labels(self) -> Values:
        """(N,) in 0..C-1."""

    @property
    def crowd(self) -> BoolArray:
        """(N,) a region with many objects."""

    @property
    def ignore(self) -> BoolArray:
        """(N,) neither trained on nor counted."""

    @property
    def area(self) -> Values:
        """(N,) pixels², decides about small, medium, large."""

    @property
    def names(self) -> Sequence[str]:
        """C class names."""

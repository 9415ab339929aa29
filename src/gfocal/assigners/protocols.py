"""What an assigner must offer: a static one looks at points and boxes, a dynamic one at predictions too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

from gfocal.points import Points
from gfocal.structures import Assignment, Targets

Keep = Callable[[Tensor, Tensor], Tensor]
"""(N,) index of a box and (N,) index of a point -> (N,) bool, which of these pairs may be chosen."""


class Assigner(Protocol):
    """A static assigner: a callable whose settings came through its constructor; known before the forward pass."""

    def __call__(self, points: Points, boxes: Tensor) -> Assignment:
        """Assign the (G, 4) boxes of one image to the whole set of points."""
        ...


@runtime_checkable
class DynamicAssigner(Protocol):
    """An assigner that looks at what the network says, so it runs after the forward pass."""

    def candidates(self, points: Points, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) index of a box and (N,) index of a point that may learn it: all that is known without a network.

        Args:
            points: the whole set.
            boxes: (G, 4) of one image.
        """
        ...

    def assign(
        self, points: Points, targets: Targets, scores: Tensor, boxes: Tensor, keep: Keep | None = None
    ) -> Assignment:
        """Assign the objects of one image to the whole set of points.

        Args:
            points: all P of them.
            targets: G objects.
            scores: (P, C) detached candidate scores in [0, 1], float32 at least.
            boxes: (P, 4) detached decoded boxes, in pixels of the padded image; they may lie beyond it.
            keep: which candidates to choose from; asked with all those of an object together. None: from all.
        """
        ...

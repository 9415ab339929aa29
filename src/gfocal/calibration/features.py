"""What a calibration looks at: four edges of N boxes, and what was found out about how far they were off."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfocal.calibration.quantiles import FloatArray
from gfocal.detections import Detections
from gfocal.errors import UsageError

IntArray = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class EdgeFeatures:
    """What is known of N boxes when they are found; whatever is None is not.

    Attributes:
        boxes: (N, 4) xyxy in pixels.
        edge_std: (N, 4) standard deviation of left, top, right, bottom, in pixels.
        edge_probs: (N, 4, n + 1) probability of each bin, of bins that are equally far apart.
        scores: (N,) in [0, 1].
        levels: (N,) level of the pyramid, 0 the finest.
        image_size: (N, 2) height and width of each one's image.
    """

    boxes: FloatArray | None = None
    edge_std: FloatArray | None = None
    edge_probs: FloatArray | None = None
    scores: FloatArray | None = None
    levels: IntArray | None = None
    image_size: FloatArray | None = None

    @staticmethod
    def of(found: Detections) -> EdgeFeatures:
        """Of detections, in arrays or tensors."""
        own = found.numpy()
        size = None if own.image_size is None else np.tile(np.array(own.image_size, np.float64), (len(own), 1))
        return EdgeFeatures(
            boxes=np.asarray(own.boxes, np.float64),
            edge_std=None if own.edge_std is None else np.asarray(own.edge_std, np.float64),
            edge_probs=None if own.edge_probs is None else np.asarray(own.edge_probs),
            scores=np.asarray(own.scores, np.float64),
            levels=None if own.levels is None else np.asarray(own.levels, np.int64),
            image_size=size,
        )

    def only(self, rows: Any) -> EdgeFeatures:
        """Some of the boxes: a mask or indices."""
        return EdgeFeatures(*(None if value is None else value[rows] for value in self._values()))

    @staticmethod
    def joined(parts: list[EdgeFeatures]) -> EdgeFeatures:
        """One after the other, with what all of them have."""
        columns = zip(*(part._values() for part in parts), strict=True)
        return EdgeFeatures(*(None if any(v is None for v in own) else np.concatenate(own) for own in columns))

    def _values(self) -> list[Any]:
        return [getattr(self, field.name) for field in fields(self)]

    @property
    def limits(self) -> FloatArray | None:
        """(N, 4) the largest position that each edge can have: width, height, width, height of the image."""
        return None if self.image_size is None else self.image_size[:, [1, 0, 1, 0]]


@dataclass(frozen=True)
class EdgeSamples:
    """N boxes that found an object, and how far each edge is off.

    Attributes:
        features: of the boxes.
        errors: (N, 4) position of the object's edge less that of the box, pixels.
        images: (N,) number of each one's image: folds and intervals go by images, since boxes of one are alike.
        labels: (N,) class; None where there are none.
        names: of the classes.

    Raises:
        UsageError: shapes do not fit, or a number is not finite.
    """

    features: EdgeFeatures
    errors: FloatArray
    images: IntArray
    labels: IntArray | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.errors)
        if self.errors.shape != (count, 4) or self.images.shape != (count,):
            raise UsageError(
                f"errors must have shape (N, 4) and images (N,), got {self.errors.shape} and {self.images.shape}"
            )
        named = {field.name: getattr(self.features, field.name) for field in fields(self.features)}
        for name, values in {"errors": self.errors, **named}.items():
            if values is None:
                continue
            if len(values) != count:
                raise UsageError(f"{name} must have {count} rows, one for each box, got {len(values)}")
            if not np.isfinite(values).all():
                raise UsageError(f"{name} has numbers that are infinite or not a number: leave such boxes out")

    def __len__(self) -> int:
        return len(self.errors)

    def only(self, rows: Any) -> EdgeSamples:
        """Some of them: a mask or indices."""
        labels = None if self.labels is None else self.labels[rows]
        return EdgeSamples(self.features.only(rows), self.errors[rows], self.images[rows], labels, self.names)

    def folds(self, count: int, seed: int = 0) -> IntArray:
        """(N,) fold of each box, by its image: about as many images in each of ``count`` folds."""
        return image_folds(self.images, count, seed)


def image_folds(images: IntArray, count: int, seed: int = 0) -> IntArray:
    """(N,) fold of each row, the same for all rows of an image; ``count`` folds, fewer where there are fewer images."""
    known, place = np.unique(images, return_inverse=True)
    count = min(count, max(len(known), 1))
    order = np.random.default_rng(seed).permutation(len(known))
    return (order % count)[place]

"""What a choice of detector asks of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gfocal.data.checks.boxes import clipped_boxes, images_of_boxes, learnt_boxes
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError


@dataclass(frozen=True)
class DataFacts:
    """A data set in a few numbers.

    Attributes:
        images: to learn from.
        objects: to learn.
        classes: to tell apart.
        longer_side, shorter_side: of the images in pixels, the medians.
        small_share: side of an object as a share of its image's, the square root of both areas' quotient, that a tenth
            of the objects does not reach; in (0, 1].
        largest: number of objects in the fullest image.
    """

    images: int
    objects: int
    classes: int
    longer_side: float
    shorter_side: float
    small_share: float
    largest: int

    @classmethod
    def of(cls, index: DataIndex) -> DataFacts:
        """Of the images to learn from; no image is opened.

        Raises:
            UsageError: there is nothing to learn.
        """
        learnt = learnt_boxes(index)
        if not learnt.any():
            raise UsageError(f"{index.annotations} has no object to learn, so nothing can be chosen for it")
        boxes, image = clipped_boxes(index)[learnt], images_of_boxes(index)[learnt]
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) / (index.widths[image] * index.heights[image])
        return cls(
            images=len(index),
            objects=len(boxes),
            classes=len(index.names),
            longer_side=float(np.median(np.maximum(index.widths, index.heights))),
            shorter_side=float(np.median(np.minimum(index.widths, index.heights))),
            small_share=float(np.quantile(np.sqrt(areas), 0.1)),
            largest=int(np.bincount(image).max()),
        )

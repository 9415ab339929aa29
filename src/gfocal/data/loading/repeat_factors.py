"""How much more often than once an epoch an image is shown because a class on it is rare."""

from __future__ import annotations

import numpy as np

from gfocal.data.index.data_index import DataIndex


def repeat_factors(index: DataIndex, threshold: float) -> np.ndarray:
    """How often each image should come in an epoch.

    The factor of a class is max(1, sqrt(threshold / f)), f the share of images that show it; that of an image is the
    largest of its classes, 1 without any. Source: LVIS (arXiv 1908.03195, repeat factor sampling).

    Args:
        index: the data set; crowds and ignored boxes do not count. Of tiles, the shares are those of whole images.
        threshold: in (0, 1]; classes in a smaller share of the images are shown more often.

    Returns:
        (I,) float64, all >= 1.
    """
    shares = _shares(index if index.tiles is None else index.tiles.of)
    image, label = _shown(index)
    factors = np.sqrt(threshold / np.where(shares > 0, shares, threshold)).clip(min=1.0)
    result = np.ones(len(index))
    np.maximum.at(result, image, factors[label])
    return result


def _shares(index: DataIndex) -> np.ndarray:
    """(C,) share of the images that show each class."""
    return np.bincount(_shown(index)[1], minlength=len(index.names)) / max(len(index), 1)


def _shown(index: DataIndex) -> tuple[np.ndarray, np.ndarray]:
    """(image, class) of each class on each image, once."""
    images, classes = len(index), len(index.names)
    learnt = ~(np.asarray(index.crowd) | np.asarray(index.ignore))
    image = np.repeat(np.arange(images), np.diff(index.box_start))[learnt]
    label = np.asarray(index.labels)[learnt].astype(np.int64)
    # Each pair once: what counts is that a class is there, not how often.
    image, label = np.divmod(np.unique(image * classes + label), max(classes, 1))
    return image, label

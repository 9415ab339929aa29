"""How much more often than once an epoch a picture is shown because a class on it is rare."""

from __future__ import annotations

import numpy as np

from gfocal.data.index.data_index import DataIndex


def repeat_factors(index: DataIndex, threshold: float) -> np.ndarray:
    """How often each picture should come in an epoch.

    The factor of a class is max(1, sqrt(threshold / f)), f the share of pictures that show it; that of a picture is the
    largest of its classes, 1 without any. Source: LVIS (arXiv 1908.03195, repeat factor sampling).

    Args:
        index: the data set; crowds and ignored boxes do not count. Of tiles, the shares are those of whole pictures.
        threshold: in (0, 1]; classes in a smaller share of the pictures are shown more often.

    Returns:
        (I,) float64, all >= 1.
    """
    shares = _shares(index if index.tiles is None else index.tiles.of)
    picture, label = _shown(index)
    factors = np.sqrt(threshold / np.where(shares > 0, shares, threshold)).clip(min=1.0)
    result = np.ones(len(index))
    np.maximum.at(result, picture, factors[label])
    return result


def _shares(index: DataIndex) -> np.ndarray:
    """(C,) share of the pictures that show each class."""
    return np.bincount(_shown(index)[1], minlength=len(index.names)) / max(len(index), 1)


def _shown(index: DataIndex) -> tuple[np.ndarray, np.ndarray]:
    """(picture, class) of each class on each picture, once."""
    pictures, classes = len(index), len(index.names)
    learnt = ~(np.asarray(index.crowd) | np.asarray(index.ignore))
    picture = np.repeat(np.arange(pictures), np.diff(index.box_start))[learnt]
    label = np.asarray(index.labels)[learnt].astype(np.int64)
    # Each pair once: what counts is that a class is there, not how often.
    picture, label = np.divmod(np.unique(picture * classes + label), max(classes, 1))
    return picture, label

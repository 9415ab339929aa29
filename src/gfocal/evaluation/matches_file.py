"""Matches as a file, small enough to keep for every run."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gfocal.errors import BrokenInputError
from gfocal.evaluation.ground_truth import BoolArray, FloatArray, IntArray
from gfocal.evaluation.matches import IOUS, FoundObjects, Matches
from gfocal.utils.files import write_atomically

_FOUND = ("object_pictures", "object_scores", "object_ious")  # files of earlier versions have none
_FIELDS = ("pictures", "labels", "right", "ignored", "objects", "scores", "ious")


def save_matches(path: Path, matches: Matches) -> None:
    """Write ``matches`` as a compressed npz; every value comes back as it was.

    About 11 bytes a detection, most of them its IoU.

    Args:
        path: the file, by custom ``.npz``.
        matches: with at most 2^32 images and classes.

    Raises:
        DiskFull: there is no room; a file that was there before is whole.
    """
    arrays: dict[str, Any] = {  # numpy's own types take every keyword for an option
        "pictures": _narrow(matches.images),
        "labels": _narrow(matches.labels),
        "right": np.packbits(matches.right, axis=1),
        "ignored": np.packbits(matches.ignored, axis=1),
        "objects": _narrow(matches.objects),
        "scores": _halved(matches.scores),
        "ious": _halved(matches.ious),
    }

    if (found := matches.found) is not None:
        values = (_narrow(found.images), _halved(found.scores), _halved(found.ious))
        arrays |= dict(zip(_FOUND, values, strict=True))

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a name, numpy would add its own ending
            np.savez_compressed(file, **arrays)

    write_atomically(Path(path), write)


def load_matches(path: Path) -> Matches:
    """What :func:`save_matches` wrote.

    Raises:
        BrokenInputError: there is no such file, it is damaged, or it is something else.
    """
    path = Path(path)
    try:
        # Opened here: numpy leaves a file open that it cannot read.
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            found = _found(*(file[name] for name in _FOUND)) if _FOUND[0] in file else None
            matches = _unpacked(*(file[name] for name in _FIELDS))
            if found is not None and found.images.max(initial=-1) >= len(matches.objects):
                raise ValueError("it has objects in pictures that are not there")
    except FileNotFoundError:
        message = f"{path} does not exist: evaluate the run again to write its matches"
        raise BrokenInputError(message, path, "does not exist") from None
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else error
        reason = f"does not hold the matches of a run ({why})"
        raise BrokenInputError(f"{path} {reason}: delete it and evaluate the run again", path, reason) from None
    return replace(matches, found=found)


def _narrow(values: IntArray) -> IntArray:
    """In the smallest type of whole numbers >= 0 that holds them."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def _halved(values: FloatArray) -> FloatArray:
    """As float32 where that loses nothing: detectors give such scores."""
    single = values.astype(np.float32)
    return single if np.array_equal(single, values, equal_nan=True) else values


def _found(images: IntArray, scores: FloatArray, ious: FloatArray) -> FoundObjects:
    """Raises: ValueError: they do not go together."""
    if not images.shape == scores.shape == ious.shape or [v.dtype.kind for v in (images, scores, ious)] != [*"uff"]:
        raise ValueError("the arrays of its objects do not go together")
    return FoundObjects(images.astype(np.int64), scores.astype(np.float64), ious.astype(np.float64))


def _unpacked(
    images: IntArray,
    labels: IntArray,
    right: IntArray,
    ignored: IntArray,
    objects: IntArray,
    scores: FloatArray,
    ious: FloatArray,
) -> Matches:
    """Raises: ValueError: they do not go together."""
    count = len(images)
    bits = (len(IOUS), -(-count // 8))
    if (
        any(values.shape != (count,) for values in (images, labels, scores, ious))
        or (right.shape, ignored.shape, objects.ndim) != (bits, bits, 2)
        or any(values.dtype.kind != "u" for values in (images, labels, right, ignored, objects))
        or any(values.dtype.kind != "f" for values in (scores, ious))
    ):
        raise ValueError("its arrays do not go together")
    if count and (images.max() >= objects.shape[0] or labels.max() >= objects.shape[1]):
        raise ValueError("it has detections in pictures, or of classes, that are not there")
    return Matches(
        images.astype(np.int64),
        labels.astype(np.int64),
        _bits(right, count),
        _bits(ignored, count),
        objects.astype(np.int64),
        scores.astype(np.float64),
        ious.astype(np.float64),
    )


def _bits(packed: IntArray, count: int) -> BoolArray:
    return np.unpackbits(packed.astype(np.uint8), axis=1, count=count).astype(bool)

"""What is to say about files that a prediction read, or could not read: once for all of them, with counts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gfocal.detections import Detections
from gfocal.errors import BrokenInputError
from gfocal.images.decode import open_with_pillow, several_frames, wide_pixels
from gfocal.images.depth import ValueRange, Values, share_outside, values_of
from gfocal.utils.text import counted

_NAMED = 3  # files of a kind that are named
_REASONS = 5  # that one line has room for
_NUMBER = re.compile(r"-?\d[\d.,]*(e[-+]?\d+)?")
_MANY = 0.5  # of the values of an image: more of them outside of the range, and it is hardly the image's
# TIFF, GIF, WebP, PNG; AVIF is known by the bytes behind its length.
_MAY_HAVE_FRAMES = (b"II", b"MM", b"GIF8", b"RIFF", b"\x89PNG")


class Remarks:
    """Collects what is odd about images that were read.

    Args:
        value_range: by which more than 8 bits became 8.
    """

    def __init__(self, value_range: ValueRange) -> None:
        self._range = value_range
        self._several: list[Path] = []
        self._outside: list[tuple[Path, Values]] = []
        self._unfit = ""

    def found(self, found: Detections) -> None:
        """Take note of a calibration that does not hold."""
        self._unfit = self._unfit or ("" if found.calibration is None else found.calibration.unfit)

    def look(self, path: Path, image: np.ndarray) -> None:
        """Take note of a file.

        Args:
            path: of an image that was just read.
            image: (H, W, 3) uint8, its pixels.
        """
        try:
            if _has_several(path):
                self._several.append(path)
            if self._range != "type" and (values := _outside(path, image, self._range)) is not None:
                self._outside.append((path, values))
        except Exception:  # The image was read: a file that changes, or odd metadata, must not end the work.
            return

    def passed_over(self) -> list[str]:
        """Lines about frames and pages that were not read, and about a calibration that was not used."""
        unfit = [f"the calibration is left out: {self._unfit}"] if self._unfit else []
        if not self._several:
            return unfit
        many = counted(
            len(self._several), "picture has several frames or pages", "pictures have several frames or pages"
        )
        return [*unfit, f"{many}, of which only the first is looked at ({_names(self._several)})"]

    def warnings(self) -> list[str]:
        """A line about images that another range would suit, if there are any."""
        if self._range == "type" or not self._outside:
            return []
        low, high = self._range
        low_seen = min(values.low for _, values in self._outside)
        high_seen = max(values.high for _, values in self._outside)
        many = counted(len(self._outside), "picture has most of its values", "pictures have most of their values")
        return [
            f"{many} outside of data.range=[{low:.6g},{high:.6g}], where all is black or white "
            f"({_names([path for path, _ in self._outside])}): the values go from {low_seen:.6g} to {high_seen:.6g}. "
            "The detector learnt by that range; give pictures like those it learnt from, or scale these to them"
        ]


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths[:_NAMED])) + (", ..." if len(paths) > _NAMED else "")


def _has_several(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(12)
    if not (head.startswith(_MAY_HAVE_FRAMES) or head[4:12] in (b"ftypavif", b"ftypavis")):
        return False
    with open_with_pillow(path.read_bytes()) as image:
        return several_frames(image) is not None


def _outside(path: Path, image: np.ndarray, value_range: tuple[float, float]) -> Values | None:
    """The values of an image most of which lie outside of the range."""
    # Only what is mostly black and white is worth a second reading: what lies outside has become that.
    if np.count_nonzero(image + np.uint8(1) <= 1) <= _MANY * image.size:  # 255 + 1 is 0 in 8 bits
        return None
    pixels: np.ndarray | None = wide_pixels(path.read_bytes())
    return None if pixels is None or share_outside(pixels, *value_range) <= _MANY else values_of(pixels)


def reasons_of(errors: Sequence[BrokenInputError]) -> list[str]:
    """Why files cannot be read: a line for each reason, which names the first files and how many there are.

    Reasons that differ in numbers alone are one.
    """
    alike: defaultdict[str, list[BrokenInputError]] = defaultdict(list)
    for error in errors:
        alike[_NUMBER.sub("#", error.reason)].append(error)
    return [_reason(group) for group in alike.values()]


def _reason(group: Sequence[BrokenInputError]) -> str:
    first = group[0]
    if len(group) == 1:
        return str(first)
    which = "each" if all(error.reason == first.reason for error in group) else "the first"
    words = str(first).removeprefix(f"picture {first.path} ")
    return f"{counted(len(group), 'picture')} ({_names([error.path for error in group])}): {which} {words}"


def nothing_read(errors: Sequence[BrokenInputError]) -> BrokenInputError:
    """The error where no file at all can be read, about the first."""
    lines = reasons_of(errors)
    rest = f"; and {counted(len(lines) - _REASONS, 'other reason')}" if len(lines) > _REASONS else ""
    message = lines[0] if len(errors) == 1 else f"no picture can be read: {'; '.join(lines[:_REASONS])}{rest}"
    return BrokenInputError(message, errors[0].path, errors[0].reason)

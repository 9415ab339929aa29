"""How many images of a measurement a calibration was fitted on: on these it looks better than on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gfocal.calibration.stored import MOST_HASHES, Calibration
from gfocal.utils.records import named
from gfocal.utils.text import counted


@dataclass(frozen=True)
class Overlap:
    """Images of the measurement among those of the calibration.

    Attributes:
        images: of the measurement.
        seen: of these, those that the calibration was fitted on.
        at_least: the calibration keeps only some of its hashes, so that there may be more.
    """

    images: int = field(metadata=named("pictures"))
    seen: int
    at_least: bool

    def describe(self) -> str:
        """In words; "" where no image is known to be of both."""
        if not self.seen:
            return ""
        few = "at least " if self.at_least and self.seen < self.images else ""
        share = f"{few}{self.seen:,} of these {counted(self.images, 'picture')}"
        whole = "all of these pictures" if self.images > 1 else "this picture"
        which = whole if self.seen == self.images else share
        return f"the calibration was fitted on {which}: on others it holds a little less"


def kept_hashes(hashes: Sequence[str | None]) -> tuple[str, ...]:
    """What a calibration keeps of the hashes of its images: the smallest, as good as drawn at random; each once."""
    return tuple(sorted({one for one in hashes if one is not None})[:MOST_HASHES])


def overlap_of(calibration: Calibration, hashes: Sequence[str | None]) -> Overlap | None:
    """How many images of a measurement are those of a calibration; None where it does not say which it was fitted on.

    Args:
        calibration: that was measured.
        hashes: of each image of the measurement, see :func:`gfocal.data.fingerprint.file_hashes`.
    """
    if not calibration.image_hashes:
        return None
    known = set(calibration.image_hashes)
    return Overlap(len(hashes), sum(one in known for one in hashes), at_least=len(known) >= MOST_HASHES)

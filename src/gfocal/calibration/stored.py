"""A calibration as a checkpoint keeps it: what was fitted, on what, and for which use of the detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gfocal.calibration.edges import EdgeCalibration, intervals
from gfocal.calibration.features import EdgeFeatures
from gfocal.calibration.quantiles import FloatArray
from gfocal.calibration.scores import ScoreCalibration
from gfocal.detections import Detections
from gfocal.errors import UsageError
from gfocal.utils.records import fields_from_json, fields_to_json

FORMAT = 1
MOST_HASHES = 2000
"""Of images that a calibration keeps, the smallest ones: 28 KB of text."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What makes intervals of edges and chances of scores.

    Attributes:
        edges, scores: see :class:`EdgeCalibration` and :class:`ScoreCalibration`.
        level: of the intervals that files of predictions have.
        images: that it was fitted on.
        objects: to find on them.
        data: fingerprint of the data set, see :func:`gfocal.data.fingerprint.fingerprint`.
        annotations: name of its file.
        split: of it.
        date: when, in UTC.
        resize: the detector's, which it holds for.
        tile: side of tiles in pixels; None for whole images.
        gfocal: the version that fitted it.
        image_hashes: of the images, see :func:`gfocal.data.fingerprint.file_hashes`, at most :data:`MOST_HASHES`; none
            in what an earlier version fitted.
        resize_now, tile_now: how the detector is used; None: its images as then, and without tiles. Not stored.
    """

    edges: EdgeCalibration
    scores: ScoreCalibration
    level: float
    images: int
    objects: int
    data: str
    annotations: str
    split: str
    date: str
    resize: dict[str, Any]
    tile: int | None
    gfocal: str
    image_hashes: tuple[str, ...] = ()
    resize_now: dict[str, Any] | None = field(default=None, compare=False)
    tile_now: int | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        content = fields_to_json(replace(self, resize_now=None, tile_now=None))
        return {"format": FORMAT, **{key: value for key, value in content.items() if not key.endswith("_now")}}

    @staticmethod
    def from_dict(content: Mapping[str, Any], where: str) -> Calibration:
        """What :meth:`to_dict` made.

        Args:
            content: JSON types.
            where: the file, for the message.

        Raises:
            UsageError: it is something else, or of a newer gfocal.
        """
        try:
            newer = int(content["format"]) > FORMAT
            found = None if newer else fields_from_json(Calibration, dict(content))
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{where}: its calibration cannot be read ({error}); calibrate it again") from None
        if found is None:
            raise UsageError(f"{where} was calibrated by a newer gfocal: update gfocal, or calibrate it again")
        return found

    @property
    def unfit(self) -> str:
        """Why it does not hold for the detector as it is used now; "" where it does."""
        if self.resize_now is not None:
            now, was = ({k: _plain(side.get(k)) for k in self.resize} for side in (self.resize_now, self.resize))
            if changed := [key for key in was if now[key] != was[key]]:
                return f"data.resize has another {', '.join(changed)} than when it was calibrated"
        if self.tile != self.tile_now:
            sides = self.tile, self.tile_now
            before, after = ("whole pictures" if side is None else f"tiles of {side} pixels" for side in sides)
            return f"it was calibrated on {before} and looks at {after}"
        return ""

    def used_with(self, *, tile: int | None = None) -> Calibration:
        """The same for tiles of that side, None for whole images; :attr:`unfit` says whether that is as it was."""
        return replace(self, tile_now=tile)

    def resized_by(self, rule: Mapping[str, Any]) -> Calibration:
        """The same for images that enter by these fields of a resize; :attr:`unfit` says whether that is as it was."""
        return replace(self, resize_now=dict(rule))

    def edge_interval(self, found: Detections, level: float | None = None, *, whole_box: bool = False) -> FloatArray:
        """(N, 4, 2) float64, see :meth:`gfocal.Detections.edge_interval`."""
        self._check_fit()
        level = self.level if level is None else level
        features, own = EdgeFeatures.of(found), found.numpy()
        half = self.edges.half_widths(
            features, np.asarray(own.labels, np.int64), found.names, level, whole_box=whole_box
        )
        assert features.boxes is not None
        return intervals(features.boxes, half, features.limits)

    def chances(self, found: Detections) -> FloatArray:
        """(N,) float64, see :attr:`gfocal.Detections.score_calibrated`."""
        self._check_fit()
        return self.scores.of(np.asarray(found.numpy().scores, np.float64))

    def _check_fit(self) -> None:
        if self.unfit:
            raise UsageError(f"the calibration does not hold for this detector: {self.unfit}; calibrate it so")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

"""Speed as records; :mod:`gfocal.studies.speed.speed` makes them, reports show them without loading torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from gfocal.utils.records import named
from gfocal.utils.timing import Percentiles, Ratio


@dataclass(frozen=True)
class RowSpeed:
    """How fast a detector is.

    Attributes:
        key: of the row, or the recipe.
        flops: of the network: two for each multiply-add of convolutions and matrix products.
        parameters: how many there are.
        network: time of backbone, neck and head.
        whole: from padded pixels to :class:`~gfocal.structures.Detections`.
        ratio_network, ratio_whole: to the first row, from the rounds.
        ratio_flops: to the first row.
        fps: images a second, from the median of ``whole``.
    """

    key: str
    flops: int
    parameters: int
    network: Percentiles
    whole: Percentiles
    ratio_network: Ratio
    ratio_whole: Ratio
    ratio_flops: float
    fps: float


@dataclass(frozen=True)
class SpeedResult:
    """How fast detectors are beside each other.

    Attributes:
        image: (height, width) of the one image, in pixels.
        threads: of torch.
        device: "cpu" or "cuda".
        repeats: rounds that count.
        candidates: that pass the threshold of each, about.
        rows: in the order in which they were given.
    """

    image: tuple[int, int] = field(metadata=named("picture"))
    threads: int
    device: str
    repeats: int
    candidates: int
    rows: tuple[RowSpeed, ...]

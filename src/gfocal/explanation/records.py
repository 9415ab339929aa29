"""What is told of each detection: plain numbers, as the JSON file has them. Pixels are those of the image."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gfocal.utils.records import named

SIDES = ("left", "top", "right", "bottom")
Kind = Literal["bins", "normal", "spread", "none"]
"""What is known of an edge: the probability of each bin; that it is a normal distribution; its standard deviation
alone; nothing."""
Span = tuple[float, float]


@dataclass(frozen=True)
class EdgeFacts:
    """One edge of a box.

    Attributes:
        side: "left", "top", "right" or "bottom".
        position: of the box's edge, inside the image.
        mean: of the distribution, which may lie outside; None where it is not known.
        std: standard deviation; None of boxes without.
        bins: position of each bin, () unless there are some.
        probs: their probabilities.
        before: interval of the distribution read as a normal one, at the level of the explanation.
        after: interval of the calibration.
        label: position of the labelled object's edge; None where none was found, or none is known.
        error: label less position.
        inside: whether the label lies in the interval ``after``, or ``before`` without a calibration.
    """

    side: str
    position: float
    mean: float | None
    std: float | None
    bins: tuple[float, ...]
    probs: tuple[float, ...]
    before: Span | None
    after: Span | None
    label: float | None
    error: float | None
    inside: bool | None


@dataclass(frozen=True)
class PointFacts:
    """The point that gave a box.

    Attributes:
        level: of the pyramid, 0 the finest; ``stride`` is its stride in input pixels.
        row, column: its cell.
        x, y: where it lies.
        inside_x, inside_y: where it lies in its box: 0 is left or top, 1 right or bottom.
        learns: what the assigner would have it learn from the labels: "this object", "another object", "background",
            "nothing"; None where that is not known.
    """

    level: int
    stride: float
    row: int
    column: int
    x: float
    y: float
    inside_x: float
    inside_y: float
    learns: str | None = None


@dataclass(frozen=True)
class Part:
    """A named number in [0, 1]: a part of a score, or another class's score."""

    name: str
    value: float


@dataclass(frozen=True)
class RunnerUp:
    """A candidate that suppression removed for a box.

    Attributes:
        box: xyxy.
        label: its class.
        score: of it.
        iou: with the box that stayed.
        point: that gave it.
    """

    box: tuple[float, float, float, float]
    label: str = field(metadata=named("class"))
    score: float
    iou: float
    point: PointFacts


@dataclass(frozen=True)
class Explained:
    """One detection.

    Attributes:
        id: of it among all of the explanation, from 1.
        label: its class.
        score: of it.
        chance: the calibrated score; None without a calibration.
        score_parts: what the score is made of; () where that is not known.
        other_classes: the next best classes at the same point, as candidates score.
        box: xyxy.
        edges: left, top, right, bottom.
        point: that gave it; None where that is not known.
        removed: the best of the candidates that had to go for it.
        removed_count: all of these.
        iou: with the labelled object that it found; None where it found none, or labels are not known.
    """

    id: int
    label: str = field(metadata=named("class"))
    score: float
    chance: float | None = field(metadata=named("score_calibrated"))
    score_parts: tuple[Part, ...]
    other_classes: tuple[Part, ...]
    box: tuple[float, float, float, float]
    edges: tuple[EdgeFacts, ...]
    point: PointFacts | None
    removed: tuple[RunnerUp, ...]
    removed_count: int
    iou: float | None

    def spread(self, edge: EdgeFacts) -> float | None:
        """Standard deviation of an edge over the side of the box that it moves; None where there is none."""
        across = SIDES.index(edge.side) % 2
        side = max(self.box[2 + across] - self.box[across], 1.0)
        return None if edge.std is None else edge.std / side

    @property
    def widest(self) -> float | None:
        """The largest of the four."""
        spreads = [spread for edge in self.edges if (spread := self.spread(edge)) is not None]
        return max(spreads) if spreads else None


@dataclass(frozen=True)
class PictureFacts:
    """One image.

    Attributes:
        file: as it was given.
        width, height: in pixels.
        labelled: whether its labels are known; ``objects`` are as many, crowds and ignored ones aside.
        missed: of these, how many no detection above the score found.
        found: detections above the score.
        detections: the best of them.
        drawing: name of the PNG file.
    """

    file: str
    width: int
    height: int
    labelled: bool
    objects: int
    missed: int
    found: int
    detections: tuple[Explained, ...]
    drawing: str

    @property
    def name(self) -> str:
        return Path(self.file).name


@dataclass(frozen=True)
class Shown:
    """A detection of a gallery: its id, and why it is there."""

    id: int
    why: str


@dataclass(frozen=True)
class ShownGallery:
    """Detections in an order.

    Attributes:
        name: "widest", "sharpest" or "sure but wrong".
        text: what is in it, or why nothing is.
        shown: the first first.
    """

    name: str
    text: str
    shown: tuple[Shown, ...]


@dataclass(frozen=True)
class Explanation:
    """Everything.

    Attributes:
        model: as it was given.
        kind: what is known of edges.
        level: of all intervals.
        calibrated: whether the detector has a calibration that holds.
        score: detections score higher.
        score_rule: how scores come from their parts.
        notes: what a reader must know.
        pictures: in the order in which they were given.
        galleries: widest, sharpest, sure but wrong.
    """

    model: str
    kind: str
    level: float
    calibrated: bool
    score: float
    score_rule: str
    notes: tuple[str, ...]
    pictures: tuple[PictureFacts, ...]
    galleries: tuple[ShownGallery, ...]

"""How far two detectors are apart that should be one: differences, and what is allowed of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf

import numpy as np

from gfocal.detections import Detections
from gfocal.exported.contract import Precision
from gfocal.utils.records import IF_ANY
from gfocal.utils.text import counted

_FAR_PIXELS, _FAR_SHARE, _FAR_SCORE = 2.0, 0.1, 0.1
"""Of two detections of one class that are farther apart, in pixels and as a share of the box, neither is the other."""

_LEAST_AP, _LEAST_OBJECTS = 0.05, 100
"""Of labels that decide: of a lower AP a file may lose most within the bar; of fewer objects one is a point of AP."""
_LEAST_CLEAR = 50
"""Detections that decide in their place: of fewer, a file that lost a fifth of them may stay within the bar by luck."""


@dataclass(frozen=True)
class Bar:
    """What is allowed.

    Attributes:
        quantity: "largest" or "p99": which of the differences must stay below.
        score: of scores; infinite: any.
        box, edge_std: in pixels of the image; infinite: any. Ends of a calibration's intervals have the bar of boxes.
        unmatched: share of the detections that only one of the two has, those at a threshold aside.
        ap_lost: how much lower AP may be, of 1; in no case by half.
        ap_gained: how much higher.
        rounding: scores that are no farther apart may change places, and sides of a threshold.
        labels_decide: where there are labels that say enough, only AP counts.
    """

    quantity: str
    score: float
    box: float
    edge_std: float
    unmatched: float
    ap_lost: float
    ap_gained: float
    rounding: float
    labels_decide: bool = False


_ROUGH = Bar("p99", inf, inf, inf, unmatched=0.25, ap_lost=0.01, ap_gained=1.0, rounding=0.1, labels_decide=True)
BARS: dict[Precision, Bar] = {
    "fp32": Bar("largest", 1e-4, 0.02, 0.02, unmatched=1e-3, ap_lost=5e-5, ap_gained=5e-5, rounding=1e-4),
    "fp16": Bar("p99", 0.01, 2.0, 2.0, unmatched=0.02, ap_lost=1e-3, ap_gained=1.0, rounding=0.01),
    "bf16": replace(_ROUGH, unmatched=0.05, ap_lost=3e-3),
    "int8": _ROUGH,
}
"""By the precision of the file. Eight bits move many a score by some hundredths, so that boxes near the threshold come
and go: what they do to AP is the question, and where no labels answer it, how many detections stay."""


@dataclass(frozen=True)
class Difference:
    """Absolute differences of a quantity; 0 where nothing was compared."""

    largest: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[np.ndarray]) -> Difference:
        every = np.concatenate([np.zeros(0), *(part.ravel() for part in values)])
        return cls(float(every.max()), float(np.percentile(every, 99))) if len(every) else cls(0.0, 0.0)


@dataclass(frozen=True)
class Parity:
    """What two detectors found on the same images.

    Attributes:
        images: looked at.
        detections: of the first detector.
        found: of the second.
        unmatched: that one of the two has alone, those of ``borderline`` not among them.
        borderline: that one has alone, with a score so near to a threshold, or to the last that was kept, that rounding
            decides.
        score, box, edge_std: differences of those that both have; ``edge_std`` is None where there is none.
        edge_interval: of the ends of the calibration's intervals, at its own level; None without a calibration.
        clear: detections of the first detector whose scores are farther from a threshold than rounding moves them.
    """

    images: int
    detections: int
    found: int
    unmatched: int
    borderline: int
    score: Difference
    box: Difference
    edge_std: Difference | None = field(default=None, metadata=IF_ANY)
    edge_interval: Difference | None = field(default=None, metadata=IF_ANY)
    clear: int = 0


def compare(
    ones: Sequence[Detections], others: Sequence[Detections], *, threshold: float, limit: int, rounding: float
) -> Parity:
    """Compare what two detectors found.

    Args:
        ones, others: of as many images, in pixels of these.
        threshold: scores lie above it.
        limit: detections an image at most.
        rounding: scores that are no farther apart may change places, and sides of a threshold.
    """
    score, box, edge_std, edge_interval = (list[np.ndarray]() for _ in range(4))
    alone = borderline = clear = 0
    for one, other in zip((found.numpy() for found in ones), (found.numpy() for found in others), strict=True):
        left, right = _pairs(one, other)
        a, b = one[left], other[right]
        score.append(_apart(a.scores, b.scores))
        box.append(_apart(a.boxes, b.boxes))
        if a.edge_std is not None and b.edge_std is not None:
            edge_std.append(_apart(a.edge_std, b.edge_std))
        if a.calibrated and b.calibrated:
            edge_interval.append(_apart(a.edge_interval(), b.edge_interval()))
        clear += int((one.scores > _least(one, threshold, limit) + rounding).sum())
        for found, used in ((one, left), (other, right)):
            least = _least(found, threshold, limit)
            single = np.delete(np.asarray(found.scores), used)
            near = int((single <= least + rounding).sum())
            borderline += near
            alone += len(single) - near
    return Parity(
        images=len(ones),
        detections=sum(map(len, ones)),
        found=sum(map(len, others)),
        unmatched=alone,
        borderline=borderline,
        score=Difference.of(score),
        box=Difference.of(box),
        edge_std=Difference.of(edge_std) if edge_std else None,
        edge_interval=Difference.of(edge_interval) if edge_interval else None,
        clear=clear,
    )


def _least(found: Detections, threshold: float, limit: int) -> float:
    """The score that detections of an image lie above: of a full image the last one that was kept."""
    return threshold if len(found) < limit else max(threshold, float(np.min(found.scores)))


def beyond(parity: Parity, bar: Bar, ap: tuple[float, float] | None, objects: int = 0) -> list[str]:
    """What is not as it should be, a sentence for each thing; none if all is.

    Args:
        parity: what was found.
        bar: what is allowed.
        ap: of both on labelled images, the original's first.
        objects: that these images have. Where the original hardly finds them, or they are few, AP says nothing, and
            detections without counterpart count whatever the precision.
    """
    lines = []
    silent = undecided(bar, ap, objects)
    if not parity.detections:
        lines.append("nothing was found on these images, so nothing is proved: give --data with images of its kind")
    elif not parity.found:
        lines.append(f"the file finds nothing, where the detector finds {counted(parity.detections, 'object')}")
    for name, unit, found, most in (
        ("score", "", parity.score, bar.score),
        ("box", " px", parity.box, bar.box),
        ("edge_std", " px", parity.edge_std, bar.edge_std),
        ("edge_interval", " px", parity.edge_interval, bar.box),
    ):
        if found is None:
            continue
        value = getattr(found, bar.quantity)
        if not value <= most:  # NaN too
            which = "the largest difference" if bar.quantity == "largest" else "the 99th percentile of the differences"
            lines.append(f"{name}: {which} is {value:.3g}{unit}, allowed {most:g}{unit}")
    if not bar.labels_decide or silent is not None:
        most = int(bar.unmatched * parity.clear)
        why = "" if silent is None or ap is None else f"; AP alone does not decide: {silent}"
        if parity.unmatched > most:
            many = counted(parity.unmatched, "detection has", "detections have")
            lines.append(f"{many} no counterpart, of {parity.clear:,}, allowed {most}{why}")
        elif parity.detections and not parity.clear:
            lines.append(
                f"no score is {bar.rounding:g} above the threshold, so that rounding decides about every detection and "
                f"nothing is proved: give --data with images of its kind{why}"
            )
        elif bar.labels_decide and parity.detections and parity.clear < _LEAST_CLEAR:
            lines.append(
                f"the images have {counted(parity.clear, 'clear detection')}, and without labels {_LEAST_CLEAR} are "
                f"needed: give --data with more images, or with labels{why}"
            )
    less = 0.0 if ap is None else min(bar.ap_lost, ap[0] / 2)
    if ap is not None and not -bar.ap_gained <= ap[0] - ap[1] <= less:
        lines.append(f"AP is {ap[1]:.4f}, that of the detector {ap[0]:.4f}, allowed {less:g} less")
    return lines


def undecided(bar: Bar, ap: tuple[float, float] | None, objects: int) -> str | None:
    """Why AP does not tell a good file from a bad one, where a bar leaves it to that; None: it does, or need not."""
    if not bar.labels_decide:
        return None
    if ap is None:
        return "the images have no labels"
    if objects < _LEAST_OBJECTS:
        return f"the images have {counted(objects, 'labelled object')}, and {_LEAST_OBJECTS} are needed"
    if not ap[0] >= _LEAST_AP:
        return f"that of the detector is {ap[0]:.4f} on these images, and {_LEAST_AP:g} is needed"
    return None


def _pairs(one: Detections, other: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Indices of detections that are the same: of one class, nearest boxes first come, first served by score."""
    boxes, others = np.asarray(one.boxes, np.float64), np.asarray(other.boxes, np.float64)
    apart = np.abs(boxes[:, None] - others[None]).max(-1, initial=0.0)
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0.0)
    far = apart > np.maximum(_FAR_PIXELS, _FAR_SHARE * sides)[:, None]
    far |= np.asarray(one.labels)[:, None] != np.asarray(other.labels)[None]
    scores = np.abs(np.asarray(one.scores)[:, None] - np.asarray(other.scores)[None])
    far |= ~(scores <= _FAR_SCORE)
    # Of boxes in one place the score says which is which.
    distance = np.where(far, np.inf, apart + scores)
    pairs = []
    for i in range(len(distance)):
        if distance.shape[1] and np.isfinite(distance[i].min()):
            j = int(distance[i].argmin())
            pairs.append((i, j))
            distance[:, j] = np.inf
    chosen = np.array(pairs, np.int64).reshape(-1, 2)
    return chosen[:, 0], chosen[:, 1]


def _apart(one: object, other: object) -> np.ndarray:
    ours, theirs = np.asarray(one, np.float64), np.asarray(other, np.float64)
    with np.errstate(invalid="ignore"):  # intervals without an end are the same, not undefined
        return np.where(ours == theirs, 0.0, np.abs(ours - theirs))

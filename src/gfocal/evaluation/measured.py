"""What a measured detector came to: from what was found to the numbers. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gfocal.data.index.class_match import compare_classes
from gfocal.data.index.data_index import DataIndex
from gfocal.detections import Detections
from gfocal.errors import UsageError
from gfocal.evaluation.coco import CocoEvaluator, EvalResult
from gfocal.evaluation.matches import Matches
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.evaluation.trust.check import CalibrationCheck, check_calibration
from gfocal.evaluation.uncertainty import EdgeUncertainty, UncertaintyResult
from gfocal.utils.records import FLAT, IF_ANY, fields_to_json, from_json, named
from gfocal.utils.text import counted, join_some


@dataclass(frozen=True)
class _Speed:
    ms_per_image: float = field(metadata=named("ms_per_picture"))
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Written:
    """An evaluation in the form that its JSON has."""

    result: EvalResult = field(metadata=FLAT)
    edge_uncertainty: UncertaintyResult | None = None  # the first version knew none
    calibration: CalibrationCheck | None = field(default=None, metadata=IF_ANY)
    speed: _Speed
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """Accuracy and speed.

    Attributes:
        result: COCO's numbers and the score-IoU correlation.
        ms_per_image: network and post-processing, mean over the images, in batches.
        seconds: the whole evaluation, reading included.
        skipped: one line for each image that could not be read and is not part of the result.
        edge_uncertainty: see :meth:`gfocal.evaluation.EdgeUncertainty.compute`; None unless the data say how uncertain
            their edges are and the detector predicts it.
        calibration: what the intervals and scores of a calibrated detector are worth here; None for another one.
        matches: which detection found which object, in all images that could be read; None unless asked for, and not
            in :meth:`to_dict`.
        findings: every detection beside the ground truth, in the detector's classes; None unless asked for, and not in
            :meth:`to_dict`. Of several processes the main one has it.
    """

    result: EvalResult
    ms_per_image: float
    seconds: float
    skipped: tuple[str, ...] = ()
    edge_uncertainty: UncertaintyResult | None = None
    calibration: CalibrationCheck | None = None
    matches: Matches | None = field(default=None, repr=False, compare=False)
    findings: Findings | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON types: the 12 numbers at the top, beside the rest."""
        speed = _Speed(round(self.ms_per_image, 3), round(self.seconds, 3))
        written = _Written(
            result=self.result,
            edge_uncertainty=self.edge_uncertainty,
            calibration=self.calibration,
            speed=speed,
            skipped=self.skipped,
        )
        return fields_to_json(written)

    @classmethod
    def from_dict(cls, content: object) -> Evaluation:
        """What :meth:`to_dict` made, in this version or an earlier one; times are rounded then.

        Raises:
            ValueError: it is something else.
        """
        found = from_json(_Written, content)
        return cls(
            found.result,
            found.speed.ms_per_image,
            found.speed.seconds,
            found.skipped,
            found.edge_uncertainty,
            found.calibration,
        )


class Named(Protocol):
    """A detector, as far as its classes go."""

    @property
    def names(self) -> Sequence[str]:
        """Of its classes."""
        ...


def check_names(detector: Named, index: DataIndex) -> DataIndex:
    """The data set with the detector's classes in the detector's order, matched by name.

    The data may lack some of them: a class without objects has no AP and is not part of the mean.

    Raises:
        UsageError: there are boxes of a class that the detector does not know.
    """
    try:
        return index.with_classes(detector.names)
    except UsageError:
        found = compare_classes(index.names, np.asarray(index.labels), detector.names)
        unknown = join_some([f"{name} ({counted(boxes, 'box', 'boxes')})" for name, boxes in found.unknown.items()])
        names = join_some(found.only_detector, 12)
        also = f", which has also {names}" if names else ""
        like = "".join(f" ({pair}?)" for pair in found.renames()[:1])
        raise UsageError(
            f"the classes of {index.annotations} are not the detector's: it does not know {unknown}; "
            f"{len(found.common)} of the data's {len(index.names)} classes are in the detector{also}. `gfocal eval` "
            f"has --rename OLD=NEW for two names of one class{like}, and --only-common to leave out the boxes of what "
            "the detector does not know"
        ) from None


@dataclass
class FoundPart:
    """What one process found; ``skipped`` are the lines about images that it could not read."""

    found: dict[int, Detections] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    busy: float = 0.0
    done: int = 0


def measure_parts(
    index: DataIndex, parts: Sequence[FoundPart], seconds: float, resamples: int, keep_matches: bool, beyond: int | None
) -> Evaluation:
    """The numbers from what all processes found, whatever their number: images in the order of the index."""
    found = {image_id: detections for part in parts for image_id, detections in part.found.items()}
    seen = [image_id for image_id in index.image_ids.tolist() if image_id in found]
    kept = [found[image_id] for image_id in seen]
    evaluator = CocoEvaluator(index)
    evaluator.update(seen, kept)
    evaluator.leave_out([image_id for image_id in index.image_ids.tolist() if image_id not in found])
    edges = None if index.edge_ambiguity is None else EdgeUncertainty(index, index.edge_ambiguity)
    if edges is not None:
        edges.update(seen, kept)
    skipped = dict.fromkeys(line for part in parts for line in part.skipped)
    return Evaluation(
        evaluator.compute(resamples, beyond=beyond),
        ms_per_image=1000 * sum(part.busy for part in parts) / max(sum(part.done for part in parts), 1),
        seconds=seconds,
        skipped=tuple(f"{line} (left out of the evaluation)" for line in skipped),
        edge_uncertainty=None if edges is None else edges.compute(),
        calibration=check_calibration(index, seen, kept, evaluator.findings()),
        matches=evaluator.matches() if keep_matches else None,
        findings=evaluator.findings(),
    )

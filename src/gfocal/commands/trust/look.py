"""What a detector finds on the images of a calibration."""

from __future__ import annotations

from dataclasses import dataclass

from gfocal.calibration.scores_fit import ScoreSamples
from gfocal.data.index.data_index import DataIndex
from gfocal.detections import Detections
from gfocal.detector import DenseDetector
from gfocal.errors import BrokenInputError
from gfocal.evaluation.coco import CocoEvaluator
from gfocal.evaluation.trust.samples import MatchedSamples, light, matched_samples, score_samples
from gfocal.runtime.precision import autocast
from gfocal.utils.progress import ProgressBar


@dataclass(frozen=True)
class Looked:
    """What a detector found."""

    matched: MatchedSamples
    scores: ScoreSamples
    evaluator: CocoEvaluator
    index: DataIndex
    found: dict[int, Detections]
    skipped: tuple[str, ...]


def look(
    detector: DenseDetector,
    index: DataIndex,
    precision: str,
    batch_size: int,
    skip_broken: bool,
    *,
    what: str = "calibration",
) -> Looked:
    """Image by image, with the distributions of the edges of what found an object alone."""
    found: dict[int, Detections] = {}
    parts, skipped = [], list[str]()
    with ProgressBar(len(index), what) as bar, autocast(detector.device, precision):
        for i, image_id in enumerate(index.image_ids.tolist()):
            try:
                one = detector.predict(index.path(i), batch_size=batch_size).numpy()
            except BrokenInputError as error:
                if not skip_broken:
                    raise
                skipped.append(f"{error} (left out of the {what})")
            else:
                parts.append(matched_samples(index, [image_id], [one]))
                found[image_id] = light(one)
            bar.callback(i + 1, len(index))
    matched = MatchedSamples.joined([part for part in parts if part is not None])
    evaluator = evaluated(index, found)
    return Looked(matched, score_samples(evaluator.findings()), evaluator, index, found, tuple(skipped))


def evaluated(index: DataIndex, found: dict[int, Detections]) -> CocoEvaluator:
    evaluator = CocoEvaluator(index)
    evaluator.update(list(found), list(found.values()))
    evaluator.leave_out([image_id for image_id in index.image_ids.tolist() if image_id not in found])
    return evaluator

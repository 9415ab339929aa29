"""What the page is about: everything that was measured and read, before it is put into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfocal.data.index.data_index import DataIndex
from gfocal.evaluation.diagnosis.diagnose import Diagnosis, diagnose
from gfocal.evaluation.measured import Evaluation
from gfocal.evaluation.thresholds.confusion import Confusion, Verdicts, confusion, judge
from gfocal.evaluation.thresholds.curve import Curve, curves
from gfocal.evaluation.thresholds.examples import Tally, tallies
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.evaluation.thresholds.folder import shown_score
from gfocal.evaluation.thresholds.matching import Matching, match
from gfocal.images.depth import ValueRange
from gfocal.runs.curves import History


@dataclass(frozen=True)
class Measured:
    """A detector on a data set, looked at above one score.

    Attributes:
        evaluation: COCO's numbers.
        findings: all that was found, in the detector's classes.
        matching: of findings and objects.
        score: what is looked at scores higher.
        verdicts: on what does.
        counts: right and wrong in each image.
        confusion: of classes.
        each, micro: precision and recall of each class and of all together.
        diagnosis: intervals, errors, calibration.
    """

    evaluation: Evaluation
    findings: Findings
    matching: Matching
    score: float
    verdicts: Verdicts
    counts: Sequence[Tally]
    confusion: Confusion
    each: Sequence[Curve]
    micro: Curve
    diagnosis: Diagnosis

    @classmethod
    def of(cls, evaluation: Evaluation, findings: Findings, score: float | None) -> Measured:
        """At a score, or where F1 of all classes together is largest."""
        matching = match(findings)
        each, micro = curves(findings, matching)
        above = shown_score(score, micro.best())
        verdicts = judge(findings, matching, above)
        return cls(
            evaluation=evaluation,
            findings=findings,
            matching=matching,
            score=above,
            verdicts=verdicts,
            counts=tallies(findings, verdicts),
            confusion=confusion(findings, verdicts, above),
            each=each,
            micro=micro,
            diagnosis=diagnose(findings, matching, above),
        )


@dataclass(frozen=True)
class Timed:
    """How long one image took: reading it, and finding what is on it, in milliseconds."""

    row: int
    reading: float
    finding: float


@dataclass(frozen=True)
class Provenance:
    """Where the weights come from; what is not known is None or empty.

    Attributes:
        file: of the weights.
        weights_hash: SHA-256 of it.
        data_hash: of the annotations that were measured on.
        card: the run card.
        recipe: by full key.
        packaged: name of the packaged recipe that it is compared with.
        packaged_values: of that one, by full key.
        trained: versions, and facts about the machine, of the training.
        here: versions of this measurement.
        command: that makes this page again.
        measure_command: that measures alone.
    """

    file: str
    weights_hash: str
    data_hash: str
    card: Mapping[str, Any] | None
    recipe: Mapping[str, object]
    packaged: str | None
    packaged_values: Mapping[str, object]
    trained: Mapping[str, object]
    here: Mapping[str, object]
    command: str
    measure_command: str


@dataclass(frozen=True)
class Content:
    """All of the page.

    Attributes:
        model: name of the model, for headings.
        data: name of the annotations.
        split: "train", "val" or "test".
        when: it was measured.
        measured: what came of it.
        splits: data sets by split, the measured one among them.
        history: of the training; None where there is none.
        provenance: of the weights.
        warnings: what a reader must know first.
        examples: images of each kind at most.
        value_range: how values of more than 8 bits become 8.
        timed: images that were timed one by one; () where none was.
        held_out: what the run card says of images that were set apart, where these are measured.
        uncalibrated: why no calibration was measured; "" where one was.
    """

    model: str
    data: str
    split: str
    when: str
    measured: Measured
    splits: Mapping[str, DataIndex]
    history: History | None
    provenance: Provenance
    warnings: Sequence[str] = ()
    examples: int = 4
    value_range: ValueRange = "type"
    timed: Sequence[Timed] = ()
    held_out: object = None
    uncalibrated: str = ""

    def path(self, row: int) -> Path:
        """The file of an image that was measured."""
        return self.splits[self.split].path(row)

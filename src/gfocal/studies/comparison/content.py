"""What ``results.json`` holds: the results of one table, which reports show.

:func:`gfocal.utils.records.to_json` gives its JSON, :meth:`StudyResults.from_dict` reads it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gfocal.errors import UsageError
from gfocal.studies.comparison.findings import ClaimVerdict, Difference
from gfocal.studies.speed.records import SpeedResult
from gfocal.utils.records import FLAT, fields_from_json, fields_to_json, named

AgreementSet = Literal["positives", "common", "detections"]
"""The boxes that are asked whether scores agree with IoUs; see :mod:`gfocal.studies.comparison.agreement`."""
AgreementMeasure = Literal["positives", "common", "detections", "mean_iou"]
"""The correlation over each set, and the mean IoU of the positives."""


@dataclass(frozen=True)
class Statistic:
    """A measure of a row over its seeds.

    Attributes:
        mean: over those for which there is a value.
        spread: their standard deviation; None of a single one.
        runs: the values.
    """

    mean: float
    spread: float | None
    runs: tuple[float, ...]


@dataclass(frozen=True)
class ComparedMeasure:
    """A measure of a row, and its difference to the baseline, None where there is nothing to say."""

    measured: Statistic
    difference: Difference | None


Agreement = Mapping[AgreementMeasure, ComparedMeasure | None]
"""None where it was not measured."""


@dataclass(frozen=True)
class Schedule:
    """How large images and schedule of a row are.

    Attributes:
        image: how images enter, in words.
        iterations: optimizer steps.
        epochs: whole ones.
        images_per_step: of an optimizer step.
    """

    image: str = field(metadata=named("picture"))
    iterations: int
    epochs: int
    images_per_step: int = field(metadata=named("pictures_a_step"))

    def describe(self) -> str:
        """In words."""
        return (
            f"{self.image} pixels, {self.iterations:,} steps of {self.images_per_step} pictures ({self.epochs} epochs)"
        )


@dataclass(frozen=True, kw_only=True)
class WhatWasRun:
    """Data, schedule and machine of a table's runs.

    Attributes:
        data: its name.
        train_images, val_images, classes: how many there are.
        pyramid: "full" or "nano".
        schedule: of most rows.
        unlike_the_others: rows with another one, in words.
        seeds: of the runs.
        init: the weights that a person gave; None for the recipes' own.
        pretrained: whether the recipes name weights of the backbone.
        budget: its name, with a "*" where settings differ from what the name stands for.
        overrides: recipe keys of all rows.
        versions, host: what the runs say of themselves; where they differ, all that they say.
        data_fingerprint: of both splits.
        command: what a person types to get this.
    """

    data: str
    train_images: int = field(metadata=named("train_pictures"))
    val_images: int = field(metadata=named("val_pictures"))
    classes: int
    pyramid: str
    schedule: Schedule = field(metadata=FLAT)
    unlike_the_others: tuple[str, ...] = ()
    seeds: tuple[int, ...]
    init: str | None
    pretrained: bool = False
    budget: str
    overrides: tuple[str, ...]
    versions: Mapping[str, object]
    host: Mapping[str, object] = field(default_factory=dict)
    data_fingerprint: str
    command: str


@dataclass(frozen=True)
class RunResult:
    """One run of a row.

    Attributes:
        seed: of the run.
        state: "done", "failed" or "missing".
        error: why it failed, one line.
        folder: below the study's own.
        seconds: of training and measurement; None unless it is done.
    """

    seed: int
    state: Literal["done", "failed", "missing"]
    error: str | None
    folder: str
    seconds: float | None

    @property
    def failure(self) -> str | None:
        """As :attr:`StudyResults.failures` has it; None unless it failed."""
        return None if self.error is None else f"{self.folder.rpartition('/')[2]}: {self.error}"


@dataclass(frozen=True)
class Curve:
    """The loss over the optimizer steps, both (P,)."""

    step: tuple[int, ...]
    loss: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """A row of the table.

    Attributes:
        key, title, group, baseline: as :class:`gfocal.studies.paper.tables.Row` has them.
        recipe: name of the recipe that the row changes.
        changes: its overrides.
        box_weight: what weights the box loss.
        published: the paper's figures in percent; None for a row that the paper has not.
        published_difference: AP to the baseline in the paper, in points.
        measured: by column, None where nothing was to be found; None as a whole without any run.
        difference: AP to the baseline.
        correlation: Spearman's, of score and IoU over the detections.
        agreement: of scores and IoUs over each set of boxes; earlier versions asked the detections alone.
        per_class: AP of each class.
        truncated_share: of the edges learnt in the last epoch.
        runs: by seed.
        curve: of the first run; None unless it is done.
    """

    key: str
    title: str
    group: str
    baseline: str | None
    recipe: str
    changes: tuple[str, ...]
    box_weight: str | None
    published: Mapping[str, float] | None
    published_difference: float | None
    measured: Mapping[str, Statistic | None] | None
    difference: Difference | None
    correlation: Statistic | None
    agreement: Agreement = field(default_factory=dict)
    per_class: Mapping[str, Statistic | None] = field(default_factory=dict)
    truncated_share: float | None
    runs: tuple[RunResult, ...]
    curve: Curve | None

    @property
    def name(self) -> str:
        """Its title, with its group where that does not say it."""
        return self.title if not self.group or self.title.startswith(self.group) else f"{self.group}, {self.title}"


@dataclass(frozen=True)
class RowMoment:
    """A row at one moment of its runs' training; see :class:`RowResult`."""

    ap: Statistic | None = field(metadata=named("AP"))
    difference: Difference | None
    agreement: Agreement
    per_class: Mapping[str, Statistic | None]


@dataclass(frozen=True)
class MomentResult:
    """The table at one moment of its runs' training.

    Attributes:
        step: optimizer steps until then.
        rows: by key.
        claims: what they bear out; how long a detector takes does not change with training.
    """

    step: int
    rows: Mapping[str, RowMoment]
    claims: tuple[ClaimVerdict, ...]


@dataclass(frozen=True)
class AgreementBasis:
    """Of which boxes agreement was asked.

    Attributes:
        judged_by: those by which the claim about agreement is judged.
        objects: by group, how many objects all of its rows found, one number a seed.
    """

    judged_by: AgreementSet
    objects: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class StudyResults:
    """The results of a table.

    Attributes:
        table: its name.
        title: what it compares.
        source: where the paper has it.
        note: what a reader has to know about how it is filled here.
        settings: what was run.
        columns: what the paper prints.
        rows: in the table's order.
        claims: the paper's, and whether these runs bear them out.
        agreement: None in results of earlier versions.
        schedule: the table at each step at which its runs were measured, the end included; () where that is all.
        speed: of the rows; None where it was not measured.
        failures: "run: reason" each.
        finished: whether all runs are done.
    """

    table: str
    title: str
    source: str
    note: str
    settings: WhatWasRun
    columns: tuple[str, ...]
    rows: tuple[RowResult, ...]
    claims: tuple[ClaimVerdict, ...]
    agreement: AgreementBasis | None = None
    schedule: tuple[MomentResult, ...] = ()
    speed: SpeedResult | None
    failures: tuple[str, ...]
    finished: bool

    def to_dict(self) -> dict[str, Any]:
        """The content of ``results.json``."""
        return fields_to_json(self)

    @classmethod
    def from_dict(cls, content: object) -> StudyResults:
        """From the content of a ``results.json``, of this version or an earlier one.

        Raises:
            UsageError: it is something else.
        """
        try:
            return fields_from_json(cls, content)
        except ValueError as error:
            raise UsageError(
                f"these are no results of a study ({error}): give the content of a results.json that `gfocal study` "
                "wrote"
            ) from None

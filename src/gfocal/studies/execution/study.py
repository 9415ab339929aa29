"""A study from what a person typed: data, plan, runs, and what is left to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from gfocal.catalogue.resolve import model_path
from gfocal.data.scenes.generate import make_scenes
from gfocal.errors import UsageError
from gfocal.studies.execution.budget import Budget
from gfocal.studies.execution.initial_weights import init_identity
from gfocal.studies.execution.plan import Plan, RunPlan, StudyData, make_plan, open_study_data
from gfocal.studies.execution.runner import Outcome, default_jobs, do_runs
from gfocal.studies.paper.tables import TABLES, Row, Table
from gfocal.utils.files import real_path
from gfocal.utils.progress import ProgressBar

SCENES = "scenes"
ALL = "all"
_RELATED_SEEDS = 5  # of other calls in the same folder


@dataclass(frozen=True)
class StudySettings:
    """What was asked for.

    Attributes:
        tables: names of :data:`gfocal.studies.paper.tables.TABLES`.
        data: a data set, or "scenes" for generated ones.
        budget: how large the runs are.
        seeds: how many runs each row has.
        val: data to measure on; None for the val split.
        overrides: recipe keys of all rows.
        init: weights whose backbone and neck all runs start from: run folder, checkpoint or name.
        out: the study's folder.
        jobs: runs at a time; None for what suits the machine.
        rows: patterns of the rows' keys; () for all rows.
        images_dir: the folder of the images, or one around it; None for near the annotations.
    """

    tables: tuple[str, ...]
    data: str
    budget: Budget
    seeds: int
    out: Path
    val: Path | None = None
    overrides: tuple[str, ...] = ()
    init: Path | None = None
    jobs: int | None = None
    rows: tuple[str, ...] = ()
    images_dir: Path | None = None

    @property
    def chosen(self) -> tuple[Table, ...]:
        """The tables themselves."""
        return tuple(TABLES[name] for name in self.tables)


@dataclass(frozen=True)
class Study:
    """A study whose data are there and whose runs are planned.

    Attributes:
        settings: what was asked for.
        data: of all runs.
        plan: what is to be done.
        related: the runs of all tables with the same settings; those that an earlier call did say how far a run moves
            with its seed.
    """

    settings: StudySettings
    data: StudyData
    plan: Plan
    related: tuple[RunPlan, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        """Those that have rows in it."""
        return tuple(table for table in self.settings.chosen if self.rows(table))

    def rows(self, table: Table) -> list[Row]:
        """The rows of a table that are part of it."""
        shown = table.shown(self.settings.budget.pyramid)
        return [row for row in shown if (table.name, row.key) in self.plan.of_row]

    @property
    def jobs(self) -> int:
        """Runs at a time."""
        return self.settings.jobs or default_jobs(self.plan.runs)

    def run(self, say: Callable[[str], None]) -> Outcome:
        """Do what is not done yet; see :func:`gfocal.studies.execution.runner.do_runs`."""
        own = self.settings
        return do_runs(self.plan.runs, self.data, own.out, init=own.init, jobs=self.jobs, say=say)


def default_folder(data: str, budget: Budget) -> Path:
    """``runs/study-DATA-BUDGET``."""
    path = real_path(Path(data))
    name = SCENES if data == SCENES else path.stem if path.suffix else path.name
    return Path("runs") / f"study-{name}-{budget.name.rstrip('*')}"


def open_study(settings: StudySettings) -> Study:
    """Make or open the data and plan the runs.

    Raises:
        UsageError: no such data or weights, or an override that a row's recipe cannot have.
    """
    if settings.init is not None:
        settings = replace(settings, init=model_path(settings.init))
    init = None if settings.init is None else init_identity(settings.init)
    data = _data(settings)
    plan = _plan(settings, settings.chosen, data, init, settings.rows)
    related = plan
    with suppress(UsageError):  # --set has what another table's rows are made by
        seeds = replace(settings, seeds=max(settings.seeds, _RELATED_SEEDS))
        related = _plan(seeds, TABLES.values(), data, init)
    return Study(settings, data, plan, related.runs)


def _plan(
    settings: StudySettings, tables: Iterable[Table], data: StudyData, init: str | None, only: Sequence[str] = ()
) -> Plan:
    seeds, overrides = range(settings.seeds), settings.overrides
    return make_plan(tables, data, settings.budget, seeds=seeds, overrides=overrides, init=init, only=only)


def _data(settings: StudySettings) -> StudyData:
    if settings.data != SCENES:
        return open_study_data(Path(settings.data), settings.val, images_dir=settings.images_dir)
    if settings.val is not None:
        raise UsageError("--data scenes has pictures to measure on: leave --val out")
    if settings.images_dir is not None:
        raise UsageError("--data scenes has pictures of its own: leave --images out")
    train, val = settings.budget.scenes
    size = settings.budget.size or 512
    folder = settings.out / f"scenes-{size}-{train}-{val}"
    with ProgressBar(train + val, "scenes") as bar:
        make_scenes(folder, train=train, val=val, size=size, seed=0, progress=bar.callback)
    return open_study_data(folder, name=SCENES)


def names_of(asked: str) -> Sequence[str]:
    """The tables that a name stands for."""
    return [name for name, table in TABLES.items() if table.published] if asked == ALL else [asked]

"""From tables to runs: every row with every seed, each run once however many rows it stands for."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from gfocal.data.fingerprint import fingerprint, images_fingerprint
from gfocal.data.index.data_index import DataIndex
from gfocal.data.pipeline import images_per_epoch, in_tiles, with_used_classes
from gfocal.errors import UsageError
from gfocal.recipe import Recipe, build_recipe, load_recipe
from gfocal.recipe.forms import ASSIGNERS
from gfocal.recipe.values import flat
from gfocal.runs.datasets import open_run_data
from gfocal.runtime.layout import real_layout
from gfocal.studies.execution.budget import Budget, shrunk
from gfocal.studies.paper.tables import RECIPES, TABLES, Row, Table
from gfocal.utils.files import real_path

SCHEME = 1
"""Raised whenever the same recipe, data and seed would give other results."""
# They change nothing but the last bits, and a study may go on elsewhere.
_FREE = (
    ("data", "workers"),
    ("data", "worker_timeout"),
    ("runtime", "threads"),
    ("runtime", "trackers"),
    ("schedule", "save_every"),
)


@dataclass(frozen=True)
class StudyData:
    """What all runs learn from and are measured on.

    Attributes:
        path: as typed, or where scenes were generated.
        val: other data to measure on, or None for the val split.
        name: for people.
        train, val_index: the images.
        images_dir: the folder of the images, or one around it; None for near the annotations.
    """

    path: Path
    val: Path | None
    name: str
    train: DataIndex
    val_index: DataIndex
    images_dir: Path | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of both splits, annotations and images."""
        parts = [look(index) for index in (self.train, self.val_index) for look in (fingerprint, images_fingerprint)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]

    def of_run(self, recipe: Recipe) -> tuple[DataIndex, DataIndex]:
        """What a run learns from and what it is measured on, with the classes that its detector has."""
        train, val = with_used_classes(recipe, self.train, self.val_index)
        assert val is not None
        return train, val


def open_study_data(
    path: Path, val: Path | None = None, *, images_dir: Path | None = None, name: str | None = None
) -> StudyData:
    """The data of a study.

    Raises:
        UsageError: there is nothing to measure on.
    """
    train, measured, _ = open_run_data(path, val, images_dir=images_dir)
    if measured is None or not len(measured):
        raise UsageError(f"{path} has no val split: a study has to measure; give --val PATH")
    return StudyData(path, val, name or real_path(path).name, train, measured, images_dir)


@dataclass(frozen=True)
class RunPlan:
    """One training and its measurement.

    Attributes:
        name: folder below the study's ``runs``.
        recipe: all of it, seed included.
        base: name of the recipe that it changes.
        detector: of :data:`gfocal.studies.paper.tables.RECIPES`.
        changes: the row's overrides.
        seed: of the run.
        rows: (table, row key) of all rows that it stands for.
        steps: optimizer steps.
    """

    name: str
    recipe: Recipe
    base: str
    detector: str
    changes: tuple[str, ...]
    seed: int
    rows: tuple[tuple[str, str], ...]
    steps: int

    @property
    def measured_steps(self) -> tuple[int, ...]:
        """Optimizer steps after which it is measured; the last one is the end."""
        return measured_steps(self.recipe, self.steps)

    @property
    def images(self) -> int:
        """That it learns from, each time they come counted."""
        schedule = self.recipe.schedule
        return self.steps * schedule.batch_size * schedule.accumulate


@dataclass(frozen=True)
class Plan:
    """All runs of a study, and which of them is whose.

    Attributes:
        runs: each once, those of the first seed first.
        of_row: (table, row key) -> its runs, by seed.
    """

    runs: tuple[RunPlan, ...]
    of_row: dict[tuple[str, str], tuple[RunPlan, ...]]


def row_recipe(row: Row, budget: Budget, overrides: Sequence[str], images: int) -> Recipe:
    """The recipe of a row's runs: published, changed by the row, shrunk by the budget, then by the person.

    Raises:
        UsageError: an override that the row's recipe cannot have.
    """
    base = RECIPES[budget.pyramid][row.detector]
    where = f"{base} ({row.key})"
    published = load_recipe(base, row.changes)
    # Twice: what a person sets decides how many epochs the budget's iterations are, and has the last word.
    asked = build_recipe(published.to_dict(), overrides, where)
    recipe = build_recipe(shrunk(asked, budget, images).to_dict(), overrides, where)
    made_by, ours, theirs = _made_by(row), flat(recipe.to_dict()), flat(published.to_dict())
    if changed := [key for key in made_by if ours[key] != theirs[key]]:
        raise UsageError(f"--set {changed[0]}: it is what the row {row.key} is made by; leave it out")
    if recipe.runtime.seed != published.runtime.seed:
        raise UsageError("--set runtime.seed: a study gives every row the seeds 0, 1, ... of --seeds N")
    if recipe.schedule.minutes is not None:
        raise UsageError("--set schedule.minutes: the runs of a study take the same steps; give --iterations N")
    return recipe


def _made_by(row: Row) -> list[str]:
    """The keys that set a row apart; what else it changes (the norm of a gradient) a person may have otherwise."""
    return [key for change in row.changes if (key := change.partition("=")[0]).startswith("model.")]


def _seeded(recipe: Recipe, seed: int) -> Recipe:
    return recipe.model_copy(update={"runtime": recipe.runtime.model_copy(update={"seed": seed})})


def make_plan(
    tables: Iterable[Table],
    data: StudyData,
    budget: Budget,
    *,
    seeds: Sequence[int] = (0,),
    overrides: Sequence[str] = (),
    init: str | None = None,
    only: Sequence[str] = (),
) -> Plan:
    """Expand rows x seeds.

    Args:
        tables: whose rows.
        data: what they learn.
        budget: how large they are.
        seeds: of the runs.
        overrides: recipe keys of all rows.
        init: what tells the weights they start from apart from others; None for the recipes' own.
        only: patterns of row keys, such as "atss-*"; the baselines of those rows come along. Empty: all rows.

    Raises:
        UsageError: an override that a row's recipe cannot have, or no row that ``only`` names.
    """
    found: dict[str, RunPlan] = {}
    of_row: dict[tuple[str, str], tuple[RunPlan, ...]] = {}
    facts = f"{data.fingerprint} {init}"
    rows = [(table.name, row) for table in tables for row in _wanted(table.shown(budget.pyramid), only)]
    if not rows:
        raise UsageError(f"--rows {', '.join(only)}: no row of these tables has such a name")
    recipes = [row_recipe(row, budget, overrides, len(data.train)) for _, row in rows]
    steps = [steps_of(recipe, data.train) for recipe in recipes]
    for seed in seeds:
        for (name, row), unseeded, count in zip(rows, recipes, steps, strict=True):
            recipe = _seeded(unseeded, seed)
            identity = _identity(recipe, facts)
            place = (name, row.key)
            known = found.get(identity)
            run = RunPlan(
                name=known.name if known else f"{_slug(row)}-{identity[:8]}-seed{seed}",
                recipe=recipe,
                base=RECIPES[budget.pyramid][row.detector],
                detector=row.detector,
                changes=row.changes if known is None else known.changes,
                seed=seed,
                rows=(*(known.rows if known else ()), place),
                steps=count,
            )
            found[identity] = run
            of_row[place] = (*of_row.get(place, ()), run)
    runs = {run.name: run for run in found.values()}
    by_row = {place: tuple(runs[run.name] for run in own) for place, own in of_row.items()}
    return Plan(tuple(runs.values()), by_row)


def _wanted(rows: Sequence[Row], only: Sequence[str]) -> list[Row]:
    if not only:
        return list(rows)
    named = {row.key for row in rows if any(fnmatchcase(row.key, pattern) for pattern in only)}
    baselines = {row.baseline for row in rows if row.key in named}
    return [row for row in rows if row.key in named | baselines]


def steps_of(recipe: Recipe, train: DataIndex) -> int:
    """Optimizer steps of a run."""
    schedule = recipe.schedule
    batches = max(images_per_epoch(recipe, in_tiles(recipe, train)) // schedule.batch_size, 1)
    each = max(batches // schedule.accumulate, 1)
    return schedule.epochs * min(each, schedule.epoch_steps or each)


def measured_steps(recipe: Recipe, steps: int) -> tuple[int, ...]:
    """After which of its ``steps`` a run is measured: those whose weights it keeps, and the end."""
    return (*sorted({step for step in recipe.schedule.keep_steps if step < steps}), steps)


def _slug(row: Row) -> str:
    """A folder's name: detector, kinds, then the numbers with their keys' last words.

    Of rows that are the same run the first of all tables gives it, whatever tables are planned.
    """
    pairs = [change.split("=") for change in _first_like()[row.detector, row.changes]]
    kinds = [value for key, value in pairs if key.endswith(".kind")]
    numbers = [f"{key.rpartition('.')[2]}_{value}" for key, value in pairs if not key.endswith(".kind")]
    return "-".join([row.detector, *kinds, *numbers])


@functools.cache
def _first_like() -> dict[tuple[str, tuple[str, ...]], tuple[str, ...]]:
    """(detector, changes) -> the changes of the first row of all tables that comes to the same recipe."""
    first: dict[str, tuple[str, ...]] = {}
    found = {}
    for table in TABLES.values():
        for row in table.rows:
            recipe = load_recipe(RECIPES["full"][row.detector], row.changes).model_dump_json()
            found[row.detector, row.changes] = first.setdefault(recipe, row.changes)
    return found


def _has_padding(recipe: Recipe) -> bool:
    """Whether images get padding: all but squares whose sides are multiples of 32, as ``data.sides`` are."""
    data = recipe.data
    return data.resize.kind != "square" or not (data.multi_scale or data.resize.size % 32 == 0)


def _identity(recipe: Recipe, facts: str) -> str:
    """A hash of all that decides a run's results."""
    content = recipe.to_dict()
    for section, key in _FREE:
        content[section].pop(key)
    assigner, schedule = content["model"]["assigner"], content["schedule"]
    # Younger than many a study's folder: left out where a run is what it was before there were such keys.
    if not recipe.data.drop_empty_classes:
        content["data"].pop("drop_empty_classes")
    for key in ("keep_steps", "minutes", "most_epochs", "epoch_steps"):
        if not schedule[key]:
            schedule.pop(key)
    if not recipe.model.deformable:
        content["model"].pop("deformable")
        content["model"].pop("modulated")
    if recipe.model.assistant.kind == "none":
        content["model"].pop("assistant")
    if not recipe.model.deformable_tower:
        content["model"].pop("deformable_tower")
    for key in ("class_agnostic", "voting"):
        if not content["predict"][key]:
            content["predict"].pop(key)
    content["runtime"]["channels_last"] = real_layout(recipe.runtime.channels_last)  # as the job of a run has it
    if not ASSIGNERS[recipe.model.assigner.kind].dynamic:
        for key in ("positives", "alpha", "beta", "static_epochs"):
            assigner.pop(key)
    if recipe.model.assigner.in_padding or not _has_padding(recipe):
        assigner.pop("in_padding")
    if recipe.data.range == "type":
        content["data"].pop("range")
    text = json.dumps([SCHEME, content, facts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

"""A run and its folder: recipe, environment, metrics, weights, state."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from gfocal.data.fingerprint import fingerprint, images_fingerprint
from gfocal.data.index.data_index import DataIndex
from gfocal.data.split import HeldOut
from gfocal.errors import GfocalError, UsageError
from gfocal.recipe import Recipe
from gfocal.recipe.values import changed_keys, flat, with_values
from gfocal.runs import card
from gfocal.runs.card import RunFacts
from gfocal.runs.checkpoint import (
    BEST,
    FORMAT,
    LAST,
    STATE,
    StateDict,
    kept_weights,
    load_state,
    save_detector,
    save_state,
)
from gfocal.runs.initial_weights import Start, origin_notes, origins_in
from gfocal.runs.measured_data import MeasuredData, differ, measured_data, other_classes, read_measured
from gfocal.runs.metrics_log import METRICS, MetricsLog
from gfocal.runs.replacement import check_unused
from gfocal.runs.trackers import Trackers, check_trackers
from gfocal.runtime.distributed import ALONE, Processes
from gfocal.runtime.environment import environment
from gfocal.utils.files import remove_unfinished, set_aside, write_atomically
from gfocal.utils.locks import Lock, locked_folder

RECIPE = "recipe.yaml"


@dataclass
class TrainResult:
    """How a run ended.

    Attributes:
        out: the run folder.
        metrics: the last evaluation, {} if there was none.
        best_ap: the best AP so far, or None.
        best_epoch: after how many epochs it was measured, or None.
        stopped_early: ``schedule.patience`` ended it.
        steps: optimizer steps done.
        seconds: of this call.
        images_per_second: while training, the whole pipeline.
        interrupted: stopped by Ctrl-C or another signal; resume with ``resume=True``.
        signal: the number of that signal, for several processes the highest of theirs; None where there was none.
        skipped: one line for each broken image that another one stood in for.
        drawings: curves of the run, and the folder that shows what its best weights find; [] where nothing was drawn.
    """

    out: Path
    metrics: dict[str, Any] = field(default_factory=dict)
    best_ap: float | None = None
    best_epoch: int | None = None
    stopped_early: bool = False
    steps: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    interrupted: bool = False
    signal: int | None = None
    skipped: list[str] = field(default_factory=list)
    drawings: list[Path] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """Of this call, in words."""
        return "stopped early" if self.stopped_early else "interrupted" if self.interrupted else "finished"

    def to_dict(self) -> dict[str, object]:
        """All of it by name, as ``gfocal train --json`` prints it; the rate has the name that it has in files."""
        content = dict(vars(self))
        return {("pictures_per_second" if name == "images_per_second" else name): content[name] for name in content}


@dataclass(frozen=True)
class SavedRun:
    """The content of ``state.pt``: which run it is of, and where that stands.

    Attributes:
        facts: of the run that saved it.
        recipe: of that run, as plain data.
        state: what the training needs to continue, "step" (steps done) among it.
        val: what its best weights were measured on; None for nothing, or if that is not ``known``.
        asked: by full key, what the person's recipe says where the run chose another value by measuring.
    """

    facts: RunFacts
    recipe: dict[str, object]
    state: StateDict
    val: MeasuredData | None
    known: bool = True
    asked: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def load(cls, file: Path) -> SavedRun:
        """Read it back.

        Raises:
            UsageError: the file is missing, or not the state of a run.
        """
        state = load_state(file)
        if lacking := [key for key in ("environment", "data", "recipe", "step") if key not in state]:
            raise UsageError(f"{file} is not the state of a run that this gfocal can resume: it lacks {lacking[0]}")
        facts = RunFacts(
            environment=state.pop("environment"),
            data=state.pop("data"),
            pictures=state.pop("pictures", None),  # the first version looked at no files
        )
        del state["format"]
        # Versions until 0.2 noted it in the card alone.
        noted = {"val": state.pop("val")} if "val" in state else card.read(file.parent) or {}
        val = read_measured(noted.get("val"))
        known = val is not None or noted.get("val", "") is None
        return cls(facts, state.pop("recipe"), asked=state.pop("asked", {}), state=state, val=val, known=known)

    def save(self, file: Path) -> None:
        """Write it.

        Raises:
            DiskFull: there is no room; the state that was there before is whole.
        """
        own = {"recipe": self.recipe, "asked": dict(self.asked), "val": self.val}
        save_state(file, {"format": FORMAT, **self.facts, **own, **self.state})


class Run:
    """One run: what it is made of, and its folder.

    Files: recipe.yaml, run.json, metrics.jsonl, weights (best, last, kept steps), state.pt. Of several processes the
    main one writes; in the others what writes does nothing.

    Args:
        folder: made by :meth:`open`.
        recipe: everything that decides the run.
        train_index: what it learns from.
        val_index: what it is measured on, or None.
        processes: that train together.
        held_out: what was set apart from the data to measure on, for run.json.
        asked: see :class:`SavedRun`; ``recipe`` has what was chosen.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        train_index: DataIndex,
        val_index: DataIndex | None,
        *,
        processes: Processes = ALONE,
        held_out: HeldOut | None = None,
        asked: Mapping[str, object] | None = None,
    ) -> None:
        self.folder, self.recipe, self._asked = folder, recipe, dict(asked or {})
        self.train_index, self.val_index, self.held_out = train_index, val_index, held_out
        self.processes = processes
        self.best, self.last, self.state_file = folder / BEST, folder / LAST, folder / STATE
        self._metrics = MetricsLog(folder / METRICS)
        self._facts: RunFacts
        self._val: MeasuredData | None = None
        self._card: card.Card | None = None
        self._lock: Lock | None = None
        self._held = ExitStack()

    def open(self, *, resume: bool, start: Start | None = None) -> SavedRun | None:
        """Make the folder, or read what to resume from and return it.

        Until :meth:`close` no other process may write there. ``start``, the weights that it starts from, is recorded
        in run.json.

        Raises:
            UsageError: another process writes into the folder, or it holds a run already; when resuming, none or one
                of another recipe or other data. Raised in all processes.
        """
        check_trackers(self.recipe.runtime.trackers)
        self._facts = RunFacts(
            environment=environment(self.recipe, self.processes.count),
            data=fingerprint(self.train_index),
            pictures=None,
        )
        saved, error = None, None
        if self.processes.main:
            try:
                self._lock = self._held.enter_context(locked_folder(self.folder))
                self._facts["pictures"] = images_fingerprint(self.train_index)
                self._val = measured_data(self.val_index, self.recipe)
                if resume:
                    saved = self._resume()
                else:
                    self._begin()
                self._write_card(start, saved)
            except GfocalError as problem:
                error = problem
        self.processes.raise_from_main(error)
        return SavedRun.load(self.state_file) if resume and saved is None else saved

    def _resume(self) -> SavedRun:
        saved = SavedRun.load(self.state_file)
        self._check_resumable(saved)
        self._remove_unfinished()
        self._val = self._val or saved.val
        return saved

    def _begin(self) -> None:
        check_unused(self.folder)
        self._remove_unfinished()
        text = yaml.safe_dump(self.recipe.to_dict(), sort_keys=False)
        write_atomically(self.folder / RECIPE, lambda file: file.write_text(text, encoding="utf-8"))

    def _remove_unfinished(self) -> None:
        kept = [kept_weights(self.folder, step).name for step in self.recipe.schedule.keep_steps]
        remove_unfinished(self.folder, (BEST, LAST, *kept, STATE, METRICS, RECIPE, card.CARD))

    def _write_card(self, start: Start | None, saved: SavedRun | None) -> None:
        content = card.Card(
            **self._facts,
            seed=self.recipe.runtime.seed,
            command=sys.argv,
            annotations=str(self.train_index.annotations),
            val=None if self.val_index is None else self._val,
            init=None if start is None else start.to_dict(),
            held_out=None if self.held_out is None else self.held_out.to_dict(),
            recipe=self.recipe.to_dict(),
            asked=self._asked,
            calls=[],
        )
        step = 0 if saved is None else saved.state["step"]
        self._card = card.begin(self.folder, content, step, resumed=saved is not None)

    def check(self) -> None:
        """See that the folder is still this run's; before each writing, as a process may sleep for any time.

        Raises:
            InUse: another process took it over.
            CannotWrite: it is gone.
        """
        if self._lock is not None:
            self._lock.check()

    @property
    def owned(self) -> bool:
        """Whether :meth:`check` finds nothing."""
        try:
            self.check()
        except GfocalError:
            return False
        return True

    def ended(self, outcome: str, step: int) -> None:
        """Record in run.json how this call of the run ended, unless the folder is gone or another one's."""
        if self._card is not None and self.owned:  # the main process alone has one
            card.end(self.folder, self._card, outcome, step)

    def _check_resumable(self, saved: SavedRun) -> None:
        if changed := changed_keys(saved.recipe, self.recipe, str(self.state_file)):
            raise UsageError(
                f"{self.folder} was trained with another recipe ({', '.join(changed[:5])} differ): resume with the "
                "same one, or start a new run with --init"
            )
        if saved.facts["data"] != self._facts["data"]:
            why = None
            if self.recipe.data.drop_empty_classes:
                why = other_classes(self.last, saved.facts["data"], self.train_index, self.val_index)
            raise UsageError(why or f"{self.folder} was trained on other data than {self.train_index.annotations}")
        count = saved.facts["environment"].get("processes", 1)
        if count != self.processes.count:
            raise UsageError(
                f"{self.folder} was trained by {count} processes, not by {self.processes.count}: its position in the "
                "data would be wrong. Start as many as before, or start a new run with --init"
            )

    def changed_environment(self, saved: SavedRun) -> list[str]:
        """What differs from where the state was saved, as "torch 2.8.0 -> 2.9.0"."""
        then, now = saved.facts["environment"], self._facts["environment"]
        changed = [f"{name} {then.get(name)} -> {value}" for name, value in now.items() if then.get(name) != value]
        # Not refused: somebody may have fixed the image that ended the run. Only the main process looks.
        images = {saved.facts["pictures"], self._facts["pictures"]} - {None}
        return [*changed, "the content of pictures"] if len(images) > 1 else changed

    def changed_measurement(self, saved: SavedRun) -> tuple[MeasuredData | None, MeasuredData] | None:
        """Before and now, where a resumed run is measured on other images, boxes or settings; in all processes."""
        changed = None
        if self.processes.main and self.val_index is not None and self._val is not None and saved.known:
            changed = (saved.val, self._val) if differ(saved.val, self._val) else None
        return self.processes.from_main(changed)

    def set_best_aside(self, step: int) -> Path | None:
        """Keep the weights that were best on other data under another name; None where there are none."""
        self.check()
        return set_aside(self.best, f"best-until-step-{step}.safetensors") if self.processes.main else None

    def track(self, step: int, *, measured: bool) -> list[str]:
        """Open the metrics at ``step``, see :meth:`gfocal.runs.metrics_log.MetricsLog.rewind`, and the trackers.

        Returns:
            lines about what of the metrics was lost.
        """
        if not self.processes.main:
            return []
        self.check()
        lines = self._metrics.rewind(step, measured=measured)
        if trackers := self.recipe.runtime.trackers:
            self._metrics.add(Trackers(trackers, self.folder, flat(self.recipe.to_dict()), step))
        return lines

    def log(self, kind: str, step: int, values: Mapping[str, object]) -> None:
        """One line of metrics: {"kind", "step", ...}."""
        if self.processes.main:
            self.check()
            self._metrics.write(kind, step, values)

    def close(self) -> None:
        """Finish the trackers, and let others write into the folder."""
        with self._held:
            self._metrics.close()

    def save(self, state: StateDict) -> None:
        """Save the state of the training together with what it is the state of."""
        if self.processes.main:
            self.check()
            SavedRun(self._facts, self.recipe.to_dict(), state, self._val, asked=self._asked).save(self.state_file)

    def save_weights(self, file: Path, weights: dict[str, Tensor], notes: Mapping[str, object]) -> None:
        if not self.processes.main:
            return
        self.check()
        ids = self.train_index.category_ids.tolist()
        origins = origins_in(None if self._card is None else self._card["init"])
        notes = {**notes, **self._facts, **(origin_notes(origins) if origins else {})}
        # How a network is computed is chosen for a machine, and weights go to others.
        own = {key: value for key, value in self._asked.items() if key.startswith("runtime.")}
        recipe = with_values(self.recipe, own)
        save_detector(file, weights, recipe, self.train_index.names, category_ids=ids, notes=notes)

"""The folder of a run: recipe, environment, metrics, weights, state."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from gfocal.data.fingerprint import fingerprint, images_fingerprint
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import GfocalError, UsageError
from gfocal.recipe import Recipe, build_recipe
from gfocal.runs import card
from gfocal.runs.checkpoint import BEST, FORMAT, LAST, STATE, kept_weights, load_state, save_detector, save_state
from gfocal.runs.trackers import Trackers, check_trackers
from gfocal.runtime.distributed import ALONE, Processes
from gfocal.runtime.environment import environment
from gfocal.utils.files import explained_disk_full, remove_unfinished, write_atomically


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
        interrupted: stopped by Ctrl-C; resume with ``resume=True``.
        skipped: one line for each broken image that another one stood in for.
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
    skipped: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """Of this call, in words."""
        return "stopped early" if self.stopped_early else "interrupted" if self.interrupted else "finished"

    def to_dict(self) -> dict[str, Any]:
        """All of it by name, as ``gfocal train --json`` prints it; the rate has the name that it has in files."""
        content = dict(vars(self))
        return {("pictures_per_second" if name == "images_per_second" else name): content[name] for name in content}


class Run:
    """One run folder. Files: recipe.yaml, run.json, metrics.jsonl, weights (best, last, kept steps), state.pt.

    Of several processes the main one writes; in the others what writes does nothing.
    """

    def __init__(self, folder: Path, processes: Processes = ALONE, held_out: Mapping[str, Any] | None = None) -> None:
        self.folder, self.processes, self.held_out = folder, processes, held_out
        self.best, self.last, self.state_file = folder / BEST, folder / LAST, folder / STATE
        self.metrics_file = folder / "metrics.jsonl"
        self._recipe: dict[str, Any] = {}
        self._facts: dict[str, Any] = {}
        self._card: dict[str, Any] = {}
        self._trackers: Trackers | None = None

    def open(
        self,
        recipe: Recipe,
        index: DataIndex,
        val: DataIndex | None = None,
        *,
        resume: bool,
        init: dict[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Make the folder, or read the state to resume from and return it.

        What ``init`` says of the weights it starts from is recorded in run.json.

        Raises:
            UsageError: the folder holds a run already; when resuming, none or one of another recipe or other data.
                Raised in all processes.
        """
        check_trackers(recipe.runtime.trackers)
        self._recipe = recipe.to_dict()
        self._facts = {"environment": environment(recipe, self.processes.count), "data": fingerprint(index)}
        state, error = None, None
        if self.processes.main:
            try:
                self._facts["pictures"] = images_fingerprint(index)
                state = self._open(recipe, index, resume=resume)
                self._write_card(recipe, index, val, init, state)
            except GfocalError as problem:
                error = problem
        if error := self.processes.from_main(error):
            error.together = True
            raise error
        return load_state(self.state_file) if resume and state is None else state

    def _open(self, recipe: Recipe, index: DataIndex, *, resume: bool) -> dict[str, Any] | None:
        state = None
        if resume:
            state = load_state(self.state_file)
            self._check_resumable(state, index)
        elif self.state_file.exists():
            raise UsageError(f"{self.folder} already holds a run: continue it with --resume, or choose another --out")
        elif any((self.folder / name).exists() for name in (BEST, LAST, "metrics.jsonl")):
            raise UsageError(f"{self.folder} holds the remains of a run: choose another --out")
        else:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"cannot create the run folder {self.folder}: {error.strerror}") from error
        kept = [kept_weights(self.folder, step).name for step in recipe.schedule.keep_steps]
        remove_unfinished(self.folder, (BEST, LAST, *kept, STATE, "metrics.jsonl", "recipe.yaml", "run.json"))
        if state is None:
            text = yaml.safe_dump(recipe.to_dict(), sort_keys=False)
            write_atomically(self.folder / "recipe.yaml", lambda file: _write(file, text))
        return state

    def _write_card(
        self,
        recipe: Recipe,
        index: DataIndex,
        val: DataIndex | None,
        init: dict[str, Any] | None,
        state: dict[str, Any] | None,
    ) -> None:
        facts = {
            **self._facts,
            "seed": recipe.runtime.seed,
            "command": sys.argv,
            "annotations": str(index.annotations),
            "val": None
            if val is None
            else {
                "annotations": str(val.annotations),
                "data": fingerprint(val),
                "pictures": images_fingerprint(val),
            },
            "init": init,
            "held_out": None if self.held_out is None else dict(self.held_out),
            "recipe": recipe.to_dict(),
        }
        step = 0 if state is None else state["step"]
        self._card = card.begin(self.folder, facts, step, resumed=state is not None)

    def ended(self, outcome: str, step: int) -> None:
        """Record in run.json how this call of the run ended."""
        if self.processes.main and self._card:
            card.end(self.folder, self._card, outcome, step)

    def _check_resumable(self, state: dict[str, Any], index: DataIndex) -> None:
        # A state of an older version lacks keys: they had no effect then, as their defaults have none now.
        theirs = flat(build_recipe(state["recipe"], (), str(self.state_file)).to_dict())
        ours = flat(self._recipe)
        changed = [key for key in ours if theirs.get(key) != ours[key] and not key.startswith(_FREE)]
        if changed:
            raise UsageError(
                f"{self.folder} was trained with another recipe ({', '.join(changed[:5])} differ): resume with the "
                "same one, or start a new run with --init"
            )
        if state["data"] != fingerprint(index):
            raise UsageError(f"{self.folder} was trained on other data than {index.annotations}")
        count = state["environment"].get("processes", 1)
        if count != self.processes.count:
            raise UsageError(
                f"{self.folder} was trained by {count} processes, not by {self.processes.count}: its position in the "
                "data would be wrong. Start as many as before, or start a new run with --init"
            )

    def changed_environment(self, state: dict[str, Any]) -> list[str]:
        """What differs from where the state was saved, as "torch 2.8.0 -> 2.9.0"."""
        then, now = state["environment"], self._facts["environment"]
        changed = [f"{name} {then.get(name)} -> {now[name]}" for name in now if then.get(name) != now[name]]
        # Not refused: somebody may have fixed the image that ended the run. Only the main process looks.
        images = {state.get("pictures"), self._facts.get("pictures")} - {None}
        return [*changed, "the content of pictures"] if len(images) > 1 else changed

    def track(self, recipe: Recipe, step: int, *, measured: bool = True) -> None:
        """Open the metrics; lines of steps after ``step`` belong to what a kill undid and go.

        So does the evaluation at ``step`` unless it was ``measured`` when the state was saved, and the line that tells
        of an early stop: whether it still holds is decided again.
        """
        if not self.processes.main:
            return
        if self.metrics_file.is_file():
            lines = [line for line in self.metrics_file.read_text().splitlines() if _step_of(line) <= step]
            lines = [line for line in lines if json.loads(line)["kind"] != "stop"]
            if not measured:
                lines = [line for line in lines if _step_of(line) < step or json.loads(line)["kind"] != "val"]
            text = "".join(line + "\n" for line in lines)
            write_atomically(self.metrics_file, lambda file: _write(file, text))
        if recipe.runtime.trackers:
            self._trackers = Trackers(recipe.runtime.trackers, self.folder, flat(self._recipe), step)

    def log(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """One JSON line: {"kind", "step", ...}."""
        if not self.processes.main:
            return
        # With fp16 the norm of a gradient may be infinite, which JSON has no word for.
        plain = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
        with explained_disk_full(self.metrics_file), self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **plain}, allow_nan=False) + "\n")
        if self._trackers is not None:
            numbers = {f"{kind}/{name}": value for name, value in plain.items() if isinstance(value, int | float)}
            self._trackers.log(numbers, step)

    def close(self) -> None:
        if self._trackers is not None:
            self._trackers.close()

    def save(self, state: dict[str, Any]) -> None:
        """Save the state together with what it is the state of."""
        if self.processes.main:
            save_state(self.state_file, {"format": FORMAT, **self._facts, "recipe": self._recipe, **state})

    def save_weights(
        self, file: Path, weights: dict[str, Tensor], recipe: Recipe, index: DataIndex, notes: dict[str, Any]
    ) -> None:
        if not self.processes.main:
            return
        save_detector(
            file, weights, recipe, index.names, category_ids=index.category_ids.tolist(), notes={**notes, **self._facts}
        )


_FREE = (
    "data.workers",
    "schedule.save_every",
    "schedule.keep_steps",
    "schedule.eval_every",
    "schedule.patience",
    "runtime.trackers",
    "predict.",
    "model.pretrained",
    "runtime.threads",
)
"""Keys that may differ between a run and its continuation: they do not change the weights, or (threads) only the last
bits, and gfocal prints that."""


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A recipe's plain data by full keys, "optim.lr" and so on."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        found.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return found


def _step_of(line: str) -> float:
    """Step of a metrics line; a line that a kill cut off counts as after everything."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return float("inf")


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")

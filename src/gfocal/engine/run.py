"""The folder of a run: recipe, environment, metrics, weights, state."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch
import torchvision
import yaml
from torch import Tensor

import gfocal
from gfocal.data.coco import CocoIndex
from gfocal.engine.checkpoint import BEST, FORMAT, LAST, STATE, load_state, save_detector, save_state, write_atomically
from gfocal.errors import UsageError
from gfocal.recipe import Recipe


def environment(recipe: Recipe) -> dict[str, Any]:
    """What two runs must share to be bit-identical, beside recipe and data."""
    return {
        "gfocal": gfocal.__version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "precision": recipe.runtime.precision,
        "channels_last": recipe.runtime.channels_last,
    }


def fingerprint(index: CocoIndex) -> str:
    """A hash of pictures, boxes and classes of a data set (not of the pictures' content)."""
    digest = hashlib.sha256()
    for array in (index.image_ids, index.box_start, index.boxes, index.labels):
        digest.update(array.tobytes())
    digest.update("\0".join(index.names).encode())
    return digest.hexdigest()[:16]


class Run:
    """One run folder. Files: recipe.yaml, run.json, metrics.jsonl, best and last weights, state.pt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best, self.last, self.state_file = folder / BEST, folder / LAST, folder / STATE
        self.metrics_file = folder / "metrics.jsonl"
        self._facts: dict[str, Any] = {}
        self._tracker: Any = None

    def open(self, recipe: Recipe, index: CocoIndex, *, resume: bool) -> None:
        """Make the folder, or check that there is one to resume.

        Raises:
            UsageError: the folder holds a run already, or none when resuming.
        """
        if resume:
            load_state(self.state_file)
        elif any((self.folder / name).exists() for name in (BEST, LAST, STATE, "metrics.jsonl")):
            raise UsageError(f"{self.folder} holds a run already: go on with --resume, or choose another --out")
        self._facts = {"environment": environment(recipe), "data": fingerprint(index)}
        if not resume:
            self.folder.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(recipe.to_dict(), sort_keys=False)
            write_atomically(self.folder / "recipe.yaml", lambda file: _write(file, text))
            about = {**self._facts, "command": sys.argv, "annotations": str(index.annotations)}
            write_atomically(self.folder / "run.json", lambda file: _write(file, json.dumps(about, indent=2)))

    def check_resumable(self, state: dict[str, Any], recipe: Recipe, index: CocoIndex) -> None:
        """Refuse to go on with another recipe or other data.

        Raises:
            UsageError: naming what differs.
        """
        theirs, ours = _flat(state["recipe"]), _flat(recipe.to_dict())
        changed = [key for key in ours if theirs.get(key) != ours[key] and not key.startswith(_FREE)]
        if changed:
            raise UsageError(
                f"{self.folder} was trained with another recipe ({', '.join(changed[:5])} differ): resume with the "
                "same one, or start a new run with --init"
            )
        if state["data"] != fingerprint(index):
            raise UsageError(f"{self.folder} was trained on other data than {index.annotations}")

    def track(self, recipe: Recipe, step: int) -> None:
        """Open the metrics; lines of steps after ``step`` belong to what a kill undid and go."""
        if self.metrics_file.is_file():
            lines = [line for line in self.metrics_file.read_text().splitlines() if _step_of(line) <= step]
            text = "".join(line + "\n" for line in lines)
            write_atomically(self.metrics_file, lambda file: _write(file, text))
        if "tensorboard" in recipe.runtime.trackers:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise UsageError(
                    "runtime.trackers: tensorboard is not installed: pip install 'gfocal[tensorboard]'"
                ) from error
            self._tracker = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step + 1 if step else None)

    def log(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """One JSON line: {"kind", "step", ...}."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        if self._tracker is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._tracker.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        if self._tracker is not None:
            self._tracker.close()

    def save(self, state: dict[str, Any]) -> None:
        """Save the state together with what it is the state of."""
        save_state(self.state_file, {"format": FORMAT, **self._facts, "recipe": self._recipe_dict(), **state})

    def save_weights(
        self, file: Path, weights: dict[str, Tensor], recipe: Recipe, index: CocoIndex, notes: dict[str, Any]
    ) -> None:
        save_detector(
            file, weights, recipe, index.names, category_ids=index.category_ids.tolist(), notes={**notes, **self._facts}
        )

    def _recipe_dict(self) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load((self.folder / "recipe.yaml").read_text(encoding="utf-8"))
        return content


_FREE = (
    "data.workers",
    "schedule.save_every",
    "schedule.eval_every",
    "runtime.trackers",
    "predict.",
    "model.pretrained",
)
"""Keys that may differ between a run and its continuation: they do not change the weights."""


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def _step_of(line: str) -> float:
    """Step of a metrics line; a line that a kill cut off counts as after everything."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return float("inf")


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")

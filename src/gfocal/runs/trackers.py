"""Metrics beside ``metrics.jsonl``: TensorBoard, Weights & Biases, MLflow, through accelerate's trackers.

A tracker may fail at any time (no network, no login, a full disk): one warning, and training continues without it.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gfocal.errors import UsageError
from gfocal.utils.files import write_atomically

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

RUNS = "trackers.json"
"""In the run folder: which run of each tracker it is, so that a resumed training continues it."""


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers whose package is not installed.

    Raises:
        UsageError: with what to type.
    """
    for name in names:
        if find_spec(name) is None:
            raise UsageError(f"runtime.trackers: {name} is not installed: pip install 'gfocal[{name}]'")


class Trackers:
    """The trackers of one training run, in its main process.

    Args:
        names: of :data:`_STARTS`.
        folder: of the run.
        settings: what made the run what it is, flat: stored as the tracker's hyperparameters.
        step: steps done before.

    Raises:
        UsageError: a package is not installed.
    """

    def __init__(self, names: Sequence[str], folder: Path, settings: Mapping[str, object], step: int) -> None:
        check_trackers(names)
        self._live: dict[str, GeneralTracker] = {}
        runs: dict[str, str] = {}
        with suppress(OSError, ValueError):
            runs = json.loads((folder / RUNS).read_text(encoding="utf-8"))
        known = dict(runs)
        values = {key: v if isinstance(v, bool | int | float | str) else json.dumps(v) for key, v in settings.items()}
        for name in names:

            def start(name: str = name) -> None:
                tracker, run = _STARTS[name](folder, runs.get(name), step)
                self._live[name] = tracker
                if name not in runs:
                    runs[name] = run
                    tracker.store_init_configuration(values)

            self._guarded(name, start)
        if runs != known:
            write_atomically(folder / RUNS, lambda file: file.write_text(json.dumps(runs), encoding="utf-8"))

    def log(self, values: Mapping[str, float | int], step: int) -> None:
        """Numbers by name, "train/loss"."""
        for name in list(self._live):
            self._guarded(name, lambda name=name: self._live[name].log(dict(values), step=step))  # type: ignore[misc]

    def close(self) -> None:
        """Let each tracker finish its run; it may be gone on with."""
        for name in list(self._live):
            self._guarded(name, lambda name=name: self._live[name].finish())  # type: ignore[misc]
        self._live.clear()

    def _guarded(self, name: str, do: Callable[[], object]) -> None:
        try:
            do()
        except Exception as error:  # of somebody else's code and network
            self._live.pop(name, None)
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            hint = "; WANDB_MODE=offline needs no network" if name == "wandb" else ""
            print(
                f"warning: the tracker {name} failed ({reason}{hint}): training continues without it", file=sys.stderr
            )


def _tensorboard(folder: Path, run: str | None, step: int) -> tuple[GeneralTracker, str]:
    from accelerate.tracking import TensorBoardTracker

    # What a kill undid goes.
    tracker = TensorBoardTracker("tensorboard", folder, purge_step=step + 1 if step else None)
    tracker.start()
    return tracker, "tensorboard"


def _wandb(folder: Path, run: str | None, step: int) -> tuple[GeneralTracker, str]:
    from accelerate.tracking import WandBTracker

    run = run or secrets.token_hex(4)
    project = os.environ.get("WANDB_PROJECT", "gfocal")
    tracker = WandBTracker(project, id=run, name=folder.name, resume="allow", dir=str(folder))
    tracker.start()
    return tracker, run


def _mlflow(folder: Path, run: str | None, step: int) -> tuple[GeneralTracker, str]:
    # A server that does not answer holds up training for seconds, not for many minutes.
    for key, value in (("MAX_RETRIES", "1"), ("TIMEOUT", "10")):
        os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{key}", value)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow
    from accelerate.tracking import MLflowTracker

    place = None
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').resolve()}")
        place = (folder / "mlflow").resolve().as_uri()
    tracker = MLflowTracker("gfocal", logging_dir=place, run_id=run, run_name=folder.name)
    tracker.start()
    return tracker, tracker.tracker.info.run_id


_STARTS: dict[str, Callable[[Path, str | None, int], tuple[GeneralTracker, str]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
"""(run folder, the run to go on with, steps done) -> the started tracker and its run."""

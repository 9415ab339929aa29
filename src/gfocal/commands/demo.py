"""The demo: scenes, a training, its measurement and drawings, from nothing, on any machine."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import gfocal
from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.data.scenes.generate import make_scenes
from gfocal.errors import UsageError
from gfocal.evaluation.evaluator import Evaluation, evaluate, measured_by
from gfocal.images.drawing import contact_sheet
from gfocal.prediction.load import open_model
from gfocal.prediction.predict import predict
from gfocal.recipe import Recipe, load_recipe
from gfocal.recipe.reading import sets_key
from gfocal.runs.checkpoint import STATE, find_weights
from gfocal.runs.folder import RECIPE as RUN_RECIPE
from gfocal.runtime.precision import usable_precision
from gfocal.training.fitting.choices import Choices, fit_schedule
from gfocal.training.train import train
from gfocal.utils.files import write_atomically
from gfocal.utils.locks import is_empty, locked_folder
from gfocal.utils.progress import ProgressBar
from gfocal.utils.records import from_json, named, to_json
from gfocal.utils.signals import Stopped
from gfocal.utils.text import Say, counted, program

RECIPE = "demo"
_GENERATOR = "gfocal demo"
_MARKER = "demo.json"  # says that the folder is a demo's, of which settings, and once it is finished what came out
_MINUTES = 4.0  # that the training should take: enough for all epochs on the machine where they were tuned (3 minutes)
_LEAST = 0.75  # share of them that it takes on any machine: with fewer steps it would find little
_DRAWN = 8
_DRAWN_SCORE = 0.4


@dataclass(frozen=True)
class DemoSettings:
    """What a demo is made of.

    Attributes:
        train, val: number of scenes.
        size: side of a scene and of the detector's input, in pixels.
        seed: of scenes and training.
        overrides: "a.b=c" keys of the recipe ``demo``.
    """

    train: int = 2000
    val: int = 500
    size: int = 256
    seed: int = 0
    overrides: tuple[str, ...] = ()

    def recipe(self) -> Recipe:
        own = (f"data.resize.size={self.size}", f"runtime.seed={self.seed}")
        return load_recipe(RECIPE, (*own, *self.overrides))


@dataclass(frozen=True)
class DemoResult:
    """What came out of a demo.

    Attributes:
        metrics: of the trained detector on the validation scenes.
        seconds: of each stage.
        files: that were written, by what they are.
        next_command: what to type on a data set of one's own.
        settings: what the demo was made of.
    """

    metrics: Evaluation
    seconds: dict[str, float]
    files: dict[str, str]
    next_command: str = field(metadata=named("next"))
    settings: DemoSettings


@dataclass(frozen=True)
class _Marker:
    """A demo's own file in its folder; ``result`` once it is finished, ``settings`` of whatever version wrote it."""

    generator: str
    version: str
    settings: Mapping[str, object]
    result: object


def run_demo(out: Path, settings: DemoSettings, *, overwrite: bool = False, say: Say = print) -> DemoResult:
    """Generate scenes, train, measure and draw into ``out``.

    An unfinished demo with the same settings continues where it stopped; a finished one is not done again.

    Args:
        out: the folder.
        settings: what to do.
        overwrite: remove what an earlier demo left there.
        say: takes a line about what happens.

    Raises:
        UsageError: ``out`` holds something else, or a demo of other settings.
        KeyboardInterrupt: Ctrl-C; the same call continues from there.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give a folder")
    settings.recipe()  # what is wrong with it is said before anything is written
    with locked_folder(out):
        return _run_demo(out, settings, overwrite, say)


def _run_demo(out: Path, settings: DemoSettings, overwrite: bool, say: Say) -> DemoResult:
    if overwrite:
        _remove(out)
    finished = _open(out, settings)
    if finished is not None:
        say(f"this demo is finished; these are its results (--overwrite repeats it): {out}")
        return finished
    clock = _Clock()
    say(f"1/4 scenes: {settings.train} to train on, {settings.val} to measure on, in {out / 'data'}")
    with clock.stage("scenes"):
        _scenes(out / "data", settings)
    train_index = open_dataset(out / "data", "train")
    val_index = open_dataset(out / "data", "val")
    with clock.stage("training"):
        _train(settings, train_index, val_index, out / "run", say)
    say("3/4 measuring")
    with clock.stage("measuring"):
        metrics = _measure(out / "run", val_index)
    _write_json(out / "metrics.json", metrics)
    say("4/4 drawing")
    with clock.stage("drawing"):
        _draw(out, val_index)
    result = DemoResult(
        metrics=metrics,
        seconds=clock.seconds,
        files={
            "pictures": str(out / "predictions"),
            "overview": str(out / "overview.jpg"),
            "metrics": str(out / "metrics.json"),
            "checkpoint": str(find_weights(out / "run")),
        },
        next_command=f"{program()} train gfl_nano --data path/to/dataset",
        settings=settings,
    )
    _write_marker(out, settings, result)
    return result


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._name, self._started = "", 0.0

    def stage(self, name: str) -> _Clock:
        self._name = name
        return self

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds[self._name] = round(time.perf_counter() - self._started, 2)


def _open(out: Path, settings: DemoSettings) -> DemoResult | None:
    """Make the folder a demo's; the results if it is one that is finished."""
    if not is_empty(out):
        marker = _read_marker(out)
        if marker is None:
            raise UsageError(f"{out} holds files that are not a demo's; give another --out")
        ours, theirs = to_json(settings), marker.settings
        if theirs != ours:
            changed = [f"{name} {theirs.get(name)}" for name, value in ours.items() if theirs.get(name) != value]
            raise UsageError(
                f"{out} holds a demo with other settings ({', '.join(changed)}); "
                "give another --out, or --overwrite to remove it"
            )
        try:
            return None if marker.result is None else from_json(DemoResult, marker.result)
        except ValueError as error:
            raise UsageError(f"{out / _MARKER} is damaged ({error}); --overwrite repeats the demo") from error
    _write_marker(out, settings, None)
    return None


def _read_marker(out: Path) -> _Marker | None:
    try:
        marker = from_json(_Marker, json.loads((out / _MARKER).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None
    return marker if marker.generator == _GENERATOR else None


def _write_marker(out: Path, settings: DemoSettings, result: DemoResult | None) -> None:
    _write_json(out / _MARKER, _Marker(_GENERATOR, gfocal.__version__, to_json(settings), result))


def _write_json(path: Path, content: object) -> None:
    text = json.dumps(to_json(content), indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: _write_text(file, text))


def _write_text(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def _remove(out: Path) -> None:
    """Only what a demo writes, and only from a demo's folder."""
    if _read_marker(out) is None:
        if not is_empty(out):
            raise UsageError(f"{out} is not a demo's folder, so gfocal does not remove it; give another --out")
        return
    for folder in ("data", "run", "predictions"):
        shutil.rmtree(out / folder, ignore_errors=True)
    for file in ("overview.jpg", "metrics.json", _MARKER):
        (out / file).unlink(missing_ok=True)


def _scenes(data: Path, settings: DemoSettings) -> None:
    with ProgressBar(settings.train + settings.val, "scenes") as bar:
        make_scenes(
            data,
            train=settings.train,
            val=settings.val,
            size=settings.size,
            seed=settings.seed,
            progress=bar.callback,
        )


def _train(settings: DemoSettings, train_index: DataIndex, val_index: DataIndex, run: Path, say: Say) -> None:
    resume = (run / STATE).is_file()
    if resume:
        recipe: Recipe | Choices = load_recipe(run / RUN_RECIPE)  # with the schedule that was chosen then
    else:
        if run.exists():
            shutil.rmtree(run)  # cut off before its first state: nothing to go on with
        recipe = settings.recipe()
        if not any(sets_key(settings.overrides, f"schedule.{key}") for key in ("epochs", "epoch_steps", "minutes")):
            recipe = fit_schedule(recipe, train_index, val_index, out=run, seconds=60 * _MINUTES, least=_LEAST, say=say)
    schedule = (recipe.recipe if isinstance(recipe, Choices) else recipe).schedule
    say(f"2/4 training: {counted(schedule.epochs, 'epoch')}, into {run}")
    result = train(recipe, train_index, val_index, run, resume=resume)
    if result.interrupted:
        by = result.signal or signal.SIGINT
        raise Stopped(by, f"{Stopped(by)} after step {result.steps}; repeat the command to continue")


def _measure(run: Path, val_index: DataIndex) -> Evaluation:
    detector, recipe, _ = open_model(str(run), ())
    with ProgressBar(len(val_index), "measuring") as bar:
        return evaluate(
            detector,
            val_index,
            progress=bar.callback,
            **measured_by(recipe, detector),
        )


def _draw(out: Path, val_index: DataIndex) -> None:
    """Drawings of some validation scenes, and all of them in one image."""
    detector, recipe, about = open_model(str(out / "run"), ())
    step = max(1, len(val_index) // _DRAWN)
    images = [val_index.path(i) for i in range(0, len(val_index), step)][:_DRAWN]
    prediction = predict(
        detector,
        images,
        out / "predictions",
        score_threshold=_DRAWN_SCORE,
        category_ids=about.category_ids,
        precision=usable_precision(detector, recipe),
    )
    write_atomically(
        out / "overview.jpg", lambda file: contact_sheet(prediction.drawings).save(file, format="JPEG", quality=90)
    )

"""Verbs around training; parse, call, print. See :mod:`gfocal.cli.app`."""

from __future__ import annotations

import shlex
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gfocal.cli.options import DataFormat, DataSets, ImagesDir, Init, Json, Overrides, RecipeName, Rename, SkipBroken
from gfocal.cli.terminal import echo, fail, is_main_process, own_stdout, print_json, say, verb, verb_of_many, warn
from gfocal.utils.signals import Stopped, exit_code
from gfocal.utils.text import counted

if TYPE_CHECKING:
    from gfocal.data.index.data_index import DataIndex
    from gfocal.data.split import HeldOut
    from gfocal.recipe import Recipe
    from gfocal.runs.folder import TrainResult

Val = Annotated[
    str | None,
    typer.Option(
        "--val",
        metavar="PATH|SHARE",
        help="Data to measure on, or a share of --data to set apart, e.g. 0.2; by default its val split.",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed", min=0, help="Seed of the training (runtime.seed) and of what --val SHARE sets apart; by default 0."
    ),
]
RunFolder = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="The run folder; by default runs/RECIPE-DATA.")
]
InitParts = Annotated[
    str, typer.Option("--init-parts", metavar="PARTS", help="Parts that --init fills; the others start from scratch.")
]
Batch = Annotated[
    str | None,
    typer.Option("--batch", metavar="N|auto", help="Pictures per batch; auto finds how many fit into memory."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in the run folder.")]
Plots = Annotated[
    bool, typer.Option("--plots/--no-plots", help="At the end draw curves, confusion and pictures into the run.")
]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Passes over the data (schedule.epochs).")]
Minutes = Annotated[
    float | None,
    typer.Option("--minutes", help="Time that the run may take, instead of --epochs: the schedule is laid out to fit."),
]
LearningRate = Annotated[
    float | None, typer.Option("--lr", help="Learning rate (optim.lr), for optim.reference_batch pictures per step.")
]
Size = Annotated[
    int | None, typer.Option("--size", help="Side in pixels of the square that pictures enter in (data.resize.size).")
]
AUTO = "auto"
"""In the place of a recipe: chosen by the data, this machine and the time."""
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the recipe that would be trained, a YAML file to edit, and stop.")
]
AutoRecipe = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A name from `gfocal recipes`, a .yaml file, or auto: chosen for data, machine and time."
    ),
]


@verb_of_many
def train(
    recipe: AutoRecipe,
    data: DataSets,
    val: Val = None,
    seed: Seed = None,
    format_: DataFormat = None,
    images_dir: ImagesDir = None,
    out: RunFolder = None,
    overrides: Overrides = None,
    resume: Resume = False,
    init: Init = None,
    init_parts: InitParts = "backbone,neck,head",
    epochs: Epochs = None,
    minutes: Minutes = None,
    batch: Batch = None,
    lr: LearningRate = None,
    size: Size = None,
    rename: Rename = None,
    plots: Plots = True,
    skip_broken: SkipBroken = False,
    dry_run: DryRun = False,
    json_: Json = False,
) -> None:
    """Train a detector; after Ctrl-C or a scheduler's signal, --resume continues the run.

    Example: gfocal train gfl_nano --data bccd --epochs 20
    Example: gfocal train auto --data bccd --minutes 15
    """
    with own_stdout():
        from gfocal.data.pipeline import with_used_classes
        from gfocal.data.split import parse_val
        from gfocal.runs.datasets import default_run_folder, open_run_data

        asked = _asked(recipe, seed, overrides, epochs=epochs, minutes=minutes, batch=batch, lr=lr, size=size)
        folder = out or default_run_folder(recipe, data)
        plan = _typed_plan(recipe, asked, init, resume=resume, fetch=not dry_run)
        train_index, val_index, held_out = open_run_data(
            data,
            parse_val(val),
            seed=seed,
            resumed=folder if resume else None,
            format=format_,
            images_dir=images_dir,
            skip_broken=skip_broken,
            rename=rename or (),
            say=say,
        )
        plan = plan or _chosen_plan(train_index, asked, init, folder if resume else None, fetch=not dry_run)
        train_index, val_index = with_used_classes(plan.recipe, train_index, val_index)
        left_out, described = _say_data(train_index, val_index)
        if dry_run:
            plan = _with_batch(plan, train_index, folder, batch, resume)
        else:
            parts = [part.strip() for part in init_parts.split(",")]
            result = _run(plan, train_index, val_index, held_out, folder, batch, parts, resume, skip_broken, plots)
            warn(result.skipped, "broken picture", "replaced by others")
    if dry_run:
        return _print_plan(plan, json_)
    _print_trained(result, {"skipped": [*left_out, *result.skipped], "data": described}, json_)


@dataclass(frozen=True)
class _Plan:
    """What is trained.

    Attributes:
        recipe: everything that decides the run.
        init: MODEL that it starts from, as it is typed.
        reasons: a line for each choice that the person left to gfocal.
    """

    recipe: Recipe
    init: str | None
    reasons: tuple[str, ...] = ()

    def start(self, resume: bool) -> Path | None:
        """The weights that a run begins with; one that continues needs none, and fetches none."""
        from gfocal.catalogue.resolve import model_path, planned_path

        if self.init is None:
            return None
        return planned_path(self.init) if resume else model_path(self.init, say=say)


def _run(
    plan: _Plan,
    train_index: DataIndex,
    val_index: DataIndex | None,
    held_out: HeldOut | None,
    folder: Path,
    batch: str | None,
    init_parts: list[str],
    resume: bool,
    skip_broken: bool,
    plots: bool,
) -> TrainResult:
    from gfocal.data.pipeline import in_tiles
    from gfocal.training.batch_size import with_batch
    from gfocal.training.train import train as run_training

    train_index = in_tiles(plan.recipe, train_index)  # once for the size of a batch and for the run
    return run_training(
        with_batch(plan.recipe, batch, train_index, folder, resume=resume),
        train_index,
        val_index,
        folder,
        resume=resume,
        init=plan.start(resume),
        init_parts=init_parts,
        skip_broken=skip_broken,
        held_out=held_out,
        plots=plots,
    )


def _with_batch(plan: _Plan, index: DataIndex, folder: Path, batch: str | None, resume: bool) -> _Plan:
    """A plan with the size of a batch that a run would find; nothing is written."""
    from gfocal.training.batch_size import with_batch

    return replace(plan, recipe=with_batch(plan.recipe, batch, index, folder, resume=resume, write=False))


def _typed_plan(recipe: str, asked: list[str], init: str | None, *, resume: bool, fetch: bool) -> _Plan | None:
    """What is typed, weights fetched, before any data are read; None where gfocal shall choose by the data."""
    from gfocal.auto.weights import weights_here
    from gfocal.recipe import load_recipe

    if recipe == AUTO:
        return None
    plan = _Plan(load_recipe(recipe, asked), init)
    if fetch or resume:
        plan.start(resume)
    elif init is not None:
        weights_here(init, say=say)  # or a line about what would be fetched
    return plan


def _chosen_plan(index: DataIndex, asked: list[str], init: str | None, resumed: Path | None, *, fetch: bool) -> _Plan:
    """What suits the data, this machine and the time; of a run that continues what it chose when it began."""
    from gfocal.auto.choose import choose
    from gfocal.recipe import load_recipe
    from gfocal.runs.folder import RECIPE

    if resumed is not None and (resumed / RECIPE).is_file():
        return _Plan(load_recipe(str(resumed / RECIPE), asked), init)
    chosen = choose(index, given=asked, init=init, say=say, fetch=fetch)
    say(*(f"auto: {line}" for line in chosen.reasons))
    return _Plan(chosen.recipe, chosen.init, chosen.reasons)


def _print_plan(plan: _Plan, json_: bool) -> None:
    from gfocal.recipe.describe import annotated_yaml

    if json_:
        return print_json({"recipe": plan.recipe.to_dict(), "init": plan.init, "reasons": list(plan.reasons)})
    start = [] if plan.init is None else [f"train it with --init {shlex.quote(plan.init)}"]
    echo(*(f"# {line}" for line in (*plan.reasons, *start)), *annotated_yaml(plan.recipe).splitlines())


def _say_data(train_index: DataIndex, val_index: DataIndex | None) -> tuple[list[str], dict[str, dict[str, int]]]:
    """Say what the data are; the lines about what was left out of them, and what they are for JSON."""
    from gfocal.runs.datasets import describe_all

    left_out = [*train_index.skipped, *(val_index.skipped if val_index else [])]
    warn(left_out, "broken record", "left out")
    described, lines = describe_all(train_index, val_index)
    say(*lines)
    return left_out, described


def _asked(recipe: str, seed: int | None, overrides: list[str] | None, **flags: int | float | str | None) -> list[str]:
    """What the options say, as overrides of the recipe."""
    from gfocal.auto.candidates import CANDIDATES
    from gfocal.recipe.flags import with_flags
    from gfocal.training.batch_size import batch_number

    if flags["batch"] not in (None, "auto"):
        flags["batch"] = batch_number(str(flags["batch"]))
    # A seed that --set names is of the training alone, so that one split serves several trainings.
    seeded = [*([] if seed is None else [f"runtime.seed={seed}"]), *(overrides or ())]
    return with_flags(CANDIDATES[0].recipe if recipe == AUTO else recipe, seeded, flags)


def _print_trained(result: TrainResult, more: dict[str, object], json_: bool) -> None:
    """``more``: what the run itself does not know, or not all of, for JSON."""
    if result.interrupted:
        again = f"--resume (--out {shlex.quote(str(result.out))})"
        by = Stopped(result.signal or signal.SIGINT)
        fail(f"{by} after step {result.steps}; to continue, repeat the command with {again}", exit_code(by))
    if json_:
        print_json({**result.to_dict(), **more})
    elif is_main_process():
        from gfocal.cli.tables.results import print_training

        print_training(result)


@verb
def find_lr(
    recipe: RecipeName,
    data: DataSets,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for plot and numbers; by default RUN_FOLDER-lr."),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=10, help="Optimizer steps of the sweep.")] = 100,
    low: Annotated[float, typer.Option("--low", help="Learning rate of the first step.")] = 1e-6,
    high: Annotated[float, typer.Option("--high", help="Learning rate of the last step.")] = 10.0,
    format_: DataFormat = None,
    images_dir: ImagesDir = None,
    overrides: Overrides = None,
    init: Init = None,
    skip_broken: SkipBroken = False,
    json_: Json = False,
) -> None:
    """Find a learning rate: raise it in a short run until the loss diverges, plot the loss, suggest a value.

    Example: gfocal find-lr gfl_nano --data bccd
    """
    with own_stdout():
        from gfocal.catalogue.resolve import model_path
        from gfocal.commands.find_lr import describe_sweep, open_swept, write_sweep
        from gfocal.recipe import load_recipe
        from gfocal.runs.datasets import default_run_folder
        from gfocal.training import lr_finder as finder
        from gfocal.utils.locks import locked_folder
        from gfocal.utils.progress import ProgressBar

        loaded = load_recipe(recipe, overrides or ())
        start = None if init is None else model_path(init, say=say)
        if out is None:
            folder = default_run_folder(recipe, data)
            out = folder.with_name(f"{folder.name}-lr")
        with locked_folder(out):  # before the long work
            index, val_index = open_swept(
                loaded, data, format=format_, images_dir=images_dir, skip_broken=skip_broken, say=say
            )
            warn(index.skipped, "broken record", "left out")
            with ProgressBar(steps, "sweeping") as bar:
                sweep = finder.find_lr(
                    loaded,
                    index,
                    val_index=val_index,
                    steps=steps,
                    low=low,
                    high=high,
                    init=start,
                    skip_broken=skip_broken,
                    progress=bar.update,
                )
            report = finder.sweep_report(sweep, loaded, len(index))
            files = write_sweep(report, out, f"{Path(recipe).stem}, {counted(len(index), 'picture')}")
    if json_:
        return print_json({**report.to_dict(), "files": files})
    echo(
        *describe_sweep(report, _typed(recipe, data, format_, images_dir, overrides, init)),
        *(f"{name}: {file}" for name, file in files.items()),
    )


def _typed(
    recipe: str,
    data: list[Path],
    format_: str | None,
    images_dir: Path | None,
    overrides: list[str] | None,
    init: str | None,
) -> list[str]:
    """The words of a training on the same as a sweep."""
    words = ["gfocal", "train", recipe, *(part for path in data for part in ("--data", str(path)))]
    words += [] if format_ is None else ["--format", format_]
    words += [] if images_dir is None else ["--images", str(images_dir)]
    words += [] if init is None else ["--init", init]
    return [*words, *(part for override in overrides or () for part in ("--set", override))]

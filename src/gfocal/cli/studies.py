"""The verb that fills the paper's tables; parse, call, print. See :mod:`gfocal.cli.app`."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gfocal.cli.options import ImagesDir, Init, Json, Overrides
from gfocal.cli.terminal import echo, fail, own_stdout, print_json, say, verb
from gfocal.errors import UsageError
from gfocal.utils.records import IF_ANY
from gfocal.utils.signals import Stopped, exit_code

if TYPE_CHECKING:  # they take longer to load than --help may
    from gfocal.studies.comparison.content import StudyResults
    from gfocal.studies.execution.study import Study

study_app = typer.Typer(
    name="study",
    help="Fill the paper's tables with runs of your own, and see which of its claims hold on your data.",
    epilog="Start with: gfocal study table3 --data scenes --budget tiny",
    no_args_is_help=True,
)
# As gfocal.studies.paper.tables has them; spelled out, since that module takes longer to load than --help may.
TABLES = {
    "table1a": "Six forms of quality on FCOS and ATSS.",
    "table1b": "QFL on FoveaBox, RetinaNet and SSD512.",
    "table1c": "The exponent beta of QFL.",
    "table2a": "Four representations of boxes on FCOS and ATSS.",
    "table2b": "The number of bins n of DFL.",
    "table2c": "The width delta of DFL's bins.",
    "table3": "QFL and DFL on ATSS, alone and together, with their speed.",
    "assigners": "Task-aligned assignment beside ATSS, on GFL (not in the paper).",
    "all": "Every table of the paper; rows that share a run train it once.",
}

StudyDataOption = Annotated[
    str,
    typer.Option("--data", metavar="PATH|scenes", help="A data set with a val split (COCO, YOLO, VOC), or scenes."),
]
Val = Annotated[
    Path | None, typer.Option("--val", metavar="PATH", help="Data to measure on; by default the val split.")
]
BudgetName = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="full|long|small|tiny",
        help="full: the published recipes; small, tiny: minutes per run on a CPU; long: half an hour, measured on "
        "the way too. By default full, small for scenes.",
    ),
]
Pyramid = Annotated[
    str | None,
    typer.Option("--pyramid", metavar="full|nano", help="Network, instead of the budget's: ResNet-50, or small."),
]
Iterations = Annotated[
    int | None, typer.Option("--iterations", metavar="N", help="Optimizer steps of a run, instead of the budget's.")
]
Size = Annotated[
    int | None, typer.Option("--size", metavar="PIXELS", help="Side of the pictures, instead of the budget's.")
]
Seeds = Annotated[
    int | None, typer.Option("--seeds", min=1, metavar="N", help="Runs of each row; by default 1, of small ones 2.")
]
Rows = Annotated[
    list[str] | None,
    typer.Option("--rows", metavar="PATTERN", help="Only rows whose name matches, e.g. 'atss-*'; may be repeated."),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", min=1, metavar="K", help="Runs at a time; by default as many as suit the machine."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="Folder of the study; by default runs/study-DATA-BUDGET."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show every run, what it changes and how long it may take; train nothing.")
]


def _study_verb(asked: str) -> Callable[..., None]:
    @verb
    def command(
        data: StudyDataOption,
        val: Val = None,
        images_dir: ImagesDir = None,
        budget: BudgetName = None,
        rows: Rows = None,
        seeds: Seeds = None,
        jobs: Jobs = None,
        init: Init = None,
        overrides: Overrides = None,
        pyramid: Pyramid = None,
        iterations: Iterations = None,
        size: Size = None,
        out: Out = None,
        dry_run: DryRun = False,
        json_: Json = False,
    ) -> None:
        with own_stdout():
            from gfocal.catalogue.resolve import model_path
            from gfocal.studies.execution.budget import study_budget
            from gfocal.studies.execution.study import SCENES, StudySettings, default_folder, names_of, open_study

            chosen = study_budget(
                budget or ("small" if data == SCENES else "full"), pyramid=pyramid, iterations=iterations, size=size
            )
            settings = StudySettings(
                tables=tuple(names_of(asked)),
                data=data,
                budget=chosen,
                seeds=seeds or chosen.seeds,
                out=out or default_folder(data, chosen),
                val=val,
                overrides=tuple(overrides or ()),
                init=None if init is None else model_path(init, say=say),
                jobs=jobs,
                rows=tuple(rows or ()),
                images_dir=images_dir,
            )
            study = open_study(settings)
            if dry_run:
                from gfocal.studies.execution import dry_run as ahead

                outlook = ahead.dry_run(study)
            else:
                done, lines = _run(study)
        if dry_run:
            if json_:
                return print_json(outlook)
            return echo(*ahead.describe_plan(outlook))
        if json_:
            print_json(done)
        else:
            echo(*lines)
        _exit_with(done)

    return command


def _exit_with(done: StudyReport) -> None:
    if done.interrupted:
        by = Stopped(done.signal or signal.SIGINT)
        fail(f"{by}: repeat the command to continue", exit_code(by))
    if done.failures:
        raise typer.Exit(1)


@dataclass(frozen=True)
class StudyReport:
    """What a study came to.

    Attributes:
        tables: the results of each.
        files: of their reports, by table ("all" for the overview) and kind.
        failures: a line for each run that failed, by its name.
        interrupted: Ctrl-C or another signal; the same command continues.
        signal: its number; None where there was none.
        runs_done: in this call.
        runs_skipped: that were done before.
    """

    tables: tuple[StudyResults, ...]
    files: Mapping[str, Mapping[str, Path]]
    failures: Mapping[str, str]
    interrupted: bool
    signal: int | None = field(metadata=IF_ANY)
    runs_done: int
    runs_skipped: int


def _run(study: Study) -> tuple[StudyReport, list[str]]:
    """Do the runs and write the reports; the results, and what to print of them."""
    from gfocal.studies.comparison.results import collect
    from gfocal.studies.execution.dry_run import about
    from gfocal.studies.report import describe_results, write_study_report
    from gfocal.studies.speed.table import table_speed

    say(about(study))
    outcome = study.run(say)
    command = shlex.join(["gfocal", *sys.argv[1:]])
    results, files, lines = [], {}, []
    for table in study.tables:
        speed = None
        if table.timed and not outcome.interrupted:
            try:
                speed = table_speed(study, table)
            except KeyboardInterrupt as error:  # the runs are done: they are reported without it
                outcome.interrupted, outcome.signal = True, exit_code(error) - 128
        result = collect(study, table, outcome, speed, command)
        files[table.name] = write_study_report(result, study.settings.out / table.name)
        results.append(result)
        lines += [*describe_results(result, files[table.name]), ""]
    if len(results) > 1:
        files["all"] = _write_overview(results, study.settings.out)
        lines.append(f"all tables: {files['all']['html']}")
    report = StudyReport(
        tables=tuple(results),
        files=files,
        failures=outcome.failures,
        interrupted=outcome.interrupted,
        signal=outcome.signal,
        runs_done=outcome.done,
        runs_skipped=outcome.skipped,
    )
    return report, lines


for _name, _help in TABLES.items():
    study_app.command(_name, help=_help)(_study_verb(_name))


@study_app.command("speed")
@verb
def speed(
    recipes: Annotated[
        list[str], typer.Argument(metavar="RECIPES...", help="Names from `gfocal recipes`, or .yaml files.")
    ],
    size: Annotated[
        str | None,
        typer.Option(
            "--size", metavar="HEIGHTxWIDTH", help="Size of the picture; by default that of the first recipe."
        ),
    ] = None,
    classes: Annotated[int, typer.Option("--classes", min=1, help="Number of classes.")] = 80,
    repeats: Annotated[
        int | None, typer.Option("--repeats", min=1, help="Rounds in which the detectors take turns.")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.")] = None,
    overrides: Overrides = None,
    json_: Json = False,
) -> None:
    """Compare the speed of detectors: they take turns, one picture at a time, with random weights.

    Example: gfocal study speed atss_r50 gfl_r50
    """
    with own_stdout():
        from gfocal.studies.speed.speed import REPEATS, describe_speed, speed_of
        from gfocal.utils.progress import ProgressBar

        rounds = repeats or REPEATS
        with ProgressBar(rounds, "measuring") as bar:
            content = speed_of(
                recipes,
                image=None if size is None else _height_width(size),
                overrides=overrides or (),
                num_classes=classes,
                repeats=rounds,
                threads=threads,
                progress=bar.callback,
            )
    if json_:
        return print_json(content)
    echo(*describe_speed(content))


def _height_width(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise UsageError(f"--size takes HEIGHTxWIDTH in pixels, for example 800x1333, not {text!r}")
    return int(height), int(width)


@study_app.command("figures")
@verb
def figures(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the figures.")] = Path("figures"),
    data: Annotated[
        Path | None, typer.Option("--data", metavar="PATH", help="A data set; by default generated scenes.")
    ] = None,
    images_dir: ImagesDir = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="MODEL", help="Run folders or checkpoints, for what detectors predict."),
    ] = None,
    format_: Annotated[Literal["png", "svg"], typer.Option("--format", help="Format of the files.")] = "png",
    json_: Json = False,
) -> None:
    """Draw the paper's figures from gfocal's own code: representations, losses, scores, targets, edges.

    Example: gfocal study figures --model runs/gfl_nano-street --data street
    """
    with own_stdout():
        from gfocal.studies.figures.draw import draw_figures

        files = draw_figures(out, data=data, images_dir=images_dir, model=model, format=format_, say=say)
    if json_:
        return print_json({name: str(file) for name, file in files.items()})
    for name, file in files.items():
        echo(f"{name}: {file}")


def _write_overview(results: list[StudyResults], folder: Path) -> dict[str, Path]:
    """One call at a time; the folder itself stays free, as the overview disturbs no study that is running there."""
    from gfocal.studies.report import write_overview
    from gfocal.utils.locks import locked_file

    with locked_file(folder / "overview.html", wait=True):
        return write_overview(results, folder)


@study_app.command("overview")
@verb
def overview(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a study.")],
    json_: Json = False,
) -> None:
    """Put all tables of a study's folder on one page, even if several calls filled it.

    Example: gfocal study overview runs/study-scenes-small
    """
    with own_stdout():
        from gfocal.studies.report import read_results

        files = _write_overview(read_results(folder), folder)
    if json_:
        return print_json({name: str(file) for name, file in files.items()})
    for name, file in files.items():
        echo(f"{name}: {file}")

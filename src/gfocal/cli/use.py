"""The verbs that use a trained detector: ``eval``, ``report``, ``predict`` and ``calibrate``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gfocal.cli.options import (
    AnyModel,
    BatchSize,
    Data,
    DataFormat,
    DrawnParts,
    Examples,
    ImagesDir,
    Json,
    Model,
    OnlyCommon,
    Overlap,
    Overrides,
    PlotsFolder,
    Provider,
    Rename,
    ShownScore,
    SkipBroken,
    Threads,
    Tile,
)
from gfocal.cli.terminal import (
    claimed,
    claimed_folder,
    echo,
    is_main_process,
    own_stdout,
    print_json,
    say,
    verb,
    verb_of_many,
    warn,
    write_json,
)

if TYPE_CHECKING:  # they take longer to load than --help may
    from gfocal.commands.evaluate import EvaluationReport
    from gfocal.prediction.predict import Prediction


@verb_of_many
def evaluate(
    model: AnyModel,
    data: Data,
    split: Annotated[str, typer.Option("--split", help="Split to measure on: train, val or test.")] = "val",
    format_: DataFormat = None,
    images_dir: ImagesDir = None,
    overrides: Overrides = None,
    tile: Tile = None,
    overlap: Overlap = None,
    batch_size: BatchSize = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Also write the results to this JSON file.")
    ] = None,
    rename: Rename = None,
    only_common: OnlyCommon = False,
    plots: PlotsFolder = None,
    examples: Examples = 6,
    score: ShownScore = None,
    skip_broken: SkipBroken = False,
    provider: Provider = None,
    threads: Threads = None,
    json_: Json = False,
) -> None:
    """Measure a detector: COCO's 12 numbers, precision, recall and best threshold of each class, confusion, speed.

    Example: gfocal eval runs/gfl_nano-bccd --data bccd --plots plots
    """
    with contextlib.ExitStack() as stack:
        if out is not None:
            stack.enter_context(claimed(out))  # before the long work
        if plots is not None:
            stack.enter_context(claimed_folder(plots))
        with own_stdout():
            from gfocal.commands.evaluate import evaluate_files
            from gfocal.exported.open import SessionOptions
            from gfocal.utils.files import write_atomically

            report = evaluate_files(
                model,
                data,
                split=split,
                format=format_,
                images_dir=images_dir,
                overrides=overrides or (),
                tile=tile,
                overlap=overlap,
                batch_size=batch_size,
                skip_broken=skip_broken,
                rename=rename or (),
                only_common=only_common,
                plots=plots,
                examples=examples,
                score=score,
                session=SessionOptions(provider, threads),
                warn=lambda lines: warn(lines, "broken record", "left out"),
                say=say,
            )
        if not is_main_process():
            return
        # On the screen first: whatever happens to the file, the numbers are not lost.
        _show_evaluation(report, plots, json_)
        if out is not None:
            write_atomically(out, lambda file: write_json(file, report))


def _show_evaluation(report: EvaluationReport, plots: Path | None, json_: bool) -> None:
    if json_:
        return print_json(report)
    from gfocal.cli.tables.evaluation import print_evaluation

    print_evaluation(report)
    if plots is not None:
        echo(f"curves, confusion matrix and pictures: {plots}")


@verb
def report(
    model: Annotated[
        str, typer.Argument(metavar="RUN", help="A run folder, or any other MODEL; then --data and -o are needed.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="PATH",
            help="A data set; by default what the run card names as measured.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Split to measure on: train, val or test.")] = "val",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The page; by default report.html in the run folder."),
    ] = None,
    examples: Annotated[
        int, typer.Option("--examples", min=0, help="Pictures of each kind: best, worst, most uncertain, slowest.")
    ] = 4,
    score: Annotated[
        float | None,
        typer.Option("--score", help="Look at boxes that score higher; by default at those of the best F1."),
    ] = None,
    timed: Annotated[
        int, typer.Option("--timed", min=0, metavar="N", help="Time N pictures one by one, and show the slowest.")
    ] = 0,
    skip_broken: SkipBroken = False,
    json_: Json = False,
) -> None:
    """Measure a run and write one HTML page about it: numbers, curves, faults, pictures, trust, data, recipe.

    Example: gfocal report runs/gfl_nano-bccd
    """
    with contextlib.ExitStack() as stack, own_stdout():
        from gfocal.commands.report import place_of, write_report

        stack.enter_context(claimed(place_of(model, out)))  # before the long work
        result = write_report(
            model,
            out,
            data=data,
            split=split,
            examples=examples,
            score=score,
            timed=timed,
            skip_broken=skip_broken,
            warn=lambda lines: warn(lines, "broken record", "left out"),
            say=say,
        )
    if json_:
        return print_json(result)
    echo(*result.verdict, f"{result.out}: {result.bytes / 1e6:.2f} MB, {result.image_bytes / 1e6:.2f} of it pictures")


@verb
def predict(
    model: AnyModel,
    images: Annotated[
        list[str], typer.Argument(metavar="PICTURES...", help="Files, folders, or quoted patterns such as 'in/*.jpg'.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for drawings and JSON.")] = Path(
        "predictions"
    ),
    score: Annotated[
        float | None,
        typer.Option(
            "--score", "--conf", help="Leave out lower scores; by default predict.score_threshold if --set, else 0.3."
        ),
    ] = None,
    tile: Tile = None,
    overlap: Overlap = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Tiles per forward pass.")] = 8,
    draw: DrawnParts = None,
    line_width: Annotated[
        int | None,
        typer.Option("--line-width", min=1, help="Of the drawings in pixels; by default it grows with the picture."),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Search the folders inside a folder of pictures, too.")
    ] = False,
    provider: Provider = None,
    threads: Threads = None,
    overrides: Overrides = None,
    json_: Json = False,
) -> None:
    """Find objects in pictures: drawings with boxes, and predictions.json in COCO's format.

    Example: gfocal predict runs/gfl_nano-bccd photos/ --score 0.4
    """
    with own_stdout():
        from gfocal.commands.predict import predict_patterns
        from gfocal.exported.open import SessionOptions

        result = predict_patterns(
            model,
            images,
            out,
            score=score,
            overrides=overrides or (),
            tile=tile,
            overlap=overlap,
            batch_size=batch_size,
            draw=draw,
            line_width=line_width,
            recursive=recursive,
            session=SessionOptions(provider, threads),
        )
        _say_left_out(result)
    if json_:
        print_json(result)
    else:
        from gfocal.cli.tables.results import print_prediction

        print_prediction(result)
    if result.skipped:
        raise typer.Exit(1)


def _say_left_out(result: Prediction) -> None:
    from gfocal.utils.text import counted

    for line in result.passed_over:
        say(f"note: {line}")
    for line in result.warnings:
        say(f"warning: {line}")
    if result.skipped:
        say(f"warning: {counted(len(result.skipped), 'unreadable picture')} left out:")
        for line in result.reasons:
            say(f"  {line}")
    if result.left_out:
        say(f"note: left out {counted(len(result.left_out), 'drawing')} of an earlier call")


@verb
def calibrate(
    model: Model,
    data: Data,
    split: Annotated[
        Literal["val", "test", "train"], typer.Option("--split", help="Split that the detector did not learn from.")
    ] = "val",
    level: Annotated[
        float, typer.Option("--level", help="Share of edges inside the intervals that predictions carry.")
    ] = 0.9,
    score_rule: Annotated[
        Literal["right", "iou"],
        typer.Option(
            "--score-rule", help="What a calibrated score is the mean of: right or wrong at IoU 0.5, or the IoU itself."
        ),
    ] = "right",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="A copy with the calibration; by default MODEL's own file."),
    ] = None,
    format_: DataFormat = None,
    images_dir: ImagesDir = None,
    overrides: Overrides = None,
    tile: Tile = None,
    overlap: Overlap = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Tiles per forward pass.")] = 8,
    rename: Rename = None,
    only_common: OnlyCommon = False,
    skip_broken: SkipBroken = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the parts that pictures are divided into.")] = 0,
    json_: Json = False,
) -> None:
    """Fit edge intervals that hold what they promise, and scores that are chances, on pictures not learnt from.

    Example: gfocal calibrate runs/gfl_nano-bccd --data bccd
    """
    with own_stdout():
        from gfocal.commands.trust.calibrate import calibrate_files

        report = calibrate_files(
            model,
            data,
            split=split,
            format=format_,
            images_dir=images_dir,
            level=level,
            rule=score_rule,
            out=out,
            overrides=overrides or (),
            tile=tile,
            overlap=overlap,
            batch_size=batch_size,
            rename=rename or (),
            only_common=only_common,
            skip_broken=skip_broken,
            seed=seed,
            say=say,
        )
        warn(report.skipped, "broken record", "left out")
    if json_:
        return print_json(report)
    from gfocal.cli.tables.calibration import print_calibration

    print_calibration(report)

"""The verbs of ``gfocal data``: parse, call, print. See :mod:`gfocal.cli.app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gfocal.cli.options import DataFormat, ImagesDir, Json, Overrides, SkipBroken
from gfocal.cli.terminal import claimed, echo, own_stdout, print_json, say, verb, warn
from gfocal.utils.text import counted

data_app = typer.Typer(
    name="data",
    help="Look at, check and convert data sets.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[Path, typer.Argument(metavar="PATH", help="A data set, as for `gfocal train --data`.")]


@data_app.callback()
def _data() -> None:
    """Look at, check and convert data sets."""


@data_app.command()
@verb
def check(
    path: Data,
    val: Annotated[
        Path | None, typer.Option("--val", metavar="PATH", help="Another data set to measure on, as for `train`.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Threads that read pictures.")] = 2,
    fix: Annotated[
        Path | None, typer.Option("--fix", metavar="OUT", help="Write a cleaned copy to OUT; PATH stays as it is.")
    ] = None,
    format_: DataFormat = None,
    images_dir: ImagesDir = None,
    every: Annotated[bool, typer.Option("--all", help="Print every finding, not only the first errors.")] = False,
    json_: Json = False,
) -> None:
    """Find what is wrong with a data set: records, pictures, boxes, classes, copies between splits.

    Exit code 0: no errors (there may be warnings); 1: errors; 2: there is no such data set. With --fix the copy is
    checked too, and the exit code is the copy's.

    Example: gfocal data check bccd --fix cleaned
    """
    with own_stdout():
        from gfocal.commands.fix import fix_data
        from gfocal.data.checks.check import check_data
        from gfocal.data.formats.convert import check_out
        from gfocal.utils.progress import ProgressBar

        if fix is not None:
            check_out(fix)  # before the long work

        with ProgressBar(0, "reading pictures") as bar:
            report = check_data(
                path, val=val, format=format_, images_dir=images_dir, workers=workers, progress=bar.callback
            )
        fixed = None if fix is None else fix_data(report, fix, workers=workers)
    if json_:
        print_json({**report.to_dict(), "fixed": fixed and fixed.to_dict()})
    else:
        from gfocal.cli.tables.check import print_check, print_fixed

        print_check(report, every=every)
        if fixed is not None:
            print_fixed(fixed)
    if not (report if fixed is None else fixed.report).ok:
        raise typer.Exit(1)


@data_app.command()
@verb
def stats(
    data: Data,
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", metavar="RECIPE", help="A name from `gfocal recipes`, or a .yaml file.")
    ],
    split: Annotated[str, typer.Option("--split", help="Split to look at: train, val or test.")] = "train",
    format_: DataFormat = None,
    images_dir: ImagesDir = None,
    overrides: Overrides = None,
    images: Annotated[
        int, typer.Option("--pictures", min=0, help="Look at this many, chosen by --seed; 0 for all.")
    ] = 5000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of that choice.")] = 0,
    augmented: Annotated[
        bool, typer.Option("--augmented", help="Apply the recipe's random changes, as in a run's first epoch.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Draw edges.png, sizes.png and classes.png into DIR."),
    ] = None,
    skip_broken: SkipBroken = False,
    json_: Json = False,
) -> None:
    """Show what a detector can represent of this data before training, and suggest a recipe that fits better.

    Example: gfocal data stats bccd --recipe gfl_nano -o statistics
    """
    with own_stdout():
        from gfocal.commands.statistics import statistics_of_files

        report = statistics_of_files(
            data,
            recipe,
            split=split,
            format=format_,
            images_dir=images_dir,
            overrides=overrides or (),
            images=images,
            seed=seed,
            augmented=augmented,
            skip_broken=skip_broken,
            out=out,
            warn=lambda lines: warn(lines, "broken record", "left out"),
            say=say,
        )
    if json_:
        return print_json(report)
    from gfocal.cli.tables.statistics import print_statistics

    print_statistics(report)


@data_app.command()
@verb
def preview(
    data: Data,
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", metavar="RECIPE", help="A name from `gfocal recipes`, or a .yaml file.")
    ] = "gfl_nano",
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The sheet of pictures, .jpg or .png.")
    ] = Path("preview.jpg"),
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="Number of pictures.")] = 16,
    format_: DataFormat = None,
    images_dir: ImagesDir = None,
    epoch: Annotated[int, typer.Option("--epoch", min=1, help="Epoch to draw; the last epochs have no mosaics.")] = 1,
    overrides: Overrides = None,
    skip_broken: SkipBroken = False,
    json_: Json = False,
) -> None:
    """Draw what training sees: its first pictures after augmentation, with their boxes.

    Example: gfocal data preview bccd --recipe gfl_nano --set data.mosaic=1 -o sheet.jpg
    """
    with own_stdout(), claimed(out):
        from gfocal.commands.preview import draw_preview
        from gfocal.recipe import load_recipe

        loaded = load_recipe(recipe, overrides or ())
        result = draw_preview(
            data,
            loaded,
            out,
            count=count,
            epoch=epoch - 1,
            format=format_,
            images_dir=images_dir,
            skip_broken=skip_broken,
            say=say,
        )
        warn(result["skipped"], "broken record", "left out")
    if json_:
        return print_json(result)
    echo(f"{out}: {counted(result['pictures'], 'picture')}, {counted(result['boxes'], 'box', 'boxes')}")


@data_app.command()
@verb
def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A data set, as for `gfocal train --data`.")],
    to: Annotated[Literal["coco", "yolo", "voc"], typer.Option("--to", help="The format to write.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A new folder.")],
    val: Annotated[
        float | None, typer.Option("--val", metavar="SHARE", help="Set a share of train apart as val, e.g. 0.2.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of what --val sets apart.")] = 0,
    copy: Annotated[bool, typer.Option("--copy/--link", help="Copy the pictures, or make hard links to them.")] = True,
    format_: DataFormat = None,
    images_dir: ImagesDir = None,
    skip_broken: SkipBroken = False,
    json_: Json = False,
) -> None:
    """Write a data set in another format; gfocal.json beside it keeps what that format cannot hold.

    Example: gfocal data convert bccd --to yolo -o bccd_yolo
    """
    with own_stdout():
        from gfocal.commands.convert import convert_files

        result = convert_files(
            source,
            out,
            to,
            val=val,
            seed=seed,
            copy=copy,
            format=format_,
            images_dir=images_dir,
            skip_broken=skip_broken,
            warn=lambda lines: warn(lines, "broken record", "left out"),
            say=say,
        )
    if json_:
        return print_json(result)
    for split, counts in result["splits"].items():
        echo(f"{split}: {counted(counts['pictures'], 'picture')}, {counted(counts['boxes'], 'box', 'boxes')}")
    if result["lost"]:
        beside = f"kept in {result['sidecar']}, which other programs do not read" if result["sidecar"] else "lost"
        echo(f"the format cannot hold these; they are {beside}:", *(f"  {line}" for line in result["lost"]))
    if result["unread"]:
        echo("not read, and lost:", *(f"  {line}" for line in result["unread"]))
    echo(f"written: {out}")

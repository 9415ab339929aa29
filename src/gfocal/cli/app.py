"""The command line: parse, call, print.

Nothing heavy is imported here; each verb imports what it needs, so that ``--help`` is quick.
Results go to standard output, everything else (progress, warnings, errors) to standard error.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

import gfocal
from gfocal.cli.bench import bench
from gfocal.cli.data import data_app
from gfocal.cli.export import export
from gfocal.cli.models import models, push
from gfocal.cli.options import Json, Overrides
from gfocal.cli.spellings import HintingGroup
from gfocal.cli.studies import study_app
from gfocal.cli.terminal import (
    echo,
    own_stdout,
    print_json,
    verb,
)
from gfocal.cli.training import find_lr, train
from gfocal.cli.trust.audit import audit
from gfocal.cli.trust.explain import explain
from gfocal.cli.use import calibrate, evaluate, predict, report
from gfocal.utils.waiting import wait_briefly

app = typer.Typer(
    cls=HintingGroup,
    name="gfocal",
    help="Train, evaluate and use dense object detectors built on Generalized Focal Loss.",
    epilog="Start with: gfocal demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app)
app.add_typer(study_app)


def main() -> None:
    """The entry point of ``gfocal``."""
    wait_briefly(os.environ)
    # A name that the encoding of a terminal or file cannot hold is no reason to print nothing.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    app()


def _version(asked: bool) -> None:
    if asked:
        echo(f"gfocal {gfocal.__version__}")
        raise typer.Exit


def _debug(asked: bool) -> None:
    if asked:
        os.environ["GFOCAL_DEBUG"] = "1"


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", callback=_debug, help="Show tracebacks of errors.")] = False,
) -> None:
    pass


@app.command()
@verb
def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for everything that the demo writes.")
    ] = Path("demo"),
    train: Annotated[int, typer.Option("--train", min=1, help="Scenes to train on.")] = 2000,
    val: Annotated[int, typer.Option("--val", min=1, help="Scenes to measure on.")] = 500,
    size: Annotated[int, typer.Option("--size", min=64, help="Side of a scene in pixels.")] = 256,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the scenes and of the training.")] = 0,
    overrides: Overrides = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove what an earlier demo left in DIR and start from scratch.")
    ] = False,
    json_: Json = False,
) -> None:
    """Generate scenes, train a small detector on them, measure it, draw what it finds: in minutes, on a CPU.

    Repeat the command to continue a demo that was interrupted.
    """
    with own_stdout():
        from gfocal.commands.demo import DemoSettings, run_demo

        settings = DemoSettings(train=train, val=val, size=size, seed=seed, overrides=tuple(overrides or ()))
        result = run_demo(out, settings, overwrite=overwrite, say=lambda line: echo(line, err=True))
    if json_:
        return print_json(result)
    from gfocal.cli.tables.results import print_demo

    print_demo(result)


app.command()(train)
app.command("find-lr")(find_lr)
app.command("eval")(evaluate)
app.command()(report)
app.command()(predict)
app.command()(calibrate)
app.command()(audit)
app.command()(explain)
app.command()(models)
app.command()(push)
app.command()(export)
app.command()(bench)


def class_list(given: str) -> list[str]:
    """The class names that a person lists, or gives the file of.

    Raises:
        UsageError: none of them, or an empty one.
    """
    from gfocal.data.formats.yolo.class_names import names_in
    from gfocal.errors import UsageError

    names = list(names_in(Path(given)) or given.split(","))
    if not all(name.strip() for name in names):
        raise UsageError(f"--names {given!r}: one of the names is empty; give cat,dog,... or a file with one per line")
    return [name.strip() for name in names]


@app.command("import")
@verb
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A checkpoint of mmdetection, GFocal, NanoDet (.pth, .ckpt) or PicoDet (.pdparams, .onnx).",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write the checkpoint to.")],
    style: Annotated[
        Literal["pytorch", "caffe"] | None,
        typer.Option("--style", help="Colours and strides of a ResNet, if the mmdetection file does not state them."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", min=32, help="NanoDet's or PicoDet's input side in pixels; by default as named, or 320."
        ),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option("--names", metavar="A,B,...", help="Class names in order, or a text file with one per line."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a checkpoint in DIR.")] = False,
    json_: Json = False,
) -> None:
    """Turn weights of another project into a checkpoint; no code in the file is run.

    Example: gfocal import gfl_r50_fpn_1x_coco.pth -o gfl_r50
    """
    with own_stdout():
        from gfocal.interop.load import import_weights

        own = None if names is None else class_list(names)
        report = import_weights(file, out, style=style, size=size, names=own, overwrite=overwrite)
    if json_:
        return print_json(report)
    from gfocal.utils.text import program

    echo(*report.lines(), f"next: {program()} predict {shlex.quote(str(out))} PICTURES")


@app.command()
@verb
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print this recipe, to copy and edit.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every key with its value and what it means.")] = False,
    json_: Json = False,
) -> None:
    """List the recipes and what their axes accept, or print one: gfocal recipes gfl_nano > my.yaml."""
    from gfocal.cli.tables.recipes import print_rows, rows
    from gfocal.recipe import load_recipe
    from gfocal.recipe.describe import annotated_yaml, recipe_summaries, recipe_text

    if name is None:
        summaries = recipe_summaries()
        if json_:
            listed = [{"name": n, "description": d} for n, d in summaries.items()]
            return print_json({"recipes": listed, "detectors": rows()})
        width = max(map(len, summaries))
        for each, description in summaries.items():
            echo(f"{each:<{width}}  {description}")
        print_rows()
    elif json_:
        print_json({"name": name, "recipe": load_recipe(name).to_dict()})
    else:
        echo(*(annotated_yaml(load_recipe(name)) if all_ else recipe_text(name)).splitlines())


@app.command()
@verb
def doctor(json_: Json = False) -> None:
    """Show versions and devices, and check that the parts work on this machine."""
    with own_stdout():
        from gfocal.commands.doctor import examine

        found = examine()
    if json_:
        print_json(found)
    else:
        from gfocal.cli.tables.results import print_doctor

        print_doctor(found)
    if not found.ok:
        raise typer.Exit(1)

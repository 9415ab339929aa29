"""The verbs of ``gfocal data``: parse, call, print. See :mod:`gfocal.cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gfocal.terminal import own_stdout, print_json, verb

data_app = typer.Typer(
    name="data",
    help="Look at, check and convert data sets.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")]
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
    every: Annotated[bool, typer.Option("--all", help="A line for every finding, not only the first errors.")] = False,
    json_: Json = False,
) -> None:
    """Find what is wrong with a data set: records, pictures, boxes, classes, copies between splits.

    Exit code 0: no errors (there may be warnings); 1: errors; 2: there is no such data set.

    Example: gfocal data check bccd
    """
    with own_stdout():
        from gfocal.data.check import check_data
        from gfocal.engine.progress import ProgressBar

        with ProgressBar(0, "reading pictures") as bar:
            report = check_data(path, val=val, workers=workers, progress=bar.callback)
    if json_:
        print_json(report.to_dict())
    else:
        from gfocal.engine.show_check import print_check

        print_check(report, every=every)
    if not report.ok:
        raise typer.Exit(1)

"""The verbs of ``gfocal data``: parse, call, print. See :mod:`gfocal.cli`."""

from __future__ import annotations

import typer

data_app = typer.Typer(
    name="data",
    help="Look at, check and convert data sets.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

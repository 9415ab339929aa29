"""Verbs around training; parse, call, print. See :mod:`gfocal.cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gfocal.cli_options import DataSets, Init, Json, Overrides, RecipeName, SkipBroken
from gfocal.terminal import claim, own_stdout, print_json, verb, warn


@verb
def find_lr(
    recipe: RecipeName,
    data: DataSets,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="For plot and numbers; by default RUN_FOLDER-lr.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=10, help="Optimizer steps of the sweep.")] = 100,
    low: Annotated[float, typer.Option("--low", help="Learning rate of the first step.")] = 1e-6,
    high: Annotated[float, typer.Option("--high", help="Learning rate of the last step.")] = 10.0,
    overrides: Overrides = None,
    init: Init = None,
    skip_broken: SkipBroken = False,
    json_: Json = False,
) -> None:
    """Find a learning rate: a short run in which it rises until the loss diverges, a plot, and a proposal.

    Example: gfocal find-lr gfl_nano --data bccd
    """
    with own_stdout():
        from gfocal.data.joined import join
        from gfocal.data.open import open_split
        from gfocal.engine import find_lr as finder
        from gfocal.engine.find_lr_files import NO_PLOT, NUMBERS, can_plot, told_sweep, write_sweep
        from gfocal.engine.prepare import default_run_folder
        from gfocal.engine.progress import ProgressBar
        from gfocal.recipe import load_recipe

        loaded = load_recipe(recipe, overrides or ())
        if out is None:
            folder = default_run_folder(recipe, data)
            out = folder.with_name(f"{folder.name}-lr")
        claim(out / NUMBERS)  # before the long work
        if not can_plot():
            typer.echo(f"note: {NO_PLOT}", err=True)
        index, _ = join([open_split(path, "train", skip_broken=skip_broken) for path in data])
        warn(index.skipped, "broken record", "left out")
        with ProgressBar(steps, "sweeping") as bar:
            sweep = finder.find_lr(
                loaded,
                index,
                steps=steps,
                low=low,
                high=high,
                init=init,
                skip_broken=skip_broken,
                progress=bar.update,
            )
        content = finder.described(sweep, loaded, len(index))
        files = write_sweep(content, out, f"{Path(recipe).stem}, {len(index):,} pictures")
    if json_:
        return print_json({**content, "files": files})
    typer.echo(
        "\n".join(
            [
                *told_sweep(content, recipe, [str(path) for path in data]),
                *(f"{name}: {file}" for name, file in files.items()),
            ]
        )
    )

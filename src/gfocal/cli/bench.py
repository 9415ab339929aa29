"""The verb ``bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gfocal.cli.options import Json, Overrides, Provider, SkipBroken
from gfocal.cli.terminal import fail, own_stdout, print_json, say, verb

Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="Run folders, checkpoints, names from `gfocal models`, exported files; or recipes (random weights).",
    ),
]
TimedData = Annotated[
    Path | None,
    typer.Option("--data", metavar="PATH", help="A data set: its pictures are timed, and AP is measured on it."),
]
Samples = Annotated[
    int | None, typer.Option("--samples", help="Pictures for AP, at most; by default all of the split.")
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="SIZE", help="Input of all models: a side (320), or SHORTxLONG that pictures fit into."
    ),
]
Repeats = Annotated[int | None, typer.Option("--repeats", help="Rounds in which the models take turns.")]
Seconds = Annotated[float | None, typer.Option("--seconds", help="Of measuring, for each model; by default 5.")]
EachThreads = Annotated[
    int | None, typer.Option("--threads", help="Of each model; by default OMP_NUM_THREADS, or one for each processor.")
]
Device = Annotated[
    Literal["cpu", "cuda"] | None,
    typer.Option("--device", help="Of torch's models; by default cuda where there is one."),
]


@verb
def bench(
    models: Models,
    data: TimedData = None,
    split: Annotated[Literal["train", "val", "test"], typer.Option("--split", help="Split of the data set.")] = "val",
    samples: Samples = None,
    batch: Annotated[int, typer.Option("--batch", help="Pictures at a time.")] = 1,
    size: Size = None,
    repeats: Repeats = None,
    seconds: Seconds = None,
    threads: EachThreads = None,
    device: Device = None,
    provider: Provider = None,
    overrides: Overrides = None,
    skip_broken: SkipBroken = False,
    json_: Json = False,
) -> None:
    """Time models of any kind in turns, each in a process of its own: latency, size, memory, and AP with --data.

    Example: gfocal bench runs/street runs/street/best.onnx --data street
    """
    with own_stdout():
        from gfocal.commands.bench.bench import bench_models

        report = bench_models(
            models,
            data=data,
            split=split,
            samples=samples,
            batch=batch,
            size=size,
            repeats=repeats,
            seconds=seconds,
            threads=threads,
            device=device,
            provider=provider,
            overrides=overrides or (),
            skip_broken=skip_broken,
            say=say,
        )
    if json_:
        print_json(report)
    else:
        from gfocal.cli.tables.bench import print_bench

        print_bench(report)
    if report.signal is not None:
        fail("interrupted: this is what was measured by then", 128 + report.signal)

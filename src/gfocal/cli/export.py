"""The verb ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gfocal.cli.options import Json, Model, Overrides, SkipBroken
from gfocal.cli.terminal import own_stdout, print_json, say, verb

FormatName = Annotated[
    Literal["onnx", "pt2", "openvino", "web"],
    typer.Option(
        "--format",
        help="onnx for onnxruntime and others, pt2 for torch.export, openvino (.xml, .bin), web: a page for browsers.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="PATH", help="The file (web: folder); by default beside the weights, of a name here."
    ),
]
Samples = Annotated[
    int | None, typer.Option("--samples", min=1, help="Pictures of the proof; by default 16, or 100 of --data.")
]
PrecisionName = Annotated[
    Literal["fp32", "fp16", "bf16", "int8"],
    typer.Option(
        "--precision", help="Of the network; boxes and scores are fp32. bf16: openvino; int8: onnx, openvino."
    ),
]
Nms = Annotated[
    Literal["in", "out", "none"] | None,
    typer.Option("--nms", help="Suppression in the graph (usual), by what runs the file (web), or not at all."),
]
Static = Annotated[
    str | None,
    typer.Option(
        "--static", metavar="SHAPE", help="Fix the batch (1), or it and the size (1x320x320); by default any."
    ),
]
Runtime = Annotated[
    Path | None,
    typer.Option(
        "--runtime",
        metavar="PATH",
        help="onnxruntime-web for --format web: a .tgz of `npm pack`, or its folder; by default fetched once.",
    ),
]
ProofData = Annotated[
    Path | None,
    typer.Option("--data", metavar="PATH", help="Data set or pictures for the proof; by default generated ones."),
]


@verb
def export(
    model: Model,
    format_: FormatName = "onnx",
    out: Out = None,
    precision: PrecisionName = "fp32",
    nms: Nms = None,
    static: Static = None,
    opset: Annotated[int | None, typer.Option("--opset", help="Of ONNX, 18 to 23; by default 20.")] = None,
    edge_probs: Annotated[
        bool, typer.Option("--edge-probs", help="Give the distribution of each edge too, not its spread alone.")
    ] = False,
    runtime: Runtime = None,
    data: ProofData = None,
    split: Annotated[Literal["train", "val", "test"], typer.Option("--split", help="Split of the data set.")] = "val",
    samples: Samples = None,
    calibration: Annotated[
        int | None,
        typer.Option("--calibration", min=1, help="Pictures of --data that int8 is calibrated with; by default 300."),
    ] = None,
    skip_broken: SkipBroken = False,
    allow_drift: Annotated[
        bool, typer.Option("--allow-drift", help="Keep a file that is farther from the detector than it should be.")
    ] = False,
    overrides: Overrides = None,
    json_: Json = False,
) -> None:
    """Write a detector as one file for other runtimes, and prove that it finds the same, from image file to boxes.

    Example: gfocal export runs/gfl_nano-bccd --data bccd
    """
    with own_stdout():
        from gfocal.commands.export.export import export_files

        report = export_files(
            model,
            out=out,
            format=format_,
            precision=precision,
            nms=nms,
            static=static,
            opset=opset,
            edge_probs=edge_probs,
            runtime=runtime,
            data=data,
            split=split,
            samples=samples,
            calibration=calibration,
            skip_broken=skip_broken,
            allow_drift=allow_drift,
            overrides=overrides or (),
            say=say,
        )
    if json_:
        print_json(report)
    else:
        from gfocal.cli.tables.export import print_export

        print_export(report)
    if not report.kept:
        for line in report.proof.beyond:
            say(f"error: {line}")
        say(f"error: the file is kept as {report.path}; --allow-drift gives it its name")
        raise typer.Exit(1)

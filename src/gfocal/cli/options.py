"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a recipe key, e.g. optim.lr=0.01 or predict.nms_iou=0.5; may be repeated.",
    ),
]
SkipBroken = Annotated[
    bool, typer.Option("--skip-broken", help="Leave out broken annotations and pictures, and list them.")
]
Data = Annotated[
    Path,
    typer.Option("--data", metavar="PATH", help="A data set (COCO, YOLO, VOC): a folder, .zip, .json or .yaml."),
]
DataSets = Annotated[
    list[Path],
    typer.Option(
        "--data",
        metavar="PATH",
        help="A data set (COCO, YOLO, VOC): a folder, .zip, .json or .yaml; repeat it to learn from several at once.",
    ),
]
DataFormat = Annotated[
    Literal["coco", "yolo", "voc"] | None,
    typer.Option("--format", help="Format of the data; by default gfocal detects it."),
]
Rename = Annotated[
    list[str] | None,
    typer.Option("--rename", metavar="OLD=NEW", help="Call a class of the data NEW; may be repeated, swaps included."),
]
ImagesDir = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help="Folder of the pictures of COCO or VOC data, or one around it; by default near the annotations.",
    ),
]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A run folder, a .safetensors checkpoint, a name from `gfocal models`, or hub:OWNER/NAME."
    ),
]
AnyModel = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A run folder, a .safetensors checkpoint, a name from `gfocal models`, hub:OWNER/NAME, or an exported "
        "file.",
    ),
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Pictures, or tiles, per forward pass.")]
DrawnParts = Annotated[
    str | None,
    typer.Option(
        "--draw", metavar="PARTS", help="What is drawn: some of boxes,names,scores,edges (error bars), or none."
    ),
]
Provider = Annotated[
    str | None,
    typer.Option("--provider", help="What runs an exported file: cpu (by default), cuda, tensorrt, gpu, ..."),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Of an exported file; by default one a core.")]
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A name from `gfocal recipes`, or a .yaml file.")]
Init = Annotated[
    str | None,
    typer.Option(
        "--init",
        metavar="MODEL",
        help="Start from the weights of a run folder, a checkpoint, a name from `gfocal models`, or hub:OWNER/NAME.",
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        "--tile", min=0, metavar="PIXELS", help="Look at overlapping tiles of this many pixels; 0: only whole pictures."
    ),
]
Overlap = Annotated[
    float | None,
    typer.Option("--overlap", min=0, max=0.9, help="Share of a tile that the next one overlaps; by default 0.2."),
]
PlotsFolder = Annotated[
    Path | None,
    typer.Option("--plots", metavar="DIR", help="Draw curves, confusion and pictures with the truth into DIR."),
]
Examples = Annotated[
    int, typer.Option("--examples", min=0, help="Pictures in DIR: this many of the worst, and as many at random.")
]
ShownScore = Annotated[
    float | None,
    typer.Option("--score", help="Score of the confusion matrix and the pictures; by default that of the best F1."),
]
OnlyCommon = Annotated[
    bool, typer.Option("--only-common", help="Leave out the boxes of classes that the model does not know.")
]

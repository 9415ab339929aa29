"""``gfocal audit``; parse, call, print. See :mod:`gfocal.cli.app`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gfocal.cli.options import (
    DataFormat,
    ImagesDir,
    Init,
    Json,
    OnlyCommon,
    Overlap,
    Overrides,
    Rename,
    SkipBroken,
    Tile,
)
from gfocal.cli.terminal import echo, own_stdout, print_json, say, verb, warn

if TYPE_CHECKING:  # it takes longer to load than --help may
    from gfocal.commands.trust.audit_report import AuditReport

_SHOWN = 10  # suspects on the screen


Labels = Annotated[Path, typer.Argument(metavar="PATH", help="A data set, or a COCO annotation file.")]
Looking = Annotated[
    str | None,
    typer.Option("--model", metavar="MODEL", help="Looks at the pictures; best one that did not learn from them."),
]
Folds = Annotated[
    int | None,
    typer.Option(
        "--folds",
        min=2,
        metavar="K",
        help="Instead of --model: train K models, each on all pictures but those it looks at.",
    ),
]
FoldRecipe = Annotated[
    str | None, typer.Option("--recipe", metavar="RECIPE", help="With --folds: what the models are trained by.")
]
OutFolder = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write, outside of the data set's.")
]
Level = Annotated[float, typer.Option("--level", help="Of the intervals that edges must lie in.")]
LeastScore = Annotated[float, typer.Option("--score", min=0, max=1, help="Suspects of a lower score are not written.")]
Shown = Annotated[int, typer.Option("--show", min=0, help="Suspects with a crop on the page: the first.")]
PlantedShare = Annotated[
    float,
    typer.Option(
        "--planted",
        min=0.001,
        max=0.5,
        help="Share of labels that get a fault in a copy, to see what the list is worth.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the planted faults, and of the folds.")]
AnySplit = Annotated[
    Literal["train", "val", "test"] | None,
    typer.Option("--split", help="Split to look at; by default val with --model, train with --folds."),
]
TilesPerPass = Annotated[int, typer.Option("--batch-size", min=1, help="Tiles per forward pass.")]


@verb
def audit(
    data: Labels,
    model: Looking = None,
    folds: Folds = None,
    recipe: FoldRecipe = None,
    init: Init = None,
    out: OutFolder = Path("audit"),
    split: AnySplit = None,
    level: Level = 0.9,
    score: LeastScore = 0.2,
    show: Shown = 100,
    planted: PlantedShare = 0.1,
    seed: Seed = 0,
    format_: DataFormat = None,
    images_dir: ImagesDir = None,
    overrides: Overrides = None,
    tile: Tile = None,
    overlap: Overlap = None,
    batch_size: TilesPerPass = 8,
    rename: Rename = None,
    only_common: OnlyCommon = False,
    skip_broken: SkipBroken = False,
    json_: Json = False,
) -> None:
    """Find labels that a model contradicts: a page to review, CSV, JSON, COCO with attributes; no data are changed.

    Example: gfocal audit bccd --model runs/gfl_nano-bccd --split test
    Example: gfocal audit bccd --folds 5 --recipe gfl_nano
    """
    with own_stdout():
        from gfocal.commands.trust.audit import AuditOptions, audit_files

        report = audit_files(
            data,
            out,
            model=model,
            folds=folds,
            recipe=recipe,
            init=init,
            split=split,
            format=format_,
            images_dir=images_dir,
            overrides=overrides or (),
            tile=tile,
            overlap=overlap,
            batch_size=batch_size,
            rename=rename or (),
            only_common=only_common,
            skip_broken=skip_broken,
            options=AuditOptions(level=level, least=score, shown=show, planted=planted, seed=seed),
            warn=lambda lines: warn(lines, "broken record", "left out"),
            say=say,
        )
    if json_:
        return print_json(report)
    _print(report)


def _print(report: AuditReport) -> None:
    from gfocal.commands.trust.audit_report import PAGE, subject
    from gfocal.evaluation.audit.suspects import in_words
    from gfocal.utils.text import visible

    echo(subject(report))
    for one in report.suspects[:_SHOWN]:
        about = "" if one.annotation_id is None else f", label {one.annotation_id} ({one.class_name})"
        echo(visible(f"{one.rank:>4}. {one.score:.2f}  {one.image}{about}: {one.reason}"))
    if len(report.suspects) > _SHOWN:
        echo(f"      ... {in_words(report.suspects)} in all")
    for line in report.promise:
        echo(f"{line}.")
    echo(f"look at {Path(report.out) / PAGE}")

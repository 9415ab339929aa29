"""``gfocal explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gfocal.cli.options import AnyModel, Json, Overrides, Provider, SkipBroken, Threads
from gfocal.cli.terminal import echo, own_stdout, print_json, say, verb

if TYPE_CHECKING:  # it takes longer to load than --help may
    from gfocal.commands.trust.explain import ExplainReport


@verb
def explain(
    model: AnyModel,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PICTURES...]", help="Files, folders, or quoted patterns; by default the pictures of --data."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the page, the numbers and the drawings.")
    ] = Path("explained"),
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="PATH", help="A data set whose labels are shown beside the edges."),
    ] = None,
    split: Annotated[
        Literal["val", "test", "train"], typer.Option("--split", help="Split of the data that the pictures are in.")
    ] = "val",
    score: Annotated[
        float | None, typer.Option("--score", "--conf", help="Leave out lower scores; by default 0.3.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Detections of a picture, the best first.")] = 10,
    most: Annotated[int, typer.Option("--most", min=1, help="Pictures at most: the first.")] = 30,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Search the folders inside a folder of pictures, too.")
    ] = False,
    skip_broken: SkipBroken = False,
    provider: Provider = None,
    threads: Threads = None,
    overrides: Overrides = None,
    json_: Json = False,
) -> None:
    """Show what a detector believes of each edge, what its scores are made of, and which boxes lost: one HTML page.

    Example: gfocal explain runs/gfl_nano-bccd --data bccd
    """
    with own_stdout():
        from gfocal.commands.trust.explain import ExplainSettings, explain_files
        from gfocal.exported.open import SessionOptions

        result = explain_files(
            model,
            images or [],
            out,
            data=data,
            split=split,
            settings=ExplainSettings(score=score, top=top, pictures=most, recursive=recursive),
            overrides=overrides or (),
            skip_broken=skip_broken,
            session=SessionOptions(provider, threads),
            say=say,
        )
        for line in result.explanation.notes:
            say(f"note: {line}")
    if json_:
        print_json(result)
    else:
        _print(result)
    if result.skipped:
        raise typer.Exit(1)


def _print(result: ExplainReport) -> None:
    from gfocal.utils.text import counted

    told = result.explanation
    for gallery in told.galleries:
        echo(f"{gallery.name}: {counted(len(gallery.shown), 'detection')}")
        for shown in gallery.shown[:3]:
            echo(f"  {shown.id}: {shown.why}")
    explained = sum(len(picture.detections) for picture in told.pictures)
    echo(
        f"{result.page}: {counted(explained, 'detection')} on {counted(len(told.pictures), 'picture')}, "
        f"{result.page_bytes / 1e6:.2f} MB",
        f"{result.numbers}: all numbers",
    )

"""The verbs around published and shared weights: ``models`` and ``push``; parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gfocal.cli.options import Json, Model
from gfocal.cli.terminal import echo, own_stdout, print_json, say, verb

if TYPE_CHECKING:
    from gfocal.catalogue.entries import Published

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME|WORDS...]", help="A name, or words that all of the weights' lines have: gfl r50."),
]


@verb
def models(
    words: Words = None,
    all_: Annotated[bool, typer.Option("--all", help="List those, too, that gfocal cannot read, and why.")] = False,
    downloaded: Annotated[
        bool, typer.Option("--downloaded", help="List what is on this machine, with its size.")
    ] = False,
    download: Annotated[bool, typer.Option("--download", help="Fetch the weights NAME now.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Delete the weights NAME from this machine.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Agree to a licence that forbids commercial use, for --download.")
    ] = False,
    json_: Json = False,
) -> None:
    """List published weights that any MODEL or --init takes by name, or show all that is known of one.

    Example: gfocal models gfl r50
    """
    given = words or []
    _check_one({"--downloaded": downloaded, "--download": download, "--remove": remove}, given)
    if download:
        return _download(given, yes, json_)
    if remove:
        return _remove(given, json_)
    if downloaded:
        return _downloaded(json_)
    from gfocal.catalogue.entries import find

    if len(given) == 1 and (entry := find(given[0])) is not None:
        from gfocal.cli.tables.models import detail_lines, entry_json

        return print_json(entry_json(entry)) if json_ else echo(*detail_lines(entry))
    _list(given, all_, json_)


def _check_one(flags: dict[str, bool], words: list[str]) -> None:
    from gfocal.errors import UsageError

    asked = [flag for flag, on in flags.items() if on]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} do not go together")
    if asked and asked != ["--downloaded"] and not words:
        raise UsageError(f"{asked[0]} wants names of weights: gfocal models lists them")


def _list(words: list[str], all_: bool, json_: bool) -> None:
    from gfocal.catalogue.describe import describe_near
    from gfocal.catalogue.entries import matching, near
    from gfocal.cli.tables.models import entry_json, print_models
    from gfocal.errors import UsageError

    found = matching(words)
    if not found:
        close = near(words[0]) if len(words) == 1 else []
        raise UsageError(f"no published weights have {' and '.join(words)} in their line{describe_near(close)}")
    shown = [entry for entry in found if all_ or entry.is_readable]
    if json_:
        return print_json({"models": [entry_json(entry) for entry in shown]})
    print_models(shown, hidden=len(found) - len(shown))


def _download(names: list[str], yes: bool, json_: bool) -> None:
    with own_stdout():
        from gfocal.catalogue.fetch import fetch

        folders = {entry.name: fetch(entry, yes=yes, say=say) for entry in map(_named, names)}
    if json_:
        return print_json({name: str(folder) for name, folder in folders.items()})
    echo(*(f"{name}: {folder}" for name, folder in folders.items()))


def _remove(names: list[str], json_: bool) -> None:
    from gfocal.catalogue.addresses import file_name
    from gfocal.catalogue.home import remove

    sizes = {entry.name: remove(entry.name, file_name(entry)) for entry in map(_named, names)}
    if json_:
        return print_json(sizes)
    echo(*(f"removed {name}: {size / 1e6:,.1f} MB" for name, size in sizes.items()))


def _named(name: str) -> Published:
    """The entry of a name that must be one."""
    from gfocal.catalogue.describe import describe_near
    from gfocal.catalogue.entries import find, near
    from gfocal.errors import UsageError

    if (entry := find(name)) is None:
        raise UsageError(f"there are no published weights {name}{describe_near(near(name))}")
    return entry


def _downloaded(json_: bool) -> None:
    from gfocal.catalogue.home import cached, home
    from gfocal.cli.tables.models import print_downloaded

    found = cached()
    if json_:
        return print_json({"home": str(home()), "downloaded": found})
    print_downloaded(home(), found)


@verb
def push(
    model: Model,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="hub:OWNER/NAME, or a folder to write to.")],
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="Licence of the weights, for their card: apache-2.0.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Let anybody see the repository, if this makes it; by default only you.")
    ] = False,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Message of the commit.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier push wrote to the folder.")
    ] = False,
    json_: Json = False,
) -> None:
    """Give weights to others: upload weights, recipe and a model card, or write them to a folder.

    Example: gfocal push runs/street hub:me/street-detector
    """
    with own_stdout():
        from gfocal.commands.push import push as run_push

        result = run_push(model, target, licence=licence, public=public, message=message, overwrite=overwrite, say=say)
    if json_:
        return print_json(result)
    echo(*(f"{file}: {size:,} bytes" for file, size in result.files.items()), f"in {result.target}")

"""From the name of published weights to a folder with them: fetch, compare, convert, keep."""

from __future__ import annotations

import hashlib
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import gfocal
from gfocal.catalogue.addresses import Address, addresses, file_name
from gfocal.catalogue.agree import contradictions, size_note
from gfocal.catalogue.consent import require_consent
from gfocal.catalogue.describe import describe_by_hand, describe_offer, describe_unreadable
from gfocal.catalogue.download import download, fetched_before, goes_on_later, part_of
from gfocal.catalogue.entries import Published
from gfocal.catalogue.home import (
    Record,
    delete_fetched,
    download_file,
    home,
    model_folder,
    read_record,
    refused_file,
    with_parts,
    write_record,
)
from gfocal.catalogue.settings import is_offline, timeout
from gfocal.catalogue.web import CannotFetch, CutOff
from gfocal.errors import GfocalError, UsageError
from gfocal.interop.load import SIZED, import_weights
from gfocal.interop.report import ImportReport
from gfocal.runs.checkpoint import BEST, add_notes
from gfocal.runs.initial_weights import origin_notes
from gfocal.utils.files import CannotWrite, DiskFull
from gfocal.utils.locks import InUse, locked_file
from gfocal.utils.progress import notice
from gfocal.utils.signals import Stopped
from gfocal.utils.text import Say, program, say_lines

_NEAR = 0.75  # of the published size: people count MB in two ways, and publish them rounded


def fetch(entry: Published, *, yes: bool = False, say: Say = notice) -> Path:
    """The folder with the converted weights of a checkpoint; fetched where it is not there yet.

    What is fetched, from where, under which licence and how large it is, is said before. A file that somebody put into
    the folder for downloads is taken as it is, and stays. A fetched one is deleted once it is converted, be it by a
    later call.

    Args:
        entry: what is wanted.
        yes: agree to a licence that forbids commercial use; without, a terminal is asked.
        say: gets lines about what happens.

    Raises:
        UsageError: gfocal does not read it, or nobody agrees to its licence, or there may be no connection
            (GFOCAL_OFFLINE), or the file is not what was expected.
        GfocalError: the file cannot be had; the message says what can be done by hand.
        KeyboardInterrupt: what came is kept, and a repeated call goes on from there.
    """
    folder = model_folder(entry.name)
    if _is_here(entry):
        return folder
    if not entry.is_readable:
        raise UsageError(f"{describe_unreadable(entry)}; `{program()} models {entry.name}` shows what is known of it")
    file = download_file(file_name(entry))
    if not file.is_file():
        _check_allowed(entry)
        say_lines(describe_offer(entry), say)
        require_consent(entry, yes=yes)
    with _held(folder, say):
        if not _is_here(entry):  # unless whoever was waited for has fetched it
            _fetch(entry, file, say)
    return folder


def _is_here(entry: Published) -> bool:
    return read_record(entry.name) is not None and (model_folder(entry.name) / BEST).is_file()


def _check_allowed(entry: Published) -> None:
    if (variable := is_offline()) is not None:
        raise UsageError(
            f"{entry.name} is not in {home()}, and {variable} forbids connections. Where there is a network: "
            f"`{program()} models {entry.name} --download`, then copy {model_folder(entry.name)} here; or "
            f"{describe_by_hand(entry)}"
        )
    if not addresses(entry):
        raise UsageError(f"{entry.name} is behind a page that asks for a person; {describe_by_hand(entry)}")


@contextmanager
def _held(folder: Path, say: Say) -> Iterator[None]:
    """Hold the place of some weights; wait for another process that is fetching them."""
    try:
        with locked_file(folder, say=say):
            yield
    except InUse as error:
        say(f"note: {str(error).split(': ')[0]}; waiting for it")
        with locked_file(folder, wait=True, say=say):
            yield


def _fetch(entry: Published, file: Path, say: Say) -> None:
    by_hand = False
    if file.is_file():
        digest = _digest_of(entry, file)
        got = _got_before(entry, file, digest)
        by_hand = not got.url
        say(f"note: {file} is there, {'put by hand' if by_hand else 'left by an earlier call'}, and taken")
    else:
        got, digest = _download(entry, file, say)
    size = file.stat().st_size
    compared = "as published" if entry.sha256 else "none is published to compare it with"
    say(f"{'took' if by_hand else 'fetched'} {size:,} bytes, SHA-256 {digest} ({compared})")
    if entry.megabytes is not None and not _NEAR < size / 1e6 / entry.megabytes < 1 / _NEAR:
        say(f"note: that is {size / 1e6:,.1f} MB, and {entry.megabytes:g} MB are published")
    report = _convert(entry, file, by_hand, say)
    record = Record(
        name=entry.name,
        address=got.published,
        url=got.url,
        sha256=digest,
        bytes=size,
        licence=entry.source.licence,
        noncommercial=entry.source.noncommercial,
        fetched=datetime.now(UTC).isoformat(timespec="seconds"),
        gfocal=gfocal.__version__,
        recipe=report.recipe,
        changed=report.changed,
    )
    add_notes(report.file, origin_notes([record.origin]))
    write_record(record)
    if by_hand:
        say(f"{file} is not needed any more, and stays")
    else:
        delete_fetched(file)
    say_lines(report.lines(), say)


def _got_before(entry: Published, file: Path, digest: str) -> Address:
    """Where an earlier call has fetched a file from that is here; without an address to ask: a person put it there."""
    before = fetched_before(file)
    if before is None or before.sha256 != digest:
        return Address(entry.addresses[0], "")
    known = (own for own in addresses(entry) if own.url == before.url)
    return next(known, Address(entry.addresses[0], before.url))


def _digest_of(entry: Published, file: Path) -> str:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if not digest.startswith(entry.sha256):
        raise UsageError(
            f"{file} is not the file that was published as {entry.name}: its SHA-256 begins with "
            f"{digest[: len(entry.sha256)]}, not with {entry.sha256}. Delete it, and repeat the command"
        )
    return digest


def _download(entry: Published, file: Path, say: Say) -> tuple[Address, str]:
    """Where the file came from, and its SHA-256; where one address fails, the next is asked."""
    problems, again, part = [], False, with_parts(file)[1]
    begun = part_of(file)
    for address in sorted(addresses(entry), key=lambda each: each.url != begun):  # on with what is here
        try:
            return address, download(address.url, file, sha256=entry.sha256, timeout=timeout(), say=say, noted=True)
        except (CannotFetch, CutOff) as error:
            again |= isinstance(error, CutOff)
            problems.append(str(error))
            say(f"note: {error}")
        except KeyboardInterrupt as error:
            number = error.number if isinstance(error, Stopped) else signal.SIGINT
            raise Stopped(number, f"{Stopped(number)}; {_what_came(file)}") from error
    why = f"{entry.name} {'could not' if again else 'cannot'} be fetched: {'; '.join(problems)}."
    kept = f" {_what_came(file)}." if again and part.exists() else ""
    raise GfocalError(f"{why}{kept} What else can be done {describe_by_hand(entry)}")


def _what_came(file: Path) -> str:
    """Of a download that was stopped, and what a repeated one does with it."""
    part = with_parts(file)[1]
    size = part.stat().st_size if part.exists() else 0
    if size and not goes_on_later(file):
        return f"{size:,} bytes, and the server does not say of which version: the command begins again when repeated"
    return f"{size:,} bytes are kept in {part}: repeat the command to go on"


def _convert(entry: Published, file: Path, by_hand: bool, say: Say) -> ImportReport:
    """Import a file, and see that it is the network of the entry."""
    try:
        size = int(entry.input.split(" x ")[0]) if entry.input and entry.row in SIZED else None
        report = import_weights(file, model_folder(entry.name), style=entry.style, size=size, overwrite=True)
        if problems := contradictions(entry, report):
            report.file.unlink()
            raise UsageError(f"{file} is not {entry.name}: it holds {'; '.join(problems)}")
    except (CannotWrite, DiskFull, InUse):
        raise  # the file may be right: the next call takes it
    except Exception as error:
        error.add_note(_set_aside(entry, file, by_hand))
        raise
    if note := size_note(entry, report):
        say(f"note: {note}")
    return report


def _set_aside(entry: Published, file: Path, by_hand: bool) -> str:
    """Put a file that is of no use where it stands in nobody's way, unless a person put it there; what was done."""
    kept, again = file, "put the right one there, or delete it to have it fetched"
    if not by_hand:
        kept, again = refused_file(file), "repeat the command to have it fetched again"
        file.replace(kept)
        delete_fetched(file)
    return (
        f"{entry.name} is {entry.detector}, {entry.backbone}; the file is kept: `{program()} import "
        f"{shlex.quote(str(kept))} -o DIR` takes options; {again}"
    )

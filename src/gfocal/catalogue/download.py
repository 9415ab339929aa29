"""One file from a server: it comes into ``FILE.part``, which an interrupted download goes on with.

Beside it ``FILE.part.json`` notes which version of the file it is a part of: the server's ETag, or the date of its last
change. With that the server is asked for the rest (Range, If-Range), and answers with the whole file where it has
changed, or where it knows no ranges. Where the server gives neither, a download begins at the beginning again.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import re
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gfocal.catalogue.home import with_parts
from gfocal.catalogue.web import CannotFetch, CutOff, ask, explained, host_of, not_that_part
from gfocal.utils.files import DiskFull, explained_writing
from gfocal.utils.progress import ProgressBar
from gfocal.utils.text import Say, visible

_TRIES = 5  # without a single new byte in between
_PAUSE = 1.0  # seconds before the second try, twice as many before each further one
_BLOCK = 2**18  # bytes
_MB = 1_000_000
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)$")


@dataclass(frozen=True)
class Version:
    """Which content of a file a part is of.

    Attributes:
        url: that was asked.
        tag: its ETag, if that is a strong one; else the date of its last change; "" where the server gives neither.
        total: its bytes; None where the server does not say.
    """

    url: str
    tag: str
    total: int | None

    def goes_on(self, before: Version) -> bool:
        """Whether a part of this one fits behind a part of the one before, whose length nobody may have said."""
        lengths = {before.total, self.total} - {None}
        return (self.url, self.tag) == (before.url, before.tag) and len(lengths) <= 1


@dataclass(frozen=True)
class Fetched:
    """What a file is that came from a server.

    Attributes:
        url: that was asked.
        sha256: of the whole file.
    """

    url: str
    sha256: str


def download(url: str, file: Path, *, sha256: str, timeout: float, say: Say, noted: bool = False) -> str:
    """Fetch a file, from where an earlier call stopped.

    Args:
        url: of http or https.
        file: where it comes to lie, whole.
        sha256: first digits of its SHA-256; "" where none are known.
        timeout: seconds that the server may be silent.
        say: gets lines about what happens.
        noted: leave a note beside it, see :func:`fetched_before`.

    Returns:
        its SHA-256.

    Raises:
        CannotFetch: it is not there, may not be had, or is not what was published.
        CutOff: the connection broke again and again; what came is kept.
        DiskFull: there is no room.
        KeyboardInterrupt: what came is kept.
    """
    _, part, notes = with_parts(file)
    with explained_writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    began_with = _size(part)
    _fetch_all(url, part, notes, timeout, say)
    found = _sum(part)
    if not found.startswith(sha256.lower()) and began_with:
        say("note: the parts do not make up the file that was published; it is fetched again from its beginning")
        _discard(part, notes)
        _fetch_all(url, part, notes, timeout, say)
        found = _sum(part)
    if not found.startswith(sha256.lower()):
        size = _size(part)
        _discard(part, notes)
        raise CannotFetch(
            f"{url} gave another file than the one that was published: its SHA-256 begins with {found[:8]}, not with "
            f"{sha256} ({size:,} bytes). It was deleted"
        )
    with explained_writing(file):
        if noted:
            _note(notes, {**_noted(notes), "sha256": found})
        part.replace(file)
        if not noted:
            notes.unlink(missing_ok=True)
    return found


def fetched_before(file: Path) -> Fetched | None:
    """What a file is that an earlier call has fetched, and whose notes are still there; None: it came otherwise.

    Whoever has read the file compares its sum: a person may have put another one in its place.
    """
    noted = _noted(with_parts(file)[2]) if file.is_file() else {}
    found = noted.get("url"), noted.get("sha256")
    return Fetched(*found) if all(isinstance(each, str) for each in found) else None  # type: ignore[arg-type]


def goes_on_later(file: Path) -> bool:
    """Whether a repeated call goes on with the part of a file that is here."""
    _, part, notes = with_parts(file)
    before = _read_notes(notes) if part.exists() else None
    return before is not None and bool(before.tag)


def part_of(file: Path) -> str | None:
    """The address that the part is of which is here of a file; None where there is none."""
    _, part, notes = with_parts(file)
    before = _read_notes(notes) if part.exists() else None
    return None if before is None else before.url


def _fetch_all(url: str, part: Path, notes: Path, timeout: float, say: Say) -> None:
    """Fetch until all of it is there."""
    tries = 0
    while True:
        before = _size(part)
        try:
            return _fetch(url, part, notes, timeout, say)
        except CutOff as error:
            if error.useless:
                _discard(part, notes)
            tries = 1 if _size(part) > before else tries + 1
            if tries >= _TRIES:
                raise
            pause = _PAUSE * 2 ** (tries - 1)
            say(f"note: {error}; trying again in {pause:g} s")
            time.sleep(pause)
        except DiskFull:
            _discard(part, notes)  # it would keep the disk full
            raise


def _fetch(url: str, part: Path, notes: Path, timeout: float, say: Say) -> None:
    """Ask for what is missing, and take it."""
    have, before = _size(part), _read_notes(notes)
    asked: dict[str, str] = {}
    if have and before is not None and before.url == url and before.tag:
        if have == before.total:
            return
        asked = {"Range": f"bytes={have}-", "If-Range": before.tag}
    with ask(url, asked, timeout, say) as answer:
        start, now = _version(url, answer)
        if start and (start != have or before is None or not now.goes_on(before)):
            raise not_that_part(url)
        if have and not start:
            say("note: the server gives the whole file again")
        _refuse_other(url, answer)
        if start and now.total is None and before is not None:
            now = replace(now, total=before.total)
        with explained_writing(part, now.total):
            _check_room(part, start, now)
            _note(notes, vars(now))
        if now.total is not None:
            say(f"{host_of(url)} gives {(now.total - start) / _MB:,.1f} MB")
        _take(answer, part, start, now)


def _version(url: str, answer: Any) -> tuple[int, Version]:
    """Where the answer starts, and which version of the file it is of."""
    headers = answer.headers
    tag = headers.get("ETag", "")
    tag = headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
    length = headers.get("Content-Length", "")
    if answer.status == 206:
        if (match := _RANGE.match(headers.get("Content-Range", ""))) is None:
            raise not_that_part(url, "gave a part of a file without saying which")
        return int(match[1]), Version(url, tag, int(match[3]) if match[3] != "*" else None)
    return 0, Version(url, tag, int(length) if length.isdigit() else None)


def _refuse_other(url: str, answer: Any) -> None:
    """Refuse what is not the file as it was published.

    Raises:
        CannotFetch: a page for people, or a packed form that nobody asked for.
    """
    if answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise CannotFetch(f"{url} gave a web page in the place of the file: it asks for a person")
    packed = answer.headers.get("Content-Encoding", "").strip().casefold()
    if packed not in ("", "identity") and not urlsplit(url).path.endswith((".gz", ".tgz")):  # there it means the file
        raise CannotFetch(f"{url} gave the file packed ({visible(packed)[:40]}), which it was asked not to")


def _take(answer: Any, part: Path, start: int, now: Version) -> None:
    """Write what comes behind what is there."""
    total = -(-(now.total or start) // _MB)  # of the bar: it counts whole MB, the last one once all is there
    with part.open("r+b" if start else "wb") as file, ProgressBar(total, "fetching, MB", done=start // _MB) as bar:
        file.seek(start)
        done = start
        while block := _read(answer, now.url):
            with explained_writing(part, now.total):
                file.write(block)
                file.flush()
            done += len(block)
            shown = total if done == now.total else done // _MB
            if shown > bar.done:
                bar.callback(shown, max(total, shown))
    if now.total is not None and done != now.total:
        raise CutOff(f"{done:,} of {now.total:,} bytes came")


def _read(answer: Any, url: str) -> bytes:
    try:
        block: bytes = answer.read1(_BLOCK)  # what is there: the rest may never come
    except http.client.IncompleteRead as error:  # its rest comes again
        raise CutOff(str(error)) from error
    except (OSError, http.client.HTTPException) as error:
        raise explained(url, error) from error
    return block


def _check_room(part: Path, start: int, now: Version) -> None:
    """Raise what the system would raise after minutes."""
    if now.total is not None and shutil.disk_usage(part.parent).free < now.total - start:
        raise OSError(errno.ENOSPC, "no room")


def _read_notes(notes: Path) -> Version | None:
    content = _noted(notes)
    try:
        return Version(str(content["url"]), str(content["tag"]), content["total"])
    except KeyError:
        return None


def _noted(notes: Path) -> dict[str, Any]:
    """What stands there; {} where nothing of use does."""
    try:
        content = json.loads(notes.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _note(notes: Path, content: dict[str, Any]) -> None:
    notes.write_text(json.dumps(content), encoding="utf-8")


def _discard(*files: Path) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _sum(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()

"""Zip archives: unpacked once, into a cache, and only if that is safe."""

from __future__ import annotations

import glob
import hashlib
import lzma
import os
import re
import shutil
import stat
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from gfocal.data.formats.common import is_hidden, portable
from gfocal.errors import UsageError
from gfocal.utils.files import CannotWrite, DiskFull
from gfocal.utils.locks import locked_file

_RATIO = 100
"""Bytes out of one byte in; images hardly shrink, annotations about tenfold."""
_SMALL = 256 << 20
"""Up to this many bytes no ratio is wrong: a folder of black images is no attack."""
_ENTRIES = 5_000_000
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What zipfile raises of damaged bytes: its decompressors their own errors, bad names a UnicodeDecodeError."""


def cache_folder() -> Path:
    """Where unpacked archives go: ``$GFOCAL_CACHE``, or ``gfocal`` in the system's folder for caches."""
    own = os.environ.get("GFOCAL_CACHE")
    if own:
        return Path(own).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gfocal"


def unpacked(archive: Path) -> Path:
    """The folder with the files of a zip archive.

    It is unpacked once; what it holds (names, sizes and checksums) names the folder, so that a changed archive is
    unpacked again, and a copy of it is not. Nothing is written beside the archive.

    Raises:
        UsageError: it is damaged, encrypted, would write outside its folder, or unpacks to far more than it holds.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = _checked(archive, [entry for entry in opened.infolist() if not _ignored(entry.filename)])
            lines = sorted(f"{portable(e.filename)}\0{e.file_size}\0{e.CRC}" for e in entries)
            fingerprint = hashlib.sha256("\n".join(lines).encode(errors="surrogatepass")).hexdigest()[:16]
            name = re.sub(r"[^\w.-]+", "_", archive.stem)[:60]
            target = cache_folder() / "data" / f"{name}-{fingerprint}"
            if not target.is_dir():
                with _alone(target):
                    if not target.is_dir():
                        _remove_unfinished(target)
                        _unpack(archive, opened, entries, target)
            return target
    except UsageError:
        raise
    except _DAMAGED as error:
        raise UsageError(f"archive {archive} is damaged or not a zip ({error}); export it again") from None


def _ignored(name: str) -> bool:
    return any(is_hidden(part) for part in PurePosixPath(portable(name)).parts if part not in (".", ".."))


def _checked(archive: Path, entries: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The entries that are files, if all of them may be unpacked."""
    for entry in entries:
        name = portable(entry.filename)
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
            raise UsageError(
                f"archive {archive}: {entry.filename!r} would be written outside its folder; unpack it by hand"
            )
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UsageError(f"archive {archive}: {entry.filename!r} is a link or not a plain file; unpack it by hand")
        if entry.flag_bits & 1:
            raise UsageError(f"archive {archive} is encrypted; unpack it by hand")
    total, size = sum(entry.file_size for entry in entries), archive.stat().st_size
    if len(entries) > _ENTRIES or (total > _SMALL and total > _RATIO * size):
        raise UsageError(
            f"archive {archive} of {size:,} bytes would unpack to {len(entries):,} files of {total:,} bytes: that is "
            "no data set; unpack it by hand if it is one"
        )
    files = [entry for entry in entries if not entry.is_dir()]
    counted = Counter(PurePosixPath(portable(entry.filename)) for entry in files)
    if twice := [str(name) for name, count in counted.items() if count > 1]:
        raise UsageError(
            f"archive {archive} holds {len(twice)} files more than once, the first is {twice[0]!r}: gfocal cannot know "
            "which one is meant; unpack it by hand"
        )
    return files


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Let processes unpack one after the other: all but the first then find it done."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_file(target, wait=True))
        except (CannotWrite, DiskFull) as error:
            raise UsageError(f"the cache: {error}; or set GFOCAL_CACHE to a folder elsewhere") from error
        yield


def _remove_unfinished(target: Path) -> None:
    """What processes that were killed left behind."""
    for folder in target.parent.glob(f".{glob.escape(target.name)}.*"):
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def _unpack(archive: Path, opened: zipfile.ZipFile, entries: Iterable[zipfile.ZipInfo], target: Path) -> None:
    """All or nothing: into a folder beside the target, which then takes its name."""
    entries = list(entries)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        total = sum(entry.file_size for entry in entries)
        free = shutil.disk_usage(target.parent).free
        if total > free:
            raise UsageError(
                f"archive {archive} unpacks to {total:,} bytes; {target.parent} has {free:,} left. Set GFOCAL_CACHE to "
                "a folder with more, or unpack it by hand"
            )
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise UsageError(f"the cache {target.parent} cannot be written: {error.strerror}; set GFOCAL_CACHE") from None
    try:
        for entry in entries:
            place = unfinished / portable(entry.filename)
            place.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(entry) as source, place.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        unfinished.chmod(0o755)
        try:
            unfinished.rename(target)
        except OSError:
            if not target.is_dir():  # another process was first
                raise
    except OSError as error:
        raise UsageError(f"archive {archive} cannot be unpacked into {target}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)

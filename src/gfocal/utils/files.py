"""Files that are whole or not there, and a disk that is full."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gfocal.errors import GfocalError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DiskFull(GfocalError):
    """There is no room for a file; what was there before is whole."""


def write_atomically(path: Path, write: Callable[[Path], object], *, needed: int | None = None) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then move it there in one step.

    Args:
        path: the file.
        write: called with the temporary one.
        needed: bytes that it will take, for the message where there is no room.

    Raises:
        DiskFull: there is no room; a file that was there before is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with explained_disk_full(path, needed):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def explained_disk_full(path: Path, needed: int | None = None) -> Iterator[None]:
    """A disk without room for ``path`` becomes :class:`DiskFull`; see :func:`write_atomically`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if (full := _full(error)) is None:
            raise
        raise DiskFull(_message(path, needed, full)) from error


def is_disk_full(error: OSError) -> bool:
    """Whether it says that there is no room: on the disk, in a quota, or below a limit on the size of files."""
    return error.errno in _FULL


def _full(error: BaseException | None) -> OSError | None:
    """The error of a full disk behind ``error``: torch's writer raises one of its own while it handles that."""
    while error is not None:
        if isinstance(error, OSError) and is_disk_full(error):
            return error
        error = error.__cause__ or error.__context__
    return None


def _message(path: Path, needed: int | None, error: OSError) -> str:
    free = None
    with suppress(OSError):
        free = shutil.disk_usage(path.parent).free
    room = "" if free is None else f"; {_size(free)} are free"
    wanted = "" if needed is None else f", it needs {_size(needed)}"
    # A quota, or a limit on the size of a file, leaves the disk with room.
    reason = "" if error.errno == errno.ENOSPC else f" ({os.strerror(error.errno or 0)})"
    kept = ", and the file that was there before is intact" if path.is_file() else ""
    return (
        f"no room on the disk for {path}{reason}{wanted}{room}. No half-written file is left{kept}. Free some space, "
        "then repeat the command (a training: with --resume)"
    )


def _size(count: int) -> str:
    return f"{count / 2**20:,.1f} MB" if count < 2**30 else f"{count / 2**30:,.1f} GB"


def remove_unfinished(folder: Path, names: Sequence[str]) -> None:
    """Delete what writers of these files left behind when they were killed."""
    for name in names:
        for unfinished in folder.glob(f".{name}.*"):
            unfinished.unlink(missing_ok=True)

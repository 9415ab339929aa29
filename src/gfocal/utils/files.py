"""Files that are whole or not there, and what to say where a place cannot be written."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from gfocal.errors import UsageError

_UMASK = threading.Lock()
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ELSEWHERE = "choose another place"
_AWAY = "the disk or network drive does not answer: see whether it is there (ls, dmesg), then repeat the command"
_ADVICE = {
    errno.EROFS: f"{_ELSEWHERE}, or let it be written to (a container: without :ro)",
    errno.EACCES: f"{_ELSEWHERE}, or change its owner or rights (ls -ld shows them)",
    errno.EPERM: f"{_ELSEWHERE}, or change its owner or rights (ls -ld and lsattr show them)",
    errno.ENOENT: "it, or the folder that it is in, is missing: was it removed, renamed or unmounted meanwhile?",
    errno.ENOTDIR: f"a part of the path is a file, not a folder: {_ELSEWHERE}",
    errno.EISDIR: "it is a folder: give the name of a file",
    errno.EEXIST: f"a file, or something else that is no folder, is there already: {_ELSEWHERE}",
    errno.ENOTEMPTY: f"the folder is not empty: {_ELSEWHERE}",
    errno.ENAMETOOLONG: "choose a shorter name (most disks allow 255 bytes)",
    errno.ELOOP: "it is a link that leads to itself: remove it",
    errno.EINVAL: "this disk does not allow such a name or file: choose another name or place",
    errno.EILSEQ: "this disk does not allow such a name: choose another one",
    errno.EBUSY: "another program uses it: close that, then repeat the command",
    errno.ETXTBSY: "another program uses it: close that, then repeat the command",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ENODEV, errno.ENXIO), _AWAY),
}
"""What to do about an error of the system, by its number."""


class CannotWrite(UsageError):
    """A file or folder cannot be written; what was there before is whole."""


class DiskFull(UsageError):
    """There is no room for a file; what was there before is whole."""


def write_atomically(path: Path, write: Callable[[Path], object], *, needed: int | None = None) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then move it there in one step.

    A link stays one: the file that it leads to is written. What is no file (a pipe, a device, ``/dev/stdout``) is never
    replaced: the whole content is written into it.

    Args:
        path: the file.
        write: called with the temporary one.
        needed: bytes that it will take, for the message where there is no room.

    Raises:
        DiskFull: there is no room; a file that was there before is as it was.
        CannotWrite: the place cannot be written to for another reason.
    """
    with explained_writing(path, needed):
        if is_stream(path):
            return _write_into(path, write)
        path = Path(os.path.realpath(path)) if path.is_symlink() else path
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            os.chmod(temporary, new_file_mode())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def new_file_mode() -> int:
    """The rights of a new file, as the user's umask has them; those of temporary files are narrower."""
    with _UMASK:  # it can only be read by setting it, of the whole process
        mask = os.umask(0o077)
        os.umask(mask)
    return 0o666 & ~mask


def real_path(path: Path) -> Path:
    """Where a path leads, links followed; ``Path.resolve`` fails on a link to itself before Python 3.13."""
    return Path(os.path.realpath(path))


def is_stream(path: Path) -> bool:
    """Whether there is something that is neither file nor folder: a pipe, a device."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _write_into(path: Path, write: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        write(whole)
        with path.open("wb") as stream, whole.open("rb") as content:
            shutil.copyfileobj(content, stream)


@contextmanager
def explained_writing(path: Path, needed: int | None = None) -> Iterator[None]:
    """What the system says where ``path`` cannot be written becomes :class:`CannotWrite`; see :func:`write_atomically`.

    Raises:
        DiskFull: there is no room.
        CannotWrite: the place is read-only, gone, not ours, or its name is one that the disk does not allow.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if (full := _first(error, _FULL)) is not None:
            raise DiskFull(_no_room(path, needed, full)) from error
        if isinstance(error, OSError) and error.errno in _ADVICE:
            raise CannotWrite(_not_written(path, error)) from error
        raise


def describe_system_error(error: OSError) -> str | None:
    """A line about an error of the system that concerns a file or disk: which, why, what to do; None for others."""
    place = error.filename2 or error.filename
    where = "" if place is None else f"{os.fsdecode(place) if isinstance(place, str | bytes) else place}: "
    if error.errno in _FULL:
        return (
            f"{where}{os.strerror(error.errno)}; free some space, then repeat the command (a training: with --resume)"
        )
    if error.errno not in _ADVICE or not where:
        return None
    return f"{where}{os.strerror(error.errno)}; {_ADVICE[error.errno]}"


def is_disk_full(error: OSError) -> bool:
    """Whether it says that there is no room: on the disk, in a quota, or below a limit on the size of files."""
    return error.errno in _FULL


def _not_written(path: Path, error: OSError) -> str:
    """Of ``path``, or of another file that the error is about: one that is read meanwhile."""
    place = error.filename
    if isinstance(place, str) and not Path(os.path.abspath(place)).is_relative_to(Path(os.path.abspath(path.parent))):
        return str(describe_system_error(error))
    assert error.errno is not None
    return f"cannot write {path}: {os.strerror(error.errno)}; {_ADVICE[error.errno]}"


def _first(error: BaseException | None, numbers: set[int]) -> OSError | None:
    """The error of the system behind ``error``: torch's writer raises one of its own while it handles that."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in numbers:
            return error
        error = error.__cause__ or error.__context__
    return None


def _no_room(path: Path, needed: int | None, error: OSError) -> str:
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


def set_aside(file: Path, name: str) -> Path | None:
    """Give a file another name beside it, with a number where that is taken; None if there is no such file."""
    if not file.exists():
        return None
    wanted = file.with_name(name)
    tries = (wanted.with_name(f"{wanted.stem}{'' if n == 1 else f'-{n}'}{wanted.suffix}") for n in count(1))
    place = next(place for place in tries if not place.exists())
    with explained_writing(place):
        file.rename(place)
    return place

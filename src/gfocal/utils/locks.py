"""Locks on what gfocal writes: one process at a time, and never for longer than that process lives.

A lock is a small file that says who holds it. While its holder lives it is locked by the system too, where the file
system can do that, and touched every few seconds. A holder that ended otherwise than in good order leaves the file
behind. It is taken over: at once where its process is known to be gone, and from another machine once nobody has
touched it for two minutes.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gfocal.errors import UsageError
from gfocal.utils.files import CannotWrite, explained_writing
from gfocal.utils.holders import Holder
from gfocal.utils.progress import notice

LOCK = ".gfocal-lock"
_BEAT = 15.0  # seconds between touches
_SILENT = 120.0  # seconds without one after which a holder on another machine counts as gone
_POLL = 0.2
_STARTING = 3.0  # seconds that another process may take from making the file to writing who it is


class InUse(UsageError):
    """Another process writes there."""


@dataclass(eq=False)
class Lock:
    """A lock that this process holds.

    Attributes:
        place: the folder or file that it is for.
        file: where it lies.
        thread: that took it.
        depth: how often it was taken.
    """

    place: Path
    file: Path
    holder: Holder
    descriptor: int
    pid: int = field(default_factory=os.getpid)
    thread: int = field(default_factory=threading.get_ident)
    depth: int = 1
    _ended: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """See that it is still this process's.

        Raises:
            CannotWrite: the folder is gone, or another process took it over.
        """
        now = _read(self.file)
        if now is not None and now != self.holder:
            raise InUse(
                f"{self.place} was taken over by {now}, as this process showed no life for minutes: it writes nothing "
                "more there and ends"
            )
        if now is None and not self.file.parent.is_dir():
            raise CannotWrite(
                f"cannot write {self.place}: the folder {self.file.parent} is gone. Was it removed, renamed or "
                "unmounted meanwhile?"
            )

    def beat(self) -> None:
        """Touch the file now and then until :meth:`release`, so that other machines see that this process lives."""
        while not self._ended.wait(_BEAT):
            with suppress(OSError):
                if _read(self.file) == self.holder:
                    os.utime(self.file)

    def release(self) -> None:
        """Remove the file if it is still this process's; a fork that ends does not."""
        self._ended.set()
        if self.pid != os.getpid():
            return
        own = _read(self.file) == self.holder
        if os.name != "posix":  # where open files cannot be removed
            os.close(self.descriptor)
        if own:
            with suppress(OSError):
                self.file.unlink()
        if os.name == "posix":
            os.close(self.descriptor)


_HELD: dict[Path, Lock] = {}


def _forget() -> None:
    """In a fork: its copies of open files would keep the locks of the system when this process is gone."""
    for lock in _HELD.values():
        with suppress(OSError):
            os.close(lock.descriptor)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@contextmanager
def locked_folder(folder: Path, *, wait: bool = False, say: Callable[[str], None] = notice) -> Iterator[Lock]:
    """Hold a folder while inside; the thread that has it may take it again.

    Args:
        folder: made where it is missing, and removed at the end if nothing came into it.
        wait: for whoever has it.
        say: gets a line where a lock is taken over.

    Raises:
        InUse: another process has it, unless ``wait``.
        CannotWrite: nothing can be written there.
    """
    with _made(folder), _locked(folder / LOCK, folder, wait, say) as lock:
        yield lock


@contextmanager
def locked_file(file: Path, *, wait: bool = False, say: Callable[[str], None] = notice) -> Iterator[Lock]:
    """As :func:`locked_folder`, for one file, or a folder that comes into being as a whole; the lock lies beside it."""
    with _made(file.parent), _locked(file.with_name(f".{file.name}{LOCK}"), file, wait, say) as lock:
        yield lock


def is_empty(folder: Path) -> bool:
    """Whether nothing is in a folder, but perhaps a lock."""
    return all(entry.name == LOCK for entry in folder.iterdir())


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """A folder that is there, and gone again at the end if it was made here and holds nothing."""
    made: list[Path] = []
    try:
        with explained_writing(folder):
            made += [parent for parent in (folder, *folder.parents) if not parent.exists()]
            folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for parent in made:
            with suppress(OSError):  # it holds something, or was never made
                parent.rmdir()


@contextmanager
def _locked(file: Path, place: Path, wait: bool, say: Callable[[str], None]) -> Iterator[Lock]:
    key = Path(os.path.realpath(file))
    lock = _HELD.get(key)
    if lock is not None and lock.thread == threading.get_ident():
        lock.depth += 1
    else:
        with explained_writing(place):
            lock = _HELD[key] = _take(file, place, wait, say)
        threading.Thread(target=lock.beat, name="gfocal lock", daemon=True).start()
    try:
        yield lock
    finally:
        lock.depth -= 1
        if not lock.depth:
            _HELD.pop(key, None)
            lock.release()


def _take(file: Path, place: Path, wait: bool, say: Callable[[str], None]) -> Lock:
    """Open the file, see who has it, and become its holder."""
    watch = _Watch(file, place, say)
    while True:
        try:
            descriptor, new = _open(file)
        except PermissionError:
            if not file.exists():
                raise
            # Of another user, in a folder of several: what cannot be written can still be removed.
            if not watch.is_gone(_read(file), locked=False, wait=wait):
                time.sleep(_POLL)
            else:
                file.unlink()
            continue
        taken = False
        try:
            locked = _lock(descriptor)
            if not _is(descriptor, file):  # whoever had it removed it
                continue
            holder = None if new else _read(file)
            if locked is not False and (new or watch.is_gone(holder, locked=True, wait=wait)):
                own = Holder.of_this_process()
                _write(descriptor, own)
                taken = bool(locked) or _remains(file, own)
                if taken:
                    return Lock(place, file, own, descriptor)
            elif locked is False:
                watch.refuse(holder, wait)
        finally:
            if not taken:
                os.close(descriptor)
        time.sleep(watch.pause)


def _open(file: Path) -> tuple[int, bool]:
    """The file's descriptor, and whether it is new."""
    flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(file, flags | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        pass
    try:
        return os.open(file, flags), False
    except FileNotFoundError:  # removed in between
        return _open(file)


def _lock(descriptor: int) -> bool | None:
    """True: the system has locked the file for this process; False: for another one; None: it cannot do that here."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES) else None


def _is(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except OSError:
        return False


def _read(file: Path) -> Holder | None:
    """Who the file says holds it; None where it is missing, or says nothing yet."""
    try:
        return Holder.from_dict(json.loads(file.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return None


def _write(descriptor: int, holder: Holder) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps(holder.to_dict(), indent=1).encode() + b"\n")
    os.fsync(descriptor)


def _remains(file: Path, own: Holder) -> bool:
    """Without locks of the system: of several that take one over at once the last to write has it."""
    time.sleep(2 * _POLL)
    return _read(file) == own


class _Watch:
    """Looks at a lock that somebody left or has, until it is known which."""

    def __init__(self, file: Path, place: Path, say: Callable[[str], None]) -> None:
        self.file, self.place, self.say = file, place, say
        self._begin = time.monotonic()
        self._seen: tuple[Holder | None, float] | None = None  # and when it was touched
        self._noted = False

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        return 5 * _POLL if self._noted else _POLL

    def is_gone(self, holder: Holder | None, *, locked: bool, wait: bool) -> bool:
        """Whether it may be taken over.

        Raises:
            InUse: its holder lives, unless ``wait``.
        """
        if holder is None:  # made, and nothing in it: its maker is about to write, or never came to it
            return locked or time.monotonic() - self._begin > _STARTING
        gone = not holder.is_alive if holder.is_here else self._silent(holder)
        if gone is None:
            return False
        if not gone:
            self.refuse(holder, wait)
            return False
        self.say(f"note: {self.place} was in use by {holder}, which ended without removing its lock: it is taken over")
        return True

    def _silent(self, holder: Holder) -> bool | None:
        """Of another machine's process: True once it is silent for long, False when it shows life, None before."""
        try:
            touched = self.file.stat().st_mtime
            with tempfile.TemporaryFile(dir=self.file.parent) as now:  # by the clock that touches are told by
                silent = os.fstat(now.fileno()).st_mtime - touched
        except OSError:
            return None
        if self._seen is None:
            self._seen = holder, touched
        if self._seen != (holder, touched):
            return False
        waited = time.monotonic() - self._begin
        if max(silent, waited) >= _SILENT:
            return True
        if not self._noted:
            self._noted = True
            left = _SILENT - max(silent, 0)
            self.say(f"note: {self.place} is in use by {holder}; waiting up to {left:.0f} s to see whether it is alive")
        return None

    def refuse(self, holder: Holder | None, wait: bool) -> None:
        """Say who has it; one that has just begun to take it has a moment to say so itself.

        Raises:
            InUse: unless ``wait``.
        """
        if wait:
            return
        known = holder is not None and not (holder.is_here and not holder.is_alive)
        if not known and time.monotonic() - self._begin < _STARTING:
            return
        by = str(holder) if known else "another process"
        raise InUse(
            f"{self.place} is in use by {by}: wait for it to end, stop it, or choose another place (--out). If you "
            f"know that it is gone, delete {self.file}"
        )

"""Which process holds a lock, and whether it is still alive."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

_SHOWN = 80  # letters of a command


@dataclass(frozen=True)
class Holder:
    """A process, as others find it in a lock.

    Attributes:
        pid: its number.
        host: the machine's name.
        machine: one kernel since its last start, and one numbering of processes: containers of one machine differ.
        born: when the process began, in units of its system: another process with its number began at another time.
        since: when it took the lock, UTC.
        command: what was typed.
    """

    pid: int
    host: str
    machine: str
    born: str
    since: str
    command: str

    @classmethod
    def of_this_process(cls) -> Holder:
        name = Path(sys.argv[0]).name
        words = ["gfocal" if name == "__main__.py" else name, *sys.argv[1:]]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        command = _printable(shlex.join(words))[:500]
        return cls(os.getpid(), socket.gethostname(), _machine(), _born(os.getpid()) or "", now, command)

    @classmethod
    def from_dict(cls, content: object) -> Holder | None:
        """Read back from JSON; None for what is none."""
        if not isinstance(content, dict) or not isinstance(content.get("pid"), int) or content["pid"] <= 0:
            return None
        texts = {each.name: _printable(content.get(each.name, "")) for each in fields(cls) if each.name != "pid"}
        return cls(pid=content["pid"], **texts)

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    @property
    def is_here(self) -> bool:
        """Whether its number means something to this process."""
        return self.machine == _machine()

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; only of one that is here."""
        born = _born(self.pid)
        return born is not None and (not self.born or not born or born == self.born)

    def __str__(self) -> str:
        short = self.command if len(self.command) <= _SHOWN else f"{self.command[:_SHOWN]} ..."
        what = f"`{short}` " if short else ""
        return f"{what}(process {self.pid} on {self.host}, since {self.since})"


def _printable(text: object) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


@cache
def _machine() -> str:
    with suppress(OSError):  # Linux
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _born(pid: int) -> str | None:
    """When a process began; "" where the system does not say; None if there is no such process."""
    if os.name == "posix":
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return None
        except OSError:
            pass  # somebody else's
    with suppress(OSError, ValueError, IndexError):
        # The name, in brackets, may hold anything. What ended and nobody asked about is a zombie.
        state, *rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]
    return _born_elsewhere(pid)


def _born_elsewhere(pid: int) -> str | None:
    try:
        psutil: Any = import_module("psutil")  # comes with accelerate
    except ImportError:
        return ""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except psutil.NoSuchProcess:
        return None
    except psutil.Error:
        return ""

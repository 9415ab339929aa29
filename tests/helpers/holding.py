"""Locks that somebody else holds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from gfocal.utils.locks import Lock


@contextmanager
def held_by_another(lock: AbstractContextManager[Lock]) -> Iterator[threading.Event]:
    """Inside, another thread has the lock, which is as good as another process; the event ends that."""
    held, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            enough.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    try:
        yield enough
    finally:
        enough.set()
        thread.join()

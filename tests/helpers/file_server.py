"""A server of files on this machine that does what servers do wrong."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar


@dataclass
class Served:
    """How a path is answered.

    Attributes:
        content: of the file.
        tag: its ETag; None for none.
        date: of its last change; None for none.
        ranges: whether it answers for parts; False: always with all of it.
        honest: False: ignores If-Range, and gives a part of whatever the file is now.
        whole: what it says of the whole file's length where it gives a part: "" for that length, "*" for nothing, None
            for no Content-Range at all.
        cuts: bytes after which the connection is closed, of the first answer, the second ...
        stalls: bytes after which nothing comes for ``silence`` seconds, of the first answer, the second ...
        status: another one than 200.
        location: where a redirect leads.
        kind: Content-Type.
        length: whether it says how long it is; "chunked" sends it in pieces that say how long they are.
    """

    content: bytes = b""
    tag: str | None = ""
    date: str | None = None
    ranges: bool = True
    honest: bool = True
    whole: str | None = ""
    cuts: list[int] = field(default_factory=list)
    stalls: list[int] = field(default_factory=list)
    silence: float = 0.6
    status: int = 200
    location: str | None = None
    kind: str = "application/octet-stream"
    length: bool | str = True
    packed: str | None = None
    statuses: list[int] = field(default_factory=list)

    @property
    def etag(self) -> str | None:
        return f'"{hashlib.sha256(self.content).hexdigest()[:12]}"' if self.tag == "" else self.tag


class FileServer(ThreadingHTTPServer):
    """Attributes: ``files`` by path, and ``asked``: (path, headers) of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def ranges(self) -> list[str | None]:
        """What part each request asked for."""
        return [headers.get("Range") for _, headers in self.asked]

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"  # or there are no chunks; each answer closes the connection all the same

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers.items())))
        served = self.server.files.get(self.path)
        if served is None:
            return self.send_error(404)
        status = served.statuses.pop(0) if served.statuses else served.status
        if status not in (200, 206):
            self.send_response(status)
            if served.location is not None:
                self.send_header("Location", served.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._give(served)

    def _give(self, served: Served) -> None:
        start, content = self._start(served), served.content
        if start > 0 and start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", served.kind)
        if served.etag is not None:
            self.send_header("ETag", served.etag)
        if served.packed is not None:
            self.send_header("Content-Encoding", served.packed)
        if served.date is not None:
            self.send_header("Last-Modified", served.date)
        if start and served.whole is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{served.whole or len(content)}")
        if served.length == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif served.length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self._send(content[start:], served)

    def _start(self, served: Served) -> int:
        match = re.match(r"bytes=(\d+)-$", self.headers.get("Range", ""))
        if match is None or not served.ranges:
            return 0
        known = {served.etag, served.date} - {None}
        return int(match[1]) if not served.honest or self.headers.get("If-Range") in known else 0

    def _send(self, content: bytes, served: Served) -> None:
        cut = served.cuts.pop(0) if served.cuts else None
        stall = served.stalls.pop(0) if served.stalls else None
        if stall is not None:
            self.wfile.write(content[:stall])
            self.wfile.flush()
            time.sleep(served.silence)
            content = content[stall:]
        if served.length == "chunked":
            self.wfile.write(b"%x\r\n" % len(content) + content[:cut] + (b"\r\n0\r\n\r\n" if cut is None else b""))
        else:
            self.wfile.write(content[:cut])
        self.wfile.flush()
        self.close_connection = True


_S = TypeVar("_S", bound=ThreadingHTTPServer)


@contextmanager
def running(server: _S) -> Iterator[_S]:
    """Let a server answer while inside."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""One file from a server: whole, in parts, changed meanwhile, gone, slow, and what is said of each."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfocal.catalogue import download as module
from gfocal.catalogue.download import download
from gfocal.catalogue.home import with_parts
from gfocal.catalogue.web import CannotFetch, CutOff, next_address
from gfocal.errors import UsageError
from gfocal.utils.files import CannotWrite, DiskFull
from helpers.file_server import FileServer, Served

CONTENT = np.random.default_rng(0).integers(0, 256, 900_000, dtype=np.uint8).tobytes()
OTHER = bytes(reversed(CONTENT))
SUM = hashlib.sha256(CONTENT).hexdigest()


class Call:
    """Downloads into one place, with what was said."""

    def __init__(self, server: FileServer, folder: Path) -> None:
        self.server, self.file, self.said = server, folder / "down" / "weights.pth", list[str]()
        self.part, self.notes = with_parts(self.file)[1:]

    def __call__(self, path: str = "/w", *, sha256: str = SUM[:8], timeout: float = 5.0) -> str:
        url = path if "://" in path else self.server.url + path
        return download(url, self.file, sha256=sha256, timeout=timeout, say=self.said.append)

    def note(self, tag: str) -> None:
        """Say of which version the part is."""
        self.notes.write_text(json.dumps({"url": f"{self.server.url}/w", "tag": tag, "total": len(CONTENT)}))

    @property
    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.file.parent.iterdir())


@pytest.fixture
def call(server: FileServer, tmp_path: Path) -> Call:
    server.files["/w"] = Served(CONTENT)
    return Call(server, tmp_path)


def test_a_file_comes_whole(call: Call) -> None:
    assert call() == SUM
    assert call.file.read_bytes() == CONTENT
    assert call.leftovers == ["weights.pth"]
    ((_, headers),) = call.server.asked
    assert headers["User-Agent"].startswith("gfocal/")
    assert headers["Accept-Encoding"] == "identity"
    assert "Range" not in headers


@pytest.mark.parametrize(
    "served",
    [
        Served(CONTENT, cuts=[500_000, 100_000]),
        Served(CONTENT, cuts=[500_000, 100_000], tag=None, date="Wed, 25 Nov 2026 10:00:00 GMT"),
        Served(CONTENT, cuts=[500_000, 100_000], tag='W/"weak"', date="Wed, 25 Nov 2026 10:00:00 GMT"),
    ],
    ids=["ETag", "date", "weak ETag and date"],
)
def test_a_file_that_is_cut_off_goes_on_where_it_was(call: Call, served: Served) -> None:
    call.server.files["/w"] = served
    assert call() == SUM
    assert call.server.ranges == [None, "bytes=500000-", "bytes=600000-"]
    validator = served.date or served.etag
    assert [headers.get("If-Range") for _, headers in call.server.asked] == [None, validator, validator]
    assert "note: 500,000 of 900,000 bytes came; trying again in 0 s" in call.said


def test_a_later_call_goes_on_too(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call.server.files["/w"].cuts = [300_000]
    monkeypatch.setattr(module, "_TRIES", 1)
    with pytest.raises(CutOff, match=r"300,000 of 900,000 bytes came"):
        call()
    assert call.leftovers == ["weights.pth.part", "weights.pth.part.json"]
    assert call.part.read_bytes() == CONTENT[:300_000]
    assert call() == SUM
    assert call.server.ranges == [None, "bytes=300000-"]
    assert call.leftovers == ["weights.pth"]


def test_a_part_that_is_complete_is_only_compared(call: Call) -> None:
    call()
    call.file.rename(call.part)
    call.note("any")
    call.server.asked.clear()
    assert call() == SUM
    assert call.server.asked == []


@pytest.mark.parametrize("notes", ["", "{}", "[1]", '{"url": "http://other/w", "tag": "x", "total": 900000}'])
def test_a_part_of_unknown_origin_is_not_added_to(call: Call, notes: str) -> None:
    call.file.parent.mkdir()
    call.part.write_bytes(b"x" * 1000)
    call.notes.write_text(notes)
    assert call() == SUM
    assert call.server.ranges == [None]
    assert call.said == ["note: the server gives the whole file again", "127.0.0.1 gives 0.9 MB"]


def test_without_etag_and_date_it_begins_again(call: Call) -> None:
    call.server.files["/w"] = Served(CONTENT, tag=None, cuts=[400_000])
    assert call() == SUM
    assert call.server.ranges == [None, None]
    assert call.file.read_bytes() == CONTENT


def test_a_part_of_a_whole_that_nobody_counts_is_added(call: Call) -> None:
    call.server.files["/w"] = Served(CONTENT, whole="*", cuts=[400_000, 300_000])
    assert call() == SUM
    assert call.server.ranges == [None, "bytes=400000-", "bytes=700000-"]


def test_a_part_of_nobody_knows_what_is_fetched_whole(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    call.server.files["/w"] = Served(CONTENT, whole=None, cuts=[400_000])
    assert call() == SUM
    assert call.server.ranges == [None, "bytes=400000-", None]
    assert any("gave a part of a file without saying which" in line for line in call.said)


def test_a_server_that_ignores_ranges_gives_all_again(call: Call) -> None:
    call.server.files["/w"] = Served(CONTENT, ranges=False, cuts=[400_000])
    assert call() == SUM
    assert call.server.ranges == [None, "bytes=400000-"]
    assert call.said[-2:] == ["note: the server gives the whole file again", "127.0.0.1 gives 0.9 MB"]


def test_a_file_that_changes_between_two_parts_is_fetched_whole(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call.server.files["/w"] = Served(OTHER, cuts=[400_000])
    monkeypatch.setattr(module, "_TRIES", 1)
    with pytest.raises(CutOff):
        call()
    call.server.files["/w"] = Served(CONTENT)
    assert call() == SUM
    assert call.file.read_bytes() == CONTENT


@pytest.mark.parametrize("size", [900_000, 100_000], ids=["as large", "smaller"])
def test_also_by_a_server_that_ignores_which_file_is_meant(
    call: Call, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    call.server.files["/w"] = Served(OTHER, cuts=[400_000])
    monkeypatch.setattr(module, "_TRIES", 1)
    with pytest.raises(CutOff):
        call()
    monkeypatch.setattr(module, "_TRIES", 5)
    call.server.files["/w"] = Served(CONTENT[:size], honest=False)
    assert call(sha256="") == hashlib.sha256(CONTENT[:size]).hexdigest()
    assert "has another file now" in call.said[1]


def test_parts_that_do_not_fit_are_found_by_the_sum(call: Call) -> None:
    """A server that names two files alike."""
    call.server.files["/w"] = Served(CONTENT, tag='"same"')
    call.file.parent.mkdir()
    call.part.write_bytes(OTHER[:400_000])
    call.note('"same"')
    assert call() == SUM
    assert call.server.ranges == ["bytes=400000-", None]
    assert "do not make up the file" in call.said[1]


def test_another_file_than_the_published_one_is_refused(call: Call) -> None:
    call.server.files["/w"] = Served(OTHER)
    with pytest.raises(CannotFetch, match=rf"begins with {hashlib.sha256(OTHER).hexdigest()[:8]}, not with {SUM[:8]}"):
        call()
    assert call.leftovers == []
    assert call(sha256="") == hashlib.sha256(OTHER).hexdigest()


def test_a_server_that_falls_silent_is_asked_again(call: Call) -> None:
    call.server.files["/w"].stalls = [400_000]
    assert call(timeout=0.15) == SUM
    assert call.server.ranges == [None, "bytes=400000-"]
    assert "127.0.0.1 did not answer in time (GFOCAL_TIMEOUT" in call.said[1]


def test_a_server_that_stays_silent_is_given_up(call: Call) -> None:
    call.server.files["/w"].stalls = [0] * 9
    with pytest.raises(CutOff, match="did not answer in time"):
        call(timeout=0.05)
    assert len(call.server.asked) == 5


def test_a_busy_server_is_asked_again(call: Call) -> None:
    call.server.files["/w"].statuses = [503, 429]
    assert call() == SUM
    assert [line.split(";")[0] for line in call.said[:-1]] == [
        "note: 127.0.0.1 asks for patience (503 Service Unavailable)",
        "note: 127.0.0.1 asks for patience (429 Too Many Requests)",
    ]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, r"nothing any more at .*/w \(404 Not Found\)"),
        (410, r"nothing any more at .*/w \(410 Gone\)"),
        (403, r"does not give out .*/w \(403 Forbidden\)"),
        (401, r"does not give out .*/w \(401 Unauthorized\)"),
    ],
)
def test_what_is_gone_or_closed_is_said_at_once(call: Call, status: int, words: str) -> None:
    call.server.files["/w"] = Served(status=status)
    with pytest.raises(CannotFetch, match=words):
        call()
    assert len(call.server.asked) == 1
    assert call.leftovers == []


def test_a_host_that_is_not_there_is_said(call: Call) -> None:
    with pytest.raises(CannotFetch, match=r"the host weights\.invalid is not found"):
        call("http://weights.invalid/w")


def test_a_port_where_nobody_listens_is_said(call: Call) -> None:
    with pytest.raises(CutOff, match=r"the connection to 127\.0\.0\.1 failed \(.*refused"):
        call("http://127.0.0.1:9/w")


def test_a_web_page_is_no_file(call: Call) -> None:
    call.server.files["/w"] = Served(b"<html>log in", kind="text/html; charset=utf-8")
    with pytest.raises(CannotFetch, match="a web page in the place of the file"):
        call()
    assert call.leftovers == []


def test_a_packed_form_is_no_file(call: Call) -> None:
    call.server.files["/w"] = Served(gzip.compress(CONTENT), packed="gzip")
    with pytest.raises(CannotFetch, match=r"gave the file packed \(gzip\), which it was asked not to"):
        call(sha256="")
    assert call.leftovers == []
    for served in (Served(CONTENT, packed="identity"), Served(CONTENT, packed="")):
        call.server.files["/w"] = served
        assert call() == SUM
    call.server.files["/w.tgz"] = Served(CONTENT, packed="x-gzip")  # as some servers call a file of that name
    assert call("/w.tgz") == SUM


def test_a_redirect_to_another_host_is_followed_and_said(call: Call) -> None:
    port = call.server.server_port
    call.server.files["/old"] = Served(status=302, location=f"http://localhost:{port}/mid?a=b%20c")
    call.server.files["/mid?a=b%20c"] = Served(status=308, location="/w")
    assert call("/old") == SUM
    assert call.said == ["note: 127.0.0.1 leads to localhost", "127.0.0.1 gives 0.9 MB"]
    assert [path for path, _ in call.server.asked] == ["/old", "/mid?a=b%20c", "/w"]


def test_a_redirect_keeps_asking_for_the_part(call: Call) -> None:
    call.server.files["/old"] = Served(status=302, location="/w")
    call.server.files["/w"].cuts = [400_000]
    assert call("/old") == SUM
    assert call.server.ranges == [None, None, "bytes=400000-", "bytes=400000-"]


def test_redirects_in_a_circle_end(call: Call) -> None:
    call.server.files["/old"] = Served(status=302, location="/old")
    with pytest.raises(CannotFetch, match=r"from address to address \(10 times\)"):
        call("/old")


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://example.org/w", r"http://example\.org/w, which is not encrypted"),
        ("ftp://example.org/w", "no address of the web"),
        ("file:///etc/passwd", "no address of the web"),
        ("https://me:secret@example.org/w", "leads to https://example.org/w, with a name or password"),
        ("https://[::1/w", "no address of the web"),
        (None, "without saying where"),
    ],
)
def test_where_a_redirect_may_not_lead(location: str | None, words: str) -> None:
    with pytest.raises(CannotFetch, match=words) as error:
        next_address("https://example.org/a", location)
    assert "secret" not in str(error.value)


def test_where_a_redirect_may_lead() -> None:
    assert next_address("https://a.org/x/y", "https://b.org/z") == "https://b.org/z"
    assert next_address("https://a.org/x/y", "../z?q=1&r=%20") == "https://a.org/z?q=1&r=%20"
    assert next_address("http://a.org/x", "http://b.org/z") == "http://b.org/z"
    assert next_address("http://a.org/x", "https://b.org/with space") == "https://b.org/with%20space"
    assert next_address("https://a.org/x", "\x1b[2J") == "https://a.org/[2J"


def test_a_proxy_of_the_environment_is_asked(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call.server.files["http://weights.invalid/w"] = Served(CONTENT)
    monkeypatch.setenv("http_proxy", call.server.url)
    assert call("http://weights.invalid/w") == SUM
    call.file.unlink()
    monkeypatch.setenv("no_proxy", "weights.invalid")
    with pytest.raises(CannotFetch, match=r"weights\.invalid is not found"):
        call("http://weights.invalid/w")


@pytest.mark.parametrize("proxy", ["socks5h://127.0.0.1:9", "SOCKS4://me:secret@127.0.0.1:9", "ftp://x"])
def test_a_proxy_of_another_kind_is_refused(call: Call, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(UsageError, match="HTTP_PROXY names a proxy of") as error:
        call("http://weights.invalid/w")
    assert "secret" not in str(error.value)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert call() == SUM


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://127.0.0.1/a b", None),
        ("http://127.0.0.1:port/w", None),
        ("http://a..b/w", None),
        (f"http://{'a' * 70}/w", None),
        ("http://example.org/w", "http:/me:secret@proxy:80"),
        ("http://example.org/w", "http://me:secret@proxy:port"),
    ],
)
def test_an_address_that_is_none_is_not_asked_again(
    call: Call, monkeypatch: pytest.MonkeyPatch, url: str, proxy: str | None
) -> None:
    if proxy is not None:
        monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(CannotFetch, match="something wrong with an address") as error:
        call(url)
    assert call.said == []
    assert "secret" not in str(error.value)


def test_what_was_asked_for_is_shown_without_its_keys(call: Call) -> None:
    call.server.files["/old"] = Served(status=302, location="/gone?key=secret")
    with pytest.raises(CannotFetch, match=r"nothing any more at http://127\.0\.0\.1:\d+/gone \(404"):
        call("/old")


def test_a_length_that_nobody_says(call: Call) -> None:
    call.server.files["/w"] = Served(CONTENT, length=False)
    assert call() == SUM


def test_pieces_that_end_early(call: Call) -> None:
    call.server.files["/w"] = Served(CONTENT, length="chunked", cuts=[400_000])
    assert call() == SUM
    assert call.server.ranges == [None, "bytes=400000-"]


def test_no_room_is_found_before_anything_comes(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with pytest.raises(DiskFull, match=r"no room on the disk for .*weights\.pth\.part, it needs 0\.9 MB"):
        call()
    assert call.leftovers == []


def test_a_disk_that_fills_up_keeps_nothing(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    class Filling:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Filling:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def seek(self, place: int) -> None:
            self.file.seek(place)

        def write(self, block: bytes) -> None:
            if self.file.tell() > 300_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.file.write(block)

        def flush(self) -> None:
            self.file.flush()

    def opened(self: Path, mode: str = "r", *words: Any, **more: Any) -> Any:
        file = real(self, mode, *words, **more)
        return Filling(file) if self.name.endswith(".part") and mode in ("wb", "r+b") else file

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(DiskFull, match="no room"):
        call()
    assert call.leftovers == []


def test_a_place_that_cannot_be_written_is_said(server: FileServer, tmp_path: Path) -> None:
    server.files["/w"] = Served(CONTENT)
    (tmp_path / "down").write_text("a file")
    with pytest.raises(CannotWrite, match="down"):
        Call(server, tmp_path)()


def test_ctrl_c_keeps_what_came(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    real, reads = module._read, []

    def interrupted(answer: Any, url: str) -> bytes:
        reads.append(1)
        if len(reads) == 3:
            raise KeyboardInterrupt
        return real(answer, url)

    monkeypatch.setattr(module, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call()
    kept = call.part.stat().st_size
    assert 0 < kept < 900_000
    monkeypatch.setattr(module, "_read", real)
    assert call() == SUM
    assert call.server.ranges == [None, f"bytes={kept}-"]

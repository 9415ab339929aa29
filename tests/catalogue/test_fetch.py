"""From a name to weights that work: fetched once, compared, converted, kept; and what may stand against it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import gfocal
from gfocal.catalogue import download as download_module
from gfocal.catalogue.addresses import file_name
from gfocal.catalogue.entries import Published, find
from gfocal.catalogue.fetch import fetch
from gfocal.catalogue.home import cached, home, read_record, remove
from gfocal.errors import GfocalError, UsageError, message_of
from gfocal.runs.checkpoint import read_about
from gfocal.utils.files import DiskFull
from gfocal.utils.signals import Stopped
from helpers.file_server import FileServer, Served
from helpers.launched import Started
from helpers.published_files import CLOSED, entry, nanodet_file

SUM = hashlib.sha256(nanodet_file()).hexdigest()


@pytest.fixture
def small(server: FileServer) -> Published:
    """A small detector that a server on this machine publishes."""
    server.files[f"/zoo/small-{SUM[:8]}.pth"] = Served(nanodet_file())
    return entry(f"{server.url}/zoo/small-{SUM[:8]}.pth", sha256=SUM[:8], megabytes=4.0)


def fetched(which: Published, **more: Any) -> tuple[Path, list[str]]:
    said: list[str] = []
    return fetch(which, say=said.append, **more), said


def test_weights_are_fetched_converted_and_kept(small: Published, server: FileServer, home: Path) -> None:
    folder, _ = fetched(small)
    assert folder == home / "models" / "small_r1_coco"
    assert sorted(path.name for path in folder.iterdir()) == ["best.safetensors", "model.json"]
    assert list((home / "downloads").iterdir()) == [], "the published file goes once it is converted"
    detector = gfocal.load(folder)
    assert len(detector.names) == 80
    theirs = torch.load(io.BytesIO(nanodet_file()), weights_only=True)["state_dict"]
    assert torch.equal(detector.state_dict()["neck.lateral.1.weight"], theirs["model.fpn.lateral_convs.1.conv.weight"])
    record = read_record("small_r1_coco")
    assert record is not None
    assert (record.sha256, record.bytes, record.recipe) == (SUM, len(nanodet_file()), "gfl_nano")
    assert record.url == record.address == small.addresses[0]
    about = read_about(folder / "best.safetensors")
    assert about.notes["origins"] == [
        {"words": f"small_r1_coco ({small.addresses[0]})", "licence": "Apache-2.0", "noncommercial": False}
    ]
    assert about.notes["imported_from"] == f"small-{SUM[:8]}.pth"
    assert (record.licence, record.noncommercial, record.gfocal) == ("Apache-2.0", False, gfocal.__version__)


def test_what_is_fetched_is_said_before(small: Published, server: FileServer, home: Path) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if len(said) <= 5:
            assert server.asked == [], "before anything is asked for"

    fetch(small, say=say)
    assert said[:5] == [
        "small_r1_coco: NanoDet-m, ShuffleNetV2-1.0x, 20.5 (COCO val2017, AP)",
        f"  from {small.addresses[0]} (Somebody: https://example.org/zoo)",
        "  licence: Apache-2.0; of the repository, which does not name the weights apart",
        "  size: 4 MB, as published",
        f"  to {home / 'models' / 'small_r1_coco'}",
    ]
    assert f"fetched {len(nanodet_file()):,} bytes, SHA-256 {SUM} (as published)" in said
    assert any(line.startswith("wrote ") and "gfl_nano of nanodet" in line for line in said)


def test_a_second_call_asks_nobody(small: Published, server: FileServer) -> None:
    fetched(small)
    asked = len(server.asked)
    folder, said = fetched(small)
    assert (len(server.asked), said) == (asked, [])
    assert folder.is_dir()


def test_an_unfinished_folder_is_no_model(small: Published, home: Path) -> None:
    """Killed between the weights and the record of them."""
    folder, _ = fetched(small)
    (folder / "model.json").unlink()
    (folder / "best.safetensors").write_bytes(b"half")
    assert read_record("small_r1_coco") is None
    fetched(small)
    assert gfocal.load(folder)


# --- licences


def closed(small: Published) -> Published:
    return entry(small.addresses[0], "closed_r1_coco", source=CLOSED)


def test_a_closed_licence_needs_a_yes(small: Published, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))  # no terminal, whatever comes from it
    with pytest.raises(UsageError, match="forbids commercial use, and nobody can be asked here") as error:
        fetched(closed(small))
    assert "gfocal models closed_r1_coco --download --yes" in str(error.value)
    assert server.asked == []
    fetched(closed(small), yes=True)
    record = read_record("closed_r1_coco")
    assert record is not None
    assert record.noncommercial


def test_the_environment_can_say_yes(small: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GFOCAL_YES", "0")
    with pytest.raises(UsageError, match="nobody can be asked"):
        fetched(closed(small))
    monkeypatch.setenv("GFOCAL_YES", "1")
    _, said = fetched(closed(small))
    assert "  licence: CC BY-NC 4.0, which FORBIDS COMMERCIAL USE; of the repository" in "\n".join(said)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "agreed"), [("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_a_terminal_is_asked(
    small: Published, server: FileServer, monkeypatch: pytest.MonkeyPatch, typed: str, agreed: bool
) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    monkeypatch.setattr("sys.stderr", screen)
    if agreed:
        fetched(closed(small))
    else:
        with pytest.raises(UsageError, match="nobody agreed to its licence"):
            fetched(closed(small))
        assert server.asked == []
    assert "(CC BY-NC 4.0) forbids commercial use. Fetch it? [y/N] " in screen.getvalue()


def test_of_several_processes_none_is_asked(small: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="nobody can be asked"):
        fetched(closed(small))


def test_an_open_licence_asks_nobody(small: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(""))
    fetched(small)


# --- what cannot be had


def test_what_is_gone_says_what_a_person_can_do(small: Published, server: FileServer, home: Path) -> None:
    server.files.clear()
    with pytest.raises(GfocalError) as error:
        fetched(small)
    assert not isinstance(error.value, UsageError)
    text = str(error.value)
    place = home / "downloads" / f"small-{SUM[:8]}.pth"
    assert f"nothing any more at {small.addresses[0]} (404" in text
    assert f"fetch it with a browser from {small.addresses[0]}, put it at {place}, and repeat the command" in text
    assert "gfocal import FILE -o DIR" in text
    assert not (home / "models" / "small_r1_coco").exists()
    # What the message says, done.
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(nanodet_file())
    _, said = fetched(small)
    assert "put by hand" in said[0]
    record = read_record("small_r1_coco")
    assert record is not None
    assert record.url == ""
    assert said[1] == f"took {len(nanodet_file()):,} bytes, SHA-256 {SUM} (as published)"
    assert f"{place} is not needed any more, and stays" in said
    assert place.read_bytes() == nanodet_file()


def test_a_file_by_hand_that_is_of_no_use_stays(small: Published, home: Path) -> None:
    place = home / "downloads" / "w.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x")
    with pytest.raises(UsageError, match=r"w\.pth is not a checkpoint") as error:
        fetched(entry("https://example.org/w.pth"))
    assert "the file is kept: `gfocal import" in message_of(error.value)
    assert "put the right one there, or delete it to have it fetched" in message_of(error.value)
    assert place.read_bytes() == b"x"


def test_a_file_by_hand_is_compared_too(small: Published, home: Path) -> None:
    place = home / "downloads" / f"small-{SUM[:8]}.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"another file")
    with pytest.raises(UsageError, match=f"is not the file that was published.*not with {SUM[:8]}. Delete it"):
        fetched(small)


def test_the_next_address_is_tried(server: FileServer) -> None:
    server.files["/new.pth"] = Served(nanodet_file())
    which = entry(f"{server.url}/gone.pth", addresses=(f"{server.url}/gone.pth", f"{server.url}/new.pth"))
    _, said = fetched(which)
    assert any("nothing any more at" in line for line in said)
    record = read_record("small_r1_coco")
    assert record is not None
    assert record.url.endswith("/new.pth")


@pytest.mark.parametrize("status", [None, 503], ids=["nobody listens", "busy"])
def test_the_next_address_is_tried_where_the_first_does_not_answer(server: FileServer, status: int | None) -> None:
    first = "http://127.0.0.1:9/w.pth" if status is None else f"{server.url}/busy.pth"
    server.files["/busy.pth"] = Served(status=status or 200)
    server.files["/new.pth"] = Served(nanodet_file())
    _, said = fetched(entry(first, addresses=(first, f"{server.url}/new.pth")))
    assert any("failed (" in line or "asks for patience" in line for line in said)
    record = read_record("small_r1_coco")
    assert record is not None
    assert record.url.endswith("/new.pth")


def test_what_came_of_the_second_is_gone_on_with_first(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "_TRIES", 1)
    both = (f"{server.url}/one.pth", f"{server.url}/two.pth")
    server.files["/one.pth"] = Served(nanodet_file(), statuses=[503])
    server.files["/two.pth"] = Served(nanodet_file(), cuts=[1_000_000])
    with pytest.raises(
        GfocalError, match=r"could not be fetched: .*patience.*; 1,000,000 of .* are kept in .*: repeat"
    ):
        fetched(entry(both[0], addresses=both))
    fetched(entry(both[0], addresses=both))
    assert [(path, headers.get("Range")) for path, headers in server.asked] == [
        ("/one.pth", None), ("/two.pth", None), ("/two.pth", "bytes=1000000-")
    ]  # fmt: skip


def test_another_file_than_the_published_one_is_not_kept(small: Published, server: FileServer, home: Path) -> None:
    server.files[f"/zoo/small-{SUM[:8]}.pth"] = Served(nanodet_file() + b"!")
    with pytest.raises(GfocalError, match=f"another file than the one that was published.*not with {SUM[:8]}"):
        fetched(small)
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_a_broken_line_keeps_what_came(small: Published, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "_TRIES", 1)
    server.files[f"/zoo/small-{SUM[:8]}.pth"].cuts = [1_000_000]
    with pytest.raises(
        GfocalError, match=r"1,000,000 of .* 1,000,000 bytes are kept in .*: repeat the command to go on"
    ):
        fetched(small)
    assert [(each.name, each.bytes, each.record) for each in cached()] == [
        (f"small-{SUM[:8]}.pth.part", 1_000_000, None)
    ]
    fetched(small)
    assert server.ranges == [None, "bytes=1000000-"]


def test_ctrl_c_says_how_to_go_on(small: Published, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    real, reads = download_module._read, []

    def interrupted(answer: Any, url: str) -> bytes:
        reads.append(1)
        if len(reads) > 4:
            raise Stopped(signal.SIGTERM)
        return real(answer, url)

    monkeypatch.setattr(download_module, "_read", interrupted)
    with pytest.raises(
        Stopped, match=r"stopped by SIGTERM; [\d,]+ bytes are kept in .*\.part: repeat the command"
    ) as error:
        fetched(small)
    assert error.value.number == signal.SIGTERM
    monkeypatch.setattr(download_module, "_read", real)
    fetched(small)
    assert server.ranges[1] is not None


@pytest.mark.parametrize("variable", ["GFOCAL_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_what_is_here_works_and_the_rest_is_refused(
    small: Published, server: FileServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(UsageError, match=f"{variable} forbids connections") as error:
        fetched(small)
    assert "gfocal models small_r1_coco --download" in str(error.value)
    assert server.asked == []
    monkeypatch.setenv(variable, "0")
    fetched(small)
    monkeypatch.setenv(variable, "1")
    assert fetched(small)[0].is_dir()


def test_a_page_for_people_is_said_at_once() -> None:
    with pytest.raises(UsageError, match=r"asks for a person; by hand: .*pan\.baidu\.com/s/1C34 \(code hj8d\)"):
        fetched(entry("https://pan.baidu.com/s/1C34", code="hj8d"))


@pytest.mark.parametrize(
    ("state", "words"), [("needs", "cannot read small_r1_coco yet: missing is DCN"), ("no", "does not read .*: DCN")]
)
def test_what_is_not_readable_is_not_fetched(small: Published, server: FileServer, state: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        fetched(entry(small.addresses[0], state=state, reason="DCN", row=""))
    assert server.asked == []


# --- what is in the file


class Hostile:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def test_a_hostile_pickle_is_refused_and_not_run(server: FileServer, tmp_path: Path) -> None:
    server.files["/w.pth"] = Served(pickle.dumps({"state_dict": Hostile(tmp_path / "touched")}))
    with pytest.raises(UsageError, match="nothing in it was run") as error:
        fetched(entry(f"{server.url}/w.pth"))
    assert "/w.pth.bad -o DIR` takes options; repeat the command to have it fetched again" in message_of(error.value)
    assert not (tmp_path / "touched").exists()
    assert read_record("small_r1_coco") is None


def test_a_hostile_object_beside_the_tensors_is_left_out_and_named(server: FileServer, tmp_path: Path) -> None:
    content = torch.load(io.BytesIO(nanodet_file()), weights_only=True)
    file = io.BytesIO()
    torch.save({**content, "hook": Hostile(tmp_path / "touched")}, file)
    server.files["/w.pth"] = Served(file.getvalue())
    _, said = fetched(entry(f"{server.url}/w.pth"))
    assert "left out, not run: objects of 1 other classes: posix.mkdir" in said
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("length", [True, False], ids=["believed whole", "no length"])
def test_a_file_that_ends_early_does_not_stand_in_the_way(server: FileServer, home: Path, length: bool) -> None:
    server.files["/w.pth"] = Served(nanodet_file()[:1_000_000], length=length)
    said: list[str] = []
    with pytest.raises(UsageError, match="cut off"):
        fetch(entry(f"{server.url}/w.pth", megabytes=4.0), say=said.append)
    assert "note: that is 1.0 MB, and 4 MB are published" in said
    assert [each.name for each in cached()] == ["w.pth.bad"]
    server.files["/w.pth"] = Served(nanodet_file())
    _, said = fetched(entry(f"{server.url}/w.pth", megabytes=4.0))
    assert not any("are published" in line for line in said)
    remove("small_r1_coco", "w.pth")
    assert [path for path in home.rglob("*") if path.is_file()] == []


def stop_at_import(which: Published, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that fetches and gets no further."""

    def stopped(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("gfocal.catalogue.fetch.import_weights", stopped)
        with pytest.raises(type(error)):
            fetched(which)


@pytest.mark.parametrize("error", [DiskFull("no room"), KeyboardInterrupt()], ids=["no room", "Ctrl-C"])
def test_a_file_that_could_not_be_kept_is_taken_by_the_next_call(
    small: Published, server: FileServer, home: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    stop_at_import(small, error, monkeypatch)
    _, said = fetched(small)
    assert "left by an earlier call, and taken" in said[0]
    assert len(server.asked) == 1
    record = read_record("small_r1_coco")
    assert record is not None
    assert record.url == small.addresses[0]
    assert list((home / "downloads").iterdir()) == [], "it was fetched, not put there"


def test_a_file_that_a_person_puts_in_its_place_stays(
    small: Published, server: FileServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = entry(small.addresses[0])  # of which no sum is published
    stop_at_import(other, DiskFull("no room"), monkeypatch)
    place = home / "downloads" / file_name(other)
    place.write_bytes(nanodet_file() + b"of a person")
    _, said = fetched(other)
    assert "put by hand, and taken" in said[0]
    assert place.read_bytes().endswith(b"of a person")


def test_what_a_server_without_versions_gave_is_not_promised(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module, "_TRIES", 1)
    server.files["/w.pth"] = Served(nanodet_file(), tag=None, cuts=[1_000_000])
    with pytest.raises(GfocalError, match=r"1,000,000 bytes, and .* not say of which version: .* begins again"):
        fetched(entry(f"{server.url}/w.pth"))


def test_the_list_says_the_input_size(server: FileServer) -> None:
    server.files["/epoch_320.pth"] = Served(nanodet_file())
    folder, said = fetched(entry(f"{server.url}/epoch_320.pth", input="416 x 416"))
    assert gfocal.load(folder).resize.size == 416
    assert not any("assumed" in line for line in said)


def test_another_network_is_not_kept_under_the_name(server: FileServer, home: Path) -> None:
    """As an address, a mirror or a person mixes them up; most publishers give no sum."""
    plus = entry(f"{server.url}/w.pth", "plus_r1_coco", detector="NanoDet-Plus", row="nanodet_plus_m")
    server.files["/w.pth"] = Served(nanodet_file())
    with pytest.raises(UsageError, match="is not plus_r1_coco: it holds gfl_nano, not nanodet_plus_m\n"):
        fetched(plus)
    assert not (home / "models" / "plus_r1_coco" / "best.safetensors").exists()
    assert read_record("plus_r1_coco") is None


def test_another_project_says_what_was_expected(server: FileServer) -> None:
    """Where what the list says of the one does not apply to the other."""
    server.files["/w.pth"] = Served(nanodet_file())
    gfl = entry(f"{server.url}/w.pth", detector="GFL", backbone="ResNet-50", row="gfl_r50", style="pytorch")
    with pytest.raises(
        UsageError, match=r"NanoDet's network has only one\nsmall_r1_coco is GFL, ResNet-50; the file is"
    ):
        fetched(gfl)


@pytest.mark.parametrize(
    ("changes", "classes", "words"),
    [
        ((), 20, "holds 20 classes, not the 80 of COCO"),
        (("model.backbone=shufflenet_v2_x1_5",), 80, "the backbone shufflenet_v2_x1_5, not ShuffleNetV2-1.0x"),
    ],
)
def test_nor_another_size_of_it(server: FileServer, changes: tuple[str, ...], classes: int, words: str) -> None:
    server.files["/w.pth"] = Served(nanodet_file("gfl_nano", *changes, classes=classes))
    with pytest.raises(UsageError, match=words):
        fetched(entry(f"{server.url}/w.pth"))


# --- several at once


SCRIPT = """
import sys
from gfocal.catalogue import download
from gfocal.catalogue.fetch import fetch
from helpers.published_files import entry
fetch(entry(sys.argv[1]), say=lambda line: print(line, flush=True))
"""


def test_of_two_calls_at_once_one_fetches(server: FileServer) -> None:
    server.files["/w.pth"] = Served(nanodet_file(), stalls=[2_000_000], silence=0.3)
    which, said = entry(f"{server.url}/w.pth"), list[str]()
    folders: list[Path] = []
    first = threading.Thread(target=lambda: folders.append(fetched(which)[0]))
    first.start()
    until = time.monotonic() + 60
    while not server.asked and time.monotonic() < until:
        time.sleep(0.01)
    folder = fetch(which, say=said.append)
    first.join()
    assert folders == [folder]
    assert len(server.asked) == 1
    assert any(line.endswith("; waiting for it") for line in said)


@pytest.mark.slow  # it starts two processes
def test_of_two_processes_one_fetches(server: FileServer, home: Path) -> None:
    server.files["/w.pth"] = Served(nanodet_file(), stalls=[2_000_000], silence=1.0)
    tests = str(Path(__file__).parents[1])
    code = f"import sys\nsys.path.insert(0, {tests!r})\n{SCRIPT}"
    environment = {"GFOCAL_HOME": str(home), "NO_PROXY": "127.0.0.1"}
    first = Started(code, f"{server.url}/w.pth", environment=environment)
    until = time.monotonic() + 60
    while not server.asked and time.monotonic() < until:
        time.sleep(0.01)
    second = Started(code, f"{server.url}/w.pth", environment=environment)
    outputs = [process.communicate(timeout=100) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert len(server.asked) == 1
    assert "; waiting for it" in outputs[1][0]
    assert (home / "models" / "small_r1_coco" / "model.json").is_file()


# --- the list of what is here


def test_what_is_here_is_listed_and_removed(small: Published, server: FileServer, home: Path) -> None:
    assert cached() == []
    folder, _ = fetched(small)
    (each,) = cached()
    assert each.name == "small_r1_coco"
    assert each.bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert remove("small_r1_coco", "small.pth") == each.bytes
    assert not folder.exists()
    with pytest.raises(UsageError, match="there is nothing of small_r1_coco"):
        remove("small_r1_coco", "small.pth")
    fetched(small)
    assert len(server.asked) == 2


def test_removing_takes_what_is_on_its_way(home: Path) -> None:
    for name in ("small.pth.part", "small.pth.part.json", "other.pth.part"):
        (home / "downloads").mkdir(parents=True, exist_ok=True)
        (home / "downloads" / name).write_bytes(b"12345")
    assert remove("small_r1_coco", "small.pth") == 10
    assert [each.name for each in cached()] == ["other.pth.part"]


def test_weights_that_somebody_deleted_are_fetched_again(small: Published, server: FileServer) -> None:
    folder, _ = fetched(small)
    (folder / "best.safetensors").unlink()
    assert gfocal.load(fetched(small)[0])
    assert len(server.asked) == 2


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"name": 3}', "[" * 5000])
def test_a_record_that_is_damaged_counts_as_none(home: Path, content: str) -> None:
    folder = home / "models" / "small_r1_coco"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(content)
    assert read_record("small_r1_coco") is None
    assert cached() == []


def test_where_the_home_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert home() == tmp_path / "gfocal-home"
    monkeypatch.setenv("GFOCAL_HOME", "~/weights")
    assert home() == Path.home() / "weights"
    monkeypatch.delenv("GFOCAL_HOME")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert home() == tmp_path / "gfocal"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert home() == Path.home() / ".cache" / "gfocal"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert home() == Path.home() / "Library" / "Caches" / "gfocal"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert home() == tmp_path / "gfocal"


@pytest.mark.parametrize("text", ["0", "-1", "soon", "inf", "nan"])
def test_a_timeout_that_is_none(small: Published, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("GFOCAL_TIMEOUT", text)
    with pytest.raises(UsageError, match="GFOCAL_TIMEOUT is how many seconds"):
        fetched(small)


# --- the real list, through a mirror


def test_a_published_name_through_a_mirror(server: FileServer, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    which = find("nanodet_m_416")
    assert which is not None
    server.files["/weights/nanodet_m_416_coco.pth"] = Served(nanodet_file())
    monkeypatch.setenv("GFOCAL_MIRROR", f"{server.url}/weights")
    folder, said = fetched(which)
    assert gfocal.load(folder).resize.size == 416
    assert not any("assumed" in line for line in said), "the list says it"
    assert f"  from {server.url}/weights/nanodet_m_416_coco.pth" in said[1]
    record = json.loads((folder / "model.json").read_text())
    assert record["changed"] == ["data.resize.size=416"]


@pytest.mark.parametrize(
    ("name", "copy", "size"),
    [
        ("nanodet_m_320_coco", "nanodet_m.ckpt", 320),
        ("nanodet_plus_m_416_coco", "nanodet_plus_m_416.ckpt", 416),
        ("picodet_s_320_coco", "picodet_s_320_coco.pdparams", 320),
    ],
)
def test_copies_at_hand_are_read_by_their_names(
    shared: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch, name: str, copy: str, size: int
) -> None:
    which = find(name)
    assert which is not None
    content = (shared / "weights" / copy).read_bytes()
    server.files[f"/{file_name(which)}"] = Served(content)
    monkeypatch.setenv("GFOCAL_MIRROR", server.url)
    folder, _ = fetched(which)
    record = read_record(name)
    assert record is not None
    assert record.sha256 == hashlib.sha256(content).hexdigest()
    assert record.recipe == which.row
    assert gfocal.load(folder).resize.size == size

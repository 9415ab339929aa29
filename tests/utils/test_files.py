"""Writing to what is no plain file: links stay links, pipes and devices are never replaced."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from gfocal.cli.terminal import claimed
from gfocal.utils.files import is_stream, real_path, write_atomically

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has other links and pipes")


def write(path: Path, text: str = "new") -> None:
    with claimed(path):
        write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0, 0o666)])
def test_rights_are_those_of_any_new_file(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write(tmp_path / "a.json")
        after = os.umask(umask)
    finally:
        os.umask(before)
    assert (stat.S_IMODE((tmp_path / "a.json").stat().st_mode), after) == (mode, umask)


def test_a_link_stays_one_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real.json", tmp_path / "link.json"
    real.write_text("old")
    link.symlink_to(real)
    write(link)
    assert link.is_symlink()
    assert real.read_text() == "new"
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "there" / "not yet")
    write(dangling)
    assert (tmp_path / "there" / "not yet").read_text() == "new"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["dangling", "link.json", "not yet", "real.json", "there"]


def test_a_pipe_gets_the_content_and_stays_one(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write(pipe, "x" * 100_000)
    reader.join(10)
    assert read == ["x" * 100_000]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


def test_a_device_is_written_to_and_stays_one() -> None:
    before = os.stat("/dev/null").st_rdev
    assert is_stream(Path("/dev/null"))
    write(Path("/dev/null"))
    assert os.stat("/dev/null").st_rdev == before
    assert not (Path("/dev") / ".null.gfocal-lock").exists()


def test_what_is_no_stream(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not any(map(is_stream, (tmp_path, tmp_path / "file", tmp_path / "nothing")))


def test_a_link_to_itself_leads_to_itself(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert real_path(tmp_path / "loop").name == "loop"

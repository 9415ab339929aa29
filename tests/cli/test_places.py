"""What every verb does where another process writes, where nothing can be written, and when it is asked to end."""

from __future__ import annotations

import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gfocal.cli.app import app
from gfocal.runs.folder import TrainResult
from gfocal.utils import locks
from gfocal.utils.holders import Holder
from helpers.launched import Started
from helpers.small_runs import SMALL, small, state_of

KEYS = [word for key in SMALL for word in ("--set", key)]
VERBS: dict[str, tuple[str, ...]] = {
    "train": ("train", "gfl_nano", "--data", "DATA", *KEYS, "--out", "OUT"),
    "predict": ("predict", "MODEL", "DATA/images", "-o", "OUT"),
    "find-lr": ("find-lr", "gfl_nano", "--data", "DATA", *KEYS, "-o", "OUT"),
    "stats": ("data", "stats", "DATA", "-r", "gfl_nano", "-o", "OUT"),
    "figures": ("study", "figures", "-o", "OUT"),
    "study": ("study", "table3", "--data", "DATA", "--budget", "tiny", "-o", "OUT"),
    "import": ("import", "MODEL", "-o", "OUT"),
    "push": ("push", "MODEL", "OUT"),
    "demo": ("demo", "--train", "2", "--val", "2", "--size", "64", "-o", "OUT"),
    "eval": ("eval", "MODEL", "--data", "DATA", "-o", "FILE"),
    "calibrate": ("calibrate", "MODEL", "--data", "DATA", "-o", "FILE"),
    "audit": ("audit", "DATA", "--model", "MODEL", "-o", "OUT"),
    "explain": ("explain", "MODEL", "DATA/images", "-o", "OUT"),
    "plots": ("eval", "MODEL", "--data", "DATA", "--plots", "OUT"),
    "preview": ("data", "preview", "DATA", "-o", "FILE"),
    "convert": ("data", "convert", "DATA", "--to", "yolo", "-o", "FILE"),
    "fix": ("data", "check", "DATA", "--fix", "FILE"),
}
"""OUT is a folder that something is put into; FILE comes into being as a whole, and so do the folders of a data set."""
SUFFIXES = {"preview": ".jpg", "calibrate": ".safetensors"}
"""Of FILE, where a verb asks for one."""


# A study measures its pace in a process of its own first.
EACH = [pytest.param(verb, marks=pytest.mark.slow) if verb == "study" else verb for verb in VERBS]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that finds nothing."""
    from gfocal.runs.checkpoint import save_detector
    from gfocal.zoo import build_detector

    names = ("circle", "square", "triangle", "cross", "ring", "diamond")
    detector = build_detector(small(), names)
    file = tmp_path_factory.mktemp("model") / "best.safetensors"
    save_detector(file, detector.state_dict(), small(), names)
    return file


def refused(verb: str, scenes: Path, model: Path, out: Path) -> str:
    file = out.with_suffix(SUFFIXES.get(verb, ""))
    places = {"DATA": scenes, "DATA/images": scenes / "images", "MODEL": model, "OUT": out, "FILE": file}
    words = [str(places.get(word, word)) for word in VERBS[verb]]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last


@pytest.mark.parametrize("verb", EACH)
def test_where_another_process_writes(verb: str, scenes: Path, model: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "in" / "out"
    folder.mkdir()
    file = out.with_suffix(SUFFIXES.get(verb, ""))
    lock = file.with_name(f".{file.name}{locks.LOCK}") if "FILE" in VERBS[verb] else out / locks.LOCK
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(json.dumps(replace(Holder.of_this_process(), pid=os.getppid(), born="", command="other").to_dict()))
    before = lock.read_bytes()
    line = refused(verb, scenes, model, out)
    assert f"{file} is in use by `other` (process {os.getppid()} on" in line
    assert [path for path in folder.rglob("*") if path != out] == [lock]
    assert lock.read_bytes() == before


@pytest.mark.parametrize("verb", EACH)
def test_where_nothing_can_be_written(
    verb: str, scenes: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Path) -> tuple[int, bool]:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(file))

    monkeypatch.setattr(locks, "_open", refuse)
    folder = tmp_path / "in"
    folder.mkdir()
    line = refused(verb, scenes, model, folder / "out")
    assert f"cannot write {folder / 'out'}" in line
    assert "Read-only file system; choose another place" in line
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (None, 130, "interrupted"),
        (signal.SIGTERM, 143, "stopped by SIGTERM"),
        (signal.SIGHUP, 129, "stopped by SIGHUP"),
    ],
)
def test_a_training_that_was_asked_to_end_says_how_to_go_on(
    number: int | None, code: int, word: str, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = TrainResult(out=tmp_path / "a run", steps=7, interrupted=True, signal=number)
    monkeypatch.setattr("gfocal.training.train.train", lambda *args, **kwargs: stopped)
    words = ["train", "gfl_nano", "--data", str(scenes), "--out", str(tmp_path / "a run"), *KEYS]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == code
    again = f"--resume (--out '{tmp_path / 'a run'}')"
    assert result.stderr.splitlines()[-1] == (
        f"error: {word} after step 7; to continue, repeat the command with {again}"
    )


COMMAND = "import sys; from gfocal.cli.app import app; app(sys.argv[1:])"


def test_sigterm_ends_what_cannot_go_on_in_order(scenes: Path, tmp_path: Path) -> None:
    """Nothing of a conversion stays: neither its half of a folder nor its lock."""
    script = (
        "import os, signal; from gfocal.data.formats import convert as module\n"
        "module._place_images = lambda *args: os.kill(os.getpid(), signal.SIGTERM)\n" + COMMAND
    )
    out = tmp_path / "in" / "out"
    process = Started(script, "data", "convert", str(scenes), "--to", "voc", "-o", str(out))
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.splitlines()[-1]) == (143, "error: stopped by SIGTERM")
    assert list(tmp_path.iterdir()) == []


def test_the_command_that_is_repeated_goes_on(scenes: Path, tmp_path: Path) -> None:
    """Word for word, with --resume: --init, --val, --batch, --seed and all."""
    out = tmp_path / "run"
    first = CliRunner().invoke(app, ["train", "gfl_nano", "--data", str(scenes), *KEYS, "-o", str(tmp_path / "first")])
    assert first.exit_code == 0, first.stderr
    options = ["--val", "0.25", "--batch", "auto", "--seed", "3", "--init", str(tmp_path / "first")]
    words = ["train", "gfl_nano", "--data", str(scenes), *options, "--out", str(out), *KEYS]
    process = Started(
        "import os, signal; from gfocal.training import trainer as module\n"
        "real = module.optimizer_step\n"
        "def step(*args, **options):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return real(*args, **options)\n"
        "module.optimizer_step = step\n" + COMMAND,
        *words,
    )
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 143, errors
    assert errors.splitlines()[-1] == (
        f"error: stopped by SIGTERM after step 1; to continue, repeat the command with --resume (--out {out})"
    )
    assert state_of(out)["step"] == 1
    again = CliRunner().invoke(app, [*words, "--resume"])
    assert again.exit_code == 0, again.stderr
    assert f"init: {out} continues with its own weights; it began with {tmp_path / 'first'}" in again.stderr

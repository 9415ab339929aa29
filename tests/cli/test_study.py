"""`gfocal study`: what it prints, what it refuses, and a study that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import gfocal
from gfocal.cli.app import app
from gfocal.cli.studies import TABLES as SPELLED_OUT
from gfocal.data.scenes.generate import make_scenes
from gfocal.studies.paper.tables import TABLES
from gfocal.studies.report import write_study_report
from gfocal.utils.locks import locked_file, locked_folder
from helpers import report_samples as samples
from helpers.holding import held_by_another

TINY = ("--budget", "tiny", "--size", "64", "--iterations", "10", "--seeds", "1")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "street"
    make_scenes(out, train=48, val=24, size=64)
    return out


def call(*words: str | Path) -> Result:
    command = ["study", *map(str, words)]
    return CliRunner().invoke(app, command, catch_exceptions=False, env={"GFOCAL_DEBUG": "0", "COLUMNS": "100"})


def test_every_table_is_a_verb() -> None:
    assert set(SPELLED_OUT) == {*TABLES, "all"}
    listed = call("--help").stdout
    for name in (*SPELLED_OUT, "overview", "speed", "figures"):
        assert name in listed


def test_a_dry_run_shows_every_run_and_trains_nothing(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gfocal.studies.execution.dry_run.paces", lambda recipes, *_: dict.fromkeys(recipes, 2.0))
    out = tmp_path / "out"
    result = call("table1c", "--data", scenes, *TINY, "--out", out, "--dry-run", "--jobs", "5")
    assert result.exit_code == 0, result.output
    assert "atss_nano, model.quality.kind=joint, model.quality.beta=2.5" in result.stdout
    # A run learns 12 steps of 16 images (four epochs of 48) and measures 24: 192 + 0.6 x 24 images of 2 s, and
    # starts in 8 s.
    assert "5 runs, 5 of them to do, 5 at a time: about 7 min" in result.stdout
    assert "all runs: " in result.stdout
    assert "optim.lr=0.005" in result.stdout
    assert not (out / "runs").exists()
    content = json.loads(call("table2b", "--data", scenes, *TINY, "--out", out, "--dry-run", "--json").stdout)
    assert [run["changes"] for run in content["runs"]] == [[f"model.boxes.reg_max={n}"] for n in (4, 7, 12, 14, 16, 18)]
    assert sum(run["hours"] for run in content["runs"]) == pytest.approx(6 * (2 * (192 + 0.6 * 24) + 8) / 3600)


def test_coco_gets_the_published_recipes(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a budget nothing but the row changes a recipe; ResNet-50's pace is not what is tested here."""
    monkeypatch.setattr("gfocal.studies.execution.dry_run.paces", lambda *_: {})
    content = json.loads(call("all", "--data", scenes, "--out", tmp_path, "--dry-run", "--json").stdout)
    assert len(content["runs"]) == 36
    assert {run["recipe"] for run in content["runs"]} == {
        "fcos_r50", "atss_r50", "gfl_r50", "retinanet_r50", "foveabox_r50", "ssd512_vgg16",
    }  # fmt: skip
    assert all(run["budget_changes"] == [] for run in content["runs"])
    assert content["hours"] is None  # no pace is known: that is said, and nothing else is lost


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("table3", "--data", "nowhere"), "nowhere"),
        (("table3", "--data", "DATA", "--budget", "huge"), "--budget is one of full, small, long, tiny"),
        (("table3", "--data", "DATA", "--size", "100"), "--size must be a multiple of 32"),
        (("table3", "--data", "DATA", "--init", "nothing"), "no run folder or checkpoint nothing"),
        (("table3", "--data", "DATA", "--set", "optim.lrr=1"), "optim.lrr"),
        (("table1c", "--data", "DATA", "--set", "model.quality.beta=3"), "is made by"),
        (("table3", "--data", "scenes", "--val", "DATA"), "leave --val out"),
        (("table3", "--data", "TRAIN"), "no val split"),
        (("speed", "atss_nano", "--size", "large"), "--size takes HEIGHTxWIDTH"),
    ],
)
def test_refusals(scenes: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    given = {"DATA": scenes, "TRAIN": scenes / "annotations" / "train.json"}
    out = () if words[0] == "speed" else ("--out", tmp_path / "out")
    result = call(*(given.get(word, word) for word in words), *out)
    assert result.exit_code == 2, result.output
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_overview_waits_for_another_one_but_for_no_study(tmp_path: Path) -> None:
    write_study_report(samples.read(samples.table3()), tmp_path / "table3")
    with held_by_another(locked_folder(tmp_path)):  # by a study that is running
        assert call("overview", tmp_path).exit_code == 0
    (tmp_path / "overview.html").unlink()
    seen: list[bool] = []

    def end() -> None:
        seen.append((tmp_path / "overview.html").exists())
        enough.set()

    with held_by_another(locked_file(tmp_path / "overview.html")) as enough:
        threading.Timer(0.5, end).start()
        assert call("overview", tmp_path).exit_code == 0
    assert seen == [False]
    assert (tmp_path / "overview.html").exists()


def test_tables_of_several_calls_on_one_page(tmp_path: Path) -> None:
    for number, sample in enumerate((samples.table3(), samples.table1a())):
        write_study_report(samples.read(sample), tmp_path / str(9 - number))
    result = call("overview", tmp_path)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "overview.html").read_text()
    # In the order of the folders' names.
    assert page.index(samples.table1a()["title"]) < page.index(samples.table3()["title"])
    (tmp_path / "9" / "results.json").write_text("{}")
    damaged = call("overview", tmp_path)
    assert damaged.exit_code == 2
    assert "9/results.json cannot be read" in damaged.stderr
    empty = call("overview", tmp_path / "nothing")
    assert empty.exit_code == 2
    assert "holds no results of a table" in empty.stderr


def start(*words: str | Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(gfocal.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "gfocal", "study", *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def measured(out: Path) -> dict[str, Any]:
    found = {}
    for folder in sorted((out / "runs").iterdir()):
        facts = json.loads((folder / "measured.json").read_text())
        with np.load(folder / "resampled.npz") as arrays:
            found[folder.name] = facts["metrics"] | {"speed": None}, arrays["AP"].tolist()
    return found


def calls(folder: Path) -> list[list[int]]:
    return [call["steps"] for call in json.loads((folder / "run.json").read_text())["calls"]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_that_is_killed_goes_on(scenes: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle: what is done is not done again, what was begun goes on, and the table is the same."""
    words = ["table1c", "--rows", "beta-1", "--data", scenes, "--budget", "tiny", "--size", "64"]
    words += ["--iterations", "90", "--seeds", "1", "--jobs", "1"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    first = start(*words, "--out", whole)
    output, errors = first.communicate(timeout=400)
    assert first.returncode == 0, errors
    assert "beta = 2" in output
    assert "1 claim" in output
    killed = start(*words, "--out", cut)
    done: Path | None = None
    begun: Path | None = None
    until = time.monotonic() + 300
    while begun is None and time.monotonic() < until:
        for folder in (cut / "runs").glob("*"):
            if (folder / "measured.json").is_file():
                done = folder
            elif done is not None and (folder / "state.pt").is_file():
                begun = folder
        time.sleep(0.02)
    assert done is not None
    assert begun is not None
    time.sleep(1)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = (done / "measured.json").stat().st_mtime_ns
    again = start(*words, "--out", cut)
    output, errors = again.communicate(timeout=400)
    assert again.returncode == 0, errors
    assert (done / "measured.json").stat().st_mtime_ns == before
    assert len(calls(done)) == 1
    steps = calls(begun)
    assert len(steps) == 2
    assert 0 < steps[1][0] < steps[1][1] == 90
    assert measured(cut) == measured(whole)
    one, other = (json.loads((out / "table1c" / "results.json").read_text()) for out in (whole, cut))
    assert one["claims"] == other["claims"]
    assert [row["measured"] for row in one["rows"]] == [row["measured"] for row in other["rows"]]
    assert [row["difference"] for row in one["rows"]] == [row["difference"] for row in other["rows"]]

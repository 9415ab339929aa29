"""What the runner does with runs that end, fail, are cut off or were done before."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gfocal.data.scenes.generate import usable_cpus
from gfocal.errors import UsageError
from gfocal.recipe import build_recipe
from gfocal.studies.execution import runner
from gfocal.studies.execution.plan import Plan, RunPlan, StudyData, make_plan
from gfocal.studies.execution.runner import device_of, do_runs, is_done, steps_done
from gfocal.studies.paper.tables import TABLES
from gfocal.utils.holders import Holder
from gfocal.utils.locks import LOCK
from gfocal.utils.records import to_json
from helpers.launched import Started
from helpers.made_study import SECONDS, made_facts, scenes

# Stands in for a training: it says what happened to it, and ends as the run's folder asks.
WORKER = """
import json, os, shutil, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text())
with (folder.parent.parent / "calls.txt").open("a") as file:
    file.write(folder.name + "\\n")
for step in range(1, 4):
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "train", "step": step}) + "\\n")
fate = folder.parent.parent / "fate.txt"
fate = json.loads(fate.read_text()).get(folder.name, "end") if fate.exists() else "end"
if fate == "fail":
    print("reading data")
    sys.exit("the loss is not finite")
if fate == "kill":
    os.kill(os.getpid(), 9)
if fate == "wait":
    time.sleep(3600)
shutil.copy(Path(__file__).with_name("resampled.npz"), folder)
shutil.copy(Path(__file__).with_name("measured.json"), folder)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    return scenes(tmp_path_factory.mktemp("runner") / "scenes")


@pytest.fixture
def plan(data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "measured.json").write_text(json.dumps(to_json(made_facts(0.5))))
    np.savez(tmp_path / "resampled.npz", AP=np.zeros(3), correlation=np.zeros(3))
    monkeypatch.setattr(runner, "WORKER", (sys.executable, str(tmp_path / "worker.py")))
    monkeypatch.setattr(runner, "_POLL", 0.05)
    return make_plan([TABLES["table3"]], data, SECONDS)


def fates(out: Path, **names: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "fate.txt").write_text(json.dumps(names))


def calls(out: Path) -> list[str]:
    return (out / "calls.txt").read_text().split()


def test_every_run_is_done_once(plan: Plan, data: StudyData, tmp_path: Path) -> None:
    out, told = tmp_path / "study", []
    outcome = do_runs(plan.runs, data, out, jobs=2, say=told.append, progress=False)
    names = [run.name for run in plan.runs]
    assert sorted(calls(out)) == sorted(names)
    assert (outcome.done, outcome.skipped, outcome.failures, outcome.interrupted) == (4, 0, {}, False)
    assert sorted(told) == sorted(f"{name}: AP 50.0" for name in names)
    again = do_runs(plan.runs, data, out, jobs=2, progress=False)
    assert (again.done, again.skipped) == (0, 4)
    assert len(calls(out)) == 4
    # A job says what its run is; runs of one seed start from one file.
    jobs = [json.loads((out / "runs" / name / "job.json").read_text()) for name in names]
    threads = max(1, usable_cpus() // 2)
    for job, run in zip(jobs, plan.runs, strict=True):
        here = [f"runtime.threads={threads}", "runtime.channels_last=true"]  # nothing is chosen by a machine
        assert job["recipe"] == build_recipe(run.recipe.to_dict(), here).to_dict()
    assert len({job["start"] for job in jobs}) == 1


def test_a_failing_run_does_not_stop_the_rest(plan: Plan, data: StudyData, tmp_path: Path) -> None:
    out = tmp_path / "study"
    first, second, third, _ = (run.name for run in plan.runs)
    fates(out, **{first: "fail", third: "kill"})
    outcome = do_runs(plan.runs, data, out, jobs=1, progress=False)
    assert outcome.done == 2
    assert set(outcome.failures) == {first, third}
    assert outcome.failures[first].startswith("exit code 1: the loss is not finite (")
    assert outcome.failures[third].startswith(
        "killed by signal 9 (the system kills processes this way when memory runs out)"
    )
    assert is_done(out, plan.runs[1])
    # Whatever was wrong is mended: the failed ones alone are tried again.
    fates(out)
    again = do_runs(plan.runs, data, out, jobs=1, progress=False)
    assert (again.done, again.skipped, again.failures) == (2, 2, {})
    assert calls(out).count(first) == 2
    assert calls(out).count(second) == 1


def test_ctrl_c_ends_the_processes_and_keeps_what_is_done(plan: Plan, data: StudyData, tmp_path: Path) -> None:
    out = tmp_path / "study"
    first, second, *_ = (run.name for run in plan.runs)
    fates(out, **{second: "wait"})

    def press() -> None:
        while not (out / "calls.txt").exists() or second not in calls(out):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    outcome = do_runs(plan.runs, data, out, jobs=1, progress=False)
    thread.join()
    assert outcome.interrupted
    assert (outcome.done, outcome.failures) == (1, {})
    assert calls(out) == [first, second]


def test_steps_of_a_run_that_is_cut_off(plan: Plan, tmp_path: Path) -> None:
    run = plan.runs[0]
    folder = tmp_path / "runs" / run.name
    assert steps_done(tmp_path, run) == 0
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"kind": "train", "step": 5}\n{"kind": "train", "st')
    assert steps_done(tmp_path, run) == 5
    (folder / "measured.json").write_text("{}")
    assert steps_done(tmp_path, run) == run.steps


def test_a_run_with_damaged_results_is_done_again(plan: Plan, data: StudyData, tmp_path: Path) -> None:
    out, told = tmp_path / "study", []
    do_runs(plan.runs[:2], data, out, progress=False)
    (out / "runs" / plan.runs[0].name / "resampled.npz").write_bytes(b"PK\x03\x04 not a zip")
    again = do_runs(plan.runs[:2], data, out, say=told.append, progress=False)
    assert (again.done, again.skipped) == (1, 1)
    assert "cannot be read" in told[0]
    assert runner.read_run(out / "runs" / plan.runs[0].name) is not None


def test_the_reason_is_that_of_the_last_attempt(plan: Plan, data: StudyData, tmp_path: Path) -> None:
    out, name = tmp_path / "study", plan.runs[0].name
    fates(out, **{name: "fail"})
    do_runs(plan.runs[:1], data, out, progress=False)
    fates(out, **{name: "kill"})
    assert "it wrote nothing" in do_runs(plan.runs[:1], data, out, progress=False).failures[name]


def test_first_weights_that_one_run_cannot_have(
    plan: Plan, data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runner.make_start

    def make(run: RunPlan, *rest: Any) -> Path:
        if run is plan.runs[1]:
            raise UsageError("no such weights")
        return real(run, *rest)

    monkeypatch.setattr(runner, "make_start", make)
    outcome = do_runs(plan.runs[:3], data, tmp_path, progress=False)
    assert (outcome.done, outcome.failures) == (2, {plan.runs[1].name: "no such weights"})
    # Where the first has none, nothing begins.
    with pytest.raises(UsageError, match="no such weights"):
        do_runs(plan.runs[1:2], data, tmp_path / "other", progress=False)
    assert not (tmp_path / "other" / "runs").exists()


def test_each_slot_has_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_of(slot, None) for slot in range(3)] == ["0", "1", "0"]
    assert [device_of(slot, "2,3") for slot in range(3)] == ["2", "3", "2"]
    assert device_of(1, "GPU-5a, GPU-77") == "GPU-77"
    assert device_of(1, "") == "1"


def test_a_worker_ends_with_its_runner() -> None:
    """Also one whose runner was gone before it could look: it is told whose it is."""
    script = (
        "import sys, time; from gfocal.studies.execution.worker import _end_with; "
        "_end_with(int(sys.argv[1])); time.sleep(900)"
    )
    process = Started(script, "1")
    process.wait(200)
    assert process.returncode == 1


def test_a_second_study_in_the_folder_is_refused(plan: Plan, data: StudyData, tmp_path: Path) -> None:
    do_runs(plan.runs[:1], data, tmp_path, progress=False)
    other = replace(Holder.of_this_process(), pid=os.getppid(), born="")
    (tmp_path / LOCK).write_text(json.dumps(other.to_dict()))
    with pytest.raises(UsageError, match=f"is in use by .*process {os.getppid()} on"):
        do_runs(plan.runs, data, tmp_path, progress=False)
    # What is done can be reported all the same.
    assert do_runs(plan.runs[:1], data, tmp_path, progress=False).skipped == 1
    (tmp_path / LOCK).unlink()
    assert do_runs(plan.runs[:2], data, tmp_path, progress=False).done == 1

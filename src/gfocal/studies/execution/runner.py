"""Doing the runs of a study: what is done is skipped, what was cut off continues, what fails does not stop the rest."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gfocal.data.scenes.generate import usable_cpus
from gfocal.errors import GfocalError
from gfocal.runtime.layout import real_layout
from gfocal.studies.execution.initial_weights import init_identity, make_start
from gfocal.studies.execution.plan import RunPlan, StudyData
from gfocal.studies.execution.run_metrics import MEASURED, FirstWeights, read_run
from gfocal.studies.execution.worker import JOB, METRICS, Job
from gfocal.utils.files import real_path, write_atomically
from gfocal.utils.locks import locked_folder
from gfocal.utils.progress import ProgressBar
from gfocal.utils.records import to_json
from gfocal.utils.signals import StopRequest
from gfocal.utils.waiting import wait_briefly

RUNS, STARTS, LOG = "runs", "starts", "log.txt"
WORKER = (sys.executable, "-m", "gfocal.studies.execution.worker")
_POLL = 0.5  # seconds between looks at the processes


@dataclass
class Outcome:
    """How the runs ended.

    Attributes:
        failures: run name -> one line.
        done: how many finished in this call.
        skipped: how many were finished before.
        interrupted: Ctrl-C or another signal; the same command continues.
        signal: its number; None where there was none.
    """

    failures: dict[str, str] = field(default_factory=dict)
    done: int = 0
    skipped: int = 0
    interrupted: bool = False
    signal: int | None = None


@dataclass
class _Running:
    run: RunPlan
    process: subprocess.Popen[bytes]
    log: Any
    begin: int  # of what this attempt writes to the log
    slot: int


def is_done(out: Path, run: RunPlan) -> bool:
    """Whether a run has its results."""
    return (out / RUNS / run.name / MEASURED).is_file()


def steps_done(out: Path, run: RunPlan) -> int:
    """Optimizer steps that a run has behind it; its last line may be half-written."""
    if is_done(out, run):
        return run.steps
    try:
        with (out / RUNS / run.name / METRICS).open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 4096, 0))
            lines = file.read().splitlines()
    except OSError:
        return 0
    for line in reversed(lines):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return min(int(json.loads(line)["step"]), run.steps)
    return 0


def default_jobs(runs: Sequence[RunPlan]) -> int:
    """Runs at a time: on a CPU small detectors are quickest with a core each; anything else takes the whole device."""
    small = all(run.base.endswith("_nano") for run in runs)
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return max(1, min(usable_cpus(), 8)) if small else 1


def threads_a_run(jobs: int) -> int:
    """CPU threads of each of ``jobs`` runs; 0 for torch's own choice."""
    return 0 if torch.cuda.is_available() else max(1, usable_cpus() // jobs)


def do_runs(
    runs: Sequence[RunPlan],
    data: StudyData,
    out: Path,
    *,
    init: Path | None = None,
    jobs: int = 1,
    say: Callable[[str], None] | None = None,
    progress: bool = True,
) -> Outcome:
    """Do what is not done yet, ``jobs`` at a time, each in a process of its own.

    Args:
        runs: in the order in which they are started.
        data: of all runs.
        out: the study's folder; runs go to ``out/runs/NAME``.
        init: weights whose backbone and neck all runs start from.
        jobs: processes at a time.
        say: gets lines for people.
        progress: show a bar.

    Raises:
        UsageError: another study is running in ``out``, or the first weights cannot be made.
    """
    note = say or (lambda line: None)
    if all(_is_readable(out / RUNS / run.name) for run in runs):
        return Outcome(skipped=len(runs))  # a report of finished runs disturbs no study that is still running
    with locked_folder(out, say=note):
        for run in runs:
            _forget_damaged(out / RUNS / run.name, note)
        outcome = Outcome(skipped=sum(is_done(out, run) for run in runs))
        waiting = [run for run in runs if not is_done(out, run)]
        if waiting:  # weights that fit no run are refused before anything begins
            make_start(waiting[0], data.of_run(waiting[0].recipe)[0].names, init, out / STARTS)
        total, done = sum(run.steps for run in runs), _all_done(out, runs)
        with ProgressBar(total, "study", done=done, shown=progress) as bar, StopRequest(bar.say) as stop:
            crew = _Crew(waiting, data, out, init, jobs, outcome, bar.say if bar.shown else note)
            shown: tuple[int, str] | None = None
            try:
                while crew.running or (crew.waiting and not stop.asked):
                    if stop.asked:
                        crew.interrupt()
                    else:
                        crew.start()
                    time.sleep(_POLL)
                    crew.collect()
                    shown = _shown(bar, shown, _all_done(out, runs), _note(crew.running, outcome, runs))
            finally:
                crew.kill()  # an error or a second signal: what is saved stays
            outcome.interrupted |= stop.asked and bool(crew.waiting)
            outcome.signal = stop.number
    return outcome


@dataclass
class _Crew:
    """The processes at work, and the runs that wait for one."""

    waiting: list[RunPlan]
    data: StudyData
    out: Path
    init: Path | None
    jobs: int
    outcome: Outcome
    say: Callable[[str], None]
    running: list[_Running] = field(default_factory=list)

    def start(self) -> None:
        """Give every free slot a run."""
        while self.waiting and len(self.running) < self.jobs:
            slot = min(set(range(self.jobs)) - {other.slot for other in self.running})
            run = self.waiting.pop(0)
            try:
                _write_job(run, self.data, self.out, self.init, threads_a_run(self.jobs))
            except GfocalError as error:  # weights of another backbone that cannot be had
                self.outcome.failures[run.name] = str(error)
                self.say(f"{run.name} FAILED: {error}")
                continue
            self.running.append(_start(run, self.out, slot))

    def interrupt(self) -> None:
        """Let every process end in good order, once."""
        if not self.outcome.interrupted:
            self.outcome.interrupted = True
            for one in self.running:
                one.process.send_signal(signal.SIGINT)

    def collect(self) -> None:
        """See which processes have ended, and how."""
        for one in [one for one in self.running if one.process.poll() is not None]:
            self.running.remove(one)
            _ended(one, self.out, self.outcome, self.say)

    def kill(self) -> None:
        for one in self.running:
            one.process.kill()
            one.process.wait()
            one.log.close()


def _shown(bar: ProgressBar, before: tuple[int, str] | None, done: int, note: str) -> tuple[int, str]:
    """Move the bar where something moved: at the end of the training runs are still measured."""
    if (done, note) != before:
        bar.update(done, note)
    return done, note


def _all_done(out: Path, runs: Sequence[RunPlan]) -> int:
    return sum(steps_done(out, run) for run in runs)


def _note(running: Sequence[_Running], outcome: Outcome, runs: Sequence[RunPlan]) -> str:
    names = ", ".join(one.run.name for one in running)
    failed = f", {len(outcome.failures)} failed" if outcome.failures else ""
    return f"{outcome.skipped + outcome.done} of {len(runs)} runs{failed}; {names or 'none running'}"


def _write_job(run: RunPlan, data: StudyData, out: Path, init: Path | None, threads: int) -> None:
    """Say in the run's folder what it is."""
    start = make_start(run, data.of_run(run.recipe)[0].names, init, out / STARTS)
    recipe = run.recipe.to_dict()
    recipe["runtime"]["threads"] = recipe["runtime"]["threads"] or threads
    # One layout for all runs, on whatever machine each of them is done.
    recipe["runtime"]["channels_last"] = real_layout(recipe["runtime"]["channels_last"])
    job = Job(
        recipe=recipe,
        base=run.base,
        changes=run.changes,
        rows=run.rows,
        data=str(real_path(data.path)),
        val=None if data.val is None else str(real_path(data.val)),
        start=str(real_path(start)),
        start_from=FirstWeights(start.name, None if init is None else init_identity(init)),
        images_dir=None if data.images_dir is None else str(real_path(data.images_dir)),
    )
    text = json.dumps(to_json(job), indent=1) + "\n"
    write_atomically(out / RUNS / run.name / JOB, lambda file: file.write_text(text, encoding="utf-8"))


def _start(run: RunPlan, out: Path, slot: int) -> _Running:
    folder = out / RUNS / run.name
    environment = dict(os.environ)
    wait_briefly(environment)
    if torch.cuda.is_available():
        environment["CUDA_VISIBLE_DEVICES"] = device_of(slot, environment.get("CUDA_VISIBLE_DEVICES"))
    log = (folder / LOG).open("ab")
    process = subprocess.Popen(
        [*WORKER, str(folder), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment,
        start_new_session=True,  # Ctrl-C reaches the runner alone, which passes it on once
    )
    return _Running(run, process, log, log.tell(), slot)


def device_of(slot: int, visible: str | None) -> str:
    """The GPU of a slot, for CUDA_VISIBLE_DEVICES; a scheduler may have named those that this process may use."""
    own = [name.strip() for name in visible.split(",") if name.strip()] if visible else []
    own = own or [str(number) for number in range(torch.cuda.device_count())]
    return own[slot % len(own)]


def _ended(one: _Running, out: Path, outcome: Outcome, note: Callable[[str], None]) -> None:
    one.log.close()
    folder = out / RUNS / one.run.name
    if is_done(out, one.run):
        outcome.done += 1
        finished = read_run(folder)
        ap = None if finished is None else finished.last.value("AP")
        note(f"{one.run.name}: AP {'n/a' if ap is None else f'{100 * ap:.1f}'}")
    elif not outcome.interrupted:
        outcome.failures[one.run.name] = _why(folder / LOG, one.begin, one.process.returncode)
        note(f"{one.run.name} FAILED: {outcome.failures[one.run.name]}")


def _why(log: Path, begin: int, code: int) -> str:
    """How an attempt ended, and the last line that it wrote."""
    text = log.read_bytes()[begin:].decode(errors="replace").strip().splitlines()
    last = text[-1].strip() if text else "it wrote nothing"
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    hint = " (the system kills processes this way when memory runs out)" if code == -signal.SIGKILL else ""
    return f"{how}{hint}: {last} ({log})"


def _is_readable(folder: Path) -> bool:
    with contextlib.suppress(GfocalError):
        return read_run(folder) is not None
    return False


def _forget_damaged(folder: Path, note: Callable[[str], None]) -> None:
    """A run whose results cannot be read is one that has to be done again."""
    try:
        read_run(folder)
    except GfocalError as error:
        note(f"warning: {error}")
        (folder / MEASURED).unlink(missing_ok=True)

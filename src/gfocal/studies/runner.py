"""Doing the runs of a study: what is done is skipped, what was cut off goes on, what fails does not stop the rest."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gfocal.data.scenes import usable_cpus
from gfocal.disk import write_atomically
from gfocal.engine.progress import CtrlC, ProgressBar
from gfocal.errors import GfocalError, UsageError
from gfocal.studies.measured import MEASURED, read_measured
from gfocal.studies.plan import RunPlan, StudyData
from gfocal.studies.starts import init_identity, make_start
from gfocal.studies.worker import JOB, METRICS

RUNS, STARTS, LOG = "runs", "starts", "log.txt"
WORKER = (sys.executable, "-m", "gfocal.studies.worker")
_POLL = 0.5  # seconds between looks at the processes
_LOCK = "lock"


@dataclass
class Outcome:
    """How the runs ended.

    Attributes:
        failures: run name -> one line.
        done: how many finished in this call.
        skipped: how many were finished before.
        interrupted: Ctrl-C; the same command goes on.
    """

    failures: dict[str, str] = field(default_factory=dict)
    done: int = 0
    skipped: int = 0
    interrupted: bool = False


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


def default_jobs(data: StudyData, runs: Sequence[RunPlan]) -> int:
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
    tell = say or (lambda line: None)
    if all(_is_readable(out / RUNS / run.name) for run in runs):
        return Outcome(skipped=len(runs))  # a report of finished runs disturbs no study that is still running
    with _one_study(out):
        for run in runs:
            _forget_damaged(out / RUNS / run.name, tell)
        outcome = Outcome(skipped=sum(is_done(out, run) for run in runs))
        waiting = [run for run in runs if not is_done(out, run)]
        if waiting:  # weights that fit no run are told before anything begins
            make_start(waiting[0], data.train.names, init, out / STARTS)
        total = sum(run.steps for run in runs)
        running: list[_Running] = []
        shown: tuple[int, str] | None = None
        with ProgressBar(total, "study", done=_all_done(out, runs), shown=progress) as bar, CtrlC(bar.say) as ctrl_c:
            try:
                while running or (waiting and not ctrl_c.asked):
                    while waiting and len(running) < jobs and not ctrl_c.asked:
                        slot = min(set(range(jobs)) - {other.slot for other in running})
                        run = waiting.pop(0)
                        try:
                            _write_job(run, data, out, init, threads_a_run(jobs))
                        except GfocalError as error:  # weights of another backbone that cannot be had
                            outcome.failures[run.name] = str(error)
                            bar.say(f"{run.name} FAILED: {error}")
                            continue
                        running.append(_start(run, out, slot))
                    time.sleep(_POLL)
                    if ctrl_c.asked and not outcome.interrupted:
                        outcome.interrupted = True
                        for one in running:
                            one.process.send_signal(signal.SIGINT)
                    for one in [one for one in running if one.process.poll() is not None]:
                        running.remove(one)
                        _ended(one, out, outcome, tell if not bar.shown else bar.say)
                    shown = _shown(bar, shown, _all_done(out, runs), _note(running, outcome, runs))
            finally:
                for one in running:  # an error or a second Ctrl-C: what is saved stays
                    one.process.kill()
                    one.process.wait()
                    one.log.close()
    return outcome


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
    start = make_start(run, data.train.names, init, out / STARTS)
    recipe = run.recipe.to_dict()
    recipe["runtime"]["threads"] = recipe["runtime"]["threads"] or threads
    content = {
        "recipe": recipe,
        "base": run.base,
        "changes": list(run.changes),
        "rows": [list(row) for row in run.rows],
        "data": str(data.path.resolve()),
        "val": None if data.val is None else str(data.val.resolve()),
        "start": str(start.resolve()),
        "start_from": {"first weights": start.name, "init": None if init is None else init_identity(init)},
    }
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(out / RUNS / run.name / JOB, lambda file: file.write_text(text, encoding="utf-8"))


def _start(run: RunPlan, out: Path, slot: int) -> _Running:
    folder = out / RUNS / run.name
    environment = dict(os.environ)
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
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


def _ended(one: _Running, out: Path, outcome: Outcome, tell: Callable[[str], None]) -> None:
    one.log.close()
    folder = out / RUNS / one.run.name
    if is_done(out, one.run):
        outcome.done += 1
        measured = read_measured(folder)
        ap = None if measured is None else measured.facts["metrics"]["AP"]
        tell(f"{one.run.name}: AP {'n/a' if ap is None else f'{100 * ap:.1f}'}")
    elif not outcome.interrupted:
        outcome.failures[one.run.name] = _why(folder / LOG, one.begin, one.process.returncode)
        tell(f"{one.run.name} FAILED: {outcome.failures[one.run.name]}")


def _why(log: Path, begin: int, code: int) -> str:
    """How an attempt ended, and the last line that it wrote."""
    text = log.read_bytes()[begin:].decode(errors="replace").strip().splitlines()
    last = text[-1].strip() if text else "it wrote nothing"
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    hint = " (the system takes memory back that way)" if code == -signal.SIGKILL else ""
    return f"{how}{hint}: {last.removeprefix('error: ')} ({log})"


def _is_readable(folder: Path) -> bool:
    with contextlib.suppress(GfocalError):
        return read_measured(folder) is not None
    return False


def _forget_damaged(folder: Path, tell: Callable[[str], None]) -> None:
    """A run whose results cannot be read is one that has to be done again."""
    try:
        read_measured(folder)
    except GfocalError as error:
        tell(f"warning: {error}")
        (folder / MEASURED).unlink(missing_ok=True)


@contextlib.contextmanager
def _one_study(out: Path) -> Iterator[None]:
    """Refuse a second runner in the same folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / _LOCK).open("w")
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}; give another --out") from error
    with file:
        try:
            import fcntl
        except ImportError:  # Windows
            pass
        else:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(
                    f"another study is running in {out}: wait for it, or give this one another --out"
                ) from None
        yield

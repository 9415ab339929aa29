"""Tables 3, 1a and 2a on ATSS at ``--budget long``, on one GPU that many processes share: ten rows, two seeds.

    python benchmarks/gpu_study.py --out $OUT --minutes 5      # as often as it takes; exit code 130 until all is done

Every call continues where the one before stopped. A small network fills no card and is bound by the host that starts
its operations, so a run takes a core and the runs go side by side; in float32, whose operations are a third fewer. On
an H200 with 16 cores 14 runs at a time took 91 ms a step each, 450 s of training, and were measured after that: where
a call is shorter, take fewer at a time (``--jobs 8`` is Table 3), or what was learnt is lost with the machine.

Finished runs are packed, in the order in which they were planned, into ``OUT/runs-N.tar.gz`` of at most 15 MiB,
without weights. Unpacked into a study's folder they are what this makes reports from, where the same scenes are there:

    gfocal study table3 --data scenes --budget long --set runtime.precision=fp32 --out FOLDER

``--tiny`` tries the whole script in a few minutes on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

from gfocal.data.scenes.generate import usable_cpus
from gfocal.studies.comparison.results import collect
from gfocal.studies.execution.budget import BUDGETS
from gfocal.studies.execution.plan import Plan
from gfocal.studies.execution.runner import steps_done
from gfocal.studies.execution.study import Study, StudySettings, open_study
from gfocal.studies.report import describe_results, write_overview, write_study_report

TABLES = ("table3", "table1a", "table2a")  # what matters most comes first
# Ten of them: Dirac as distances is not in the paper.
ROWS = ("atss", "atss-[!d]*", "atss-dirac", "atss-dfl", "gfl")
LEFT_OUT = (".safetensors", ".pt", ".lock", "lock")
LARGEST = 15 * 2**20  # bytes of an archive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="for the archives and the reports")
    parser.add_argument("--work", type=Path, default=Path("runs/gpu-study"), help="for data and runs")
    parser.add_argument("--minutes", type=float, help="stop after so many, so that another call goes on")
    parser.add_argument("--jobs", type=int, default=usable_cpus(), help="runs at a time")
    parser.add_argument("--data-only", action="store_true", help="generate the scenes and plan the runs, no more")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    stopper = threading.Timer(60 * (options.minutes or 0), os.kill, (os.getpid(), signal.SIGINT))
    stopper.daemon = True
    if options.minutes is not None:
        stopper.start()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the runs
    study = planned(options.work, options.jobs, tiny=options.tiny)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.data_only:
        stopper.cancel()
        print(f"{len(study.plan.runs)} runs, data {study.data.fingerprint}")
        return
    outcome = study.run(lambda line: print(line, flush=True))
    stopper.cancel()
    write_progress(study, options.out / "progress.json")
    print(f"packed: {', '.join(pack(study, options.out))}", flush=True)
    results = []
    for table in study.tables:
        results.append(collect(study, table, outcome, None, "python benchmarks/gpu_study.py"))
        write_study_report(results[-1], options.out / table.name)
        print("\n".join(describe_results(results[-1])), flush=True)
    write_overview(results, options.out)
    sys.exit(130 if outcome.interrupted else 1 if outcome.failures else 0)


def planned(work: Path, jobs: int, *, tiny: bool) -> Study:
    """The study with its data; both seeds of a table come before the next table."""
    budget = BUDGETS["long"]
    if tiny:
        budget = replace(budget, name="long*", iterations=10, size=64, scenes=(64, 16), timed=(64, 64))
    settings = StudySettings(
        tables=TABLES,
        data="scenes",
        budget=budget,
        seeds=1 if tiny else 2,
        out=work,
        overrides=("runtime.precision=fp32", "runtime.threads=1"),
        jobs=jobs,
        rows=ROWS,
    )
    study = open_study(settings)
    runs = sorted(study.plan.runs, key=lambda run: (min(TABLES.index(table) for table, _ in run.rows), run.seed))
    return replace(study, plan=Plan(tuple(runs), study.plan.of_row))


def write_progress(study: Study, file: Path) -> None:
    """How far each run came, and what they all learnt from."""
    steps = {run.name: [steps_done(study.settings.out, run), run.steps] for run in study.plan.runs}
    file.write_text(json.dumps({"data": study.data.fingerprint, "steps": steps}, indent=1) + "\n")


def pack(study: Study, out: Path) -> list[str]:
    """Write finished runs into archives; give their names."""
    folder = study.settings.out / "runs"
    done = [folder / run.name for run in study.plan.runs if (folder / run.name / "measured.json").is_file()]
    parts: list[list[Path]] = [[]]
    room = LARGEST
    for run in done:
        files = [file for file in sorted(run.rglob("*")) if file.is_file() and not file.name.endswith(LEFT_OUT)]
        size = sum(file.stat().st_size for file in files)
        if size > room and parts[-1]:
            parts.append([])
            room = LARGEST
        parts[-1] += files
        room -= size
    for old in out.glob("runs-*.tar.gz"):
        old.unlink()
    names = []
    for number, files in enumerate(part for part in parts if part):
        names.append(f"runs-{number}.tar.gz")
        with tarfile.open(out / names[-1], "w:gz", compresslevel=6) as tar:
            for file in files:
                tar.add(file, file.relative_to(study.settings.out))
    return names


if __name__ == "__main__":
    main()

"""The ten ATSS rows of Tables 1a, 2a and 3 on a GPU, in several sittings: R18 at 320 pixels, 20,000 scenes, two seeds.

    python benchmarks/gpu_study.py --out $OUT --minutes 9      # as often as it takes; exit code 130 until all is done

Every call goes on where the one before stopped. Finished runs are packed into ``OUT/runs.tar.gz`` without their
weights; on a machine that forgets its files give that archive back with ``--from``: runs that were only begun start
anew then (their states would not fit into what may be carried). Scenes are generated anew, the same ones. At the end
OUT has the reports. ``--tiny`` tries the whole script in a few minutes on a CPU.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

from gfocal.studies.comparison.results import collect
from gfocal.studies.execution.budget import BUDGETS
from gfocal.studies.execution.study import StudySettings, open_study
from gfocal.studies.report import describe_results, write_overview, write_study_report
from gfocal.studies.speed.table import table_speed

# No weights can be downloaded where this runs: the backbone starts from random values and learns as a whole.
BACKBONE = (
    "model.backbone=resnet18.tv_in1k",
    "model.pretrained=false",
    "model.frozen_stages=0",
    "model.norm_eval=false",
)
# Ten of them: Dirac as distances is not in the paper.
ROWS = ("atss", "atss-[!d]*", "atss-dirac", "atss-dfl", "gfl")
LEFT_OUT = (".safetensors", ".pt", "lock")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="for the archive and the reports")
    parser.add_argument("--work", type=Path, default=Path("runs/gpu-study"), help="for data and runs")
    parser.add_argument("--from", dest="archive", type=Path, help="an archive of an earlier call")
    parser.add_argument("--minutes", type=float, help="stop after so many, so that another call goes on")
    parser.add_argument("--iterations", type=int, default=2500)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    if options.archive is not None:
        unpack(options.archive, options.work)
    budget = replace(
        BUDGETS["full"], name="gpu", iterations=options.iterations, size=320, scenes=(20_000, 1000), timed=(320, 320)
    )
    if options.tiny:
        budget = replace(budget, iterations=10, size=64, scenes=(32, 16), timed=(64, 64))
    settings = StudySettings(
        tables=("table1a", "table2a", "table3"),
        data="scenes",
        budget=budget,
        seeds=1 if options.tiny else 2,
        out=options.work,
        # Adam and averaged weights: SGD from random values wants a longer schedule than this.
        overrides=(*BACKBONE, "optim.kind=adamw", "optim.lr=0.001", "optim.clip_norm=35", "schedule.ema=0.99"),
        jobs=options.jobs,
        rows=ROWS,
    )
    study = open_study(settings)
    stop = threading.Timer(60 * (options.minutes or 0), os.kill, (os.getpid(), signal.SIGINT))
    stop.daemon = True
    if options.minutes is not None:
        stop.start()
    outcome = study.run(print)
    stop.cancel()
    pack(options.work, options.out / "runs.tar.gz")
    results = []
    for table in study.tables:
        speed = table_speed(study, table) if table.timed and not outcome.interrupted else None
        results.append(collect(study, table, outcome, speed, "python benchmarks/gpu_study.py"))
        write_study_report(results[-1], options.out / table.name)
        print("\n".join(describe_results(results[-1])))
    write_overview(results, options.out)
    sys.exit(130 if outcome.interrupted else 1 if outcome.failures else 0)


def pack(work: Path, archive: Path) -> None:
    """Finished runs without weights."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for measured in sorted((work / "runs").glob("*/measured.json")):
            for file in sorted(measured.parent.iterdir()):
                if not file.name.endswith(LEFT_OUT):
                    tar.add(file, file.relative_to(work))


def unpack(archive: Path, work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        tar.extractall(work, filter="data")


if __name__ == "__main__":
    main()

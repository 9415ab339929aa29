"""Run the benchmarks and write results/cpu.md and results/cpu.json.

    python benchmarks/run.py                          # all, a few minutes on a quiet machine
    python benchmarks/run.py --only losses --repeats 3 --out /tmp/try

Every section runs in a process of its own.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import harness

HERE = Path(__file__).resolve().parent
SECTIONS = {
    "losses": "Losses, forward and backward (one core, processor time)",
    "losses_avx2": "The same with torch restricted to AVX2, where its log1p is not slow",
    "assigner": "Assignment (one core, processor time)",
    "assigners_others": "Assignment as FCOS, RetinaNet and FoveaBox do it (one core, processor time)",
    "nms": "Post-processing (one core, processor time)",
    "pipeline": "Reading pictures (one core, processor time)",
    "training": "Training (all cores, wall-clock time)",
    "startup": "Start-up of the command line (processor time of new processes)",
}
NOT_PINNED = {"training", "startup"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=SECTIONS, nargs="+", default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--repeats", type=int, default=15, help="rounds of a comparison; short ones take a multiple")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of cpu.md and cpu.json")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.section:
        run_section(options.section, options.repeats)
        return
    about = harness.machine()
    about["command"] = shlex.join(["python", "benchmarks/run.py", *sys.argv[1:]])
    if about["load_before"] and about["load_before"] > 0.5:
        print(f"the machine is busy (load {about['load_before']}): do not quote these figures", file=sys.stderr)
    results: dict[str, list[harness.Row]] = {}
    for name in options.only:
        if name == "losses_avx2" and about["cpu_capability"] != "AVX512":
            continue
        print(f"{name} ...", file=sys.stderr)
        results[name] = spawn(name, options.repeats)
        print(harness.table(results[name]) + "\n")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cpu.md").write_text(report(about, results), encoding="utf-8")
    rows = {name: [asdict(row) for row in found] for name, found in results.items()}
    (options.out / "cpu.json").write_text(harness.dumps({"machine": about, "sections": rows}), encoding="utf-8")
    print(f"wrote {options.out / 'cpu.md'} and {options.out / 'cpu.json'}")


def spawn(name: str, repeats: int) -> list[harness.Row]:
    environment = dict(os.environ)
    if name not in NOT_PINNED:
        environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if name == "losses_avx2":
        environment["ATEN_CPU_CAPABILITY"] = "avx2"
    command = [sys.executable, str(HERE / "run.py"), "--section", name, "--repeats", str(repeats)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"section {name} failed")
    # Libraries may print too: the rows are the last line.
    return harness.read(done.stdout.splitlines()[-1])


def run_section(name: str, repeats: int) -> None:
    if name not in NOT_PINNED:
        harness.pin()
    harness.emit(importlib.import_module(name.removesuffix("_avx2")).rows(repeats))


def report(about: dict[str, object], results: dict[str, list[harness.Row]]) -> str:
    lines = ["# Speed on a CPU", "", f"Made by `{about['command']}`; how: [benchmarks/README.md](../README.md).", ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {key.replace('_', ' ')} | {value} |" for key, value in about.items() if key != "command"]
    lines += [
        "",
        "ms: median. ±: half the distance of the quartiles. × baseline: above 1 is faster than the first row.",
    ]
    lines += ["", "**Bold**: gfocal."]
    for name, rows in results.items():
        lines += ["", f"## {SECTIONS[name]}", "", harness.table(rows)]
    slower = [line for name, rows in results.items() if name != "training" for line in harness.losses_of(rows)]
    lines += ["", "## Where gfocal is slower than the baseline", ""]
    lines += slower or ["Nowhere in this run."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

"""What gfl costs over atss: FLOPs and time of the network, and with the post-processing; two backbones.

    python benchmarks/overhead.py                       # on a quiet machine, about twenty minutes on two cores
    python benchmarks/overhead.py --only r18 --repeats 3 --out /tmp/overhead.json

One image of 800 x 1333; both detectors take turns in one process, so that what disturbs one disturbs the other.
Writes benchmarks/results/overhead.json and says whether the ratios are those that the design allows.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

import harness
from gfocal.recipe import load_recipe
from gfocal.studies.speed.records import SpeedResult
from gfocal.studies.speed.speed import IMAGE, describe_speed, measure_rows
from gfocal.utils.progress import ProgressBar
from gfocal.utils.records import to_json

RESULTS = Path(__file__).parent / "results" / "overhead.json"
BACKBONES = {"r50": "resnet50.tv_in1k", "r18": "resnet18.tv_in1k"}
# FLOPs: by arithmetic, 63 outputs more a point. Time: as much, and half as much again for what is not arithmetic.
FLOPS = {"r50": 1.015, "r18": 1.020}
MOST = {"r50": 1.03, "r18": 1.035}


def measure(backbone: str, repeats: int, threads: int | None) -> SpeedResult:
    change = [f"model.backbone={BACKBONES[backbone]}"]
    recipes = {f"{name}_{backbone}": load_recipe(f"{name}_r50", change) for name in ("atss", "gfl")}
    with ProgressBar(0, f"measuring {backbone}") as bar:
        return measure_rows(recipes, IMAGE, repeats=repeats, threads=threads, progress=bar.callback)


def verdicts(backbone: str, found: SpeedResult) -> list[str]:
    row = found.rows[1]
    exact = abs(row.ratio_flops - FLOPS[backbone]) < 0.0005
    lines = [f"{backbone} FLOPs: {row.ratio_flops:.4f}, {'as' if exact else 'NOT'} expected ({FLOPS[backbone]})"]
    for what, ratio in (("network", row.ratio_network), ("whole", row.ratio_whole)):
        told = "holds" if ratio.median <= MOST[backbone] else "DOES NOT hold"
        words = f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
        lines.append(f"{backbone} {what}: {words} <= {MOST[backbone]}: {told}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=BACKBONES, nargs="+", default=list(BACKBONES), metavar="BACKBONE")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5:
        print(f"the machine is busy (load {os.getloadavg()[0]:.1f}): do not quote these figures", file=sys.stderr)
    about = {**harness.machine(), "command": shlex.join(["python", "benchmarks/overhead.py", *sys.argv[1:]])}
    found = {name: measure(name, options.repeats, options.threads) for name in options.only}
    options.out.write_text(harness.dumps({"machine": about, "backbones": to_json(found)}))
    for name, content in found.items():
        print("\n".join([*describe_speed(content), "", *verdicts(name, content), ""]))


if __name__ == "__main__":
    main()

"""Timing that a busy or throttled machine disturbs as little as possible, and the tables that come out of it."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Clock = Callable[[], float]


@dataclass
class Row:
    """One candidate of one comparison.

    Attributes:
        case: what is computed, on what.
        name: who computes it.
        ms: median time of one call in milliseconds.
        spread: half the distance of the quartiles over the median, in percent.
        ratio: median of the baseline over this one's: above 1 is faster than the baseline.
        ours: whether it is gfocal's.
        agrees: what was found equal to the baseline before timing, or why nothing was compared.
        more: further figures by name.
    """

    case: str
    name: str
    ms: float
    spread: float
    ratio: float
    ours: bool
    agrees: str = ""
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class Candidate:
    """A function to time."""

    name: str
    call: Callable[[], object]
    ours: bool = False
    agrees: str = ""
    more: dict[str, Any] = field(default_factory=dict)


def compare(
    case: str, candidates: list[Candidate], *, repeats: int, warmup: int = 2, clock: Clock = time.process_time
) -> list[Row]:
    """Time candidates in turns: each round calls every one once, starting with another one each time.

    So a disturbance, or a clock rate that drifts, meets all of them alike. The first candidate is the baseline.

    Args:
        case: what is computed.
        candidates: at least one.
        repeats: rounds.
        warmup: rounds before that do not count.
        clock: seconds; the default is processor time, which leaves out other programs' turns.
    """
    spent: list[list[float]] = [[] for _ in candidates]
    for turn in range(warmup + repeats):
        for step in range(len(candidates)):
            i = (turn + step) % len(candidates)
            begin = clock()
            candidates[i].call()
            taken = clock() - begin
            if turn >= warmup:
                spent[i].append(taken)
    medians = [statistics.median(times) for times in spent]
    return [
        Row(case, c.name, 1e3 * median, _spread(times), medians[0] / median, c.ours, c.agrees, c.more)
        for c, times, median in zip(candidates, spent, medians, strict=True)
    ]


def _spread(times: list[float]) -> float:
    if len(times) < 4:
        return 0.0
    low, middle, high = statistics.quantiles(times, n=4)
    return 50 * (high - low) / middle if middle else 0.0


def pin() -> None:
    """This process on one core and one thread: differences of algorithms, not of scheduling."""
    import torch

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    import torch
    import torchvision

    import gfocal

    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "gfocal": gfocal.__version__,
        "revision": _revision(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    if info.is_file():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    return f"{fields['model name']}, family {fields.get('cpu family', '?')} model {fields.get('model', '?')}"


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _revision() -> str | None:
    """Of the checkout, with a mark where files differ from it."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def table(rows: list[Row]) -> str:
    """Rows as a Markdown table, grouped by case."""
    extra = list(dict.fromkeys(key for row in rows for key in row.more))
    head = ["case", "candidate", "ms", "±", "× baseline", *extra, "equal to the baseline"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    last = None
    for row in rows:
        name = f"**{row.name}**" if row.ours else row.name
        cells = ["" if row.case == last else row.case, name, _digits(row.ms), f"{row.spread:.0f} %"]
        cells += [f"{row.ratio:.2f}", *(str(row.more.get(key, "")) for key in extra), row.agrees]
        lines.append("| " + " | ".join(cells) + " |")
        last = row.case
    return "\n".join(lines)


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def losses_of(rows: list[Row]) -> list[str]:
    """One line for each of our candidates that is slower than its baseline."""
    return [f"- {r.case}: {r.name}, {r.ratio:.2f} × the baseline's speed" for r in rows if r.ours and r.ratio < 1]


def emit(rows: list[Row]) -> None:
    """Hand the rows of a section to the driver."""
    json.dump([asdict(row) for row in rows], sys.stdout)


def read(content: str) -> list[Row]:
    return [Row(**row) for row in json.loads(content)]


def dumps(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"

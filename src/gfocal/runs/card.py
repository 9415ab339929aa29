"""The run card, ``run.json``: what a run was made of, where it was computed and how each call of it ended."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import stat
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torchvision

import gfocal
from gfocal.data.index.columns import parts
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import GfocalError
from gfocal.recipe import Recipe
from gfocal.runtime.precision import real_precision
from gfocal.utils.files import write_atomically

CARD = "run.json"
_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "hotcoco", "safetensors", "pydantic")
_LOOKED_INTO = 2000  # pictures of which bytes are read
_PIECE = 4096  # bytes, at the beginning, in the middle and at the end
_THREADS = 8  # for the delay of network disks; the work itself is nothing


def environment(recipe: Recipe, processes: int = 1) -> dict[str, Any]:
    """What two runs must share to be bit-identical, beside recipe and data."""
    return {
        "gfocal": gfocal.__version__,
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "processes": processes,
        "precision": real_precision(recipe.runtime.precision),
        "channels_last": recipe.runtime.channels_last,
    }


def fingerprint(index: DataIndex) -> str:
    """A hash of a data set: pictures (ids, file names, sizes), boxes and classes, not the pictures' content.

    Where the folders lie does not count, not even those of data sets that were joined.
    """
    digest = hashlib.sha256()
    columns = (index.image_ids, index.widths, index.heights, index.box_start, index.boxes, index.labels)
    for values in (*columns, index.crowd, index.ignore, index.category_ids):
        for rows in parts(len(values)):
            digest.update(values[rows].tobytes())
    digest.update("\0".join(index.names).encode(errors="surrogatepass"))
    start = 0
    for count in index.parts or (len(index),):
        names = [index.file_name(i) for i in range(start, start + count)]
        start += count
        # A joined index writes names relative to a folder around all of its data sets.
        common = os.path.commonpath([os.path.dirname(name) for name in names]) if index.parts and names else ""
        own = (os.path.relpath(name, common) if common else name for name in names)
        digest.update("\0".join(["", *own]).encode(errors="surrogatepass"))
    return digest.hexdigest()[:16]


def pictures_fingerprint(index: DataIndex) -> str:
    """A hash of the pictures' files that takes seconds for 100,000 of them.

    It covers the size of every file, and 12 KiB (beginning, middle, end) of up to 2,000 of them, evenly spread: all of
    a small data set. Names, dates and places do not count; the annotations have a hash of their own. A file that is
    missing, or no file, counts as one of size -1.
    """
    count = len(index)
    looked_into = set(range(0, count, max(-(-count // _LOOKED_INTO), 1)))

    def describe(i: int) -> bytes:
        try:
            path = index.path(i)
            about = path.stat()
            # Opening a pipe would wait for somebody to write into it; whoever reads it as a picture says what is wrong.
            if stat.S_ISREG(about.st_mode):
                size = about.st_size
                return size.to_bytes(8, "little") + (_pieces(path, size) if i in looked_into else b"")
        except (OSError, ValueError):  # ValueError: a null character in the name
            pass
        return (-1).to_bytes(8, "little", signed=True)

    digest = hashlib.sha256()
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, count, 10_000):  # map keeps a future for every picture
            for found in pool.map(describe, range(start, min(start + 10_000, count)), chunksize=64):
                digest.update(found)
    return digest.hexdigest()[:16]


def _pieces(path: Path, size: int) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for start in (0, max(size // 2 - _PIECE // 2, 0), max(size - _PIECE, 0)):
            file.seek(start)
            digest.update(file.read(_PIECE))
    return digest.digest()


def versions() -> dict[str, str | None]:
    """Of everything that may change a result; None for what is not there."""
    found: dict[str, str | None] = {"gfocal": gfocal.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        found[name] = None
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    found |= {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)}  # with the build
    found["cuda"] = torch.version.cuda
    found["cudnn"] = str(torch.backends.cudnn.version()) if torch.backends.cudnn.is_available() else None
    return found


def host() -> dict[str, Any]:
    """Facts about the machine, none that name it."""
    memory = None
    with suppress(AttributeError, ValueError, OSError):
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "memory_gb": memory,
        "gpus": [{"name": gpu.name, "memory_gb": round(gpu.total_memory / 2**30, 1)} for gpu in gpus],
        "threads": torch.get_num_threads(),
    }


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def begin(folder: Path, facts: Mapping[str, Any], step: int, *, resumed: bool) -> dict[str, Any]:
    """Write the card of a run that starts, or add a call to the one that is there.

    Args:
        folder: of the run.
        facts: what to record; of a resumed run what the card has already stays.
        step: steps done before.
        resumed: there is a card already.

    Returns:
        The card.
    """
    card: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        card = json.loads((folder / CARD).read_text(encoding="utf-8")) if resumed else {}
    card = {**facts, **card}
    call = {
        "command": sys.argv,
        "started": _now(),
        "ended": None,
        "outcome": "killed, or still running",
        "steps": [step, None],
        "versions": versions(),
        "host": host(),
    }
    card["calls"] = [*card.get("calls", ()), call]
    _write(folder, card)
    return card


def end(folder: Path, card: dict[str, Any], outcome: str, step: int) -> None:
    """Record how the last call ended; a disk that is full does not hide why."""
    card["calls"][-1] |= {"ended": _now(), "outcome": outcome, "steps": [card["calls"][-1]["steps"][0], step]}
    with suppress(OSError, GfocalError):
        _write(folder, card)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(folder: Path, card: Mapping[str, Any]) -> None:
    text = json.dumps(card, indent=2)
    write_atomically(folder / CARD, lambda file: file.write_text(text, encoding="utf-8"))

"""Memory of a large data set: 1,000,000 images and 10,000,000 boxes in a COCO file of 1 GB.

    python benchmarks/memory.py

Writes the file and one empty file an image into a temporary folder (readers ask whether each image exists; nothing
is decoded here), reads it in a process of its own, and goes through all images once in random order with four loader
processes that take file names, ids and targets. Boxes are in random order of images with hundredths of pixels, areas
have 17 digits that do not follow from the boxes, every hundredth box is a crowd. Prints what it found and writes
benchmarks/results/memory.json. Linux only: memory is read from /proc. Takes minutes, 2 GB of disk and a million inodes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "memory.json"
CLASSES, FOLDER, PART = 80, 1000, 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--boxes", type=int, default=10_000_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)  # What the process that is measured does.
    options = parser.parse_args()
    if options.read:
        print(json.dumps(measured(options.read, options.workers)))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.json"
        write(file, options.images, options.boxes)
        command = [sys.executable, __file__, "--read", str(file), "--workers", str(options.workers)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        size = file.stat().st_size
    result = {"pictures": options.images, "boxes": options.boxes, "file_mb": round(size / 1e6), **found}
    for name, value in result.items():
        print(f"{name.replace('_', ' ')}: {value}")
    options.out.write_text(json.dumps(result, indent=1) + "\n")


def write(file: Path, images: int, boxes: int) -> None:
    """The annotation file and its images, which are empty, a thousand in a folder."""
    rng = np.random.default_rng(0)
    with file.open("w", encoding="ascii") as text:
        text.write('{"info":{},"annotations":[')
        for first in range(0, boxes, PART):
            text.write(("," if first else "") + ",".join(annotations(rng, first, min(PART, boxes - first), images)))
        text.write('],"images":[')
        for i in range(images):
            name = f"{i // FOLDER:06d}/{i:012d}.jpg"
            text.write(f'{"," if i else ""}{{"id":{i + 1},"file_name":"{name}","width":640,"height":480}}')
            if i % FOLDER == 0:
                (file.parent / name).parent.mkdir()
            os.close(os.open(file.parent / name, os.O_CREAT | os.O_WRONLY))
        categories = [{"id": c + 1, "name": f"class {c + 1}"} for c in range(CLASSES)]
        text.write(f'],"categories":{json.dumps(categories)}}}')


def annotations(rng: np.random.Generator, first: int, count: int, images: int) -> list[str]:
    corners, sides = rng.integers(0, (50_000, 38_000), (count, 2)), rng.integers(100, 10_000, (count, 2))
    image, category = rng.integers(1, images + 1, count), rng.integers(1, CLASSES + 1, count)
    area = 0.61 * sides[:, 0] * sides[:, 1] / 1e4 + rng.uniform(size=count)
    columns = (image, category, corners / 100, sides / 100, area)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        f'{{"id":{n + 1},"image_id":{i},"category_id":{c},"bbox":[{x},{y},{w},{h}],"area":{a},'
        f'"iscrowd":{n % 100 == 0:d}}}'
        for n, (i, c, (x, y), (w, h), a) in enumerate(rows, first)
    ]


def measured(file: Path, workers: int) -> dict[str, Any]:
    """Read the file, do what training does at its start, and go through all images once; MB are 10^6 bytes."""
    from gfocal.data.formats.coco.reader import read_coco
    from gfocal.runs.datasets import describe_data
    from gfocal.runs.folder import fingerprint

    imported = peak_mb()
    started = time.process_time()
    index = read_coco(file, file.parent)
    seconds, peak = time.process_time() - started, peak_mb()
    found = {
        "index_mb": round(index.nbytes / 1e6),
        "bytes_a_box": round(index.nbytes / len(index.boxes), 1),
        "processor_seconds_to_read": round(seconds, 1),
        "peak_mb_of_imports": imported,
        "peak_mb_of_reading": peak,
        "peak_mb_of_counting": peak_of(lambda: describe_data(index)),
        "peak_mb_of_the_fingerprint": peak_of(lambda: fingerprint(index)),
    }
    started = time.perf_counter()
    growth = epoch(index, workers)
    return found | {
        "worker_growth_mb": growth,
        "pictures_a_second": round(len(index) / (time.perf_counter() - started)),
    }


def epoch(index: Any, workers: int) -> list[float]:
    """How many MB of memory of its own each process gained between its start and its end, or the most in between."""
    from torch.utils.data import DataLoader

    from gfocal.data.loading.sampler import PositionSampler

    warnings.filterwarnings("ignore", message="This DataLoader will create")  # More processes than cores: on purpose.
    sampler = PositionSampler(len(index), seed=0, epoch=0, start=0, shuffle=True)
    loader: Any = DataLoader(
        Keys(index), batch_size=1000, sampler=sampler, num_workers=workers, collate_fn=told, worker_init_fn=begin
    )
    growth: dict[int, float] = {}
    boxes = 0
    for process, grown, some in loader:
        growth[process] = max(growth.get(process, 0.0), grown)
        boxes += some
    assert boxes == int((~index.crowd).sum()), "every box that is learnt comes once"
    return [round(mb, 1) for mb in growth.values()]


class Keys:
    """File name, id and number of boxes of an image: what a data set reads of an index, without the images."""

    def __init__(self, index: Any) -> None:
        self.index = index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: Any) -> tuple[str, int, int]:
        i = int(position[0]) if isinstance(position, tuple) else int(position)
        return str(self.index.path(i)), int(self.index.image_ids[i]), len(self.index.targets(i))


START = [0.0]  # Of a loader process, MB.


def begin(_: int) -> None:
    START[0] = private_mb()


def told(rows: list[tuple[str, int, int]]) -> tuple[int, float, int]:
    return os.getpid(), private_mb() - START[0], sum(boxes for _, _, boxes in rows)


def private_mb() -> float:
    """Memory that no other process shares."""
    return sum(map(float, re.findall(r"Private_(?:Clean|Dirty):\s+(\d+)", read_proc("smaps_rollup")))) * 1024 / 1e6


def peak_of(call: Callable[[], Any]) -> int:
    Path("/proc/self/clear_refs").write_text("5")  # The peak begins anew.
    call()
    return peak_mb()


def peak_mb() -> int:
    """The most memory so far. Not getrusage: its peak begins with that of the parent."""
    return round(int(re.findall(r"VmHWM:\s+(\d+)", read_proc("status"))[0]) * 1024 / 1e6)


def read_proc(name: str) -> str:
    return Path("/proc/self", name).read_text()


if __name__ == "__main__":
    main()

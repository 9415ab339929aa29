"""Generate a labelled dataset of scenes: images and COCO JSON, the same for the same seed.

Every image's randomness is ``default_rng([seed, split, index])`` and nothing else, so image k does not
depend on how many are made, in which order, or by how many processes.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple, TypedDict

import msgspec
import numpy as np
from PIL import Image

from gfocal.data.scenes.drawing import STYLES, Scene, draw_scene
from gfocal.data.scenes.shapes import CLASSES
from gfocal.errors import GfocalError, UsageError
from gfocal.utils.files import explained_writing
from gfocal.utils.locks import is_empty, locked_folder

VERSION = 1
"""Raised whenever the same seed would give other images or labels."""
SPLITS = ("train", "val")

_QUALITY = 92
_CHUNK = 25
_ALONE_BELOW = 100  # starting processes costs more than drawing this many images
_MARKER = "unfinished.json"

Progress = Callable[[int, int], None]


class _Info(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a set of scenes is: ``info`` of its files. The same ``info``, the same files."""

    description: str
    generator: str
    version: int
    seed: int
    size: int
    train: int
    val: int
    style: str = "plain"  # files of plain scenes do not say it, as before there was another

    def __str__(self) -> str:
        kind = "" if self.style == "plain" else f"{self.style}, "
        return f"{kind}version {self.version}, seed {self.seed}, size {self.size}, train {self.train}, val {self.val}"

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return dict(msgspec.to_builtins(self))


class _Labels(TypedDict):
    """A COCO annotation without the ids, which need all earlier images."""

    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int
    edge_ambiguity: list[float]
    edge_centre: list[float]
    edge_cause: list[str]
    visible: float
    overlapped: bool


class _Job(NamedTuple):
    """Images ``first`` to ``last - 1`` of a split, to be written into the folder ``images``."""

    images: Path
    size: int
    seed: int
    split: int
    first: int
    last: int
    style: str


def draw_indexed(size: int, seed: int, split: int, index: int, style: str = "plain") -> Scene:
    """Draw image ``index`` (from 1) of a split (0 train, 1 val); every tenth shows background only."""
    rng = np.random.default_rng([seed, split, index])
    return draw_scene(size, rng, background_only=index % 10 == 0, style=STYLES[style])


def _file_name(split: int, index: int) -> str:
    return f"{SPLITS[split]}_{index:06d}.jpg"


def _labels_of(scene: Scene) -> list[_Labels]:
    annotations: list[_Labels] = []
    for i, (x1, y1, x2, y2) in enumerate(np.round(scene.boxes, 3).tolist()):
        width, height = round(x2 - x1, 3), round(y2 - y1, 3)
        annotations.append(
            {
                "category_id": int(scene.labels[i]) + 1,
                "bbox": [x1, y1, width, height],
                "area": round(width * height, 3),
                "iscrowd": 0,
                "edge_ambiguity": np.round(scene.ambiguity[i], 3).tolist(),
                "edge_centre": np.round(scene.centres[i], 3).tolist(),
                "edge_cause": scene.causes[i],
                "visible": round(float(scene.visible[i]), 3),
                "overlapped": bool(scene.overlapped[i]),
            }
        )
    return annotations


def _make_chunk(job: _Job) -> list[list[_Labels]]:
    """Draw and write some images; return the annotations of each."""
    made = []
    for index in range(job.first, job.last):
        scene = draw_indexed(job.size, job.seed, job.split, index, job.style)
        encoded = io.BytesIO()
        Image.fromarray(scene.image).save(encoded, format="JPEG", quality=_QUALITY)
        (job.images / _file_name(job.split, index)).write_bytes(encoded.getvalue())
        made.append(_labels_of(scene))
    return made


def usable_cpus() -> int:
    """The CPUs that this process may use: in a container or a job often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(jobs: list[_Job], total: int) -> Iterator[list[list[_Labels]]]:
    """Do the jobs, on all usable cores where it pays, and yield their results in order."""
    workers = min(usable_cpus(), len(jobs))
    if total < _ALONE_BELOW or workers < 2:
        yield from map(_make_chunk, jobs)
        return
    # Not fork: the caller may hold threads of torch or of a progress bar, and a forked child their locks.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(_make_chunk, jobs)
    finally:
        pool.shutdown(cancel_futures=True)


def _write_json(path: Path, content: object) -> None:
    """Write a file that is either whole or not there."""
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
    os.replace(unfinished, path)


class _Described(msgspec.Struct):
    """A file that this module wrote, but for what it is about."""

    info: _Info


def _read_info(path: Path) -> _Info | None:
    """Return ``info`` of a JSON file that this module wrote, or None."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Described).info
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_complete(out: Path, info: _Info) -> bool:
    """Tell whether the very set is there already.

    Raises:
        UsageError: something else is there.
    """
    if not out.exists():
        return False
    if not out.is_dir():
        raise UsageError(f"{out} is a file: name a folder to write the scenes to")
    if is_empty(out):
        return False
    if (out / _MARKER).is_file():
        found = [_read_info(out / _MARKER)]
        complete = False
    else:
        found = [_read_info(out / "annotations" / f"{split}.json") for split in SPLITS]
        complete = True
    if all(one == info for one in found):
        return complete
    if any(one is None or one.generator != info.generator for one in found):
        raise UsageError(f"{out} holds files that are not scenes of this generator: name another folder or empty it")
    raise UsageError(
        f"{out} holds another set of scenes ({found[0]}; wanted: {info}): name another folder or delete it"
    )


def _check(train: int, val: int, size: int, seed: int, style: str) -> None:
    for name, value, least in (("train", train, 0), ("val", val, 0), ("size", size, 64), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UsageError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if style not in STYLES:
        raise UsageError(f"style must be {' or '.join(STYLES)}, got {style!r}")
    if train + val == 0:
        raise UsageError("no scenes were asked for: train and val are both 0")


def _write_coco(path: Path, info: _Info, split: int, per_image: list[list[_Labels]]) -> None:
    size = {"width": info.size, "height": info.size}
    images = [{"id": index, "file_name": _file_name(split, index), **size} for index in range(1, len(per_image) + 1)]
    labels = [(index, found) for index, own in enumerate(per_image, start=1) for found in own]
    annotations = [{"id": number, "image_id": index, **found} for number, (index, found) in enumerate(labels, start=1)]
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]
    described = {"info": info.to_dict()}
    _write_json(path, {**described, "images": images, "annotations": annotations, "categories": categories})


def _generate(out: Path, info: _Info, progress: Progress | None) -> None:
    """Draw and write everything; the marker lies in the folder for as long as the set is not complete."""
    out.mkdir(parents=True, exist_ok=True)
    _write_json(out / _MARKER, {"info": info.to_dict()})
    for folder in ("images", "annotations"):
        (out / folder).mkdir(exist_ok=True)
    counts = (info.train, info.val)
    jobs = [
        _Job(out / "images", info.size, info.seed, split, first, min(first + _CHUNK, count + 1), info.style)
        for split, count in enumerate(counts)
        for first in range(1, count + 1, _CHUNK)
    ]
    made: tuple[list[list[_Labels]], ...] = ([], [])
    for job, chunk in zip(jobs, _run(jobs, sum(counts)), strict=True):
        made[job.split].extend(chunk)
        if progress is not None:
            progress(len(made[0]) + len(made[1]), sum(counts))
    for split, name in enumerate(SPLITS):
        _write_coco(out / "annotations" / f"{name}.json", info, split, made[split])
    (out / _MARKER).unlink()


def make_scenes(
    out: str | Path,
    *,
    train: int,
    val: int,
    size: int = 320,
    seed: int = 0,
    style: str = "plain",
    progress: Progress | None = None,
) -> None:
    """Write a dataset of generated scenes: ``out/images/*.jpg`` and ``out/annotations/{train,val}.json``.

    Returns at once where the same set is complete; goes over an interrupted one of the same set again.
    A script that asks for 100 images or more needs the usual ``if __name__ == "__main__":``, since worker
    processes import it.

    The annotations are COCO JSON. Each one also has ``edge_ambiguity`` (standard deviation, in pixels, of the
    normal that l, t, r, b were drawn from, truncated to +-2 of it; 0 for a sharp edge), ``edge_centre`` (xyxy
    before drawing), ``edge_cause``, ``visible`` (share in sight) and ``overlapped``.

    Args:
        out: folder, made where missing.
        train: number of training images, >= 0; every tenth image shows background only.
        val: number of validation images, >= 0.
        size: side of the square images, pixels, >= 64.
        seed: >= 0; the same gives the same files.
        style: "plain"; or "hard": larger objects whose uncertain edges differ more, from 2 to 12 % of the side; made
            for 512 pixels, where most of them are wider than the bins of a detector.
        progress: called with (images done, images in all).

    Raises:
        UsageError: an argument is out of range, or ``out`` holds something else or cannot be written.
        GfocalError: a worker process ended early.
    """
    _check(train, val, size, seed, style)
    out = Path(out)
    info = _Info("generated scenes", "gfocal.data.scenes", VERSION, seed, size, train, val, style)
    if _is_complete(out, info):
        return
    try:
        # Who waited for another one that makes the same set finds it.
        with locked_folder(out, wait=True), explained_writing(out):
            if not _is_complete(out, info):
                _generate(out, info, progress)
    except BrokenProcessPool as error:
        raise GfocalError(
            "a process that drew scenes ended early: out of memory, or a script without `if __name__ == '__main__':`"
        ) from error

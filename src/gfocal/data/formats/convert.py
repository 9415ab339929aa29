"""Writing a data set in another format: all of it or nothing."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path, PurePosixPath

import numpy as np

from gfocal.data.formats.common import FORMATS, Format, portable
from gfocal.data.formats.unsupported import lost_lines
from gfocal.data.formats.writers import write_coco, write_voc, write_yolo
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError
from gfocal.utils.files import explained_writing, is_disk_full
from gfocal.utils.locks import locked_file
from gfocal.utils.threads import in_threads

_WRITERS = {"coco": write_coco, "yolo": write_yolo, "voc": write_voc}


def write_dataset(
    splits: Mapping[str, DataIndex],
    out: str | Path,
    fmt: Format,
    *,
    copy: bool = True,
    also: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Write splits as a data set of a format, with copies of their images.

    What YOLO and VOC cannot hold goes into a sidecar, ``gfocal.json``, that gfocal reads with them.

    Args:
        splits: "train", "val", "test"; classes are matched by name, and all splits get those of all.
        out: the folder to make; it must not exist, or be empty.
        fmt: "coco", "yolo" or "voc".
        copy: False makes hard links to the images (symbolic ones on another disk) in place of copies.
        also: further text files to put into ``out``, by name.
        progress: called with how many images are done, of how many.

    Returns:
        a line for each thing that the format does not hold: what is lost for programs that do not read the sidecar.

    Raises:
        UsageError: ``out`` is not empty, there is nothing to write, or an image cannot be copied; nothing is left.
        DiskFull: there is no room; nothing is left.
    """
    out = Path(out)
    if fmt not in FORMATS:
        raise UsageError(f"the format must be one of {', '.join(FORMATS)}, got {fmt!r}")
    with locked_file(out):
        return _write_dataset(splits, out, fmt, copy, also or {}, progress)


def _write_dataset(
    splits: Mapping[str, DataIndex],
    out: Path,
    fmt: Format,
    copy: bool,
    also: Mapping[str, str],
    progress: Callable[[int, int], None] | None,
) -> list[str]:
    check_out(out)
    if not splits or not any(len(index) for index in splits.values()):
        raise UsageError("there are no pictures to write")
    splits = _same_classes(splits)
    names = _image_names(splits, fmt)
    with explained_writing(out):
        unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        with explained_writing(out):
            unfinished.chmod(0o755)
            _WRITERS[fmt](splits, names, unfinished)
            _place_images(splits, names, unfinished, fmt, copy, progress)
            for name, text in also.items():
                (unfinished / name).write_text(text, encoding="utf-8")
            if out.is_dir():
                out.rmdir()
            unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return lost_lines(splits, names, fmt)


def check_out(out: Path) -> None:
    """Refuse a folder that holds something, before long work.

    Raises:
        UsageError: it does, or it is a file.
    """
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out} exists and is not empty; give a new folder")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give a new folder")


def _same_classes(splits: Mapping[str, DataIndex]) -> dict[str, DataIndex]:
    """The splits with the classes of the first, and behind them those that only others have."""
    first, *others = splits.values()
    names, ids = list(first.names), np.asarray(first.category_ids).tolist()
    for index in others:
        for name, number in zip(index.names, np.asarray(index.category_ids).tolist(), strict=True):
            if index.names.count(name) > names.count(name):
                names.append(name)
                ids.append(number if number not in ids else next(n for n in count(max(ids) + 1) if n not in ids))
    return {split: index.with_classes(names).replace(category_ids=ids) for split, index in splits.items()}


def _image_names(splits: Mapping[str, DataIndex], fmt: Format) -> dict[str, list[str]]:
    """A name for every image: its own, made safe, and changed where another one or its label file has it."""
    taken: set[str] = set()
    names: dict[str, list[str]] = {}
    for split, index in splits.items():
        if fmt == "yolo":
            taken = set()  # each split has its own folders
        names[split] = []
        for i in range(len(index)):
            wanted = PurePosixPath(safe_name(index.file_name(i)))
            tries = (wanted.with_name(f"{wanted.stem}{'' if n == 1 else f'_{n}'}{wanted.suffix}") for n in count(1))
            name = next(name for name in tries if _key(name, fmt) not in taken)
            taken.add(_key(name, fmt))
            names[split].append(str(name))
    return names


def _key(name: PurePosixPath, fmt: Format) -> str:
    """What must be different: where one label file belongs to an image, the name without its ending."""
    return str(name if fmt == "coco" else name.with_suffix("")).casefold()


def safe_name(name: str) -> str:
    """A relative name that stays inside its folder, on any system."""
    parts = [re.sub(r'[\x00-\x1f<>:"|?*]', "_", part) for part in PurePosixPath(portable(name)).parts]
    if PurePosixPath(portable(name)).is_absolute() or ".." in parts or re.match(r"[A-Za-z]:", name):
        parts = parts[-1:]
    return "/".join(parts) or "picture"


def _place_images(
    splits: Mapping[str, DataIndex],
    names: Mapping[str, Sequence[str]],
    root: Path,
    fmt: Format,
    copy: bool,
    progress: Callable[[int, int], None] | None,
) -> None:
    jobs = []
    for split, index in splits.items():
        folder = root / {"coco": "images", "yolo": f"images/{split}", "voc": "JPEGImages"}[fmt]
        folder.mkdir(parents=True, exist_ok=True)
        jobs += [(index.path(i), folder / name, copy) for i, name in enumerate(names[split])]
    for folder in {target.parent for _, target, _ in jobs}:
        folder.mkdir(parents=True, exist_ok=True)
    for done, _ in enumerate(in_threads(_place, jobs), 1):
        if progress is not None:
            progress(done, len(jobs))


def _place(job: tuple[Path, Path, bool]) -> None:
    source, target, copy = job
    try:
        if copy:
            shutil.copyfile(source, target)
            return
        real = source.resolve(strict=True)
        try:
            os.link(real, target)
        except OSError:  # another disk, or a system without hard links
            target.symlink_to(real)
    except OSError as error:
        if is_disk_full(error):
            raise  # no fault of this image
        raise UsageError(f"picture {source} cannot be copied to {target.name}: {error.strerror or error}") from None

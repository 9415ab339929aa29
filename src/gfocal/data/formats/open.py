"""From a path that a person gave to the splits of a data set, whatever its format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gfocal.data.formats.archive import unpacked
from gfocal.data.formats.coco import find as coco
from gfocal.data.formats.common import FORMATS, SPLITS, TITLES, WHOLE, Format, Found, Split, folders_in, is_hidden
from gfocal.data.formats.sidecar import sidecar_format
from gfocal.data.formats.voc import find as voc
from gfocal.data.formats.yolo import find as yolo
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.errors import MissingSplitError, UsageError

__all__ = ["FORMATS", "SPLITS", "Format", "Split", "find_data", "open_dataset", "open_splits"]

_FINDERS: dict[Format, Callable[[Path], Found | None]] = {
    "coco": coco.find_coco_data,
    "yolo": yolo.find_yolo,
    "voc": voc.find_voc,
}
_LOOKED_FOR = {"coco": coco.LOOKED_FOR, "yolo": yolo.LOOKED_FOR, "voc": voc.LOOKED_FOR}
_DEEP = 4  # folders that hold nothing but one folder, as archives do


def open_dataset(
    path: str | Path,
    split: Split,
    *,
    format: Format | None = None,
    whole: bool = False,
    skip_broken: bool = False,
    problems: Problems | None = None,
) -> DataIndex:
    """One split of a data set.

    Args:
        path: a folder or a zip of any format, a COCO JSON file, or a YOLO dataset yaml; see docs/data-formats.md.
        split: "train", "val" or "test". A data set that is not split is all "train"; a JSON file is whatever is asked.
        format: read it as this; by default what is found, COCO before YOLO before VOC.
        whole: a data set that is not split at all is all of any split, not only of "train".
        skip_broken: leave broken records out and list them in :attr:`DataIndex.skipped`.
        problems: collects what is broken, and takes notes of how the data are understood; by default it raises,
            or skips as ``skip_broken`` says.

    Raises:
        BrokenInputError: a record is broken, and faults are not skipped.
        MissingSplitError: the data set lacks the split.
        UsageError: there is no such data set.
    """
    problems = problems if problems is not None else Problems(skip_broken)
    found = find_data(path, format)
    for note in found.notes:
        problems.note(note)
    reader = found.splits.get(split)
    one_file = Path(path).suffix.lower() == ".json" and Path(path).is_file()
    if reader is None and (split == "train" or whole or one_file):
        reader = found.splits.get(WHOLE)
    if reader is not None:
        return reader(problems)
    if split in found.absent:
        raise MissingSplitError(found.absent[split])
    if WHOLE in found.splits:
        raise MissingSplitError(f"{path} is not split: all of it is train; `--val 0.2` sets a share of it apart")
    there = ", ".join(sorted(found.splits)) or "none"
    raise MissingSplitError(f"no {split} annotations in {path} ({TITLES[found.format]}), which has: {there}")


def open_splits(
    path: str | Path, *, format: Format | None = None, problems: Problems | None = None
) -> dict[str, DataIndex]:
    """All splits of a data set that are there: "train", "val", "test"; what is not split is "train".

    Raises:
        BrokenInputError, UsageError: as :func:`open_dataset`.
    """
    problems = problems if problems is not None else Problems(False)
    found = find_data(path, format)
    for note in found.notes:
        problems.note(note)
    names = [name for name in (*SPLITS, WHOLE) if name in found.splits]
    if not names:
        raise UsageError(next(iter(found.absent.values()), f"{path} has no split"))
    return {"train" if name == WHOLE else name: found.splits[name](problems) for name in names}


def find_data(path: str | Path, format: Format | None = None) -> Found:
    """Which data set a path is.

    A folder that holds nothing but one folder counts as that, as archives are often packed so. Where several formats
    are in one folder, that of a sidecar counts, else COCO before YOLO before VOC; a note says so.

    Raises:
        UsageError: none, with what was looked for.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise UsageError(f"--format is {', '.join(FORMATS)}, not {format!r}")
    if path.is_file():
        return _find_file(path, format)
    if not path.is_dir():
        raise UsageError(f"data set {path} does not exist; give a folder, a .zip, a COCO .json or a YOLO data.yaml")
    found = _find_folder(path, format)
    if found is None:
        raise UsageError(f"no data set found in {path}; {_looked_for(path, format)}")
    return found


def _find_folder(folder: Path, format: Format | None) -> Found | None:
    """The data set in a folder, or in the only folder inside it; None if there is none."""
    for _ in range(_DEEP):
        candidates = _candidates(folder, format)
        if candidates:
            return _chosen(folder, candidates)
        inside = [entry for entry in folder.iterdir() if not is_hidden(entry.name)]
        folders = [entry for entry in inside if entry.is_dir()]
        if len(folders) != 1 or any(entry.suffix.lower() in (".json", ".yaml", ".xml") for entry in inside):
            break
        folder = folders[0]
    return None


def _find_file(path: Path, format: Format | None) -> Found:
    suffix = path.suffix.lower()
    if suffix == ".zip":
        try:
            folder = unpacked(path)
        except OSError as error:
            raise UsageError(f"archive {path} cannot be read: {error.strerror or error}") from None
        try:
            found = _find_folder(folder, format)
        except UsageError as error:  # It names a file of the cache.
            raise UsageError(f"archive {path}: {error}") from None
        if found is None:
            raise UsageError(f"archive {path}: no data set found in it; {_looked_for(folder, format)}")
        return found
    kind: Format = "yolo" if suffix in (".yaml", ".yml") else "coco"
    if suffix in (".xml", ".txt", ".tar", ".gz", ".tgz", ".rar", ".7z", ".csv", ".ndjson", ".tfrecord"):
        raise UsageError(f"{path} is no data set; give its folder, a .zip, a COCO .json or a YOLO data.yaml")
    if format not in (None, kind):
        raise UsageError(
            f"{path} is read as {TITLES[kind]}, not as {TITLES[str(format)]}; give the folder of the data set"
        )
    found = _FINDERS[kind](path)
    assert found is not None
    return found


def _candidates(folder: Path, format: Format | None) -> list[Found]:
    # Its own sidecar says what a data set is; a forced format may still be another one.
    sure = format or sidecar_format(folder)
    kinds = [kind for kind in FORMATS if sure in (None, kind)]
    found = [_FINDERS[kind](folder) for kind in kinds]
    if not any(found) and format is None and sure is not None:
        found = [_FINDERS[kind](folder) for kind in FORMATS]
    return [one for one in found if one is not None]


def _chosen(folder: Path, candidates: list[Found]) -> Found:
    first, *others = candidates
    if not others:
        return first
    there = " and ".join(f"{TITLES[one.format]} ({_inside(one.place, folder)})" for one in candidates)
    options = " or ".join(f"--format {one.format}" for one in others)
    note = f"{folder} holds {there}: {TITLES[first.format]} is read; {options} reads the other"
    return Found(first.format, first.place, first.splits, first.absent, (*first.notes, note))


def _inside(place: Path, folder: Path) -> str:
    relative = place.relative_to(folder).as_posix() if place.is_relative_to(folder) else str(place)
    return folder.name if relative == "." else relative


def _looked_for(path: Path, format: Format | None) -> str:
    looked = "; ".join(f"{TITLES[kind]}: {_LOOKED_FOR[kind]}" for kind in FORMATS if format in (None, kind))
    inside = [folder.name for folder in folders_in(path) if _candidates(folder, format)]
    hint = f". Give one of the data sets inside it: {', '.join(inside[:8])}" if inside else ""
    return f"looked for {looked}{hint}"

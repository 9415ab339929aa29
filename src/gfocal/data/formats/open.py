"""From a path that a person gave to the splits of a data set, whatever its format."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from gfocal.data.formats.archive import unpacked
from gfocal.data.formats.coco import find as coco
from gfocal.data.formats.common import FORMATS, SPLITS, TITLES, WHOLE, Format, Found, Split, folders_in, is_hidden
from gfocal.data.formats.sidecar import sidecar_format
from gfocal.data.formats.voc import find as voc
from gfocal.data.formats.yolo import find as yolo
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.errors import EmptySplitError, MissingSplitError, UsageError, require_path

__all__ = ["FORMATS", "SPLITS", "Format", "Split", "find_data", "open_dataset", "open_splits"]

_LOOKED_FOR = {"coco": coco.LOOKED_FOR, "yolo": yolo.LOOKED_FOR, "voc": voc.LOOKED_FOR}
_DEEP = 4  # folders that hold nothing but one folder, as archives do
_DEVKIT = re.compile(r"VOCdevkit|VOC[ _-]?20\d\d|VOCtrainval.*|VOCtest.*", re.IGNORECASE)


def open_dataset(
    path: str | Path,
    split: Split,
    *,
    format: Format | None = None,
    images_dir: str | Path | None = None,
    whole: bool = False,
    skip_broken: bool = False,
    problems: Problems | None = None,
) -> DataIndex:
    """One split of a data set.

    Args:
        path: a folder or a zip of any format, a COCO JSON file, or a YOLO dataset yaml; see docs/data-formats.md.
        split: "train", "val" or "test". A data set that is not split is all "train"; a JSON file is whatever is asked.
        format: read it as this; by default what is found, COCO before YOLO before VOC.
        images_dir: the folder of the images, or one around it, for COCO and VOC; by default near the annotations.
        whole: a data set that is not split at all is all of any split, not only of "train".
        skip_broken: leave broken records out and list them in :attr:`DataIndex.skipped`.
        problems: collects what is broken, and takes notes of how the data are understood; by default it raises,
            or skips as ``skip_broken`` says.

    Raises:
        BrokenInputError: a record is broken, and faults are not skipped.
        MissingSplitError: the data set lacks the split.
        EmptySplitError: it has no image of the split.
        UsageError: there is no such data set, or it names a place for training or validation data that is not there.
    """
    problems = problems if problems is not None else Problems(skip_broken)
    found = find_data(path, format, images_dir)
    for note in found.notes:
        problems.note(note)
    reader = found.splits.get(split)
    one_file = Path(path).suffix.lower() == ".json" and Path(path).is_file()
    if reader is None and (split == "train" or whole or one_file):
        reader = found.splits.get(WHOLE)
    if reader is not None:
        return reader(problems)
    if split in found.absent:
        # Many files name a test split that nobody has. Without the others training would measure nothing, silently.
        if split == "test":
            raise MissingSplitError(found.absent[split])
        # Those of COCO are there: none of several files is chosen.
        raise (EmptySplitError if found.format == "yolo" else UsageError)(found.absent[split])
    if WHOLE in found.splits:
        raise MissingSplitError(f"{path} is not split: all of it is train; `--val 0.2` sets a share of it apart")
    there = ", ".join(sorted(found.splits)) or "none"
    raise MissingSplitError(f"no {split} annotations in {path} ({TITLES[found.format]}), which has: {there}")


def open_splits(
    path: str | Path,
    *,
    format: Format | None = None,
    images_dir: str | Path | None = None,
    problems: Problems | None = None,
) -> dict[str, DataIndex]:
    """All splits of a data set that are there: "train", "val", "test"; what is not split is "train".

    Raises:
        BrokenInputError, UsageError: as :func:`open_dataset`.
    """
    problems = problems if problems is not None else Problems(False)
    found = find_data(path, format, images_dir)
    for note in found.notes:
        problems.note(note)
    names = [name for name in (*SPLITS, WHOLE) if name in found.splits]
    if lost := [found.absent[name] for name in ("train", "val") if name in found.absent]:
        raise UsageError(lost[0])
    if not names:
        raise UsageError(next(iter(found.absent.values()), f"{path} has no split"))
    return {"train" if name == WHOLE else name: found.splits[name](problems) for name in names}


def find_data(path: str | Path, format: Format | None = None, images_dir: str | Path | None = None) -> Found:
    """Which data set a path is.

    A folder that holds nothing but one folder counts as that, as archives are often packed so; so does one with one
    ``VOCdevkit`` or ``VOC2012`` in it. Where several formats are in one folder, that of a sidecar counts, else COCO
    before YOLO before VOC; a note says so.

    Raises:
        UsageError: none, with what was looked for; or ``images_dir`` is no folder, or of a YOLO data set.
    """
    require_path("a data set", path)
    path = Path(path)
    images = None if images_dir is None else Path(images_dir)
    if format is not None and format not in FORMATS:
        raise UsageError(f"--format is {', '.join(FORMATS)}, not {format!r}")
    if images is not None and not images.is_dir():
        raise UsageError(f"--images {images} is no folder; give the one that holds the pictures, or one around it")
    found: Found | None
    if path.is_file():
        found = _find_file(path, format, images)
    elif path.is_dir():
        inside, found = _find_folder(path, format, images)
        if found is None:
            raise UsageError(f"no data set found in {path}; {_looked_for(inside, path, format)}")
    else:
        raise UsageError(f"data set {path} does not exist; give a folder, a .zip, a COCO .json or a YOLO data.yaml")
    if images is not None and found.format == "yolo":
        raise UsageError(
            f"{path} is a YOLO data set, whose label files belong to pictures by their place: --images is for COCO and "
            "VOC; put labels/ beside the folder images/, or correct the paths in its yaml file"
        )
    return found


def takes_images(path: str | Path, format: Format | None = None) -> bool:
    """Whether the images of a data set can be elsewhere, see :func:`find_data`."""
    return find_data(path, format).format != "yolo"


def _find_folder(folder: Path, format: Format | None, images: Path | None) -> tuple[Path, Found | None]:
    """(where it ended, the data set in a folder or in the only folder inside it); None if there is none."""
    places = list(_nested(folder))
    for place in places:
        if candidates := _candidates(place, format, images):
            return place, _chosen(place, candidates)
    likely = (yolo.find_likely(place) for place in places if format in (None, "yolo"))
    return places[-1], next((found for found in likely if found is not None), None)


def _nested(folder: Path) -> Iterator[Path]:
    """A folder, and those inside that are all that is in it, as archives have them, or all that is data."""
    for _ in range(_DEEP):
        yield folder
        inside = [entry for entry in folder.iterdir() if not is_hidden(entry.name)]
        folders = [entry for entry in inside if entry.is_dir()]
        kits = [entry for entry in folders if _DEVKIT.fullmatch(entry.name)]
        if len(kits) != 1 and any(entry.suffix.lower() in (".json", ".yaml", ".xml") for entry in inside):
            return
        if len(folders) != 1:
            folders = kits  # The challenge packs code, results and documents beside its data.
        if len(folders) != 1:
            return
        folder = folders[0]


def _find_file(path: Path, format: Format | None, images: Path | None) -> Found:
    suffix = path.suffix.lower()
    if suffix == ".zip":
        try:
            folder = unpacked(path)
        except OSError as error:
            raise UsageError(f"archive {path} cannot be read: {error.strerror or error}") from None
        try:
            inside, found = _find_folder(folder, format, images)
        except UsageError as error:  # It names a file of the cache.
            raise UsageError(f"archive {path}: {error}") from None
        if found is None:
            raise UsageError(f"archive {path}: no data set found in it; {_looked_for(inside, folder, format)}")
        return _of_archive(found, path, folder)
    kind: Format = "yolo" if suffix in (".yaml", ".yml") else "coco"
    if suffix in (".xml", ".txt", ".tar", ".gz", ".tgz", ".rar", ".7z", ".csv", ".ndjson", ".tfrecord"):
        raise UsageError(f"{path} is no data set; give its folder, a .zip, a COCO .json or a YOLO data.yaml")
    if format not in (None, kind):
        raise UsageError(
            f"{path} is read as {TITLES[kind]}, not as {TITLES[str(format)]}; give the folder of the data set"
        )
    found = _find(kind, path, images)
    assert found is not None
    return found


def _of_archive(found: Found, archive: Path, folder: Path) -> Found:
    """Whose notes and faults name the archive, not the folder where it is unpacked."""

    def read(reader: Callable[[Problems], DataIndex], problems: Problems) -> DataIndex:
        problems.archives[folder] = archive
        return reader(problems)

    notes = tuple(note.replace(str(folder), str(archive)) for note in found.notes)
    absent = {split: text.replace(str(folder), str(archive)) for split, text in found.absent.items()}
    splits = {split: partial(read, reader) for split, reader in found.splits.items()}
    return replace(found, notes=notes, absent=absent, splits=splits)


def _find(kind: Format, path: Path, images: Path | None) -> Found | None:
    if kind == "coco":
        return coco.find_coco_data(path, images)
    return yolo.find_yolo(path) if kind == "yolo" else voc.find_voc(path, images)


def _candidates(folder: Path, format: Format | None, images: Path | None = None) -> list[Found]:
    # Its own sidecar says what a data set is; a forced format may still be another one.
    sure = format or sidecar_format(folder)
    kinds = [kind for kind in FORMATS if sure in (None, kind)]
    found = [_find(kind, folder, images) for kind in kinds]
    if not any(found) and format is None and sure is not None:
        found = [_find(kind, folder, images) for kind in FORMATS]
    there = [one for one in found if one is not None]
    # Files of which none can be chosen count where there is nothing else.
    return [one for one in there if one.splits] or there


def _chosen(folder: Path, candidates: Sequence[Found]) -> Found:
    first, *others = candidates
    if not others:
        return first
    there = " and ".join(f"{TITLES[one.format]} ({_inside(one.place, folder)})" for one in candidates)
    options = " or ".join(f"--format {one.format}" for one in others)
    note = f"{folder} holds {there}: {TITLES[first.format]} is read; {options} reads the other"
    return replace(first, notes=(*first.notes, note))


def _inside(place: Path, folder: Path) -> str:
    relative = place.relative_to(folder).as_posix() if place.is_relative_to(folder) else str(place)
    return folder.name if relative == "." else relative


def _looked_for(folder: Path, given: Path, format: Format | None) -> str:
    looked = "; ".join(f"{TITLES[kind]}: {_LOOKED_FOR[kind]}" for kind in FORMATS if format in (None, kind))
    ends = [_find_folder(inner, format, None) for inner in folders_in(folder)]
    inside = [_inside(end, given) for end, found in ends if found is not None]
    hint = f". Give one of the data sets inside it: {', '.join(inside[:8])}" if inside else ""
    return f"looked for {looked}{hint}"

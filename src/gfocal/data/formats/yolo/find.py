"""Finding YOLO data sets: dataset yaml files, darknet's lists, or folders of images and of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from gfocal.data.formats.common import (
    SPLITS,
    WHOLE,
    Found,
    files_in,
    folders_in,
    has_any,
    images_in,
    is_hidden,
    rest_of,
    split_folders,
    split_of,
)
from gfocal.data.formats.yolo.class_names import Yaml, names_beside
from gfocal.data.formats.yolo.dataset_file import read_splits, read_yaml
from gfocal.data.formats.yolo.split import YoloSplit, locate
from gfocal.data.formats.yolo.tree import IMAGE_WORDS, has_labels, meaning_of, words_of
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.images.file_types import IMAGE_SUFFIXES

LOOKED_FOR = "data.yaml; images/ and labels/; obj.names and obj_train_data/; pictures, .txt files and classes.txt"
_YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


def find_yolo(path: Path) -> Found | None:
    """The YOLO data set in a folder, or of a yaml file; None if there is none.

    Raises:
        UsageError: the yaml file cannot be used.
    """
    if path.is_file():
        return _from_yaml(path, read_yaml(path))
    named = [path / name for name in _YAML_NAMES if (path / name).is_file()]
    others = [file for file in files_in(path, ".yaml", ".yml") if file not in named]
    for file in [*named, *others]:
        content = read_yaml(file, quiet=file not in named)
        if any(key in content for key in ("train", "val", "test")) and ("names" in content or "nc" in content):
            return _from_yaml(file, content)
    return _from_folders(path)


def _found(place: Path, places: Mapping[str, YoloSplit], absent: Mapping[str, str], notes: Sequence[str] = ()) -> Found:
    return Found("yolo", place, {split: partial(_read, one, split) for split, one in places.items()}, absent, (*notes,))


def _read(place: YoloSplit, split: str, problems: Problems) -> DataIndex:
    from gfocal.data.formats.yolo.reader import read_yolo

    return read_yolo(place, split, problems)


def _from_yaml(file: Path, content: dict[str, Yaml]) -> Found:
    splits = read_splits(file, content)
    return _found(file, splits.places, splits.absent, splits.notes)


def _from_folders(root: Path) -> Found | None:
    names = names_beside(root)
    images, labels = _named(root, "images"), _named(root, "labels")
    if images and labels and (has_any(labels, ".txt") or names):
        used = _with_images(split_folders(images))
        if used:
            rest = rest_of(images, [folder for own in used.values() for folder in own])
            return _of_folders(root, labels, used, names, rest)
        return _of_folders(root, labels, {WHOLE: [images]}, names)
    places = {
        split: [folder / "images"]
        for split, folder in split_folders(root).items()
        if (folder / "images").is_dir() and (folder / "labels").is_dir() and has_any(folder / "labels", ".txt")
    }
    if places:
        return _of_folders(root, root, places, names)
    return _darknet(root, names, tuple(range(len(names or ()))))


def _of_folders(
    root: Path,
    place: Path,
    folders: Mapping[str, Sequence[Path]],
    names: tuple[str, ...] | None,
    notes: Sequence[str] = (),
) -> Found:
    """The data set whose splits are folders of images."""
    ids = tuple(range(len(names or ())))
    places = {
        split: YoloSplit(root, own[0] if len(own) == 1 else root, tuple(own), names, ids, splits=tuple(folders))
        for split, own in folders.items()
    }
    return _found(place, places, {}, notes)


def find_likely(root: Path) -> Found | None:
    """What must be a YOLO data set in a folder where no format is found: label files are in it, by their content.

    The folders of images are those that are named after images or splits, else it itself.
    """
    named = [folder for folder in folders_in(root) if IMAGE_WORDS & {*words_of(folder.name)}]
    images = [folder for folder in named if has_any(folder, *IMAGE_SUFFIXES)]
    splits = _with_images(split_folders(root))
    if not (images or splits or files_in(root, *IMAGE_SUFFIXES)) or not has_labels(root):
        return None
    places: dict[str, list[Path]] = {}
    for folder in images:
        split = next((name for name in meaning_of([folder.name]) if name in SPLITS), None)
        inside = {split: [folder]} if split else _with_images(split_folders(folder)) or {WHOLE: [folder]}
        for name, own in inside.items():
            places.setdefault(name, []).extend(own)
    if set(places) > {WHOLE}:
        places.setdefault("train", []).extend(places.pop(WHOLE, []))
    return _of_folders(root, root, places or splits or {WHOLE: [root]}, names_beside(root))


def _named(root: Path, name: str) -> Path | None:
    return next((folder for folder in folders_in(root) if folder.name.lower() == name), None)


def _with_images(folders: Mapping[str, Path]) -> dict[str, list[Path]]:
    return {split: [folder] for split, folder in folders.items() if has_any(folder, *IMAGE_SUFFIXES)}


def _darknet(root: Path, names: tuple[str, ...] | None, ids: tuple[int, ...]) -> Found | None:
    """CVAT's YOLO 1.1 (obj_train_data/, train.txt), or images, label files and class names in one folder."""
    if names is None:
        return None
    places: dict[str, YoloSplit] = {}
    lists = {split: file for file in files_in(root, ".txt") if (split := split_of(file.stem))}
    folders = [folder for folder in folders_in(root) if folder.name.startswith("obj_")]
    for split, file in lists.items():
        if split in SPLITS and (folders or _names_an_image(file, root)):
            places[split] = YoloSplit(root, file, (file,), names, ids)
    for folder in folders:
        named = split_of(folder.name.removeprefix("obj_").removesuffix("_data").replace("_", ""))
        if named and named not in places and not lists:
            places[named] = YoloSplit(root, folder, (folder,), names, ids)
    if not places and folders:
        places[WHOLE] = YoloSplit(root, root, tuple(folders), names, ids)  # subsets of other names
    elif not places and _beside(root):
        places[WHOLE] = YoloSplit(root, root, (root,), names, ids)
    if set(places) == {"train"} and folders:
        places = {WHOLE: places["train"]}  # CVAT calls what nobody split "train"
    return _found(root, places, {}) if places else None


def _names_an_image(file: Path, root: Path) -> bool:
    """Whether the first line of a file is an image: darknet's own lists lie beside a folder of any name."""
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        first = next((line.strip() for line in lines if line.strip()), "")
    where = locate(first, [root]) if first.lower().endswith(IMAGE_SUFFIXES) else None
    return where is not None and where.is_file()


def _beside(root: Path) -> bool:
    """Whether an image has a label file beside it."""
    texts = {file.stem for file in files_in(root, ".txt")}
    return any(Path(name).stem in texts for name in images_in(root) if "/" not in name and not is_hidden(name))

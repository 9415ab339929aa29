"""Finding YOLO data sets: dataset yaml files, darknet's lists, or folders of images and of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import yaml

from gfocal.data.formats.common import (
    SPLITS,
    WHOLE,
    Found,
    files_in,
    folders_in,
    has_any,
    images_in,
    is_hidden,
    portable,
    rest_of,
    split_folders,
    split_of,
)
from gfocal.data.formats.yolo.split import YoloSplit, locate
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problems
from gfocal.errors import UsageError
from gfocal.images.file_types import IMAGE_SUFFIXES

LOOKED_FOR = "data.yaml; images/ and labels/; obj.names and obj_train_data/; pictures, .txt files and classes.txt"
_YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
Yaml = str | list["Yaml"] | dict[str, "Yaml"]
"""What a dataset file can hold where every scalar stays text."""
_NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "classes.names", "labels/classes.txt", "data/obj.names")


def find_yolo(path: Path) -> Found | None:
    """The YOLO data set in a folder, or of a yaml file; None if there is none.

    Raises:
        UsageError: the yaml file cannot be used.
    """
    if path.is_file():
        return _from_yaml(path, _read_yaml(path))
    named = [path / name for name in _YAML_NAMES if (path / name).is_file()]
    others = [file for file in files_in(path, ".yaml", ".yml") if file not in named]
    for file in [*named, *others]:
        content = _read_yaml(file, quiet=file not in named)
        if any(key in content for key in ("train", "val", "test")) and ("names" in content or "nc" in content):
            return _from_yaml(file, content)
    return _from_folders(path)


def _found(place: Path, places: Mapping[str, YoloSplit], absent: Mapping[str, str], notes: Sequence[str] = ()) -> Found:
    return Found("yolo", place, {split: partial(_read, one, split) for split, one in places.items()}, absent, (*notes,))


def _read(place: YoloSplit, split: str, problems: Problems) -> DataIndex:
    from gfocal.data.formats.yolo.reader import read_yolo

    return read_yolo(place, split, problems)


def _read_yaml(file: Path, quiet: bool = False) -> dict[str, Yaml]:
    try:
        # Every scalar stays text: a class may be called "no", "1e5" or "null".
        content = yaml.load(file.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OSError) as error:
        if quiet:
            return {}
        reason = " ".join(str(error).split())
        raise UsageError(f"{file} is not YAML: {reason}; give a YOLO dataset file with train, val and names") from None
    if isinstance(content, dict):
        return content
    if quiet:
        return {}
    raise UsageError(f"{file} holds no keys; a YOLO dataset file has train, val and names")


def _from_yaml(file: Path, content: dict[str, Yaml]) -> Found:
    names, ids = _names_of(file, content)
    bases = [file.parent]
    given = content.get("path")
    if isinstance(given, str) and given not in ("", "null", "~"):
        # Exports name a folder of the machine they were made on: the file's own folder counts as well.
        bases = list(
            dict.fromkeys(
                [*(p for p in (Path(portable(given)), file.parent / portable(given)) if p.is_dir()), file.parent]
            )
        )
    places, absent = {}, {}
    for split in ("train", "val", "test"):
        value = content.get(split) or content.get({"val": "valid"}.get(split, split))
        entries = value if isinstance(value, list) else [value]
        wanted = [entry for entry in entries if isinstance(entry, str) and entry not in ("", "null", "~")]
        if not wanted:
            continue
        found = {entry: locate(entry, bases) for entry in wanted}
        if lost := [entry for entry, where in found.items() if where is None]:
            absent[split] = f"{file}: {split}: {lost[0]} does not exist beside it; correct the path"
            continue
        entries_found = tuple(where for where in found.values() if where is not None)
        places[split] = YoloSplit(file.parent, file, entries_found, names, ids, "kpt_shape" in content)
    if not places and not absent:
        raise UsageError(f"{file} has none of the keys train, val and test; each names a folder or a list of pictures")
    return _found(file, places, absent, list(absent.values()))


def _names_of(file: Path, content: dict[str, Yaml]) -> tuple[tuple[str, ...] | None, tuple[int, ...]]:
    names, count = content.get("names"), str(content.get("nc", "")).strip()
    if isinstance(names, str):
        listed = _from_names_file(locate(names, [file.parent]))
        if listed is None:
            raise UsageError(f"{file}: 'names' is {names!r}; give the class names as a list")
        names = list(listed)
    if isinstance(names, list):
        names = {str(i): name for i, name in enumerate(names)}
    if not names:
        if not count.isdigit() or count == "0":
            return _from_files(file.parent), ()
        names = {str(i): str(i) for i in range(int(count))}
    texts = {key: name for key, name in names.items() if isinstance(name, str)} if isinstance(names, dict) else {}
    if len(texts) < len(names):
        raise UsageError(f"{file}: 'names' must be a list of class names, or give the name of each class number")
    if wrong := [key for key in texts if not key.strip().isdecimal()]:
        raise UsageError(f"{file}: 'names' has the key {wrong[0]!r}; class numbers are whole, from 0 on")
    by_id = {int(key): name for key, name in texts.items()}
    if count.isdigit() and int(count) != len(by_id):
        raise UsageError(f"{file}: nc is {count}, but 'names' has {len(by_id)}; correct one of the two")
    ids = tuple(sorted(by_id))
    return tuple(by_id[i] for i in ids), ids


def _from_files(root: Path) -> tuple[str, ...] | None:
    others = files_in(root, ".names") if root.is_dir() else []
    files = [*(root / name for name in _NAME_FILES), *others]
    return next((names for names in map(_from_names_file, files) if names), None)


def _from_names_file(file: Path | None) -> tuple[str, ...] | None:
    if file is None or not file.is_file():
        return None
    try:
        lines = file.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (UnicodeDecodeError, OSError):
        raise UsageError(f"{file} cannot be read as UTF-8 text; it should name one class per line") from None
    return tuple(line.strip() for line in lines) or None


def _from_folders(root: Path) -> Found | None:
    names = _from_files(root)
    ids = tuple(range(len(names))) if names else ()

    def place(folder: Path) -> YoloSplit:
        return YoloSplit(root, folder, (folder,), names, ids)

    images, labels = _named(root, "images"), _named(root, "labels")
    if images and labels and (has_any(labels, ".txt") or names):
        used = {split: folder for split, folder in split_folders(images).items() if has_any(folder, *IMAGE_SUFFIXES)}
        if used:
            places = {split: place(folder) for split, folder in used.items()}
            return _found(labels, places, {}, rest_of(images, used.values()))
        return _found(labels, {WHOLE: place(images)}, {})
    places = {
        split: place(folder / "images")
        for split, folder in split_folders(root).items()
        if (folder / "images").is_dir() and (folder / "labels").is_dir() and has_any(folder / "labels", ".txt")
    }
    return _found(root, places, {}) if places else _darknet(root, names, ids)


def _named(root: Path, name: str) -> Path | None:
    return next((folder for folder in folders_in(root) if folder.name.lower() == name), None)


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

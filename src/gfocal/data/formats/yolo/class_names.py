"""The names of a YOLO data set's classes, from its yaml file or a file that lists them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gfocal.data.formats.common import files_in
from gfocal.data.formats.yolo.split import locate
from gfocal.errors import UsageError

Yaml = str | list["Yaml"] | dict[str, "Yaml"]
"""What a dataset file can hold where every scalar stays text."""
_FILES = ("classes.txt", "obj.names", "_darknet.labels", "classes.names", "labels/classes.txt", "data/obj.names")


def names_of(file: Path, content: Mapping[str, Yaml]) -> tuple[tuple[str, ...] | None, tuple[int, ...]]:
    """(names, the number of each in the label files, ascending) as a yaml file has them; None where nothing does.

    Raises:
        UsageError: they cannot be used.
    """
    names, count = content.get("names"), str(content.get("nc", "")).strip()
    if isinstance(names, str):
        listed = names_in(locate(names, [file.parent]))
        if listed is None:
            raise UsageError(f"{file}: 'names' is {names!r}; give the class names as a list")
        names = list(listed)
    if isinstance(names, list):
        names = {str(i): name for i, name in enumerate(names)}
    if not names:
        if not count.isdigit() or count == "0":
            return names_beside(file.parent), ()
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


def names_beside(root: Path) -> tuple[str, ...] | None:
    """The names that a file in the folder of a data set lists; None without one."""
    others = files_in(root, ".names") if root.is_dir() else []
    files = [*(root / name for name in _FILES), *others]
    return next((names for names in map(names_in, files) if names), None)


def names_in(file: Path | None) -> tuple[str, ...] | None:
    """The lines of a file that names one class on each; None where there is no file, or nothing in it.

    Raises:
        UsageError: it is no text.
    """
    if file is None or not file.is_file():
        return None
    try:
        lines = file.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (UnicodeDecodeError, OSError):
        raise UsageError(f"{file} cannot be read as UTF-8 text; it should name one class per line") from None
    return tuple(line.strip() for line in lines) or None

"""Which image files files, folders and patterns stand for, and what in them is passed over."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gfocal.data.formats.common import folders_in, is_hidden
from gfocal.errors import UsageError, require_path
from gfocal.images.file_types import FOREIGN_SUFFIXES, IMAGE_SUFFIXES, Foreign
from gfocal.utils.text import counted, join_some, listed

RESULTS = "predictions.json"
"""The file that a prediction writes beside its drawings."""

_NAMED = 3  # files of a kind that are named


@dataclass(frozen=True)
class FoundImages:
    """Image files, and what was found beside them.

    Attributes:
        images: each once, in the order of what was asked for.
        passed_over: lines about files and folders that are not read.
    """

    images: tuple[Path, ...]
    passed_over: tuple[str, ...]


def find_images(patterns: Iterable[str | Path], *, recursive: bool = False) -> list[Path]:
    """The image files that files, folders and patterns stand for, each once.

    Args:
        patterns: a file (whatever its name), a folder (the images in it, by name), or a pattern such as
            ``photos/*.jpg`` or ``photos/**/*.png`` (the images among what it matches).
        recursive: search the folders inside folders, too; hidden ones are left alone.

    Raises:
        UsageError: one of them finds nothing.
    """
    return list(search_images(patterns, recursive=recursive).images)


def search_images(patterns: Iterable[str | Path], *, recursive: bool = False) -> FoundImages:
    """:func:`find_images`, and what was passed over."""
    if isinstance(patterns, str | Path):  # a text is a sequence too, of letters
        raise UsageError(f"patterns must be a list, such as [{str(patterns)!r}], not a single path")
    found: dict[Path, Path] = {}
    passed_over: list[str] = []
    if not isinstance(patterns, Iterable):
        raise UsageError(f"patterns must be a list of paths, not {type(patterns).__name__}")
    for pattern in patterns:
        require_path("a pattern", pattern)
        images, lines = _matches(Path(pattern), recursive)
        passed_over += lines
        for path in images:
            found.setdefault(Path(os.path.realpath(path)), path)
    return FoundImages(tuple(found.values()), tuple(dict.fromkeys(passed_over)))


def _matches(pattern: Path, recursive: bool) -> tuple[list[Path], list[str]]:
    if pattern.is_dir():
        return _in_folder(pattern, recursive)
    if pattern.exists():
        return [pattern], []
    if pattern.is_symlink():
        raise UsageError(f"{pattern} is a broken link: it leads to {os.readlink(pattern)}, which is not there")
    if not glob.has_magic(str(pattern)):
        raise UsageError(f"there is no picture, folder or pattern {pattern}")
    matched = sorted(map(Path, glob.iglob(str(pattern), recursive=True)))
    files = [path for path in matched if _is_file(path)]
    images, lines = _sorted_out(files, f"the pattern {pattern}")
    lines += _no_files(matched, f"the pattern {pattern}")
    lines += _other_capitals(pattern, files)
    if not images:
        beside = f"; {'; '.join(lines)}" if lines else ""
        raise UsageError(f"the pattern {pattern} matches no pictures ({', '.join(IMAGE_SUFFIXES)}){beside}")
    return images, lines


def _in_folder(folder: Path, recursive: bool) -> tuple[list[Path], list[str]]:
    try:
        inner = folders_in(folder)
        paths, unsearched = _everything_in(folder) if recursive else (sorted(folder.iterdir()), [])
        files = [path for path in paths if _is_file(path)]
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be read: {error.strerror or error}") from None
    images, lines = _sorted_out(files, f"folder {folder}")
    lines += [*_no_files(paths, f"folder {folder}"), *unsearched]
    if inner and not recursive:
        lines.append(f"folder {folder}: {counted(len(inner), 'folder')} in it not searched; --recursive does that")
    if not images:
        beside = f"; {'; '.join(lines)}" if lines else ""
        raise UsageError(f"no pictures in folder {folder} (looked for {', '.join(IMAGE_SUFFIXES)}){beside}")
    return images, lines


def _everything_in(folder: Path) -> tuple[list[Path], list[str]]:
    """All that is in a folder and its folders but folders and what is hidden; and lines about folders not searched.

    Linked folders come behind the others: what is in the tree itself keeps its own name.
    """
    found: list[Path] = []
    again: list[Path] = []
    shut: list[OSError] = []
    seen: set[str] = set()
    starts = deque([folder])
    while starts:
        start = starts.popleft()
        if os.path.realpath(start) in seen:
            again.append(start)
            continue
        for place, folders, names in os.walk(start, onerror=shut.append):
            seen.add(os.path.realpath(place))
            inner = sorted(name for name in folders if not is_hidden(name))
            starts += [path for name in inner if (path := Path(place, name)).is_symlink()]
            folders[:] = [name for name in inner if os.path.realpath(Path(place, name)) not in seen]
            found += [Path(place, name) for name in sorted(names) if not is_hidden(name)]
    lines = []
    if again:
        links = join_some([path.relative_to(folder).as_posix() for path in again], _NAMED)
        many = counted(len(again), "linked folder leads", "linked folders lead")
        lines.append(f"folder {folder}: {many} to what is searched already ({links})")
    if shut:
        closed = join_some([f"{error.filename}: {error.strerror}" for error in shut], _NAMED)
        lines.append(f"folder {folder}: {counted(len(shut), 'folder')} in it cannot be read ({closed})")
    return found, lines


def _no_files(paths: Iterable[Path], where: str) -> list[str]:
    """Lines about broken links, and about pipes and the like, which would keep a reader waiting for ever."""
    others = [path for path in paths if not (path.name.startswith(".") or path.is_file() or path.is_dir())]
    links = [path.name for path in others if not path.exists()]
    pipes = [path.name for path in others if path.exists()]
    kinds = ((links, "broken link"), (pipes, "pipe or device"))
    many = {"broken link": "broken links", "pipe or device": "pipes or devices"}
    return [
        f"{where}: {counted(len(names), kind, many[kind])} not read ({join_some(names, _NAMED)})"
        for names, kind in kinds
        if names
    ]


def _is_file(path: Path) -> bool:
    return not path.name.startswith(".") and path.is_file()


def _sorted_out(files: Iterable[Path], where: str) -> tuple[list[Path], list[str]]:
    """The images among files, and a line for each kind of the others."""
    images: list[Path] = []
    foreign: defaultdict[Foreign, list[Path]] = defaultdict(list)
    others: Counter[str] = Counter()
    for path in files:
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            images.append(path)
        elif suffix in FOREIGN_SUFFIXES:
            foreign[FOREIGN_SUFFIXES[suffix]].append(path)
        elif path.name != RESULTS:
            others[suffix or "without an ending"] += 1
    return images, list(_lines(foreign, others, where))


def _lines(foreign: dict[Foreign, list[Path]], others: Counter[str], where: str) -> Iterator[str]:
    for kind, paths in foreign.items():
        names = join_some([path.name for path in paths], _NAMED)
        are = f"{counted(len(paths), 'file')} not read, {kind.name}{' each' if len(paths) > 1 else ''}"
        yield f"{where}: {are} ({names}): {kind.example(paths[0])}"
    if others:
        kinds = listed([suffix for suffix, _ in others.most_common(5)])
        yield f"{where}: {counted(others.total(), 'file')} of other kinds not read ({kinds})"


def _other_capitals(pattern: Path, found: list[Path]) -> list[str]:
    """A line about files that a pattern would match if capitals did not count."""
    parts = re.split(r"(\[[^\]]*\])", pattern.name)
    folded = "".join(part if part.startswith("[") else re.sub("[^\\W\\d_]", _either_case, part) for part in parts)
    every = glob.iglob(str(pattern.parent / folded), recursive=True)
    missed = sorted({Path(name) for name in every if _is_file(Path(name))} - set(found))
    if not missed:
        return []
    names = join_some([path.name for path in missed], _NAMED)
    return [f"the pattern {pattern}: {counted(len(missed), 'file')} not taken, other in capitals alone ({names})"]


def _either_case(letter: re.Match[str]) -> str:
    lower, upper = letter[0].lower(), letter[0].upper()
    return f"[{lower}{upper}]" if lower != upper and len(lower) == len(upper) == 1 else letter[0]

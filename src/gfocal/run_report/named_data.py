"""Which data a run was measured on, as its run card tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfocal.data.fingerprint import fingerprint
from gfocal.data.formats.common import FORMATS, Format, Split
from gfocal.data.index.data_index import DataIndex
from gfocal.data.index.rename import parse_renames, rename_classes
from gfocal.errors import GfocalError, UsageError
from gfocal.runs.datasets import open_measured


@dataclass(frozen=True)
class NamedData:
    """Data as a person types them.

    Attributes:
        path: after ``--data``.
        format, images_dir, rename: after ``--format``, ``--images`` and ``--rename``.
    """

    path: Path
    format: Format | None = None
    images_dir: Path | None = None
    rename: tuple[str, ...] = ()


def find_named(
    model: str, card: Mapping[str, Any] | None, split: Split, names: Sequence[str], *, skip_broken: bool
) -> NamedData:
    """The data that a run was measured on.

    Of several places that its card names, the first whose annotations are those of the card; else the first that can
    be opened.

    Args:
        model: the run folder.
        card: its run card; None without one.
        split: that is to be measured.
        names: of the run's classes.
        skip_broken: leave out what is broken.

    Raises:
        UsageError: the card names none, or none of them can be opened.
    """
    wanted = val["data"] if card is not None and isinstance(val := card.get("val"), dict) and "data" in val else None
    if card is None or wanted is None:
        why = "has no run card (run.json)" if card is None else "was measured on nothing"
        raise UsageError(f"{model} {why}: say what to measure on with --data PATH")
    opened: list[NamedData] = []
    reasons: list[str] = []
    for each in _places(card):
        try:
            index = open_named(model, each, "val", skip_broken=skip_broken)
        except GfocalError as error:
            reasons.append(f"{each.path}: {error}")
            continue
        opened.append(each)
        with suppress(GfocalError):
            if fingerprint(index.with_classes(names)) == wanted:
                return each
    if opened:
        return opened[0]
    raise UsageError(
        f"{model}: the data that it was measured on cannot be opened ({'; '.join(reasons)}); give --data PATH"
    )


def open_named(model: str, data: NamedData, split: Split, *, skip_broken: bool) -> DataIndex:
    """A split of the data as ``gfocal eval`` would measure it, its classes renamed."""
    index = open_measured(
        model, data.path, split, format=data.format, images_dir=data.images_dir, skip_broken=skip_broken
    )
    return rename_classes(index, parse_renames(data.rename, index.names))


def _places(card: Mapping[str, Any]) -> list[NamedData]:
    """Where the measured data may be, the likeliest first."""
    calls = card.get("calls") or [{}]
    options = _options(calls[-1].get("command"))
    formats = [each for each in FORMATS if [each] == options.get("--format")]
    images = options.get("--images", [])
    rename = tuple(options.get("--rename", ()))
    own: dict[str, Any] = {"format": formats[0] if formats else None, "rename": rename}
    own["images_dir"] = Path(images[-1]) if images else None
    typed = [path for path in options.get("--val", []) if not _is_share(path)] or options.get("--data", [])
    places = [NamedData(Path(path), **own) for path in typed]
    files = [Path(str(file)) for file in (card["val"].get("annotations"), card.get("annotations")) if file]
    # Of VOC the annotations are a list of names, ImageSets/Main/train.txt: the data set is around it.
    around = [parent for file in files if file.suffix == ".txt" for parent in file.parents[2:3]]
    places += [NamedData(path, rename=rename) for path in (*files, *around)]
    return list(dict.fromkeys(places))


def _options(command: object) -> dict[str, list[str]]:
    """Values of the options of a command, in both spellings: ``--data X`` and ``--data=X``."""
    words = [str(word) for word in command] if isinstance(command, list) else []
    found: dict[str, list[str]] = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            name, given, value = word.partition("=")
            found.setdefault(name, []).append(value if given else following)
    return found


def _is_share(text: str) -> bool:
    try:
        return 0 < float(text) < 1
    except ValueError:
        return False

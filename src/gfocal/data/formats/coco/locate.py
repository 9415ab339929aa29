"""Where the images of a COCO file are; its names may be those of another machine."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, unquote_plus, urlsplit

from gfocal.data.formats.coco.parser import ImageRecord
from gfocal.data.formats.common import Listings, images_in, portable, split_in
from gfocal.data.formats.image_size import image_size
from gfocal.data.problems import Problems
from gfocal.errors import BrokenInputError
from gfocal.utils.text import counted, join_some

_TRIED = 20
"""Names from the beginning, the middle and the end that are looked for: any one image may be the missing one."""
_LONG = 80
"""Characters of a name that a line shows: those at its end."""
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:")
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio writes before the name of an uploaded file."""


class _Way(NamedTuple):
    """How names may differ from those of files: what makes both the same, and how a note says it."""

    same: Callable[[str], str]
    note: str


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


_WAYS = (
    _Way(str, "found by the end of the path"),
    _Way(_composed, "found in another form of Unicode (accents are characters of their own: NFC, NFD)"),
    _Way(lambda text: _composed(_composed(text).casefold()), "found with other capitals"),
    _Way(lambda text: _UPLOADED.sub("", text, count=1), "found without the digits that Label Studio writes first"),
)


@dataclass(frozen=True)
class Located:
    """Where images are.

    Attributes:
        folder: that their file names start from.
        missing: names that no file has: "", or why none of several is taken.
        search: below which they were looked for; None: nowhere.
    """

    folder: Path
    missing: dict[str, str]
    search: Path | None = None


def locate_images(
    images: Sequence[ImageRecord],
    folders: Sequence[Path],
    search: Path | None,
    file: Path,
    problems: Problems,
    split: str | None = None,
) -> Located:
    """Find the file of every image.

    A name that is right stays as it is. Others are compared with all images below ``search`` by the ends of their
    paths, the longest first. A file is taken only where no other fits as well, and where no other name fits it.

    Args:
        images: their ``file_name`` becomes what leads from the folder to the file.
        folders: where names may start from, the likeliest first.
        search: images of other names are looked for below it; None looks for none.
        file: the annotation file, for notes.
        problems: takes notes of what was found otherwise than it is written.
        split: of files that fit equally well, that in a folder named after this split is taken.
    """
    names = list(dict.fromkeys(image.file_name for image in images))
    folder = _likeliest(folders, names)
    listings = Listings()
    direct = {name: given for name in names if (given := _direct(folder, name, listings)) is not None}
    lost = {image.file_name: image for image in images if image.file_name not in direct}
    missing = dict.fromkeys(lost, "")
    if lost and search is not None:
        taken = {_place(folder, given): name for name, given in direct.items()}
        place = _Search(search, split)
        found, reasons = place.find(list(lost.values()), taken)
        reasons = place.twins(lost, {*taken, *(file for file, _ in found.values())}) | reasons
        missing = {name: reasons.get(name, "") for name in lost if name not in found}
        folder, direct = _joined(folder, direct, {name: place for name, (place, _) in found.items()})
        _note(found, search, file, problems)
    for image in images:
        image.file_name = direct.get(image.file_name, image.file_name)
    return Located(folder, missing, search)


def _likeliest(folders: Sequence[Path], names: Sequence[str]) -> Path:
    """The folder that holds most of some of the images; the first of equals."""
    if len(folders) == 1:
        return folders[0]
    middle = max(0, len(names) // 2 - _TRIED // 2)
    some = {*names[:_TRIED], *names[middle : middle + _TRIED], *names[-_TRIED:]}
    return max(folders, key=lambda folder: sum(_holds(folder, name) for name in some))


def _holds(folder: Path, name: str) -> bool:
    try:
        return (folder / name).is_file() or (folder / portable(name)).is_file()
    except (OSError, ValueError):  # too long a name, or a null character in it
        return False


def _direct(folder: Path, name: str, listings: Listings) -> str | None:
    """The name, or with "/" for Windows' backslashes, where such a file is in the folder."""
    # Elsewhere a backslash may be part of a name, so that one is tried first.
    return next((given for given in (name, portable(name)) if listings.has(os.path.join(folder, given))), None)


def _place(folder: str | Path, name: str) -> str:
    return os.path.normpath(os.path.join(folder, name))


def _joined(folder: Path, direct: dict[str, str], found: dict[str, str]) -> tuple[Path, dict[str, str]]:
    """One folder for images that lie in several, and the names in it."""
    if not found:
        return folder, direct
    around = [*map(os.path.dirname, found.values()), *([os.path.normpath(folder)] if direct else [])]
    if len({os.path.isabs(place) for place in around}) > 1:
        around = [os.path.abspath(place) for place in around]
        found = {name: os.path.abspath(place) for name, place in found.items()}
    common = os.path.commonpath(around) or "."
    names = {name: _relative(place, common) for name, place in found.items()}
    if direct and os.path.abspath(common) == os.path.abspath(folder):
        return folder, direct | names
    return Path(common), {name: _relative(_place(folder, given), common) for name, given in direct.items()} | names


def _relative(place: str, folder: str) -> str:
    """The name of a file in a folder; its whole path where it is elsewhere, since ".." leads astray behind a link."""
    name = os.path.relpath(place, folder).replace(os.sep, "/")
    return os.path.abspath(place).replace(os.sep, "/") if name.split("/")[0] == ".." else name


def _note(found: dict[str, tuple[str, int]], search: Path, file: Path, problems: Problems) -> None:
    for way, kind in enumerate(_WAYS):
        own = [(name, place) for name, (place, used) in found.items() if used == way]
        if own:
            name, place = own[0]
            first = f"{_short(name)} is {_relative(place, os.fspath(search))}"
            problems.note(f"{file}: {counted(len(own), 'picture')} {kind.note}, below {search}: {first}")


def readings(name: str) -> Iterator[tuple[str, ...]]:
    """What the parts of a path may be, as other machines and labelling servers write it; the likeliest first.

    Windows' paths, percent signs of URLs, and ``/data/local-files/?d=`` of Label Studio.
    """
    plain = portable(name).strip()
    texts = [plain]
    with suppress(ValueError):  # no URL after all
        if "?" in plain or _URL.match(plain):
            parsed = urlsplit(plain)
            texts += [portable(given) for given in parse_qs(parsed.query).get("d", [])]
            texts.append(parsed.path)
    texts += [portable(decode(text)) for text in tuple(texts) if "%" in text or "+" in text for decode in _DECODERS]
    for text in dict.fromkeys(texts):
        parts = [
            part for part in text.split("/") if part not in ("", ".", "..") and not re.fullmatch("[A-Za-z]:", part)
        ]
        if parts:
            yield tuple(parts)


_DECODERS = (unquote, unquote_plus)


class _Fit(NamedTuple):
    """What files fit a name: how, which, and how many parts at the ends of their paths are equal."""

    way: int = 0
    files: Sequence[str] = ()
    parts: int = 0


class _Search:
    """All images below a folder, by their names."""

    def __init__(self, folder: Path, split: str | None) -> None:
        self._folder, self._split = folder, split
        self._files = list(images_in(folder))
        self._tables: dict[int, dict[str, list[str]]] = {}
        self._folders: dict[str, str] = {}

    def find(
        self, images: Sequence[ImageRecord], taken: dict[str, str]
    ) -> tuple[dict[str, tuple[str, int]], dict[str, str]]:
        """Files of images, and why there is none.

        Args:
            images: of names that no file has as they are.
            taken: the name of each file that an image has already.

        Returns:
            By name (file, index of the way it was found), and by name why no file is taken.
        """
        fits = {image.file_name: self._fitting(image) for image in images}
        found = {name: self._at(fit.files[0]) for name, fit in fits.items() if len(fit.files) == 1}
        several = {name: fit.files for name, fit in fits.items() if len(fit.files) > 1}
        reasons = {name: f"fits several in {self._folder}: {join_some(files, 3)}" for name, files in several.items()}
        owners: dict[str, list[str]] = defaultdict(list)
        for name, place in [*((name, place) for place, name in taken.items()), *found.items()]:
            owners[self._real(place)].append(name)
        reasons |= {
            name: f"fits {place}, and so does {_short(next(other for other in owners[real] if other != name))}"
            for name, place in found.items()
            if len(owners[real := self._real(place)]) > 1
        }
        alone = {name: place for name, place in found.items() if fits[name].parts == 1 and name not in reasons}
        reasons |= self._doubtful(alone, owners, several.values())
        reasons |= _of_other_size(alone, images)
        return {name: (place, fits[name].way) for name, place in found.items() if name not in reasons}, reasons

    def twins(self, names: Iterable[str], taken: Set[str]) -> dict[str, str]:
        """Of names, why not, where a file has the name with another ending: it may be another image, saved anew."""
        stems: dict[str, list[str]] = defaultdict(list)
        for file in self._files:
            if self._at(file) not in taken:
                stems[_stem(file)].append(file)
        return {
            name: f"does not exist, but {self._at(own[0])} does: if it is this picture, correct the name's ending"
            for name in names
            for parts in list(readings(name))[:1]
            if (own := stems.get(_stem(parts[-1]), []))
        }

    def _at(self, file: str) -> str:
        return _place(self._folder, file)

    def _real(self, place: str) -> str:
        """The file without links to its folder: one folder may have two names."""
        folder, name = os.path.split(place)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], name)

    def _doubtful(
        self, found: dict[str, str], places: Iterable[str], several: Iterable[Sequence[str]]
    ) -> dict[str, str]:
        """Files that only their own name leads to, in a folder that has other files of names that are found elsewhere.

        Such a folder holds masks, depths or thumbnails of the images rather than one image that is missing.
        """
        beside = {os.path.dirname(self._at(file)) for files in several for file in files}
        for place in places:
            same = (self._at(file) for file in self._table(0).get(os.path.basename(place), []))
            beside.update(os.path.dirname(other) for other in same if self._real(other) != place)
        return {
            name: f"is only in {folder}, which has files of other pictures' names too"
            for name, place in found.items()
            if (folder := os.path.dirname(place)) in beside
        }

    def _fitting(self, image: ImageRecord) -> _Fit:
        """The files that fit an image best."""
        url = image.coco_url if isinstance(image.coco_url, str) else ""
        paths = list(dict.fromkeys([*readings(image.file_name), *readings(url)]))
        fits = (self._best(parts, way) for way in range(len(_WAYS)) for parts in paths)
        return next((fit for fit in fits if fit.files), _Fit())

    def _best(self, parts: tuple[str, ...], way: int) -> _Fit:
        """Of the files of a name, those whose path ends with most of the parts."""
        same = _WAYS[way].same
        files = self._table(way).get(same(parts[-1]), [])
        wanted = [same(part) for part in reversed(parts)]
        equal = [1 + _common(wanted[1:], [same(part) for part in file.split("/")[-2::-1]]) for file in files]
        most = max(equal, default=0)
        best = [file for file, count in zip(files, equal, strict=True) if count == most]
        in_split = [file for file in best if any(split_in(part) == self._split for part in file.split("/")[:-1])]
        return _Fit(way, in_split if self._split and len(in_split) == 1 else best, most)

    def _table(self, way: int) -> dict[str, list[str]]:
        """Files by the names that they have in one way; what Label Studio adds is taken off written names alone."""
        if way not in self._tables:
            same = str if way == len(_WAYS) - 1 else _WAYS[way].same
            table = defaultdict(list)
            for file in self._files:
                table[same(file.rpartition("/")[2])].append(file)
            self._tables[way] = dict(table)
        return self._tables[way]


def _of_other_size(found: dict[str, str], images: Sequence[ImageRecord]) -> dict[str, str]:
    """Files of a folder most of which have other sizes than the records of their names; some of each are looked at."""
    sizes = {image.file_name: {image.width, image.height} for image in images}
    folders: dict[str, list[str]] = defaultdict(list)
    for name, place in found.items():
        folders[os.path.dirname(place)].append(name)
    reasons: dict[str, str] = {}
    for names in folders.values():
        some = names[:: max(1, len(names) // _TRIED)]
        others = [name for name in some if _size(found[name]) not in (None, sizes[name])]
        if 2 * len(others) > len(some):
            reasons |= {name: f"is of another size than {found[name]}" for name in names}
    return reasons


def _stem(name: str) -> str:
    """The last part of a name without its ending, as capitals and accents do not matter."""
    return _composed(_composed(os.path.splitext(name.rpartition("/")[2])[0]).casefold())


def _size(file: str) -> set[int] | None:
    """The sides of an image, whichever way EXIF turns it; None where it cannot be read."""
    try:
        return {*image_size(file)}
    except BrokenInputError:
        return None


def _short(name: str) -> str:
    return name if len(name) <= _LONG else f"...{name[-_LONG:]}"


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """How many of the first elements are equal."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))

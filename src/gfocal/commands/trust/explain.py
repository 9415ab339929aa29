"""`gfocal explain`."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gfocal
from gfocal.commands.predict import DEFAULT_SCORE
from gfocal.data.formats.common import Split
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import BrokenInputError, UsageError, require_number
from gfocal.evaluation.measured import check_names
from gfocal.explanation.drawing import png_of, with_boxes
from gfocal.explanation.facts import labels_of, picture_facts
from gfocal.explanation.galleries import galleries
from gfocal.explanation.look import look_at
from gfocal.explanation.page import GENERATOR, PageMaker
from gfocal.explanation.records import Explanation, PictureFacts
from gfocal.exported.detector import ExportedDetector
from gfocal.exported.open import USUAL, SessionOptions
from gfocal.images.reading import read_array
from gfocal.prediction.open import OpenedModel, open_any
from gfocal.prediction.remarks import Remarks, nothing_read, reasons_of
from gfocal.prediction.search import search_images
from gfocal.runs.datasets import open_measured
from gfocal.utils.files import write_atomically
from gfocal.utils.locks import is_empty, locked_folder
from gfocal.utils.progress import ProgressBar
from gfocal.utils.records import to_json
from gfocal.utils.text import Say, counted

PAGE, NUMBERS, PICTURES = "explain.html", "explain.json", "pictures"
"""What is written: the page, all numbers, and a folder with a PNG file of each image."""
_LEVEL = 0.9  # of intervals without a calibration
_FORMAT = 1


@dataclass(frozen=True)
class ExplainReport:
    """What was explained, and where it is.

    Attributes:
        page, numbers: the files.
        page_bytes: size of the page.
        drawings: the PNG files.
        skipped: a line for each image that cannot be read.
        explanation: all of it.
    """

    page: Path
    numbers: Path
    page_bytes: int
    drawings: tuple[Path, ...]
    skipped: tuple[str, ...]
    explanation: Explanation

    def to_dict(self) -> dict[str, Any]:
        """A summary; the numbers are in their file."""
        told = self.explanation
        return {
            "page": str(self.page),
            "page_bytes": self.page_bytes,
            "numbers": str(self.numbers),
            "drawings": [str(file) for file in self.drawings],
            "pictures": len(told.pictures),
            "detections": sum(len(picture.detections) for picture in told.pictures),
            "kind": told.kind,
            "calibrated": told.calibrated,
            "level": told.level,
            "galleries": to_json(told.galleries),
            "notes": list(told.notes),
            "skipped": list(self.skipped),
        }


@dataclass(frozen=True, kw_only=True)
class ExplainSettings:
    """What is looked at.

    Attributes:
        score: detections score higher, in [0, 1); None: 0.3, or an exported file's own where that is higher.
        top: detections of an image, at least 1.
        pictures: images at most, at least 1: the first.
        recursive: search the folders inside a folder, too.
    """

    score: float | None = None
    top: int = 10
    pictures: int = 30
    recursive: bool = False

    def __post_init__(self) -> None:
        if self.score is not None and not 0 <= self.score < 1:
            raise UsageError(f"--score must be at least 0 and below 1, got {self.score:g}")
        require_number("--top", self.top, least=1, whole=True)
        require_number("--most", self.pictures, least=1, whole=True)


def explain_files(
    model: str,
    patterns: Sequence[str],
    out: Path,
    *,
    data: Path | None = None,
    split: Split = "val",
    settings: ExplainSettings | None = None,
    overrides: Sequence[str] = (),
    skip_broken: bool = False,
    session: SessionOptions = USUAL,
    say: Say | None = None,
) -> ExplainReport:
    """Explain what a detector finds: a page, numbers as JSON, and a PNG file of each image.

    Args:
        model, overrides, session: see :func:`gfocal.prediction.open.open_any`.
        patterns: files, folders and patterns; none: the images of ``data``.
        out: a folder: a new one, an empty one, or one of an earlier call, whose files are replaced.
        data, split: a data set whose labels are shown; images are known by their files.
        settings: what is looked at.
        skip_broken: leave out broken records of the data.
        say: called with lines about how the data are understood.

    Raises:
        BrokenInputError: no image can be read.
        UsageError: there is nothing to explain, or ``out`` is another's folder.
    """
    settings = settings or ExplainSettings()
    if not patterns and data is None:
        raise UsageError("give pictures to explain, or a data set with --data PATH")
    if out.exists() and not out.is_dir():
        raise UsageError(f"cannot write into {out}: it is a file; give a folder with -o DIR")
    with locked_folder(out):
        earlier = _earlier(out)
        found = search_images(patterns, recursive=settings.recursive) if patterns else None
        opened = open_any(model, overrides, session=session)
        index = None if data is None else _open_data(opened, model, data, split, skip_broken, say)
        notes = [] if found is None else list(found.passed_over)
        paths = _paths(found.images if found is not None else None, index)
        if len(paths) > settings.pictures:
            notes.append(
                f"The first {settings.pictures} of {counted(len(paths), 'picture')} are explained; --most "
                f"{len(paths)} takes all."
            )
        if opened.recipe is not None and getattr(opened.detector, "tiling", None) is not None:
            notes.append("This model looks at tiles; whole pictures are explained, which may show other detections.")
        work = _Work(opened, index, settings, notes)
        looked = work.look(paths[: settings.pictures])
        told = work.explanation(model, [facts for _, facts in looked])
        drawings, size = _write(out, told, [path for path, _ in looked], opened, earlier)
    return ExplainReport(out / PAGE, out / NUMBERS, size, drawings, tuple(map(str, work.broken)), told)


class _Work:
    """Looking at images one by one."""

    def __init__(
        self, opened: OpenedModel, index: DataIndex | None, settings: ExplainSettings, notes: list[str]
    ) -> None:
        self.opened, self.index, self.settings, self.notes = opened, index, settings, notes
        self.score = _score(opened, settings.score)
        calibration = opened.detector.calibration
        self.level = _LEVEL if calibration is None else calibration.level
        self.rows = {} if index is None else {_real(index.path(row)): row for row in range(len(index))}
        self.broken: list[BrokenInputError] = []
        self.remarks = Remarks(opened.detector.value_range)
        self.kind, self.calibrated = "none", False

    def look(self, paths: Sequence[Path]) -> list[tuple[Path, PictureFacts]]:
        """Images that can be read, and what is told of each.

        Raises:
            BrokenInputError: there is none.
        """
        found: list[tuple[Path, PictureFacts]] = []
        numbers = itertools.count(1)
        with ProgressBar(len(paths), "looking") as bar:
            for done, path in enumerate(paths, start=1):
                try:
                    found.append((path, self._one(path, len(found) + 1, numbers)))
                except BrokenInputError as error:
                    self.broken.append(error)
                bar.callback(done, len(paths))
        if not found:
            raise nothing_read(self.broken)
        unknown = sum(not facts.labelled for _, facts in found)
        if self.index is not None and unknown:
            self.notes.append(f"{counted(unknown, 'picture is', 'pictures are')} not in the data: no labels are shown.")
        return found

    def _one(self, path: Path, number: int, numbers: Iterator[int]) -> PictureFacts:
        detector = self.opened.detector
        image = read_array(path, value_range=detector.value_range)
        size = image.shape[0], image.shape[1]
        truth = self._truth(path, size)
        look = look_at(
            detector,
            image,
            score=self.score,
            top=self.settings.top,
            precision=self.opened.precision,
            labels=None if truth is None else labels_of(*truth),
        )
        self.remarks.look(path, image)
        self.remarks.found(look.found)
        self.kind = look.kind
        calibration = look.found.calibration
        self.calibrated = calibration is not None and not calibration.unfit
        return picture_facts(
            look,
            file=path.as_posix(),
            size=size,
            drawing=f"{PICTURES}/{number:04d}-{_plain(path.stem)}.png",
            level=self.level,
            top=self.settings.top,
            numbers=numbers,
            truth=truth,
        )

    def _truth(self, path: Path, size: tuple[int, int]) -> tuple[DataIndex, int] | None:
        if self.index is None or (row := self.rows.get(_real(path))) is None:
            return None
        labelled = int(self.index.heights[row]), int(self.index.widths[row])
        if labelled != size:
            self.notes.append(f"{path} is not as large as its labels say ({labelled[1]} x {labelled[0]}).")
            return None
        return self.index, row

    def explanation(self, model: str, pictures: Sequence[PictureFacts]) -> Explanation:
        """All of it."""
        remarks = [*self.remarks.passed_over(), *self.remarks.warnings()]
        skipped = [f"left out: {line}" for line in reasons_of(self.broken)]
        return Explanation(
            model=model,
            kind=self.kind,
            level=self.level,
            calibrated=self.calibrated,
            score=self.score,
            score_rule=_score_rule(self.opened),
            notes=(*self.notes, *remarks, *skipped),
            pictures=tuple(pictures),
            galleries=galleries(pictures, self.level, self.calibrated),
        )


def _write(
    out: Path, told: Explanation, paths: Sequence[Path], opened: OpenedModel, earlier: Sequence[str]
) -> tuple[tuple[Path, ...], int]:
    """The numbers first: they name all files, so that a call after one that was stopped knows which are its own."""
    drawings = [picture.drawing for picture in told.pictures]
    content = {
        "info": {
            "generator": GENERATOR,
            "format": _FORMAT,
            "version": gfocal.__version__,
            "written": sorted({*drawings, *earlier}),
        },
        **to_json(told),
    }
    _write_json(out / NUMBERS, content)
    (out / PICTURES).mkdir(exist_ok=True)
    maker = PageMaker(told)
    with ProgressBar(len(paths), "drawing") as bar:
        for done, (path, picture) in enumerate(zip(paths, told.pictures, strict=True), start=1):
            image = read_array(path, value_range=opened.detector.value_range)
            whole = with_boxes(picture, image)
            png = png_of(picture, image, whole, told.level)
            write_atomically(out / picture.drawing, partial(_write_bytes, content=png), needed=len(png))
            maker.add(picture, image, whole.copy)
            bar.callback(done, len(paths))
    text = maker.page().encode("utf-8", "backslashreplace")
    write_atomically(out / PAGE, partial(_write_bytes, content=text), needed=len(text))
    for name in set(earlier) - set(drawings):
        (out / name).unlink(missing_ok=True)
    content["info"]["written"] = drawings
    _write_json(out / NUMBERS, content)
    return tuple(out / name for name in drawings), len(text)


def _write_bytes(file: Path, *, content: bytes) -> None:
    file.write_bytes(content)


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    write_atomically(file, partial(_write_bytes, content=text), needed=len(text))


def _earlier(out: Path) -> list[str]:
    """Names of the drawings that an earlier call wrote into a folder.

    Raises:
        UsageError: something else is in it.
    """
    if is_empty(out):
        return []
    try:
        info = json.loads((out / NUMBERS).read_text(encoding="utf-8"))["info"]
        if info["generator"] == GENERATOR:
            return [name for name in info["written"] if re.fullmatch(rf"{PICTURES}/[\w.-]+\.png", name)]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UsageError(f"{out} has files that gfocal explain did not write; give another folder with -o DIR")


def _open_data(
    opened: OpenedModel, model: str, data: Path, split: Split, skip_broken: bool, say: Say | None
) -> DataIndex:
    index = open_measured(model, data, split, format=None, skip_broken=skip_broken, say=say)
    return check_names(opened.detector, index)


def _paths(given: Sequence[Path] | None, index: DataIndex | None) -> list[Path]:
    if given is not None:
        return list(given)
    assert index is not None
    return [index.path(row) for row in range(len(index))]


def _score(opened: OpenedModel, asked: float | None) -> float:
    if isinstance(opened.detector, ExportedDetector):  # what the file has cut off is gone
        opened.detector.check_threshold(asked)
        return max(DEFAULT_SCORE, opened.score_threshold) if asked is None else asked
    return DEFAULT_SCORE if asked is None else asked


def _score_rule(opened: OpenedModel) -> str:
    if isinstance(opened.detector, ExportedDetector):
        return "an exported file gives the score as a whole"
    return opened.detector.quality.score_rule


def _real(path: Path) -> str:
    return os.path.realpath(path)


def _plain(stem: str) -> str:
    """A file's name as any system can have it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem)[:60].strip("-") or "picture"

"""`gfocal report`: a run folder or a checkpoint, measured and put on one HTML page."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfocal.commands.evaluate import EvaluationReport, MeasuredFiles, calibration_misfit, measure_files
from gfocal.data.fingerprint import fingerprint
from gfocal.data.formats.common import SPLITS, Split
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import BrokenInputError, GfocalError, UsageError, require_number
from gfocal.evaluation.diagnosis.diagnose import Diagnosis
from gfocal.exported.detector import ExportedDetector
from gfocal.exported.open import is_exported
from gfocal.images.reading import read_array
from gfocal.run_report.content import Content, Measured, Timed
from gfocal.run_report.html import render_page
from gfocal.run_report.named_data import NamedData, find_named, open_named
from gfocal.run_report.origin import provenance_of
from gfocal.runs import card as run_card
from gfocal.runs.curves import History, read_history
from gfocal.runs.metrics_log import METRICS
from gfocal.utils.files import write_atomically
from gfocal.utils.records import FLAT
from gfocal.utils.text import Say, counted

if TYPE_CHECKING:  # it loads torch, which an exported file does without
    from gfocal.detector import DenseDetector
    from gfocal.runs.checkpoint import CheckpointInfo

PAGE = "report.html"
"""Of a run, in its folder."""
_GENERATOR = '<meta name="generator" content="gfocal report">'


@dataclass(frozen=True)
class RunReport:
    """The page, and the numbers that are on it.

    Attributes:
        out: the file.
        bytes: its size.
        image_bytes: of that, the images.
        verdict: what the page says first.
        score: what is looked at on the page scores higher.
        evaluation: as ``gfocal eval`` gives it.
        diagnosis: intervals, kinds of error, calibration of scores and edges.
    """

    out: Path
    bytes: int
    image_bytes: int = field(metadata={"key": "picture_bytes"})
    verdict: tuple[str, ...]
    score: float
    evaluation: EvaluationReport = field(metadata=FLAT)
    diagnosis: Diagnosis


def write_report(
    run: str | Path,
    out: str | Path | None = None,
    *,
    data: str | Path | None = None,
    split: str = "val",
    examples: int = 4,
    score: float | None = None,
    timed: int = 0,
    skip_broken: bool = False,
    warn: Callable[[list[str]], None] | None = None,
    say: Say | None = None,
) -> RunReport:
    """Measure a detector, and write one HTML page about it that stands alone.

    Args:
        run: a run folder, or any other MODEL; then ``data`` is needed.
        out: the file; by default ``report.html`` in the run folder. What is there is replaced.
        data: a data set; by default what the run card says that the run was measured on.
        split: "train", "val" or "test".
        examples: images of each kind at most: the best, the worst, the most uncertain, the slowest.
        score: what scores higher is looked at, in [0, 1); by default the score of the best F1.
        timed: so many images, evenly spread, are timed one by one to show the slowest.
        skip_broken: leave out what is broken.
        warn: called with one line for everything left out.
        say: called with lines about how the data are understood.

    Raises:
        UsageError: nothing to measure or to measure on, or the file cannot be written.
        BrokenInputError: an image that cannot be read, unless ``skip_broken``.
    """
    run, which = str(run), _checked(split, examples, timed, score)
    file = place_of(run, None if out is None else Path(out))
    about = _about(run)
    card = _card(run)
    named = (
        NamedData(Path(data))
        if data is not None
        else find_named(run, card, which, () if about is None else about.names, skip_broken=skip_broken)
    )
    measured = measure_files(
        run,
        named.path,
        split=split,
        format=named.format,
        images_dir=named.images_dir,
        rename=named.rename,
        skip_broken=skip_broken,
        warn=warn,
        say=say,
    )
    if measured.findings is None:
        raise GfocalError("only the main process can write a report")
    if about is None and not is_exported(run):  # a name, whose file is here by now
        about = _about(measured.report.model)
    looked_at = Measured.of(measured.report.evaluation, measured.findings, score)
    content = Content(
        model=Path(run).name or run,
        data=_data_name(measured.index),
        split=split,
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        measured=looked_at,
        splits={**_other_splits(run, named, which), split: measured.index},
        history=_history(run),
        provenance=provenance_of(
            Path(measured.report.model), about, card, measured.index, _commands(run, named, split, data is None)
        ),
        warnings=[*_warnings(measured, card, data is None and which == "val"), *measured.report.measured.describe()],
        examples=examples,
        value_range=measured.detector.value_range,
        timed=_timed(measured, timed),
        uncalibrated=_uncalibrated(measured.detector),
        held_out=None if card is None or data is not None else card.get("held_out"),
    )
    return _write(file, content, replace(measured.report, confusion=looked_at.confusion))


def _write(file: Path, content: Content, evaluation: EvaluationReport) -> RunReport:
    page = render_page(content)
    text = page.text.encode("utf-8", "backslashreplace")
    write_atomically(file, lambda file: file.write_bytes(text), needed=len(text))
    return RunReport(
        out=file,
        bytes=len(text),
        image_bytes=page.image_bytes,
        verdict=page.verdict,
        score=content.measured.score,
        evaluation=evaluation,
        diagnosis=content.measured.diagnosis,
    )


def place_of(run: str, out: Path | None) -> Path:
    """The file of the page.

    Raises:
        UsageError: it is a folder, or another file that was not asked for is in its place.
    """
    if out is None and not Path(run).is_dir():
        raise UsageError(f"there is no run folder {run}, where {PAGE} would go; for another MODEL say where: -o FILE")
    file = Path(run) / PAGE if out is None else out
    if file.is_dir():
        raise UsageError(f"cannot write {file}: it is a folder; give a file with -o FILE")
    if out is None and file.is_file() and _GENERATOR not in _beginning(file):
        raise UsageError(f"{file} was not written by gfocal report; name another file with -o FILE")
    return file


def _beginning(file: Path) -> str:
    with file.open("rb") as stream:
        return stream.read(2000).decode("utf-8", "replace")


def _checked(split: str, examples: int, timed: int, score: float | None) -> Split:
    require_number("examples", examples, least=0, whole=True)
    require_number("timed", timed, least=0, whole=True)
    if score is not None and not 0 <= score < 1:
        raise UsageError(f"--score must be at least 0 and below 1, got {score:g}")
    for known in SPLITS:
        if known == split:
            return known
    raise UsageError(f"--split is train, val or test, not {split!r}")


def _folder(run: str) -> Path | None:
    """The run folder, also of a file in it; None of a name."""
    path = Path(run)
    return path if path.is_dir() else path.parent if path.exists() else None


def _about(run: str) -> CheckpointInfo | None:
    """What the weights say of themselves; None of an exported file, and of a name, which is resolved later."""
    path = Path(run)
    if is_exported(run) or not path.exists():
        return None
    from gfocal.runs.checkpoint import find_weights, read_about

    return read_about(find_weights(path))


def _data_name(index: DataIndex) -> str:
    """The folder of the data set, and the file where that says more."""
    folder = index.annotations.parent
    around = folder.parent if folder.name in ("annotations", "train", "val", "valid", "test") else folder
    return around.name or index.annotations.name


def _other_splits(run: str, named: NamedData, which: Split) -> dict[str, DataIndex]:
    """What it learnt from, beside what is measured, where it is there."""
    if which == "train" or named.path.suffix.lower() == ".json":  # one annotation file is any split that is asked for
        return {}
    with suppress(GfocalError):
        return {"train": open_named(run, named, "train", skip_broken=True)}
    return {}


def _card(run: str) -> run_card.Card | None:
    """The run card, as far as it is one; None of a name, or where there is none."""
    folder = _folder(run)
    card = None if folder is None else run_card.read(folder)
    if card is not None:
        card["calls"] = [call for call in card["calls"] if isinstance(call, dict)]
    return card


def _history(run: str) -> History | None:
    """None of weights that lie in no run folder."""
    folder = _folder(run)
    known = folder is not None and any((folder / name).exists() for name in (METRICS, run_card.CARD))
    return read_history(folder) if known and folder is not None else None


def _warnings(measured: MeasuredFiles, card: Mapping[str, Any] | None, same: bool) -> list[str]:
    """What a reader must know before the numbers."""
    lines = []
    if same and card is not None and measured.findings is not None:
        index = measured.findings.index
        if isinstance(index, DataIndex) and fingerprint(index) != card["val"]["data"]:
            lines.append(
                "The annotations are not those that the run was measured on: they have changed, or are other ones."
            )
    if skipped := measured.report.evaluation.skipped:
        lines.append(f"{counted(len(skipped), 'broken record')} left out, the first: {skipped[0]}")
    return lines


def _uncalibrated(detector: DenseDetector | ExportedDetector) -> str:
    """Why no calibration is measured; "" where one is."""
    if detector.calibration is None:
        return "This detector is not calibrated: gfocal calibrate makes intervals of its edges, chances of its scores."
    unfit = calibration_misfit(detector)
    return f"The calibration is not measured: {unfit}." if unfit else ""


def _timed(measured: MeasuredFiles, count: int) -> Sequence[Timed]:
    """Images one by one, each the better of two."""
    rows = [row for row in range(len(measured.index)) if measured.findings is None or measured.findings.kept[row]]
    step = max(len(rows) / count, 1) if count else 1
    chosen = [rows[int(i * step)] for i in range(min(count, len(rows)))]
    found = []
    for row in chosen[:1] + chosen:  # the first one twice: it pays for what is set up
        with suppress(BrokenInputError):
            found.append(min((_time(measured, row) for _ in range(2)), key=lambda one: one.reading + one.finding))
    return found[1:]


def _time(measured: MeasuredFiles, row: int) -> Timed:
    detector = measured.detector
    begin = time.perf_counter()
    image = read_array(measured.index.path(row), value_range=detector.value_range)
    middle = time.perf_counter()
    found: Any = detector.predict(image)
    found.numpy()  # waits for an accelerator
    return Timed(row, 1000 * (middle - begin), 1000 * (time.perf_counter() - middle))


def _commands(run: str, named: NamedData, split: str, by_card: bool) -> tuple[str, str]:
    """That measures again, and that makes the page again."""
    data = ["--data", str(named.path)]
    more = [] if split == "val" else ["--split", split]
    read = [] if named.images_dir is None else ["--images", str(named.images_dir)]
    read += [] if named.format is None else ["--format", named.format]
    read += [word for each in named.rename for word in ("--rename", each)]
    page = ["gfocal", "report", run, *([] if by_card else data), *more]
    return shlex.join(["gfocal", "eval", run, *data, *read, *more]), shlex.join(page)

"""A folder that shows how good a detector is, and at which score."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gfocal.errors import UsageError
from gfocal.evaluation.thresholds.best_f1 import BestF1, best_f1
from gfocal.evaluation.thresholds.confusion import Confusion, Verdicts, confusion, judge
from gfocal.evaluation.thresholds.curve import Curve, Point, curves
from gfocal.evaluation.thresholds.examples import Tally, choose, draw_example, tallies
from gfocal.evaluation.thresholds.findings import Findings
from gfocal.evaluation.thresholds.matching import match
from gfocal.images.depth import ValueRange
from gfocal.images.reading import read_array
from gfocal.utils.files import write_atomically
from gfocal.utils.locks import locked_folder
from gfocal.utils.records import to_json
from gfocal.utils.text import counted, distinct

NUMBERS = "evaluation.json"
_FIGURES = ("precision-recall.png", "f1.png", "confusion.png")
_GENERATOR = "gfocal evaluation"
_USUAL_SCORE = 0.3  # where no threshold is best, since nothing is right: what `gfocal predict` draws


@dataclass(frozen=True)
class Example:
    """A drawn image.

    Attributes:
        file: beside the numbers.
        image: the file that it shows.
        counts: what is right and wrong in it.
    """

    file: str
    image: str
    counts: Tally


@dataclass(frozen=True)
class SampledCurve:
    """Values at each of the thresholds; None where there are none."""

    precision: tuple[float | None, ...]
    recall: tuple[float | None, ...]
    f1: tuple[float | None, ...]

    @classmethod
    def of(cls, curve: Curve, thresholds: Sequence[float]) -> SampledCurve:
        points = [curve.at(threshold) for threshold in thresholds]
        return cls(*(tuple(getattr(point, name) for point in points) for name in ("precision", "recall", "f1")))


@dataclass(frozen=True)
class SampledCurves:
    """Precision, recall and F1 over the score threshold, of all classes together and of each by name."""

    thresholds: tuple[float, ...]
    micro: SampledCurve
    per_class: dict[str, SampledCurve]


@dataclass(frozen=True)
class Judgement:
    """What is in the folder, as numbers.

    Attributes:
        best_f1: where F1 is largest.
        confusion: of classes, at the score that the drawings show.
        curves: in steps of 0.01.
        examples: the drawn images.
        generator, files: by which a later call knows what it may replace.
    """

    best_f1: BestF1
    confusion: Confusion
    curves: SampledCurves
    examples: tuple[Example, ...]
    generator: str = _GENERATOR
    files: tuple[str, ...] = field(default=())


def confusion_at(findings: Findings, score: float | None) -> Confusion:
    """The matrix of what scores higher than ``score``; None: than the threshold of the best F1 of all classes."""
    matching = match(findings)
    _, micro = curves(findings, matching)
    score = shown_score(score, micro.best())
    return confusion(findings, judge(findings, matching, score), score)


def write_evaluation(
    out: str | Path,
    findings: Findings,
    path: Callable[[int], Path],
    *,
    score: float | None = None,
    examples: int = 6,
    title: str = "",
    value_range: ValueRange = "type",
) -> list[Path]:
    """Write curves, the confusion matrix, and images with truth beside prediction into a folder.

    ``precision-recall.png``, ``f1.png``, ``confusion.png``, ``worst-*.jpg`` and ``random-*.jpg``, and all numbers in
    ``evaluation.json``. What an earlier call wrote there is replaced.

    Args:
        out: the folder, made where missing.
        findings: what :func:`gfocal.evaluate` keeps with ``keep_findings``.
        path: the file of the image of a row, such as :meth:`gfocal.DataIndex.path`.
        score: detections above it are in the confusion matrix and the images, in [0, 1); by default the threshold of
            the best F1 of all classes together.
        examples: images of each kind at most: those with the most faults, and others at random; 0 for none.
        title: stands over the figures, such as the name of the model.
        value_range: how values of more than 8 bits become 8: a detector's ``value_range``.

    Returns:
        The files.

    Raises:
        UsageError: the folder cannot be made, another process writes into it, or it holds a file of such a name that
            no such call wrote.
        BrokenInputError: an image cannot be read any more.
    """
    out = Path(out)
    with locked_folder(out):
        claim_folder(out)
        return _write(out, findings, path, score, examples, title, value_range)


def _write(
    out: Path,
    findings: Findings,
    path: Callable[[int], Path],
    score: float | None,
    examples: int,
    title: str,
    value_range: ValueRange,
) -> list[Path]:
    matching = match(findings)
    each, micro = curves(findings, matching)
    best = best_f1(distinct(findings.index.names), each, micro)
    score = shown_score(score, best.micro)
    verdicts = judge(findings, matching, score)
    matrix = confusion(findings, verdicts, score)
    counts = tallies(findings, verdicts)
    shown = _examples(choose(findings, counts, examples), counts, path)
    files = (*_FIGURES, *(example.file for example in shown.values()), NUMBERS)
    content = Judgement(best, matrix, _sampled(best, each, micro), tuple(shown.values()), files=files)
    _remove_earlier(out)
    # First: it says that the others may be replaced, also where this call is cut off.
    text = json.dumps(to_json(content), allow_nan=False) + "\n"
    write_atomically(out / NUMBERS, lambda temporary: _write_text(temporary, text))
    _write_figures(out, each, micro, best, matrix, title)
    for row, example in shown.items():
        drawn = _draw(findings, verdicts, row, example, score, value_range)
        write_atomically(out / example.file, partial(drawn.save, format="JPEG", quality=90))
    return [out / name for name in files]


def _sampled(best: BestF1, each: Sequence[Curve], micro: Curve) -> SampledCurves:
    thresholds = tuple((np.arange(100) / 100).tolist())
    own = {name: SampledCurve.of(curve, thresholds) for name, curve in zip(best.per_class, each, strict=True)}
    return SampledCurves(thresholds, SampledCurve.of(micro, thresholds), own)


def claim_folder(out: Path) -> None:
    """Make the folder and see that what will be written there replaces nothing of somebody else.

    Raises:
        UsageError: it cannot be made, or it would.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to the folder {out}: {error.strerror or error}") from error
    ours = _earlier(out)
    if foreign := [name for name in (*_FIGURES, NUMBERS) if name not in ours and (out / name).exists()]:
        raise UsageError(f"{out / foreign[0]} was not written by an evaluation; name another folder")


def shown_score(score: float | None, best: Point) -> float:
    """The score above which detections are shown: the one asked for, else the best, else the usual one."""
    if score is not None:
        return score
    return _USUAL_SCORE if best.threshold is None else best.threshold


def _earlier(out: Path) -> set[str]:
    """The files that an earlier call wrote into the folder."""
    try:
        content = json.loads((out / NUMBERS).read_text(encoding="utf-8"))
        if content["generator"] != _GENERATOR:
            return set()
        return {str(name) for name in content["files"] if Path(str(name)).name == name}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _remove_earlier(out: Path) -> None:
    for name in _earlier(out):
        (out / name).unlink(missing_ok=True)


def _write_figures(out: Path, each: Sequence[Curve], micro: Curve, best: BestF1, matrix: Confusion, title: str) -> None:
    from gfocal.evaluation.thresholds import plots

    figures: Mapping[str, Any] = {
        "precision-recall.png": plots.precision_recall_figure(each, micro, best, title),
        "f1.png": plots.f1_figure(each, micro, best, title),
        "confusion.png": plots.confusion_figure(matrix, title),
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # of a name: a box stands in for it
        for name, figure in figures.items():
            write_atomically(out / name, partial(figure.savefig, format="png", dpi=120))


def _examples(
    chosen: tuple[list[int], list[int]], counts: Sequence[Tally], path: Callable[[int], Path]
) -> dict[int, Example]:
    """By row, the worst first."""
    found = {}
    for kind, rows in zip(("worst", "random"), chosen, strict=True):
        for place, row in enumerate(rows, start=1):
            file = path(row)
            name = f"{kind}-{place:0{len(str(len(rows)))}}-{_short(file.stem)}.jpg"
            found[row] = Example(name, str(file), counts[row])
    return found


def _short(stem: str) -> str:
    """Part of a file name: file systems take 255 bytes."""
    return stem if len(os.fsencode(stem)) <= 100 else stem[:25]


def _draw(
    findings: Findings, verdicts: Verdicts, row: int, example: Example, score: float, value_range: ValueRange
) -> Image.Image:
    file, count = Path(example.image), example.counts
    heading = (
        f"{file.name}: {counted(count.right + count.missed + count.confused, 'object')}, {count.right} found, "
        f"{count.missed} missed, {count.confused} taken for another class; "
        f"{counted(count.wrong, 'wrong box', 'wrong boxes')} (score > {score:g})"
    )
    return draw_example(read_array(file, value_range=value_range), findings, verdicts, row, heading)


def _write_text(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")

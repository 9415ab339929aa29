"""`gfocal data stats`: from a path and a recipe's name to statistics, images and a JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from gfocal.analysis.assignment import Assigned, Progress
from gfocal.analysis.statistics import IMAGES, DataStatistics, data_statistics
from gfocal.data.checks.classes import ClassCount, count_classes
from gfocal.data.formats.open import SPLITS, Format, Split, open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import GfocalError, UsageError
from gfocal.recipe import Recipe, load_recipe
from gfocal.runs.datasets import open_parts
from gfocal.utils.files import real_path, write_atomically
from gfocal.utils.locks import locked_folder
from gfocal.utils.progress import ProgressBar
from gfocal.utils.records import FLAT, IF_ANY, to_json


@dataclass(frozen=True)
class StatisticsReport:
    """The statistics of a data set, and what they are of.

    Attributes:
        data: the annotations.
        split: "train", "val" or "test".
        recipe: name or file.
        size: at which images enter, in words.
        overrides: recipe keys.
        statistics: what was found.
        class_counts: boxes and images of each class by split, of all images; this split first, then the others that can
            be read.
        skipped: one line for every record left out.
        files: that were written; None where none were asked for.
    """

    data: str
    split: str
    recipe: str
    size: str
    overrides: tuple[str, ...]
    statistics: DataStatistics = field(metadata=FLAT)
    skipped: tuple[str, ...]
    class_counts: dict[str, tuple[ClassCount, ...]] = field(default_factory=dict)
    files: tuple[Path, ...] | None = field(default=None, metadata=IF_ANY)


def statistics_of_files(
    data: Path,
    recipe: str,
    *,
    split: str = "train",
    format: Format | None = None,
    images_dir: Path | None = None,
    overrides: Sequence[str] = (),
    images: int = IMAGES,
    seed: int = 0,
    augmented: bool = False,
    skip_broken: bool = False,
    out: Path | None = None,
    warn: Callable[[list[str]], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> StatisticsReport:
    """What of a data set the detector of a recipe can represent.

    Args:
        data: data set.
        recipe: name or file.
        split: "train", "val" or "test".
        format: read the data set as this; by default what is found.
        images_dir: the folder of the images, or one around it; by default near the annotations.
        overrides: recipe keys.
        images: looked at, chosen by ``seed``; 0 for all.
        seed: >= 0.
        augmented: with what the recipe does at random.
        skip_broken: leave broken records out.
        out: folder for edges.png, sizes.png, classes.png, classes-dark.png and statistics.json.
        warn: called with one line for every record left out.
        say: called with lines about how the data are understood.

    Raises:
        UsageError: split, data or recipe are wrong.
    """
    if split not in SPLITS:
        raise UsageError(f"--split is {', '.join(SPLITS)}, not {split!r}")
    loaded = load_recipe(recipe, overrides)
    which: Split = split
    with nullcontext() if out is None else locked_folder(out):
        (index,) = open_parts([data], which, format=format, images_dir=images_dir, skip_broken=skip_broken, say=say)
        if warn is not None:
            warn(index.skipped)
        with _Bars() as bars:
            found, assigned = data_statistics(
                index, loaded, images=images, seed=seed, augmented=augmented, progress=bars.start
            )
        report = StatisticsReport(
            data=str(index.annotations),
            split=split,
            recipe=recipe,
            size=size_words(loaded),
            overrides=tuple(overrides),
            statistics=found,
            skipped=tuple(index.skipped),
            class_counts=_class_counts(data, which, index, format),
        )
        return report if out is None else replace(report, files=_write(report, assigned, out))


def _class_counts(
    data: Path, split: Split, index: DataIndex, format: Format | None
) -> dict[str, tuple[ClassCount, ...]]:
    counts: dict[str, tuple[ClassCount, ...]] = {split: count_classes(index)}
    for other in SPLITS:
        # One annotation file is any split that is asked for.
        if other != split and data.suffix.lower() != ".json":
            with suppress(GfocalError):  # which is not there, or whose faults are not asked for
                counts[other] = count_classes(open_dataset(data, other, format=format, skip_broken=True))
    return counts


def _write(report: StatisticsReport, assigned: Assigned, out: Path) -> tuple[Path, ...]:
    from gfocal.analysis.class_plots import draw_classes
    from gfocal.analysis.plots import draw_statistics

    name = _name_of(Path(report.data))
    title = f"{name} {report.split}, {report.recipe} at {report.size}"
    drawn = draw_statistics(out, assigned, report.statistics.reach_strides, title)
    drawn += draw_classes(out, report.class_counts, name)
    text = json.dumps(to_json(report), indent=2, allow_nan=False) + "\n"
    write_atomically(out / "statistics.json", lambda file: file.write_text(text, encoding="utf-8"))
    return (*drawn, out / "statistics.json")


def _name_of(path: Path) -> str:
    """Of a data set by its annotations: that of its folder."""
    folder = path.parent.parent if path.parent.name in ("annotations", "train", "valid", "val") else path.parent
    return real_path(folder).name or path.stem


def size_words(recipe: Recipe) -> str:
    """320 x 320 pixels, or 800 x 1333 pixels at most."""
    resize = recipe.data.resize
    if resize.kind == "square":
        return f"{resize.size} x {resize.size} pixels"
    return f"{resize.short_side} x {resize.long_side} pixels at most"


class _Bars:
    """One progress bar after the other: each pass over the images ends the one before."""

    def __init__(self) -> None:
        self._bar: ProgressBar | None = None

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)

    def start(self, name: str) -> Progress:
        def show(done: int, total: int) -> None:
            if self._bar is None or self._bar.label != name:
                self.__exit__()
                self._bar = ProgressBar(total, name)
                self._bar.__enter__()
            # Where there is no terminal the end of a pass of seconds is no news.
            if self._bar.live or done < total:
                self._bar.update(done)

        return show

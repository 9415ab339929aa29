"""Results for people: tables on standard output."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gfocal.cli.console import PlainConsole
from gfocal.cli.tables.thresholds import score_option, threshold_line, threshold_table
from gfocal.utils.records import to_json
from gfocal.utils.text import counted, duration, program

if TYPE_CHECKING:  # whoever prints one of them has loaded what it needs
    from gfocal.commands.demo import DemoResult
    from gfocal.commands.doctor import Examination
    from gfocal.evaluation.coco import Stat
    from gfocal.evaluation.evaluator import Evaluation
    from gfocal.evaluation.uncertainty import EdgeCorrelation, UncertaintyResult
    from gfocal.prediction.predict import Prediction
    from gfocal.runs.folder import TrainResult

_AP: tuple[Stat, ...] = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_AR: tuple[Stat, ...] = ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
_CLASS_COLUMNS = 3  # class names beside each other where there are many


def _console() -> Console:
    return PlainConsole()


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def print_metrics(found: Evaluation) -> None:
    """The 12 COCO numbers, each class, score and IoU, edge_std and truth, speed; "-" where nothing is to be found."""
    console, result = _console(), found.result
    numbers = Table(title="COCO metrics")
    for column in ("", "", "", ""):
        numbers.add_column(column, justify="left" if column == "" else "right")
    for ap, ar in zip(_AP, _AR, strict=True):
        numbers.add_row(ap, _number(result.stats[ap]), ar, _number(result.stats[ar]))
    numbers.show_header = False
    console.print(numbers)
    if any(map(math.isnan, result.stats.values())):
        console.print("-: the data have no object of that size (s: below 32 x 32 pixels of the file, l: over 96 x 96)")
    if "AP" in result.intervals:
        low, high = result.intervals["AP"]
        console.print(
            f"AP lies between {low:.3f} and {high:.3f} in 95 % of resampled pictures: smaller differences say little"
        )
    console.print(_class_table(result.per_class))
    if result.best_f1 is not None:
        console.print(threshold_table(result.best_f1))
        console.print(threshold_line(result.best_f1), soft_wrap=True)
    console.print(f"score and IoU agree (Spearman): {_number(result.score_iou_correlation)}")
    if found.edge_uncertainty is not None:
        console.print(_uncertainty_table(found.edge_uncertainty))
    console.print(f"{counted(result.num_images, 'picture')}, {counted(result.num_detections, 'detection')}")
    console.print(f"{found.ms_per_image:.1f} ms per picture (network and post-processing)")


def _class_table(per_class: Mapping[str, float | None]) -> Table:
    """Best class first; several beside each other where there are many."""
    ordered = sorted(per_class.items(), key=lambda item: -1.0 if item[1] is None else item[1], reverse=True)
    columns = _CLASS_COLUMNS if len(ordered) > 20 else 1
    rows = -(-len(ordered) // columns)
    table = Table(title="AP of each class")
    for _ in range(columns):
        table.add_column("class")
        table.add_column("AP", justify="right")
    for row in range(rows):
        cells: list[Text | str] = []
        for name, value in ordered[row::rows]:
            cells += [Text(name), _number(value)]
        table.add_row(*cells)
    return table


def _uncertainty_table(uncertainty: UncertaintyResult) -> Table:
    caption = "agree: Spearman; at best: of a perfect detector, as sharp edges tie; uncertain: edges that are not sharp"
    table = Table(title="edge_std and true ambiguity of edges", caption=caption)
    for column in ("edges of", "all", "agree", "at best", "uncertain", "agree"):
        table.add_column(column, justify="left" if column == "edges of" else "right")

    def add(name: str, found: EdgeCorrelation) -> None:
        every = f"{found.edges:,}", _number(found.correlation), _number(found.ceiling)
        table.add_row(name, *every, f"{found.uncertain_edges:,}", _number(found.uncertain_correlation))

    for third in uncertainty.sizes:
        span = "" if third.smallest is None else f", {third.smallest:.0f}-{third.largest:.0f} pixels"
        add(f"{third.size} objects{span}", third.found)
    mean, uncertain_mean = map(_number, (uncertainty.mean_over_sizes, uncertainty.uncertain_mean_over_sizes))
    table.add_row("mean of these three", "", mean, "", "", uncertain_mean, end_section=True)
    for level in uncertainty.levels or ():
        add(f"level {level.level}", level.found)
    table.add_section()
    add("all objects", uncertainty.overall)
    return table


def print_training(result: TrainResult) -> None:
    """How a run ended and what to type next."""
    from gfocal.evaluation.evaluator import Evaluation

    console, score = _console(), ""
    if result.metrics:
        measured = Evaluation.from_dict(result.metrics)
        print_metrics(measured)
        score = score_option(measured.result.best_f1)
    best = "" if result.best_ap is None else f", best AP {result.best_ap:.3f}"
    best += f" (epoch {result.best_epoch})" if result.best_epoch else ""
    early = ", stopped early" if result.stopped_early else ""
    seconds, rate = duration(result.seconds), f"{result.images_per_second:.1f} pictures/s"
    console.print(f"{counted(result.steps, 'step')} in {seconds}, {rate}{best}{early}")
    console.print(f"run folder: {result.out}", soft_wrap=True)
    for file in result.drawings:
        console.print(f"  {file}", soft_wrap=True)
    console.print(f"next: {program()} predict {shlex.quote(str(result.out))} PICTURES{score}", soft_wrap=True)


def print_prediction(result: Prediction) -> None:
    """What was written where."""
    console = _console()
    for drawing in result.drawings[:10]:
        console.print(f"  {drawing}", soft_wrap=True)
    if len(result.drawings) > 10:
        console.print(f"  ... and {len(result.drawings) - 10:,} more in {result.results.parent}", soft_wrap=True)
    objects, images = counted(result.num_detections, "object"), counted(result.num_images, "picture")
    console.print(f"{objects} in {images}; boxes, scores and edge_std: {result.results}", soft_wrap=True)


def print_demo(result: DemoResult) -> None:
    """The metrics, the files, the next command."""
    print_metrics(result.metrics)
    console = _console()
    console.print("seconds: " + ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in result.seconds.items()))
    for what, path in result.files.items():
        console.print(f"{what + ':':<12} {path}", soft_wrap=True)
    console.print(f"next, on a data set of your own: {result.next_command}", soft_wrap=True)
    console.print(
        f"weights trained on COCO to start from, by name: {program()} models; then --init NAME", soft_wrap=True
    )


def print_doctor(found: Examination) -> None:
    """Versions, device, room, checks, optional packages."""
    from gfocal.runtime.machine import readable  # loads torch, which an exported file does without

    console = _console()
    for title, facts in (("versions", found.versions), ("device", found.device)):
        table = Table(title=title, show_header=False)
        for name, value in to_json(facts).items():
            table.add_row(name.replace("_", " "), Text(_plain(value)))
        console.print(table)
    table = Table(title="room", show_header=False)
    for name, value in to_json(found.room).items():
        table.add_row(name.replace("_", " "), readable(name, value))
    console.print(table)
    table = Table(title="checks", show_header=False)
    for check in found.checks:
        table.add_row("ok" if check.ok else "FAILED", check.name, Text(check.detail))
    console.print(table)
    table = Table(title="optional packages", show_header=False)
    for name, package in found.optional.items():
        words = f"{package.use}; {package.install}" if package.version is None else package.use
        table.add_row(name, package.version or "not installed", Text(words))
    console.print(table)
    for note in found.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    console.print("all is well" if found.ok else "something does not work; see FAILED above")


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "-" if value is None else str(value)

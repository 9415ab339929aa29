"""Results for people: tables on standard output."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gfocal.prediction.predict import Prediction
from gfocal.runs.folder import TrainResult
from gfocal.runtime.machine import readable
from gfocal.utils.text import counted, duration, program

_AP = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_AR = ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
_CLASS_COLUMNS = 3  # class names beside each other where there are many


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def print_metrics(metrics: Mapping[str, Any]) -> None:
    """The 12 COCO numbers, each class, score and IoU, edge_std and truth, speed; "-" where nothing is to be found."""
    console = _console()
    numbers = Table(title="COCO metrics")
    for column in ("", "", "", ""):
        numbers.add_column(column, justify="left" if column == "" else "right")
    for ap, ar in zip(_AP, _AR, strict=True):
        numbers.add_row(ap, _number(metrics[ap]), ar, _number(metrics[ar]))
    numbers.show_header = False
    console.print(numbers)
    if any(metrics[name] is None for name in _AP + _AR):
        console.print("-: the data have no object of that size (s: below 32 x 32 pixels of the file, l: over 96 x 96)")
    if "AP" in (intervals := metrics.get("intervals") or {}):
        low, high = intervals["AP"]
        console.print(
            f"AP lies between {low:.3f} and {high:.3f} in 95 % of resampled pictures: smaller differences say little"
        )
    console.print(_class_table(metrics["per_class"]))
    console.print(f"score and IoU agree (Spearman): {_number(metrics['score_iou_correlation'])}")
    if uncertainty := metrics.get("edge_uncertainty"):
        console.print(_uncertainty_table(uncertainty))
    console.print(f"{counted(metrics['num_images'], 'picture')}, {counted(metrics['num_detections'], 'detection')}")
    if speed := metrics.get("speed"):
        console.print(f"{speed['ms_per_picture']:.1f} ms per picture (network and post-processing)")


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


def _uncertainty_table(uncertainty: Mapping[str, Any]) -> Table:
    caption = "agree: Spearman; at best: of a perfect detector, as sharp edges tie; uncertain: edges that are not sharp"
    table = Table(title="edge_std and true ambiguity of edges", caption=caption)
    for column in ("edges of", "all", "agree", "at best", "uncertain", "agree"):
        table.add_column(column, justify="left" if column == "edges of" else "right")

    def add(name: str, entry: Mapping[str, Any]) -> None:
        every = f"{entry['edges']:,}", _number(entry["correlation"]), _number(entry["ceiling"])
        table.add_row(name, *every, f"{entry['uncertain_edges']:,}", _number(entry["uncertain_correlation"]))

    for entry in uncertainty["sizes"]:
        span = "" if entry["from"] is None else f", {entry['from']:.0f}-{entry['to']:.0f} pixels"
        add(f"{entry['size']} objects{span}", entry)
    means = (_number(uncertainty[key]) for key in ("mean_over_sizes", "uncertain_mean_over_sizes"))
    table.add_row("mean of these three", "", next(means), "", "", next(means), end_section=True)
    for entry in uncertainty["levels"] or []:
        add(f"level {entry['level']}", entry)
    table.add_section()
    add("all objects", uncertainty["overall"])
    return table


def print_training(result: TrainResult) -> None:
    """How a run ended and what to type next."""
    console = _console()
    if result.metrics:
        print_metrics(result.metrics)
    best = "" if result.best_ap is None else f", best AP {result.best_ap:.3f}"
    best += f" (epoch {result.best_epoch})" if result.best_epoch else ""
    rate = f"{result.images_per_second:.1f} pictures/s"
    early = ", stopped early" if result.stopped_early else ""
    console.print(f"{counted(result.steps, 'step')} in {duration(result.seconds)}, {rate}{best}{early}")
    console.print(f"run folder: {result.out}", soft_wrap=True)
    console.print(f"next: {program()} predict {shlex.quote(str(result.out))} PICTURES", soft_wrap=True)


def print_prediction(result: Prediction) -> None:
    """What was written where."""
    console = _console()
    for drawing in result.drawings[:10]:
        console.print(f"  {drawing}", soft_wrap=True)
    if len(result.drawings) > 10:
        console.print(f"  ... and {len(result.drawings) - 10:,} more in {result.results.parent}", soft_wrap=True)
    objects, images = counted(result.num_detections, "object"), counted(len(result.drawings), "picture")
    console.print(f"{objects} in {images}; boxes, scores and edge_std: {result.results}", soft_wrap=True)


def print_demo(result: Mapping[str, Any]) -> None:
    """The metrics, the files, the next command."""
    print_metrics(result["metrics"])
    console = _console()
    console.print("seconds: " + ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in result["seconds"].items()))
    for what, path in result["files"].items():
        console.print(f"{what + ':':<12} {path}", soft_wrap=True)
    console.print(f"next, on a data set of your own: {result['next']}", soft_wrap=True)


def print_doctor(content: Mapping[str, Any]) -> None:
    """Versions, device, room, checks, optional packages."""
    console = _console()
    for section in ("versions", "device"):
        table = Table(title=section, show_header=False)
        for name, value in content[section].items():
            table.add_row(name.replace("_", " "), Text(_plain(value)))
        console.print(table)
    table = Table(title="room", show_header=False)
    for name, value in content["room"].items():
        table.add_row(name.replace("_", " "), readable(name, value))
    console.print(table)
    table = Table(title="checks", show_header=False)
    for check in content["checks"]:
        table.add_row("ok" if check["ok"] else "FAILED", check["name"], Text(check["detail"]))
    console.print(table)
    table = Table(title="optional packages", show_header=False)
    for name, package in content["optional"].items():
        install = Text(f"{package['use']}; {package['install']}" if package["version"] is None else package["use"])
        table.add_row(name, package["version"] or "not installed", install)
    console.print(table)
    for note in content["notes"]:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    console.print("all is well" if content["ok"] else "something does not work; see FAILED above")


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "-" if value is None else str(value)

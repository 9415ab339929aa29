"""A measured model for people: what was measured, the numbers, what to know about them."""

from __future__ import annotations

from gfocal.cli.console import PlainConsole
from gfocal.cli.tables.calibration import print_check
from gfocal.cli.tables.results import print_metrics
from gfocal.commands.evaluate import EvaluationReport
from gfocal.utils.text import counted


def print_evaluation(report: EvaluationReport) -> None:
    """Data, split, images, boxes and classes; the metrics; what limits them."""
    console = PlainConsole()
    measured, beyond = report.measured, report.evaluation.result.beyond
    console.print(
        f"{report.model} on {report.split} of {report.data}: {counted(measured.images, 'picture')}, "
        f"{counted(measured.boxes, 'box', 'boxes')} to find, "
        f"{counted(len(measured.classes.common), 'class', 'classes')} in common",
        soft_wrap=True,
    )
    print_metrics(report.evaluation)
    if beyond is not None:
        console.print(
            f"at {beyond.max_detections} detections of a class in a picture, in place of COCO's 100: "
            f"AP {beyond.AP:.3f}, AP50 {beyond.AP50:.3f}, AP75 {beyond.AP75:.3f}, AR {beyond.AR:.3f}",
            soft_wrap=True,
        )
    if report.evaluation.calibration is not None:
        print_check(report.evaluation.calibration)
    for line in measured.describe():
        console.print(f"note: {line}", soft_wrap=True)

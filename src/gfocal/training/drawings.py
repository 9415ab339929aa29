"""What a run draws of itself when it ends: its curves, and what its best weights find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gfocal.evaluation import Findings, write_evaluation
from gfocal.runs.curves import draw_curves
from gfocal.runs.folder import Run
from gfocal.utils.text import counted, program

FOLDER = "evaluation"
"""In the run folder."""


@dataclass(frozen=True)
class Measured:
    """What was found by the weights of an epoch."""

    epoch: int
    findings: Findings


def draw_run(run: Run, best: Measured | None, say: Callable[[str], None], *, ended: bool = False) -> list[Path]:
    """Draw into the run folder; nothing that goes wrong with it ends the run.

    Args:
        run: the run; only its main process draws, and nothing in a folder that another process took over.
        best: of the best weights, if they were measured in this call; otherwise what an earlier one drew stays.
        say: takes a line about what was not drawn.
        ended: the run is over; what its best weights find is drawn then alone.

    Returns:
        The file of the curves and the folder of the evaluation, as far as they were drawn.
    """
    drawn: list[Path] = []
    if not run.processes.main or not run.owned:
        return drawn
    try:
        if (curves := draw_curves(run.folder)) is not None:
            drawn.append(curves)
        if ended and best is not None and run.val_index is not None:
            images = counted(int(best.findings.kept.sum()), "picture")
            title = f"{run.folder.name}, epoch {best.epoch}, {images}"
            path, values = run.val_index.path, run.recipe.data.range
            run.check()  # the curves may have taken long
            write_evaluation(run.folder / FOLDER, best.findings, path, title=title, value_range=values)
            drawn.append(run.folder / FOLDER)
        elif ended and run.val_index is not None and run.best.exists() and not (run.folder / FOLDER).exists():
            say(
                "what the best weights find is not drawn, since they were measured before the run was resumed: "
                f"{program()} eval {run.folder} --data DATA --plots DIR draws it"
            )
    except Exception as error:  # matplotlib missing or broken, no room, an image that is gone
        say(f"not all was drawn into {run.folder} ({type(error).__name__}: {error}); the weights are there")
    return drawn

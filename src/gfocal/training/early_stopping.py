"""Early stopping: a run ends when its AP has not risen for some epochs.

Everything here is a function of what a saved state holds, so a resumed run stops where an uninterrupted one does.
"""

from __future__ import annotations

from dataclasses import dataclass

from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError


@dataclass
class Best:
    """The best evaluation so far.

    Attributes:
        ap: its AP, in [0, 1]; None before the first one.
        epoch: after how many epochs it was measured; 0 before the first one.
    """

    ap: float | None = None
    epoch: int = 0

    def take(self, ap: float | None, epoch: int) -> bool:
        """Whether ``ap`` after ``epoch`` epochs is better than all before, which it then replaces."""
        if ap is None or (self.ap is not None and ap <= self.ap):
            return False
        self.ap, self.epoch = ap, epoch
        return True

    def is_stale(self, patience: int | None, epoch: int) -> bool:
        """Whether ``patience`` epochs after the best one nothing better has come.

        A detector that finds nothing yet (AP 0) has not begun: its epochs do not count.
        """
        return bool(patience and self.ap) and epoch - self.epoch >= (patience or 0)

    def to_dict(self) -> dict[str, float | None]:
        return {"best_ap": self.ap, "best_epoch": self.epoch}


def check_patience(patience: int | None, val: DataIndex | None) -> None:
    """Refuse to stop by an AP that nobody will measure.

    Raises:
        UsageError: there are no data to measure on, or they hold no object.
    """
    if patience is None or (val is not None and len(val.labels)):
        return
    what = "there are none" if val is None else f"{val.annotations} holds no object"
    raise UsageError(
        f"schedule.patience={patience} stops a run by its AP on validation data, but {what}: give some with --val, or "
        "set schedule.patience=null"
    )


def stop_line(best: Best, epoch: int, patience: int) -> str:
    """What is said when a run stops early."""
    return (
        f"stopped early after epoch {epoch}: no better AP for {epoch - best.epoch} epochs (schedule.patience={patience}"
        f"); best was epoch {best.epoch} with AP {best.ap or 0.0:.3f}, whose weights best.safetensors holds"
    )

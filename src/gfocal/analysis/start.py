"""What to know of the data of a run before its first step."""

from __future__ import annotations

from gfocal.analysis.assignment import ALLOWED, Assigned, assign, choose_images
from gfocal.analysis.coverage import least_reach, reach_fix, reach_reasons
from gfocal.data.checks.crowding import crowding, describe_crowding
from gfocal.data.checks.ranges import describe_range, look_at_values
from gfocal.data.index.data_index import DataIndex
from gfocal.data.pipeline import in_tiles
from gfocal.recipe import Recipe
from gfocal.recipe.forms import ASSIGNERS
from gfocal.utils.text import counted, percent

START_IMAGES = 400
"""Looked at before a run: a second."""
RANGE_IMAGES = 16
"""Whose files are looked into before a run."""


def _counted_lines(recipe: Recipe, now: Assigned, of: str) -> list[str]:
    """The two shares of ``of`` images, or of candidates the one that is known; and who assigns in the first epochs."""
    missed, kind = f"{percent(now.missed_share)} of the objects get no point", recipe.model.assigner.kind
    if now.dynamic:
        return [
            f"in {of} {missed}; {kind} chooses the points of the others by predictions: training counts the "
            "edges beyond what the boxes can reach, after each epoch"
        ]
    beyond = f"{percent(now.truncated_share)} of the edges lie beyond what the boxes can reach"
    lines = [f"in {of} {beyond}, {missed}"]
    if ASSIGNERS[kind].dynamic:
        early, epochs = recipe.model.assigner.static_epochs, recipe.schedule.epochs
        setting = f"model.assigner.static_epochs={early}"
        if early < epochs:
            lines.append(
                f"{setting}: a static assigner begins, and counted this; from epoch {early + 1} on it is {kind}"
            )
        else:
            lines.append(f"warning: {setting}, but the run has {epochs} epochs: {kind} never assigns")
    return lines


def _range_lines(index: DataIndex, recipe: Recipe) -> list[str]:
    """A warning where a few images have more than 8 bits, and the range of their type leaves few grey levels."""
    if recipe.data.range != "type":
        return []
    whole = index if index.tiles is None else index.tiles.of
    chosen = choose_images(len(whole), RANGE_IMAGES, recipe.runtime.seed)
    of = f"{counted(len(chosen), 'picture')} looked at" if len(chosen) < len(whole) else counted(len(whole), "picture")
    found = describe_range(look_at_values(whole.path(int(i)) for i in chosen), of)
    return [] if found is None else [f"warning: {found}; `gfocal data check` looks at every picture"]


def before_training(
    index: DataIndex, recipe: Recipe, measured: DataIndex | None = None, *, trained: bool = False
) -> list[str]:
    """What to tell whoever starts a run: two shares, a warning for each above 0.1 %, images too full to be found.

    And images of more than 8 bits of which few grey levels are left. A second's work, the same for the same seed.
    A recipe that moves boxes at random is looked at as its first epoch begins, any other in images by chance.
    With ``trained`` the head starts from trained outputs: advice says what it would cost them.
    """
    data = recipe.data
    moved = bool(data.scale or data.multi_scale or data.zoom_out or data.iou_crop or data.mosaic)
    chosen = choose_images(len(index), START_IMAGES, recipe.runtime.seed)
    now = assign(index, recipe, chosen, augmented=moved, start=True)
    every = counted(len(index), "picture")
    of = every if len(chosen) == len(index) else f"{len(chosen):,} of {every}"
    lines = _counted_lines(recipe, now, of)
    if reasons := reach_reasons(recipe, now):
        n = least_reach(now, recipe.model.boxes.delta)
        lines.append(f"warning: {'; '.join(reasons)}: {reach_fix(recipe, n, trained)}; `gfocal data stats` shows more")
    if now.missed_share > ALLOWED:
        lines.append(
            f"warning: {percent(now.missed_share)} of the objects get no point and teach nothing, half of those "
            f"smaller than {float(now.sides[now.missed].median()):.3g} pixels: `gfocal data stats` shows more"
        )
    for name, split in (("train", index), ("val", measured)):
        if split is not None:
            found = crowding(in_tiles(recipe, split), recipe.predict.max_detections)
            lines += [f"warning: {name}: {line}" for line in describe_crowding(found)]
    return [*lines, *_range_lines(index, recipe)]

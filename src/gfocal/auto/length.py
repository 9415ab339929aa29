"""How long `gfocal train auto` trains."""

from __future__ import annotations

from gfocal.auto.known import EPOCHS, MINUTES, Known, Values, pixels
from gfocal.recipe import Recipe
from gfocal.utils.text import counted, duration


def choose_length(recipe: Recipe, known: Known) -> Values:
    """A time budget, or epochs where it would only repeat the images.

    A time that a person has set stays, as the most that the run takes.
    """
    if known.is_given("schedule.epochs"):
        return {}, []
    fitting, typed = known.epochs(recipe), recipe.schedule.minutes
    fixed = known.is_given("schedule.epoch_steps") or (known.is_given("schedule.minutes") and typed is None)
    minutes = typed or MINUTES
    if fixed or (typed is None and fitting > EPOCHS[1]):
        epochs = min(max(round(fitting), 1), EPOCHS[1])
        why = f"more of {_so_few(known)} would only be learnt by heart; " if epochs == EPOCHS[1] else ""
        took = duration(60 * minutes * epochs / fitting)
        values: dict[str, object] = {"schedule.minutes": None, "schedule.epochs": epochs}
        return values | _whole(known), [f"{counted(epochs, 'epoch')}: {why}about {took} on this machine"]
    most = EPOCHS[1]
    if known.is_given("schedule.most_epochs"):
        most = recipe.schedule.most_epochs or most
        values = {"schedule.minutes": minutes}
    else:
        values = {"schedule.minutes": minutes, "schedule.most_epochs": most}
    return values | _whole(known), [_words(recipe, known, minutes, fitting, most)]


def _whole(known: Known) -> dict[str, object]:
    """Epochs that show every image, where the recipe of a run is begun with, whose own are shorter."""
    return {} if known.is_given("schedule.epoch_steps") else {"schedule.epoch_steps": None}


def _words(recipe: Recipe, known: Known, minutes: float, fitting: float, most: int) -> str:
    time = "1 minute" if minutes == 1 else f"{minutes:g} minutes"
    if fitting > most:
        return (
            f"{counted(most, 'epoch')}, in {time} at most: more of {_so_few(known)} would only be learnt by heart; "
            f"about {duration(60 * minutes * most / fitting)} on this machine"
        )
    return (
        f"{time}, about {counted(max(round(fitting), 1), 'epoch')}: a step takes "
        f"{1000 * known.pace * pixels(recipe):.0f} ms a picture here"
    )


def _so_few(known: Known) -> str:
    return "so few pictures" if known.index.tiles is None else "so few tiles"

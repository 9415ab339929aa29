"""How long `gfocal train auto` trains."""

from __future__ import annotations

from gfocal.auto.known import EPOCHS, MINUTES, SHARE, Known, Values, pixels
from gfocal.recipe import Recipe
from gfocal.recipe.values import flat
from gfocal.training.fitting.time_budget import WARM_UP
from gfocal.utils.text import counted, duration

_MEASURING = 10.0  # seconds of a time that may go by before a run begins
_EPOCH = 0.3  # seconds that an epoch may take beside its steps


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


def fit_to_length(recipe: Recipe, known: Known) -> Values:
    """What is counted in epochs or steps, as the recipe has it in a run of its own length.

    A run with a time budget lays out its warm-up and its milestones itself, by the pace that it measures.
    """
    schedule, usual = recipe.schedule, known.began.schedule.epochs
    epochs = schedule.epochs if schedule.minutes is None else _laid_out(recipe, known)
    wanted: dict[str, object] = {}
    if recipe.model.assigner.static_epochs and epochs < usual:
        wanted["model.assigner.static_epochs"] = recipe.model.assigner.static_epochs * epochs // usual
    if schedule.minutes is None:
        wanted["schedule.warmup_steps"] = min(schedule.warmup_steps, int(WARM_UP * known.plan(recipe).total))
        if schedule.kind == "multistep" and epochs != usual:
            moved = {round(milestone * epochs / usual) for milestone in schedule.milestones}
            wanted["schedule.milestones"] = sorted(moved - {0, epochs})
    before = flat(recipe.to_dict())
    values = {key: value for key, value in wanted.items() if not known.is_given(key) and value != before[key]}
    if not values:
        return {}, []
    listed_values = ", ".join(
        f"{key.rpartition('.')[2]} {value} instead of {before[key]}" for key, value in values.items()
    )
    return values, [f"{listed_values}, since the recipe is made for {counted(usual, 'epoch')}"]


def _laid_out(recipe: Recipe, known: Known) -> int:
    """Epochs that a time surely holds: of a short one, measuring, validations and saved states take most."""
    seconds, most = 60 * (recipe.schedule.minutes or MINUTES), recipe.schedule.most_epochs or EPOCHS[1]
    each = SHARE * seconds / known.epochs(recipe) + _EPOCH
    return int(min(SHARE * max(seconds - _MEASURING, 0) / each, most))

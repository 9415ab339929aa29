"""The run card, ``run.json``: what a run was made of, where it was computed and how each call of it ended."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast

from gfocal.errors import GfocalError
from gfocal.utils.files import write_atomically

if TYPE_CHECKING:  # they load torch, and a report of an exported file reads cards without it
    from gfocal.data.split import HeldOutJson
    from gfocal.runs.measured_data import MeasuredData
    from gfocal.runtime.environment import Environment, Host

CARD = "run.json"


class RunFacts(TypedDict):
    """What a run must share with its continuation, beside its recipe; in its card, its state and its weights.

    ``data``: fingerprint of what it learns from; ``pictures``: of their files, None where nobody looked.
    """

    environment: Environment
    data: str
    pictures: str | None


class Call(TypedDict):
    """One call of a run: ``steps`` done before it and at its end, None while it runs, as ``ended``.

    ``val_before``: what the calls before were measured on, where this one is measured on something else.
    """

    command: list[str]
    started: str
    ended: str | None
    outcome: str
    steps: list[int | None]
    versions: dict[str, str | None]
    host: Host
    val_before: NotRequired[MeasuredData | None]


class Card(TypedDict):
    """The content of the file: what the run was made of when it began, what it is measured on now, and its calls.

    The first three are :class:`RunFacts`. ``init``, ``held_out`` and ``recipe`` are what the ``to_dict`` of
    :class:`gfocal.runs.initial_weights.Start`, :class:`gfocal.data.split.HeldOut` and :class:`gfocal.recipe.Recipe`
    gives. ``asked`` has, by full key, what the person's recipe says where ``recipe`` has what was chosen by measuring.
    """

    environment: Environment
    data: str
    pictures: str | None
    seed: int
    command: list[str]
    annotations: str
    val: MeasuredData | None
    init: dict[str, object] | None
    held_out: HeldOutJson | None
    recipe: dict[str, object]
    asked: dict[str, object]
    calls: list[Call]


def begin(folder: Path, card: Card, step: int, *, resumed: bool) -> Card:
    """Write the card of a run that starts, or add a call to the one that is there.

    Args:
        folder: of the run.
        card: without calls; of a resumed run what the card in the folder has stays.
        step: steps done before.
        resumed: there is a card already.

    Returns:
        The card, with this call as its last.
    """
    from gfocal.runs.measured_data import differ, read_measured
    from gfocal.runtime.environment import host, versions

    call = Call(
        command=sys.argv,
        started=_now(),
        ended=None,
        outcome="killed, or still running",
        steps=[step, None],
        versions=versions(),
        host=host(),
    )
    if resumed and (before := read(folder)) is not None:
        measured = card.get("val")
        if measured is not None and "val" in before and differ(read_measured(before["val"]), measured):
            call["val_before"], before["val"] = before["val"], measured
        card = {**card, **before}
    card["calls"] = [*card["calls"], call]
    _write(folder, card)
    return card


def end(folder: Path, card: Card, outcome: str, step: int) -> None:
    """Record how the last call ended; a disk that is full does not hide why."""
    call = card["calls"][-1]
    call["ended"], call["outcome"], call["steps"] = _now(), outcome, [call["steps"][0], step]
    with suppress(OSError, GfocalError):
        _write(folder, card)


def read(folder: Path) -> Card | None:
    """The card that is there; None where it is missing or damaged: the run itself does not need it."""
    with suppress(OSError, ValueError, RecursionError):
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if isinstance(card, dict) and isinstance(card.setdefault("calls", []), list):
            return cast(Card, card)
    return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(folder: Path, card: Card) -> None:
    text = json.dumps(card, indent=2)
    write_atomically(folder / CARD, lambda file: file.write_text(text, encoding="utf-8"))

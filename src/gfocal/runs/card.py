"""The run card, ``run.json``: what a run was made of, where it was computed and how each call of it ended."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gfocal.errors import GfocalError
from gfocal.runtime.environment import host, versions
from gfocal.utils.files import write_atomically

CARD = "run.json"


def begin(folder: Path, facts: Mapping[str, Any], step: int, *, resumed: bool) -> dict[str, Any]:
    """Write the card of a run that starts, or add a call to the one that is there.

    Args:
        folder: of the run.
        facts: what to record; of a resumed run what the card has already stays.
        step: steps done before.
        resumed: there is a card already.

    Returns:
        The card.
    """
    card: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        card = json.loads((folder / CARD).read_text(encoding="utf-8")) if resumed else {}
    card = {**facts, **card}
    call = {
        "command": sys.argv,
        "started": _now(),
        "ended": None,
        "outcome": "killed, or still running",
        "steps": [step, None],
        "versions": versions(),
        "host": host(),
    }
    card["calls"] = [*card.get("calls", ()), call]
    _write(folder, card)
    return card


def end(folder: Path, card: dict[str, Any], outcome: str, step: int) -> None:
    """Record how the last call ended; a disk that is full does not hide why."""
    card["calls"][-1] |= {"ended": _now(), "outcome": outcome, "steps": [card["calls"][-1]["steps"][0], step]}
    with suppress(OSError, GfocalError):
        _write(folder, card)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(folder: Path, card: Mapping[str, Any]) -> None:
    text = json.dumps(card, indent=2)
    write_atomically(folder / CARD, lambda file: file.write_text(text, encoding="utf-8"))

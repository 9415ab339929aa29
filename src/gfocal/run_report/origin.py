"""Where weights come from: read from the checkpoint, the run card and this process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gfocal.data.fingerprint import fingerprint
from gfocal.data.index.data_index import DataIndex
from gfocal.recipe import build_recipe, load_recipe, recipe_names
from gfocal.recipe.values import flat
from gfocal.run_report.content import Provenance
from gfocal.runs.card import Card
from gfocal.runtime.environment import host, versions

if TYPE_CHECKING:  # it loads torch, which an exported file does without
    from gfocal.runs.checkpoint import CheckpointInfo


def provenance_of(
    file: Path, about: CheckpointInfo | None, card: Card | None, index: DataIndex, commands: tuple[str, str]
) -> Provenance:
    """All that is known.

    Args:
        file: of the weights.
        about: what they say of themselves; None of an exported file.
        card: of the run; None without one.
        index: what was measured on.
        commands: that measures again, and that makes the page again.
    """
    recipe = {} if about is None else flat(build_recipe(about.recipe, (), str(file)).to_dict())
    packaged, values = _packaged(card, recipe)
    return Provenance(
        file=str(file),
        weights_hash=_sha256(file),
        data_hash=fingerprint(index),
        card=card,
        recipe=recipe,
        packaged=packaged,
        packaged_values=values,
        trained=_trained(about, card),
        here={**versions(), **host()},
        measure_command=commands[0],
        command=commands[1],
    )


def _trained(about: CheckpointInfo | None, card: Card | None) -> dict[str, object]:
    """Versions and machine of the training, from its card, else from the weights."""
    notes = {} if about is None else about.notes
    environment = notes.get("environment") if card is None else card.get("environment")
    found: dict[str, object] = dict(environment) if isinstance(environment, dict) else {}
    last: Mapping[str, object] = card["calls"][-1] if card is not None and card["calls"] else {}
    for facts in (last.get("versions"), last.get("host")):
        found |= facts if isinstance(facts, dict) else {}
    return {"gfocal": about.gfocal, **found} if about is not None else found


def _packaged(card: Card | None, recipe: Mapping[str, object]) -> tuple[str | None, dict[str, object]]:
    """The packaged recipe that a command names; else the one that differs in the fewest keys."""
    if not recipe:
        return None, {}
    command = card["calls"][-1].get("command") if card is not None and card["calls"] else None
    named = [name for name in recipe_names() if isinstance(command, list) and name in command]
    known = {name: flat(load_recipe(name).to_dict()) for name in named or recipe_names()}
    differing = {name: sum(values.get(key) != recipe[key] for key in recipe) for name, values in known.items()}
    nearest = min(known, key=lambda name: differing[name])
    return nearest, known[nearest]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

"""Where the weights come from, and how to do it again: recipe, versions, machine, hashes, commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from gfocal.recipe.values import flat
from gfocal.report.numbers import NONE
from gfocal.run_report.blocks import Block, Code, Folded, Plain, Section, Table, Words
from gfocal.run_report.content import Provenance
from gfocal.utils.text import counted


def origin_section(found: Provenance) -> Section:
    """Everything but the numbers."""
    blocks: list[Block] = [*_recipe(found), _versions(found), _hashes(found), *_commands(found)]
    return Section("origin", "Recipe, versions, how to do it again", blocks)


def _recipe(found: Provenance) -> list[Block]:
    if not found.recipe:
        return [Words("The file says nothing of its recipe.")]
    base, asked = found.packaged_values, (found.card or {}).get("asked") or {}
    changed = [key for key, value in found.recipe.items() if key in base and base[key] != value]
    inner: list[Plain] = []
    if found.packaged is not None:
        rows = [[key, _plain(found.recipe[key]), _plain(base[key])] for key in changed]
        caption = f"What differs from the packaged recipe {found.packaged}"
        inner.append(
            Table(["key", "here", found.packaged], rows, caption, words=(1, 2))
            if rows
            else Words(f"It is the packaged recipe {found.packaged}, unchanged.")
        )
    if isinstance(asked, dict) and asked:
        own = (found.card or {}).get("recipe")
        chosen = flat(own) if isinstance(own, dict) else {}
        rows = [[key, _plain(value), _plain(chosen.get(key))] for key, value in asked.items()]
        inner.append(Table(["key", "asked for", "chosen"], rows, "Chosen by the run, by measuring", words=(1, 2)))
    every = [[key, _plain(value)] for key, value in found.recipe.items()]
    summary = "The recipe" if found.packaged is None else f"The recipe: {_differing(len(changed))} {found.packaged}"
    return [Folded(summary, [*inner, Table(["key", "value"], every, "Every key", words=(1,))])]


def _differing(count: int) -> str:
    return "as packaged," if not count else f"{counted(count, 'key')} {'differs' if count == 1 else 'differ'} from"


def _plain(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value


def _versions(found: Provenance) -> Folded:
    names = dict.fromkeys([*found.trained, *found.here])
    rows = [[name, *(_known(side.get(name)) for side in (found.trained, found.here))] for name in names]
    return Folded(
        "Versions and machine",
        [Table(["", "trained with", "measured with"], rows, "Versions and machine", words=(1, 2))],
    )


def _known(value: object) -> str:
    return NONE if value is None else _plain(value)


def _hashes(found: Provenance) -> Folded:
    card = found.card or {}
    val = card.get("val") if isinstance(card.get("val"), dict) else {}
    rows = [
        ["weights", found.file, found.weights_hash],
        ["annotations, measured here", NONE, found.data_hash],
        ["annotations, training", _known(card.get("annotations")), _known(card.get("data"))],
        ["pictures, training", NONE, _known(card.get("pictures"))],
        [
            "annotations, measured by the training",
            _known((val or {}).get("annotations")),
            _known((val or {}).get("data")),
        ],
    ]
    table = Table(["of", "file", "hash"], [row for row in rows if row[2] != NONE], "Files and hashes", words=(1, 2))
    words = "Weights: SHA-256 of the file. Data: gfocal's hashes of annotations and of picture files, as in run.json."
    return Folded("Files and hashes", [table, Words(words, quiet=True)])


def _commands(found: Provenance) -> list[Block]:
    calls = (found.card or {}).get("calls") or []
    lines = [
        command_line(call["command"]) for call in calls if isinstance(call.get("command"), list) and call["command"]
    ]
    trained = [f"# train\n{line}" for line in dict.fromkeys(lines)]
    text = "\n".join([*trained, f"# measure\n{found.measure_command}", f"# this page\n{found.command}"])
    blocks: list[Block] = [Code(text)]
    init = (found.card or {}).get("init")
    if isinstance(init, dict) and init.get("from"):
        blocks.append(Words(f"The training started from the weights {init['from']}."))
    if not trained:
        blocks.insert(0, Words("The command of the training is not known: there is no run card (run.json)."))
    return blocks


def command_line(words: Sequence[Any]) -> str:
    """A command as it can be typed again: ``gfocal`` for whatever path it was started by."""
    program, *rest = map(str, words)
    path = PurePath(program)
    is_ours = path.name == "gfocal" or path.parts[-2:] == ("gfocal", "__main__.py")
    return shlex.join(
        ["gfocal", *rest] if is_ours else ["python", program, *rest] if path.suffix == ".py" else [program, *rest]
    )

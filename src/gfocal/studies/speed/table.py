"""The speed of a table's rows, measured once on a machine."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass

import torch

from gfocal.runtime.environment import host
from gfocal.studies.execution.study import Study
from gfocal.studies.paper.tables import Table
from gfocal.studies.speed.records import SpeedResult
from gfocal.studies.speed.speed import REPEATS, measure_rows
from gfocal.utils.files import write_atomically
from gfocal.utils.progress import ProgressBar
from gfocal.utils.records import from_json, to_json

_SMALL = 320 * 320  # pixels; so small an image takes milliseconds, and many rounds cost nothing


@dataclass(frozen=True)
class _Kept:
    """A speed on file, and a hash of all that it depends on."""

    identity: str
    speed: SpeedResult


def table_speed(study: Study, table: Table) -> SpeedResult:
    """How fast the rows of a table are beside each other on this machine; measured again where that is not on file."""
    own = study.settings
    recipes = {row.key: study.plan.of_row[table.name, row.key][0].recipe for row in study.rows(table)}
    image = own.budget.timed
    repeats = REPEATS if image[0] * image[1] > _SMALL else 10 * REPEATS
    classes = len(study.data.of_run(next(iter(recipes.values())))[0].names)  # --set is of all rows
    facts = [
        {key: recipe.model_dump(mode="json", include={"model", "predict"}) for key, recipe in recipes.items()},
        [image, repeats, classes, str(torch.__version__), host()],
    ]
    identity = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    file = own.out / table.name / "speed.json"
    with suppress(OSError, ValueError):
        known = from_json(_Kept, json.loads(file.read_text(encoding="utf-8")))
        if known.identity == identity:
            return known.speed
    with ProgressBar(repeats, "measuring speed") as bar:
        speed = measure_rows(recipes, image, num_classes=classes, repeats=repeats, progress=bar.callback)
    text = json.dumps(to_json(_Kept(identity, speed)), indent=1) + "\n"
    write_atomically(file, lambda path: path.write_text(text, encoding="utf-8"))
    return speed

"""The weights that runs of one seed start from: the same wherever they mean the same.

Rows of a table differ in their heads. Drawn again for each row, the first values of neck and towers would differ too,
and with them the results. So a reference detector is drawn once a seed, and each run takes from it all that means the
same there, by the rules of ``--init`` (:func:`gfocal.runs.transfer.start_from`): neck, towers, class outputs, outputs
of the same box code. What is left is drawn from the run's seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from gfocal.recipe import Recipe, build_recipe, load_recipe
from gfocal.runs.checkpoint import find_weights, save_detector
from gfocal.runs.initial_weights import check_start
from gfocal.runs.transfer import start_from
from gfocal.studies.execution.plan import RunPlan
from gfocal.studies.paper.tables import RECIPES
from gfocal.zoo import build_detector

INIT_PARTS = ("backbone", "neck")
"""What weights of a person are taken for; heads are what a study compares, and start from scratch."""


def init_identity(init: Path) -> str:
    """A hash of the weights' file.

    Raises:
        UsageError: there is none.
    """
    return hashlib.sha256(find_weights(init).read_bytes()).hexdigest()[:16]


def reference_of(run: RunPlan) -> Recipe:
    """The recipe whose first weights a run shares.

    ATSS's with the run's own backbone, neck and widths; where the run has another pyramid (SSD512), its detector's.
    """
    pyramid = "nano" if run.base.endswith("_nano") else "full"
    own = run.recipe.model
    base = load_recipe(RECIPES[pyramid]["atss"])
    name = "atss" if (base.model.neck, base.model.head) == (own.neck, own.head) else run.detector
    content = load_recipe(RECIPES[pyramid][name]).to_dict()
    for key in ("backbone", "pretrained", "frozen_stages", "norm_eval", "frozen", "channels", "head_depth", "strides"):
        content["model"][key] = run.recipe.to_dict()["model"][key]
    content["data"]["resize"] = run.recipe.to_dict()["data"]["resize"]
    return build_recipe(content, [f"runtime.seed={run.seed}"], f"the first weights of {run.name}")


def make_start(run: RunPlan, names: Sequence[str], init: Path | None, folder: Path) -> Path:
    """The file with the first weights of a run, written unless it is there.

    Args:
        run: one of the runs.
        names: class names.
        init: weights whose backbone and neck they have; None for those of the recipe.
        folder: for such files.

    Raises:
        UsageError: ``init`` does not fit, or nothing gives weights to what the recipe keeps as it is.
    """
    recipe = reference_of(run)
    if init is None:
        check_start(recipe.model)
    facts = f"{recipe.model!r} {recipe.data.resize!r} {run.seed} {tuple(names)} {init and init_identity(init)}"
    file = folder / f"{hashlib.sha256(facts.encode()).hexdigest()[:12]}-seed{run.seed}.safetensors"
    if not file.is_file():
        torch.manual_seed(run.seed)
        detector = build_detector(recipe, names, pretrained=init is None)
        if init is not None:
            start_from(detector, init, INIT_PARTS)
        save_detector(file, detector.state_dict(), recipe, names, notes={"first weights": True})
    return file

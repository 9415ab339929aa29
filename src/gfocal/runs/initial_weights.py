"""The weights that a run begins with: what ``--init`` takes, and what may not start from random values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.models.backbones import RANDOM_START
from gfocal.recipe import ModelRecipe, Recipe
from gfocal.runs.checkpoint import find_weights, read_about
from gfocal.runs.class_mapping import describe_classes, match_classes
from gfocal.runs.transfer import PARTS, other_inputs, start_from


def check_start(model: ModelRecipe) -> None:
    """Refuse what would keep random values for good.

    Raises:
        UsageError: naming the keys.
    """
    if "neck" in model.frozen:
        raise UsageError(
            "model.frozen has the neck, which starts from random values and would keep them for good: give it weights "
            "(--init), or let it learn with --set model.frozen=[]"
        )
    if not model.pretrained and (model.frozen_stages or model.norm_eval or model.frozen):
        raise UsageError(
            f"the backbone starts from random values, of which model.frozen_stages={model.frozen_stages}, "
            f"model.frozen={list(model.frozen)} and model.norm_eval={str(model.norm_eval).lower()} would keep some for "
            f"good: give it weights (model.pretrained, --init), or let all of it learn with {RANDOM_START}"
            + (" --set model.frozen=[]" if model.frozen else "")
        )


def start_weights(detector: DenseDetector, recipe: Recipe, init: Path, parts: Sequence[str] = PARTS) -> dict[str, Any]:
    """Take the weights of ``init`` for some parts; what that did, as run.json records it."""
    fresh = start_from(detector, init, parts)
    theirs = read_about(find_weights(init))["names"]
    return {
        "from": str(init),
        "parts": list(parts),
        "tensors": len(detector.state_dict()),
        "fresh": fresh,
        "other_inputs": other_inputs(recipe, init, parts),
        "classes": match_classes(detector.names, theirs).to_dict() if "head" in parts else None,
    }


def describe_start(started: dict[str, Any]) -> list[str]:
    """Lines about what :func:`start_weights` did."""
    fresh, other = started["fresh"], started["other_inputs"]
    names = f": {', '.join(fresh[:6])}{', ...' if len(fresh) > 6 else ''}" if fresh else ""
    lines = [f"init: {len(fresh)} of {started['tensors']} tensors start from scratch{names}"]
    if started["classes"] is not None:
        lines += describe_classes(started["classes"], started["classes"]["matched"] + len(started["classes"]["new"]))
    if other:
        lines.append(f"init: the weights were trained for other inputs than this run has: {'; '.join(other)}")
    return lines

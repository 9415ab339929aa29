"""The card of weights that are given to others: README.md of their folder or repository."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence

from gfocal.recipe import Recipe
from gfocal.runs.checkpoint import CheckpointInfo
from gfocal.runs.initial_weights import Origin
from gfocal.utils.text import counted, visible

_FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
_OPEN = {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"}
"""Licences that the hub knows by these names; others are "other", with their name beside it."""


def model_card(
    title: str, model: str, recipe: Recipe, about: CheckpointInfo, origins: Sequence[Origin], licence: str | None
) -> str:
    """Markdown with the hub's header: what the weights are, how they are used, what they reach, where they come from.

    Args:
        title: their name.
        model: what a person types as MODEL: "hub:owner/name", or the folder.
        recipe: what the detector is.
        about: what the checkpoint says about itself.
        origins: of the weights; none where they were trained from random values, or from a backbone alone.
        licence: of these weights, as the one who gives them says; None where nobody did.
    """
    typed = shlex.quote(visible(model))
    return "\n".join(
        [
            *_header(licence),
            "",
            f"# {_inline(title)}",
            "",
            _what(recipe, about),
            "",
            "## Use",
            "",
            f"    gfocal predict {typed} images/",
            f"    gfocal train recipe.yaml --data path/to/dataset --init {typed}",
            "",
            "```python",
            "import gfocal",
            "",
            f"detector = gfocal.load({model!r})",
            'found = detector.predict("street.jpg")',
            "print(found.names, found.scores, found.boxes)",
            "```",
            "",
            f"## Classes ({len(about.names)})",
            "",
            ", ".join(_inline(name) for name in about.names),
            "",
            *_measured(about),
            *_origin(origins, licence),
            "## Files",
            "",
            "| file | what |",
            "|---|---|",
            "| `best.safetensors` | weights, class names, recipe, figures |",
            "| `recipe.yaml` | everything that decides a training |",
            "",
        ]
    )


def _header(licence: str | None) -> list[str]:
    lines = ["---", "library_name: gfocal", "pipeline_tag: object-detection"]
    if licence is not None and licence.casefold() in _OPEN:
        lines.append(f"license: {licence.casefold()}")
    elif licence is not None:
        lines += ["license: other", f"license_name: {json.dumps(licence)}"]
    return [*lines, "tags:", "- object-detection", "- generalized-focal-loss", "---"]


def _what(recipe: Recipe, about: CheckpointInfo) -> str:
    resize = recipe.data.resize
    side = f"{resize.size} x {resize.size}" if resize.kind == "square" else f"{resize.short_side} x {resize.long_side}"
    return (
        f"A dense object detector, trained or imported with gfocal {about.gfocal}: `{recipe.model.detector}` on "
        f"`{recipe.model.backbone}`, images of {side} pixels, quality `{recipe.model.quality.kind}`, boxes "
        f"`{recipe.model.boxes.kind}`."
    )


def _measured(about: CheckpointInfo) -> list[str]:
    metrics = about.notes.get("metrics")
    if not isinstance(metrics, Mapping) or not isinstance(metrics.get("AP"), int | float):
        return []
    rows = [(key, value) for key in _FIGURES if _is_number(value := metrics.get(key))]
    count = metrics.get("num_images")
    on = f" on {counted(count, 'image')}" if isinstance(count, int) else ""
    lines = [f"## Measured{on}", "", "| | COCO metric |", "|---|---|"]
    return [*lines, *(f"| {key} | {value:.3f} |" for key, value in rows), ""]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _origin(origins: Sequence[Origin], licence: str | None) -> list[str]:
    lines = []
    for origin in origins:
        under = f", published under {_inline(origin.licence)}" if origin.licence else ""
        words = _inline(origin.words).replace("\\_", "_")  # inside words they mean nothing, and addresses have them
        lines.append(f"These weights come from {words}{under}.")
    if licence is None:
        lines.append("Their owner names no licence.")
    return ["## Origin and licence", "", " ".join(lines), ""] if lines else []


def _inline(text: str) -> str:
    """A text from outside inside Markdown."""
    plain = " ".join("".join(letter for letter in visible(text, "\t\n") if letter.isprintable()).split())
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>#|&" else letter for letter in plain)

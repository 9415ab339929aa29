"""The page: one HTML file with the network and all that runs it inside, so that a double click opens it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from gfocal.calibration.scores import RULES
from gfocal.calibration.stored import Calibration
from gfocal.export.web.runtime import NAME, WebRuntime
from gfocal.exported.contract import ExportInfo
from gfocal.images.drawing import colour_of, drawable, shortened, text_colour
from gfocal.report.html import render
from gfocal.utils.files import write_atomically
from gfocal.utils.records import to_json
from gfocal.utils.text import counted

PAGE = "index.html"
MODULE = "detector.mjs"
LICENCES = "LICENSES.txt"
GENERATOR = '<meta name="generator" content="gfocal">'
"""Stands in the head of every page, so that no other page is ever written over."""
USUAL_SCORE = 0.3
"""Where the slider of scores stands at first."""
_SCRIPTS = ("network.mjs", "boxes.mjs", "panel.mjs", "page.mjs")
_TEMPLATES = files("gfocal.export.web") / "templates"
_KEPT = ("names", "resize", "thresholds", "nms", "batch", "height", "width", "outputs")


def write_page(model: Path, info: ExportInfo, runtime: WebRuntime, title: str) -> Path:
    """Write the page of an exported file, its JavaScript for other pages, and the licences, beside it.

    Args:
        model: an ONNX file whose suppression is left to whoever runs it.
        info: what the file says about itself.
        runtime: what runs it.
        title: of the page.

    Returns:
        The page.

    Raises:
        DiskFull, CannotWrite: see :func:`gfocal.utils.files.write_atomically`.
    """
    licences = _text("licences.txt").format(version=runtime.version, weights=drawable(info.licence))
    parts = {
        "ort-script": runtime.script,
        "ort-wasm": runtime.wasm,
        "model": model.read_bytes(),
        "detector": _text(MODULE).encode(),
        "worker": _text("worker.js").encode(),
    }
    folder = model.parent
    for name, text in ((MODULE, _text(MODULE)), (LICENCES, licences), (PAGE, page_text(parts, info, title, licences))):
        write_atomically(folder / name, lambda part, text=text: part.write_text(text, encoding="utf-8"))  # type: ignore[misc]
    return folder / PAGE


def page_text(parts: Mapping[str, bytes], info: ExportInfo, title: str, licences: str) -> str:
    """The page as text.

    Args:
        parts: what it unpacks, by the name of its element.
        info: of the detector.
        title: of the page.
        licences: of what is inside.
    """
    trust, unfit = _calibration(info)
    names = info.names
    info = replace(info, names=tuple(drawable(name) or f"class {i}" for i, name in enumerate(info.names)))
    script = "\n".join(map(_text, _SCRIPTS))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Nothing may be asked of any server, and no other script runs, whatever a class is called.
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}' blob: 'wasm-unsafe-eval'; worker-src blob:; "
        "style-src 'unsafe-inline'; img-src blob: data:; media-src blob: mediastream:; "
        "base-uri 'none'; form-action 'none'"
    )
    least = info.thresholds.score_threshold
    return render(
        "gfocal.export.web",
        "detector.html",
        policy=policy,
        generator=Markup(GENERATOR),
        title=drawable(title),
        kinds=_kinds(info.names),
        style=Markup(_text("detector.css")),
        least=least,
        usual=max(USUAL_SCORE, least),
        edges="edge_std" in info.outputs,
        level="" if trust is None else f"{100 * trust.level:g} %",
        facts=[*_facts(info, trust is not None), *_trust_facts(trust, unfit)],
        licences=licences,
        about=_data(_about(info, None if trust is None else _needed(trust, names))),
        parts=[(name, Markup(_packed(content))) for name, content in parts.items()],
        script=Markup(script),
    )


def _kinds(names: Sequence[str], most: int = 4) -> str:
    few = ", ".join(map(shortened, names[:most]))
    return few if len(names) <= most else f"{len(names)} kinds of objects: {few} and {len(names) - most} more"


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode("ascii")


def _about(info: ExportInfo, calibration: dict[str, Any] | None) -> dict[str, Any]:
    known = to_json(info)
    colours = [["#" + bytes(colour).hex() for colour in _colours(label)] for label in range(len(info.names))]
    return {"info": {**{key: known[key] for key in _KEPT}, "calibration": calibration}, "colours": colours}


def _calibration(info: ExportInfo) -> tuple[Calibration | None, str]:
    """That of the file where it holds on whole images, which are all that a page looks at; else None, and why."""
    if info.calibration is None:
        return None, ""
    found = Calibration.from_dict(info.calibration, "the exported file").used_with(tile=None)
    return (None, found.unfit) if found.unfit else (found, "")


def _needed(trust: Calibration, names: Sequence[str]) -> dict[str, Any]:
    """What ``detector.mjs`` looks at, with the names that groups of classes go by: those shown may be others."""
    known = trust.to_dict()
    edges, scores = known["edges"], known["scores"]
    return {
        "level": known["level"],
        "tile": known["tile"],
        "names": list(names),
        "edges": {key: edges[key] for key in ("scale", "groups")},
        "scores": {key: scores[key] for key in ("kind", "rule", "x", "y", "slope", "offset")},
    }


def _colours(label: int) -> Sequence[tuple[int, int, int]]:
    """Of a class as drawings have it, and of text on it."""
    ground = colour_of(label)
    return ground, text_colour(ground)


def _data(content: Any) -> Markup:
    """JSON that ends no element, whatever its texts hold."""
    return Markup(json.dumps(content).replace("<", "\\u003c"))


def _trust_facts(trust: Calibration | None, unfit: str) -> list[tuple[str, str]]:
    """What intervals promise, or why there are none."""
    if trust is None:
        return [("Calibration", f"not shown: {unfit}")] if unfit else []
    fitted = f"{counted(trust.images, 'picture')} with {counted(trust.edges.matches, 'found object')}"
    return [
        (
            "Calibration",
            f"of objects that are found, {100 * trust.level:g} % of edges lie in their interval, on average over "
            f"pictures like those of the calibration ({fitted}); the calibrated score is the mean of: "
            f"{RULES[trust.scores.rule]}",
        )
    ]


def _facts(info: ExportInfo, calibrated: bool) -> list[tuple[str, str]]:
    rule, limits = info.resize, info.thresholds
    size = (
        f"{rule.size} × {rule.size} pixels"
        if rule.kind == "square"
        else (f"shorter side {rule.short_side}, longer side at most {rule.long_side} pixels")
    )
    facts = [
        (f"{len(info.names)} classes", ", ".join(info.names)),
        ("Pictures become", f"{size}, {rule.method}"),
        (
            "Scores",
            f"above {limits.score_threshold:g}, which is part of the file; at most {limits.max_detections} objects",
        ),
        (
            "Suppression",
            f"of boxes with an IoU above {limits.nms_iou:g} with a better one"
            + (", of any class" if limits.class_agnostic else " of their class"),
        ),
        ("Network", f"{info.precision}, ONNX opset {info.opset}; run by {NAME}"),
        ("Written by", ", ".join(f"{name} {version}" for name, version in info.versions.items())),
    ]
    if "edge_std" in info.outputs:
        shown = (
            "bars reach one or two of its standard deviations to either side where that is chosen"
            if calibrated
            else "its standard deviation is the ± of an edge, and a bar across an edge reaches one or two of them to "
            "either side"
        )
        facts.insert(3, ("Edges", f"the detector gives each edge a distribution; {shown}"))
    if info.tiling is not None:
        facts.insert(
            2,
            (
                "Tiles",
                f"gfocal cuts large pictures into tiles of {info.tiling.side} pixels; this page does not, "
                "and finds fewer small objects on them",
            ),
        )
    return facts

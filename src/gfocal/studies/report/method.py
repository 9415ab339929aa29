"""What was run, and how to read it, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gfocal.report.numbers import NONE, line
from gfocal.studies.report.view import Results
from gfocal.utils.text import counted, listed

_PYRAMIDS = {
    "nano": "nano: a small backbone and neck (ShuffleNetV2-1.0x, PAN), not the paper's ResNet-50",
    "full": "the published recipes (ResNet-50 with FPN; VGG-16 for SSD512)",
}
_KNOWN = {
    "data", "train_pictures", "val_pictures", "classes", "pyramid", "picture", "iterations", "epochs",
    "pictures_a_step", "unlike_the_others", "overrides", "seeds", "init", "pretrained", "budget", "versions", "host",
    "data_fingerprint", "command",
}  # fmt: skip


def settings(results: Results) -> list[tuple[str, str]]:
    """(heading, words) of what was run; without the command."""
    content: Mapping[str, Any] = results["settings"]
    lines = [
        ("Data", _data(content)),
        ("Network", _PYRAMIDS.get(content.get("pyramid") or "", content.get("pyramid"))),
        ("Pictures enter as", _with(content.get("picture"), " pixels")),
        ("Each run", _training(content)),
        ("Unlike that", "; ".join(map(line, content.get("unlike_the_others") or ()))),
        ("Changed in all rows", ", ".join(map(line, content.get("overrides") or ()))),
        ("Seeds", _seeds(content.get("seeds") or [], results)),
        ("Starts from", _start(content)),
        ("Budget", _budget(content.get("budget") or "")),
        ("Versions", _pairs(content.get("versions"), " ", ", ")),
        ("Machine", _pairs(content.get("host"))),
        ("Fingerprint of the data", content.get("data_fingerprint")),
        *((line(key).replace("_", " ").capitalize(), _plain(content[key])) for key in content if key not in _KNOWN),
    ]
    return [(heading, line(words)) for heading, words in lines if words]


def command(results: Results) -> str:
    """As it was typed, on one line."""
    return line(results["settings"].get("command") or "")


def place(results: Results) -> str:
    """On what, in a few words, to tell two runs of the same table apart."""
    content = results["settings"]
    return f"{line(content.get('data'))}, {content.get('pyramid')}, from {line(_start(content))}"


def _start(content: Mapping[str, Any]) -> str:
    if content.get("init"):
        return str(content["init"])
    return "the backbone weights that the recipes name" if content.get("pretrained") else "random weights"


def _data(content: Mapping[str, Any]) -> str:
    counts = [
        (content.get("train_pictures"), "picture to learn from", "pictures to learn from"),
        (content.get("val_pictures"), "picture to measure on", "pictures to measure on"),
        (content.get("classes"), "class", "classes"),
    ]
    words = [counted(number, one, many) for number, one, many in counts if number is not None]
    return f"{line(content.get('data'))}: {', '.join(words)}" if words else line(content.get("data"))


def _training(content: Mapping[str, Any]) -> str:
    steps, batch, epochs = content.get("iterations"), content.get("pictures_a_step"), content.get("epochs")
    if steps is None:
        return ""
    words = f"{counted(steps, 'step')} of training"
    words += "" if batch is None else f", {counted(batch, 'picture')} a step"
    return words + ("" if epochs is None else f" ({epochs:g} {'epoch' if epochs == 1 else 'epochs'})")


def _seeds(seeds: list[int], results: Results) -> str:
    if len(seeds) == 1:
        known = any(row["difference"] and row["difference"]["by"] != "pictures" for row in results["rows"])
        chance = (
            "how far chance moves a training is known from rows of other tables in the same folder"
            if known
            else "so chance of training is not in any interval"
        )
        return f"{seeds[0]}: every row is trained once{'; ' if known else ', '}{chance}"
    times = {2: "twice"}.get(len(seeds), f"{len(seeds)} times")
    return f"{listed(seeds)}: every row is trained {times}" if seeds else ""


def _budget(name: str) -> str:
    return f"{name.rstrip('*')}, with settings of its own" if name.endswith("*") else name


def _with(value: Any, unit: str) -> str:
    return f"{line(value)}{unit}" if value else ""


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return _pairs(value)
    return ", ".join(map(_plain, value)) if isinstance(value, list) else "" if value is None else str(value)


def _pairs(values: Mapping[str, Any] | None, between: str = ": ", end: str = "; ") -> str:
    known = {str(key).replace("_", " "): _plain(value) for key, value in (values or {}).items()}
    return end.join(f"{key}{between}{value}" for key, value in known.items() if value)


VERDICT = (
    "How a verdict comes about. Each claim is split into parts, each about one difference with its 95 % interval. A "
    "part holds if the whole interval lies where the claim puts it (for “within 0.5 points”: between −0.5 and "
    "+0.5). It does not hold if an interval lies wholly elsewhere; in a claim of several parts that interval is wider, "
    "of confidence 1 − 0.05 / parts, since one of many misses by chance. Otherwise it cannot be told: that takes "
    "more pictures, seeds or training. Rows with an AP below 5 have learnt next to nothing and are not called equally "
    "good. A claim holds if all of its parts hold; it does not as soon as one of them does not."
)
SPREAD = (
    "What an interval comes from. Over pictures: both rows are measured on the same validation pictures, which are "
    "drawn again and again (paired bootstrap); what another seed would give is not in it. Over pictures and seeds: "
    "the spread between seeds, pooled over all rows of the study, is in it too. Repeated timing: rows are timed in "
    "turn in one process. A claim is labelled by the weakest of what its parts rest on."
)
READ: list[tuple[str, str]] = [
    ("AP", "average precision of COCO in percent, mean over IoU thresholds 0.50 to 0.95; the higher the better. "
     "AP50 and AP75: at one threshold; APs, APm, APl: of small, medium and large objects."),
    ("here, paper", "measured in these runs, mean ± standard deviation over seeds; printed in the paper (ResNet-50, "
     "COCO, 12 epochs). Data and network differ: compare differences, not AP itself."),
    ("difference", "AP to the row called baseline, in points (hundredths of AP), with its 95 % interval."),
    ("correlation", "Spearman's, of a detection's score and its IoU with the object: 1 if the best boxes always have "
     "the highest scores. The paper gives none."),
    ("edges out of reach", "share of the edges learnt in the last epoch that are too far from their point for "
     "the bins."),
    (NONE, "not measured, not printed in the paper, or no object of that size."),
]  # fmt: skip
UNFINISHED = "Unfinished: some runs are missing or failed; the same command goes on with them."
OVERVIEW = (
    "Each table of Generalized Focal Loss (arXiv 2006.04388), run with the settings that stand below it and put "
    "beside the figures that the paper prints. First all claims of the paper and whether these runs show them, then "
    "the tables."
)

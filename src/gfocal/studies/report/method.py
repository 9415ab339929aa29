"""What was run, and how to read it, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gfocal.report.numbers import NONE, line
from gfocal.studies.comparison.content import StudyResults, WhatWasRun
from gfocal.utils.text import counted, listed

_PYRAMIDS = {
    "nano": "nano: a small backbone and neck (ShuffleNetV2-1.0x, PAN), not the paper's ResNet-50",
    "full": "the published recipes (ResNet-50 with FPN; VGG-16 for SSD512)",
}


def settings(results: StudyResults) -> list[tuple[str, str]]:
    """(heading, words) of what was run; without the command."""
    own = results.settings
    lines = [
        ("Data", _data(own)),
        ("Network", _PYRAMIDS.get(own.pyramid, own.pyramid)),
        ("Pictures enter as", f"{own.schedule.image} pixels"),
        ("Each run", _training(own)),
        ("Unlike that", "; ".join(map(line, own.unlike_the_others))),
        ("Changed in all rows", ", ".join(map(line, own.overrides))),
        ("Seeds", _seeds(own.seeds, results)),
        ("Starts from", _start(own)),
        ("Budget", _budget(own.budget)),
        ("Versions", _pairs(own.versions, " ", ", ")),
        ("Machine", _pairs(own.host)),
        ("Fingerprint of the data", own.data_fingerprint),
    ]
    return [(heading, line(words)) for heading, words in lines if words]


def command(results: StudyResults) -> str:
    """As it was typed, on one line."""
    return line(results.settings.command)


def place(results: StudyResults) -> str:
    """On what, in a few words, to tell two runs of the same table apart."""
    own = results.settings
    return f"{line(own.data)}, {own.pyramid}, from {line(_start(own))}"


def _start(own: WhatWasRun) -> str:
    if own.init:
        return own.init
    return "the backbone weights that the recipes name" if own.pretrained else "random weights"


def _data(own: WhatWasRun) -> str:
    words = [
        counted(own.train_images, "picture to learn from", "pictures to learn from"),
        counted(own.val_images, "picture to measure on", "pictures to measure on"),
        counted(own.classes, "class", "classes"),
    ]
    return f"{line(own.data)}: {', '.join(words)}"


def _training(own: WhatWasRun) -> str:
    plan = own.schedule
    return (
        f"{counted(plan.iterations, 'step')} of training, {counted(plan.images_per_step, 'picture')} a step "
        f"({counted(plan.epochs, 'epoch')})"
    )


def _seeds(seeds: Sequence[int], results: StudyResults) -> str:
    if len(seeds) == 1:
        known = any(row.difference and row.difference.by != "pictures" for row in results.rows)
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


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return _pairs(value)
    return ", ".join(map(_plain, value)) if isinstance(value, list) else "" if value is None else str(value)


def _pairs(values: Mapping[str, object], between: str = ": ", end: str = "; ") -> str:
    known = {str(key).replace("_", " "): _plain(value) for key, value in values.items()}
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

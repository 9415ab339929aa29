"""Small studies for tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gfocal.data.scenes.generate import make_scenes
from gfocal.evaluation import STATS, EvalResult
from gfocal.evaluation.evaluator import Evaluation
from gfocal.studies.execution.budget import BUDGETS, Budget
from gfocal.studies.execution.plan import StudyData, open_study_data
from gfocal.studies.execution.run_metrics import FirstWeights, Measurement, RunFacts

SECONDS: Budget = replace(BUDGETS["tiny"], iterations=10, size=64, scenes=(48, 24), timed=(64, 64))
"""A run takes seconds and learns nothing worth measuring."""


def made_metrics(ap: float, *, score_iou_correlation: float | None = 0.5, **others: Any) -> Evaluation:
    """An evaluation of this AP; ``others`` are more of the 12 numbers, or ``per_class``."""
    per_class = others.pop("per_class", {})
    stats = dict.fromkeys(STATS, ap) | others
    return Evaluation(EvalResult(stats, per_class, score_iou_correlation, 24, 100), ms_per_image=1.0, seconds=1.0)


def made_facts(ap: float, seed: int = 0, *, metrics: Evaluation | None = None, **others: Any) -> RunFacts:
    """What a finished run of this AP says of itself."""
    facts = {
        "seed": seed,
        "measurement": Measurement(metrics or made_metrics(ap), others.pop("positives", None)),
        "steps": 12,
        "images_per_second": 19.2,
        "train_seconds": 10.0,
        "truncated_share": 0.0,
        "missed_share": 0.0,
        "measure_seconds": 2.5,
        "data": "5f1c8e2a77d0",
        "versions": {},
        "host": {"cpu": "a good one"},
        "start": FirstWeights("start.safetensors", None),
    }
    return RunFacts(**facts | others)


def scenes(folder: Path, train: int = 48, val: int = 24) -> StudyData:
    make_scenes(folder, train=train, val=val, size=64)
    return open_study_data(folder, name="scenes")

"""Small studies for tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gfocal.data.scenes.generate import make_scenes
from gfocal.studies.execution.budget import BUDGETS, Budget
from gfocal.studies.execution.plan import StudyData, open_study_data

SECONDS: Budget = replace(BUDGETS["tiny"], iterations=10, size=64, scenes=(48, 24), timed=(64, 64))
"""A run takes seconds and learns nothing worth measuring."""


def scenes(folder: Path, train: int = 48, val: int = 24) -> StudyData:
    make_scenes(folder, train=train, val=val, size=64)
    return open_study_data(folder, name="scenes")

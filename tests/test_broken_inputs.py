"""Whatever people feed it: a message that names the file and the fault, and the valid part where it was asked for.

Every case goes through ``check``, ``train`` (one step of a small detector) and ``predict``; none may show a traceback,
hang, or leave something out without saying so.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from broken_inputs import CASES, Case

from gfocal.data.check import Report, check_data
from gfocal.data.index import DataIndex
from gfocal.detector import DenseDetector
from gfocal.engine import run as run_module
from gfocal.engine.predict import Prediction, load, predict_files
from gfocal.engine.prepare import open_train_data
from gfocal.engine.train import TrainResult, train
from gfocal.errors import UsageError
from small_runs import small

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def detector() -> DenseDetector:
    return load("gfl_nano", ["data.resize.size=64"], names=("cat", "dog"))


@pytest.fixture(autouse=True)
def _no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing the state takes most of the time of a step, and has nothing to do with what is read."""
    monkeypatch.setattr(run_module, "save_state", lambda *_: None)


def names_both(text: str, case: Case) -> bool:
    """Whether a message names the file and the fault."""
    return case.file in text and re.search(case.fault, text.replace(case.file, ""), re.IGNORECASE) is not None


def checked(root: Path) -> tuple[Report | None, list[str]]:
    """The report, None where nothing can be examined, and all messages."""
    try:
        report = check_data(root)
    except UsageError as error:
        return None, [str(error)]
    return report, [f"{finding.severity} {finding.file}: {finding.message}" for finding in report.findings]


def trained(root: Path, out: Path, skip_broken: bool) -> tuple[DataIndex, TrainResult]:
    recipe = small("schedule.epochs=1", "schedule.save_every=9")
    index, val = open_train_data(root, None, skip_broken=skip_broken)
    return index, train(recipe, index, val, out, skip_broken=skip_broken, progress=False)


def predicted(detector: DenseDetector, root: Path) -> Prediction:
    pictures = [root / "images" / name for name in ("a.png", "b.jpg", "c.png", "d.jpg")]
    return predict_files(detector, pictures, root / "out")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_check_train_and_predict(case: Case, tmp_path: Path, detector: DenseDetector) -> None:
    root = tmp_path / "data"
    case.write(root)
    case.break_it(root)

    report, messages = checked(root)
    if case.fault:
        assert any(names_both(message, case) for message in messages), messages
    assert case.refused == (report is None or not report.ok) or not case.refused

    if case.refused:
        with pytest.raises(UsageError) as caught:
            trained(root, tmp_path / "strict", skip_broken=False)
        assert names_both(str(caught.value), case), caught.value
    if case.left is None:
        with pytest.raises(UsageError) as caught:
            trained(root, tmp_path / "skip", skip_broken=True)
        assert case.file in str(caught.value)
    else:
        index, result = trained(root, tmp_path / "skip", skip_broken=case.refused)
        assert report is not None
        unusable = report.left_out["train"]["pictures"]
        boxes = len(index.boxes) - 2 * unusable
        assert (len(index) - unusable, boxes) == case.left
        told = [*index.skipped, *result.skipped]
        assert bool(told) == case.refused, told
        if case.refused:
            assert any(names_both(line, case) for line in told), told
            assert report.left_out["train"]["records"] == len(index.skipped)

    if case.pictures:
        found = predicted(detector, root)
        unreadable = case.refused and "size" not in case.fault and not re.search("41x32|1x1|40x30", case.fault)
        assert len(found.drawings) == (3 if unreadable else 4)
        assert [names_both(line, case) for line in found.skipped] == [True] * unreadable

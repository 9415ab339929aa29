"""A run of a study from its job to its results, in this process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gfocal.evaluation import load_matches, resampled_weights, weighted_ap, weighted_correlation
from gfocal.evaluation.evaluator import evaluate
from gfocal.prediction.load import open_model
from gfocal.studies.execution.plan import RunPlan, StudyData, make_plan
from gfocal.studies.execution.run_metrics import MATCHES, RESAMPLES, read_measured
from gfocal.studies.execution.runner import RUNS, _write_job
from gfocal.studies.execution.worker import do_run
from gfocal.studies.paper.tables import TABLES
from helpers.made_study import SECONDS, scenes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    return scenes(tmp_path_factory.mktemp("worker") / "scenes")


@pytest.fixture(scope="module")
def run(data: StudyData) -> RunPlan:
    # Enough for a few boxes that overlap something.
    overrides = ["schedule.epochs=4", "predict.score_threshold=0.01"]
    return make_plan([TABLES["table3"]], data, SECONDS, overrides=overrides).runs[0]


@pytest.fixture(scope="module")
def folder(data: StudyData, run: RunPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("worker") / "study"
    _write_job(run, data, out, None, threads=1)
    do_run(out / RUNS / run.name)
    return out / RUNS / run.name


def test_a_run_leaves_what_the_tables_need(folder: Path, data: StudyData, run: RunPlan) -> None:
    measured = read_measured(folder)
    assert measured is not None
    detector, recipe, _ = open_model(str(folder / "last.safetensors"), ())
    assert recipe.model == run.recipe.model
    assert recipe.data == run.recipe.data
    again = evaluate(detector, data.val_index, workers=0, keep_matches=True)
    for name in ("AP", "AP50", "score_iou_correlation", "num_detections"):
        assert measured.facts["metrics"][name] == again.to_dict()[name], name
    assert measured.facts["steps"] == run.steps == 12
    assert measured.facts["data"] == data.fingerprint
    assert measured.facts["seed"] == 0
    assert measured.facts["versions"]["torch"]
    assert 0 <= measured.facts["truncated_share"] < 1
    assert {file.name for file in folder.iterdir()} >= {"recipe.yaml", "run.json", "metrics.jsonl", "last.safetensors"}
    assert not (folder / "state.pt").exists()


def test_matches_and_resampled_values_agree(folder: Path, data: StudyData) -> None:
    measured, matches = read_measured(folder), load_matches(folder / MATCHES)
    assert measured is not None
    ap = weighted_ap(matches, np.ones((1, len(data.val_index)), np.int64)).mean()
    assert ap == pytest.approx(measured.facts["metrics"]["AP"], abs=1e-9)
    weights = resampled_weights(len(data.val_index), RESAMPLES)
    np.testing.assert_array_equal(measured.resampled["AP"], weighted_ap(matches, weights).mean(1))
    np.testing.assert_array_equal(measured.resampled["correlation"], weighted_correlation(matches, weights))


def test_a_run_that_is_done_is_left_alone(folder: Path) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    do_run(folder)
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_a_run_that_was_cut_off_before_its_first_state_starts_anew(
    folder: Path, data: StudyData, run: RunPlan, tmp_path: Path
) -> None:
    _write_job(run, data, tmp_path, None, threads=1)
    other = tmp_path / RUNS / run.name
    (other / "metrics.jsonl").write_text('{"kind": "train", "step": 1}\n')
    (other / "run.json").write_text("{}")
    do_run(other)
    one, two = ([json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (folder, other))
    assert [line.get("loss") for line in one] == [line.get("loss") for line in two]
    assert read_measured(other).facts["metrics"]["AP"] == read_measured(folder).facts["metrics"]["AP"]

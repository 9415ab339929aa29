"""A run of a study from its job to its results, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfocal.evaluation import load_matches, resampled_weights, spearman, weighted_ap, weighted_correlation
from gfocal.evaluation.bootstrap import weighted_spearman
from gfocal.evaluation.evaluator import evaluate
from gfocal.evaluation.positives import find_positives
from gfocal.prediction.load import open_model
from gfocal.runs.checkpoint import read_about
from gfocal.studies.execution import worker
from gfocal.studies.execution.plan import RunPlan, StudyData, make_plan, open_study_data
from gfocal.studies.execution.run_metrics import MATCHES, RESAMPLES, PositivesSummary, read_run
from gfocal.studies.execution.runner import RUNS, STARTS, _write_job
from gfocal.studies.execution.worker import do_run
from gfocal.studies.paper.tables import TABLES
from gfocal.training import trainer
from helpers.made_study import SECONDS, scenes
from helpers.small_runs import TINY


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    return scenes(tmp_path_factory.mktemp("worker") / "scenes")


@pytest.fixture(scope="module")
def run(data: StudyData) -> RunPlan:
    # Enough for a few boxes that overlap something.
    overrides = [*TINY, "schedule.epochs=4", "predict.score_threshold=0.01", "schedule.keep_steps=[3, 7, 12, 40]"]
    return make_plan([TABLES["table3"]], data, SECONDS, overrides=overrides).runs[0]


@pytest.fixture(scope="module")
def folder(data: StudyData, run: RunPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("worker") / "study"
    _write_job(run, data, out, None, threads=1)
    do_run(out / RUNS / run.name)
    return out / RUNS / run.name


def test_a_run_leaves_what_the_tables_need(folder: Path, data: StudyData, run: RunPlan) -> None:
    done = read_run(folder)
    assert done is not None
    detector, recipe, _ = open_model(str(folder / "last.safetensors"), ())
    assert recipe.model == run.recipe.model
    assert recipe.data == run.recipe.data
    again = evaluate(detector, data.val_index, workers=0, keep_matches=True)
    assert done.facts.measurement.metrics.result == again.result
    assert done.facts.steps == run.steps == 12
    assert done.facts.data == data.fingerprint
    assert done.facts.seed == 0
    assert done.facts.versions["torch"]
    assert done.facts.host is not None
    assert done.facts.start.init is None
    assert 0 <= done.facts.truncated_share < 1
    assert list(json.loads((folder / "measured.json").read_text())) == [
        "seed", "metrics", "positives", "steps", "pictures_per_second", "train_seconds", "truncated_share",
        "missed_share", "measure_seconds", "data", "versions", "host", "start",
    ]  # fmt: skip
    assert {file.name for file in folder.iterdir()} >= {"recipe.yaml", "run.json", "metrics.jsonl", "last.safetensors"}
    assert not [file.name for file in folder.iterdir() if file.name.startswith(("state", "best", "step"))]


def test_matches_and_resampled_values_agree(folder: Path, data: StudyData) -> None:
    done, matches = read_run(folder), load_matches(folder / MATCHES)
    assert done is not None
    measured = done.last
    ap = weighted_ap(matches, np.ones((1, len(data.val_index)), np.int64)).mean()
    assert ap == pytest.approx(measured.value("AP"), abs=1e-9)
    weights = resampled_weights(len(data.val_index), RESAMPLES)
    np.testing.assert_array_equal(measured.resampled["AP"], weighted_ap(matches, weights).mean(1))
    np.testing.assert_array_equal(measured.resampled["correlation"], weighted_correlation(matches, weights))


def test_positives_and_their_resampled_values_agree(folder: Path, data: StudyData) -> None:
    done = read_run(folder)
    assert done is not None
    measured = done.last
    positives = find_positives(open_model(str(folder / "last.safetensors"), ())[0], data.val_index)
    assert measured.measurement.positives == PositivesSummary(
        count=len(positives.ious),
        correlation=pytest.approx(spearman(positives.scores, positives.ious)),
        mean_iou=pytest.approx(positives.ious.mean()),
    )
    weights = np.concatenate(
        [np.ones((1, len(data.val_index)), int), resampled_weights(len(data.val_index), RESAMPLES)]
    )
    agreed = weighted_spearman(positives.images, positives.scores, positives.ious, weights)
    assert agreed[0] == pytest.approx(measured.value("positives"))
    np.testing.assert_allclose(measured.resampled["positives"], agreed[1:])
    drawn = np.array([np.average(positives.ious, weights=one[positives.images]) for one in weights[1:4]])
    np.testing.assert_allclose(measured.resampled["mean_iou"][:3], drawn)


def test_a_run_is_measured_on_the_way_and_goes_on_from_anywhere(
    folder: Path, data: StudyData, run: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off in a step, then between two measurements: every number is that of the run without a break."""
    assert run.measured_steps == (3, 7, 12)
    _write_job(run, data, tmp_path, None, threads=1)
    other = tmp_path / RUNS / run.name
    step, write, calls = trainer.optimizer_step, worker.write_measured, []

    def die(real: Any, after: int) -> Any:
        def called(*args: Any, **options: Any) -> Any:
            calls.append(real)
            if calls.count(real) > after:
                raise KeyboardInterrupt
            return real(*args, **options)

        return called

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "optimizer_step", die(step, 8))
        with pytest.raises(KeyboardInterrupt):
            do_run(other)
    kept = evaluate(open_model(str(other / "step-7.safetensors"), ())[0], data.val_index, workers=0)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "write_measured", die(write, 1))
        with pytest.raises(KeyboardInterrupt):
            do_run(other)
    first = other / "at" / "3" / "measured.json"
    written = first.stat().st_mtime_ns
    do_run(other)
    assert first.stat().st_mtime_ns == written
    ours, theirs = read_run(other), read_run(folder)
    assert ours is not None
    assert theirs is not None
    assert list(ours.before) == list(theirs.before) == [3, 7]
    assert kept.result.stats["AP50"] == ours.before[7].measurement.metrics.result.stats["AP50"]
    for one, two in zip((ours.last, *ours.before.values()), (theirs.last, *theirs.before.values()), strict=True):
        assert one.measurement.metrics.result == two.measurement.metrics.result
        assert one.measurement.positives == two.measurement.positives
        assert one.resampled.keys() == two.resampled.keys() == {"AP", "correlation", "positives", "mean_iou"}
        for name, values in one.resampled.items():
            np.testing.assert_array_equal(values, two.resampled[name])
    found = [measured.value("positives") for measured in (*ours.before.values(), ours.last)]
    assert len(set(found)) == 3, "three different sets of weights"


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
    assert len({read_run(each).last.value("AP") for each in (folder, other)}) == 1


def test_classes_that_only_what_is_measured_has_are_learnt_by_all_runs(tmp_path: Path) -> None:
    """``data.drop_empty_classes``: of four classes one has no box at all, and one none to learn."""
    data = scenes(tmp_path / "scenes", train=16, val=8)
    listing = tmp_path / "scenes" / "annotations" / "train.json"
    content = json.loads(listing.read_text())
    only_val, unused = data.train.names[1], "N/A"
    number = next(one["id"] for one in content["categories"] if one["name"] == only_val)
    content["annotations"] = [one for one in content["annotations"] if one["category_id"] != number]
    content["categories"].append({"id": 99, "name": unused})
    listing.write_text(json.dumps(content))
    data = open_study_data(tmp_path / "scenes")
    names = [name for name in data.train.names if name != unused]
    assert only_val in names
    assert unused in data.train.names
    overrides = [*TINY, "schedule.epochs=2", "data.drop_empty_classes=true"]
    run = make_plan([TABLES["table3"]], data, SECONDS, overrides=overrides).runs[0]
    out = tmp_path / "study"
    _write_job(run, data, out, None, threads=1)
    assert read_about(next((out / STARTS).iterdir())).names == names
    do_run(out / RUNS / run.name)
    done = read_run(out / RUNS / run.name)
    assert done is not None
    assert list(done.facts.measurement.metrics.result.per_class) == names
    assert read_about(out / RUNS / run.name / "last.safetensors").names == names

"""From finished runs to results.json, with runs whose numbers are made by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gfocal.studies.comparison.content import RowResult, Statistic, StudyResults
from gfocal.studies.comparison.findings import Difference
from gfocal.studies.comparison.moment import spread
from gfocal.studies.comparison.results import collect
from gfocal.studies.execution.plan import StudyData
from gfocal.studies.execution.run_metrics import MEASURED, RESAMPLED
from gfocal.studies.execution.runner import RUNS, Outcome
from gfocal.studies.execution.study import Study, StudySettings, open_study
from gfocal.studies.paper.tables import TABLES
from gfocal.utils.records import to_json
from helpers.made_study import SECONDS, made_facts, made_metrics, scenes

AP = {"atss": (0.30, 0.31), "atss-qfl": (0.34, 0.36), "atss-dfl": (0.32, 0.32), "gfl": (0.36, 0.38)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    return scenes(tmp_path_factory.mktemp("results") / "scenes")


def study_of(data: StudyData, out: Path, *tables: str, seeds: int = 2) -> Study:
    return open_study(StudySettings(tables or ("table3",), str(data.path), SECONDS, seeds, out))


def finish(study: Study, table: str, key: str, seed: int, ap: float) -> None:
    """Write what a worker leaves."""
    run = study.plan.of_row[table, key][seed]
    folder = study.settings.out / RUNS / run.name
    folder.mkdir(parents=True, exist_ok=True)
    facts = made_facts(
        ap,
        seed,
        metrics=made_metrics(ap, AP50=ap + 0.2, AP75=ap + 0.1, APs=math.nan, score_iou_correlation=0.5 + ap),
        truncated_share=0.01 * (seed + 1),
        versions={"torch": "2.8" if seed else "2.9"},
    )
    noise = np.random.default_rng([len(key), ord(key[-1]), seed]).normal(0, 0.002, 50)
    np.savez(folder / RESAMPLED, AP=ap + noise, correlation=0.5 + ap + noise)
    lines = [{"kind": "train", "step": step, "loss": 1 / step} for step in range(1, 501)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / MEASURED).write_text(json.dumps(to_json(facts)))


def row_of(results: StudyResults, key: str) -> RowResult:
    return next(row for row in results.rows if row.key == key)


def difference_of(results: StudyResults, key: str) -> Difference:
    found = row_of(results, key).difference
    assert found is not None
    return found


def test_a_finished_table(data: StudyData, tmp_path: Path) -> None:
    study = study_of(data, tmp_path)
    for key, values in AP.items():
        for seed, value in enumerate(values):
            finish(study, "table3", key, seed, value)
    results = collect(study, TABLES["table3"], Outcome(done=8), None, "gfocal study table3")
    assert results.finished
    assert results.failures == ()
    gfl = row_of(results, "gfl")
    assert gfl.measured is not None
    assert gfl.measured["AP"] == Statistic(pytest.approx(0.37), pytest.approx(0.01 * 2**0.5), (0.36, 0.38))
    assert gfl.measured["AP75"] is not None
    assert gfl.measured["AP75"].mean == pytest.approx(0.47)
    assert gfl.measured["APs"] is None
    assert gfl.correlation is not None
    assert gfl.correlation.runs == pytest.approx((0.86, 0.88))
    assert gfl.truncated_share == pytest.approx(0.015)
    assert gfl.box_weight == "score"
    assert gfl.published is not None
    assert gfl.published["AP"] == 40.2
    assert gfl.published_difference == 1.0
    apart = difference_of(results, "gfl")
    assert apart.value == pytest.approx(0.065)
    assert apart.low < 0.065 < apart.high
    assert apart.by == "pictures and seeds"
    assert row_of(results, "atss").difference is None
    assert [run.state for run in gfl.runs] == ["done", "done"]
    assert gfl.runs[0].seconds == 12.5
    assert (tmp_path / gfl.runs[0].folder).is_dir()
    assert gfl.curve is not None
    assert len(gfl.curve.step) <= 200
    assert gfl.curve.step[-1] == 500
    assert gfl.curve.loss[0] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3, abs=1e-5)
    assert {claim.verdict for claim in results.claims} <= {"holds", "does not", "cannot tell"}
    assert next(c for c in results.claims if c.statement == "QFL improves ATSS").verdict == "holds"
    settings = results.settings
    assert (settings.schedule.iterations, settings.seeds, settings.schedule.image) == (12, (0, 1), "64 x 64")
    assert settings.unlike_the_others == ()
    assert settings.versions == {"torch": "2.9 and 2.8"}
    assert settings.host == {"cpu": "a good one"}
    assert (settings.train_images, settings.val_images, settings.classes) == (48, 24, 6)
    text = json.dumps(results.to_dict(), allow_nan=False)
    assert StudyResults.from_dict(json.loads(text)) == results


def test_an_unfinished_table(data: StudyData, tmp_path: Path) -> None:
    study = study_of(data, tmp_path)
    finish(study, "table3", "atss", 0, 0.3)
    failed = study.plan.of_row["table3", "gfl"][0].name
    results = collect(study, TABLES["table3"], Outcome(failures={failed: "killed by signal 9"}))
    assert not results.finished
    assert results.failures == (f"{failed}: killed by signal 9",)
    gfl = row_of(results, "gfl")
    assert [run.state for run in gfl.runs] == ["failed", "missing"]
    assert gfl.runs[0].error == "killed by signal 9"
    assert [run.failure for run in gfl.runs] == [*results.failures, None]
    for name in ("measured", "difference", "correlation", "truncated_share", "curve"):
        assert getattr(gfl, name) is None, name
    assert {claim.verdict for claim in results.claims} == {"cannot tell"}


def test_a_damaged_run_is_a_failure(data: StudyData, tmp_path: Path) -> None:
    study = study_of(data, tmp_path)
    finish(study, "table3", "atss", 0, 0.3)
    run = study.plan.of_row["table3", "atss"][0].name
    (tmp_path / RUNS / run / RESAMPLED).write_bytes(b"")
    results = collect(study, TABLES["table3"], Outcome())
    assert row_of(results, "atss").runs[0].state == "failed"
    assert "repeat the command to do that run again" in results.failures[0]


def test_one_seed_speaks_of_images_alone(data: StudyData, tmp_path: Path) -> None:
    study = study_of(data, tmp_path, seeds=1)
    for key, values in AP.items():
        finish(study, "table3", key, 0, values[0])
    results = collect(study, TABLES["table3"], Outcome())
    assert difference_of(results, "gfl").by == "pictures"
    measured = row_of(results, "gfl").measured
    assert measured is not None
    assert measured["AP"] == Statistic(0.36, None, (0.36,))


def test_other_tables_runs_say_how_far_a_seed_moves_a_run(data: StudyData, tmp_path: Path) -> None:
    """Their rows differ from seed to seed by far more than those of the table itself."""
    study = study_of(data, tmp_path)
    for key in AP:
        for seed in (0, 1):
            finish(study, "table3", key, seed, 0.3)
    quiet = difference_of(collect(study, TABLES["table3"], Outcome()), "gfl")
    other = study_of(data, tmp_path, "table1b")
    for i, row in enumerate(TABLES["table1b"].rows):
        for seed in (0, 1):
            finish(other, "table1b", row.key, seed, 0.3 + (0.05 if (i + seed) % 2 else 0.0))
    loud = difference_of(collect(study, TABLES["table3"], Outcome()), "gfl")
    assert loud.value == quiet.value == 0
    assert quiet.high - quiet.low < 0.02 < 0.05 < loud.high - loud.low


def test_rows_that_learnt_nothing_do_not_make_others_look_steady(data: StudyData, tmp_path: Path) -> None:
    def width(*blank: str) -> float:
        study = study_of(data, tmp_path / str(len(blank)), "table3", "table1b")
        for key, values in AP.items():
            for seed, value in enumerate(values):
                finish(study, "table3", key, seed, value)
        for key in blank:
            for seed in (0, 1):
                finish(study, "table1b", key, seed, 0.001)
        apart = difference_of(collect(study, TABLES["table3"], Outcome()), "gfl")
        return apart.high - apart.low

    assert width("ssd", "ssd-joint", "foveabox", "retinanet") == pytest.approx(width())


def test_a_detector_with_a_schedule_of_its_own(data: StudyData, tmp_path: Path) -> None:
    budget = replace(SECONDS, name="full", pyramid="full", iterations=None, size=None, lr=None)
    study = open_study(StudySettings(("table1b",), str(data.path), budget, 1, tmp_path))
    settings = collect(study, TABLES["table1b"], Outcome()).settings
    plan = settings.schedule
    assert (plan.image, plan.images_per_step) == ("short side 800, long side at most 1333", 16)
    assert settings.unlike_the_others == ("ssd512_vgg16: 512 x 512 pixels, 120 steps of 48 pictures (120 epochs)",)


def test_some_rows(data: StudyData, tmp_path: Path) -> None:
    study = open_study(StudySettings(("table1a", "table1b"), str(data.path), SECONDS, 1, tmp_path, rows=("atss-iou",)))
    assert [table.name for table in study.tables] == ["table1a"]
    finish(study, "table1a", "atss-iou", 0, 0.4)
    finish(study, "table1a", "atss-centerness", 0, 0.3)
    results = collect(study, TABLES["table1a"], Outcome())
    assert [row.key for row in results.rows] == ["atss-centerness", "atss-iou"]
    assert difference_of(results, "atss-iou").value == pytest.approx(0.1)
    # Claims about rows that were left out are not judged.
    assert [claim.statement for claim in results.claims] == ["On ATSS: joint > IoU branch > centerness branch > none"]
    assert results.finished


def test_spread() -> None:
    assert spread([]) is None
    assert spread([None, float("nan")]) is None
    assert spread([0.5, None]) == Statistic(0.5, None, (0.5,))
    assert spread([0.4, 0.6]) == Statistic(0.5, pytest.approx(0.02**0.5), (0.4, 0.6))

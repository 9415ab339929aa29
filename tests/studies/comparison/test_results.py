"""From finished runs to results.json, with runs whose numbers are made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfocal.studies.comparison.moment import spread
from gfocal.studies.comparison.results import collect
from gfocal.studies.execution.plan import StudyData
from gfocal.studies.execution.run_metrics import MEASURED, RESAMPLED
from gfocal.studies.execution.runner import RUNS, Outcome
from gfocal.studies.execution.study import Study, StudySettings, open_study
from gfocal.studies.paper.tables import TABLES
from helpers.made_study import SECONDS, scenes

AP = {"atss": (0.30, 0.31), "atss-qfl": (0.34, 0.36), "atss-dfl": (0.32, 0.32), "gfl": (0.36, 0.38)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    return scenes(tmp_path_factory.mktemp("results") / "scenes")


def study_of(data: StudyData, out: Path, *tables: str, seeds: int = 2) -> Study:
    return open_study(StudySettings(tables or ("table3",), str(data.path), SECONDS, seeds, out))


def finish(study: Study, table: str, key: str, seed: int, ap: float, **more: Any) -> None:
    """Write what a worker leaves."""
    run = study.plan.of_row[table, key][seed]
    folder = study.settings.out / RUNS / run.name
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"AP50": ap + 0.2, "AP75": ap + 0.1, "APs": None, "APm": ap, "APl": ap}
    facts = {
        "metrics": {"AP": ap, **sizes, "score_iou_correlation": 0.5 + ap},
        "train_seconds": 10.0,
        "measure_seconds": 2.5,
        "truncated_share": 0.01 * (seed + 1),
        "versions": {"torch": "2.8" if seed else "2.9"},
        "host": {"cpu": "a good one"},
        **more,
    }
    noise = np.random.default_rng([len(key), ord(key[-1]), seed]).normal(0, 0.002, 50)
    np.savez(folder / RESAMPLED, AP=ap + noise, correlation=0.5 + ap + noise)
    lines = [{"kind": "train", "step": step, "loss": 1 / step} for step in range(1, 501)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / MEASURED).write_text(json.dumps(facts))


def row_of(results: dict[str, Any], key: str) -> dict[str, Any]:
    return next(row for row in results["rows"] if row["key"] == key)


def test_a_finished_table(data: StudyData, tmp_path: Path) -> None:
    study = study_of(data, tmp_path)
    for key, values in AP.items():
        for seed, value in enumerate(values):
            finish(study, "table3", key, seed, value)
    results = collect(study, TABLES["table3"], Outcome(done=8), None, "gfocal study table3")
    assert results["finished"]
    assert results["failures"] == []
    gfl = row_of(results, "gfl")
    assert gfl["measured"]["AP"] == {
        "mean": pytest.approx(0.37),
        "spread": pytest.approx(0.01 * 2**0.5),
        "runs": [0.36, 0.38],
    }
    assert gfl["measured"]["AP75"]["mean"] == pytest.approx(0.47)
    assert gfl["measured"]["APs"] is None
    assert gfl["correlation"]["runs"] == pytest.approx([0.86, 0.88])
    assert gfl["truncated_share"] == pytest.approx(0.015)
    assert gfl["box_weight"] == "score"
    assert gfl["published"]["AP"] == 40.2
    assert gfl["published_difference"] == 1.0
    assert gfl["difference"]["value"] == pytest.approx(0.065)
    assert gfl["difference"]["low"] < 0.065 < gfl["difference"]["high"]
    assert gfl["difference"]["by"] == "pictures and seeds"
    assert row_of(results, "atss")["difference"] is None
    assert [run["state"] for run in gfl["runs"]] == ["done", "done"]
    assert gfl["runs"][0]["seconds"] == 12.5
    assert (tmp_path / gfl["runs"][0]["folder"]).is_dir()
    assert len(gfl["curve"]["step"]) <= 200
    assert gfl["curve"]["step"][-1] == 500
    assert gfl["curve"]["loss"][0] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3, abs=1e-5)
    assert {claim["verdict"] for claim in results["claims"]} <= {"holds", "does not", "cannot tell"}
    assert next(c for c in results["claims"] if c["statement"] == "QFL improves ATSS")["verdict"] == "holds"
    settings = results["settings"]
    assert (settings["iterations"], settings["seeds"], settings["picture"]) == (12, [0, 1], "64 x 64")
    assert settings["unlike_the_others"] == []
    assert settings["versions"] == {"torch": "2.9 and 2.8"}
    assert settings["host"] == {"cpu": "a good one"}
    assert (settings["train_pictures"], settings["val_pictures"], settings["classes"]) == (48, 24, 6)
    json.dumps(results, allow_nan=False)


def test_an_unfinished_table(data: StudyData, tmp_path: Path) -> None:
    study = study_of(data, tmp_path)
    finish(study, "table3", "atss", 0, 0.3)
    failed = study.plan.of_row["table3", "gfl"][0].name
    results = collect(study, TABLES["table3"], Outcome(failures={failed: "killed by signal 9"}))
    assert not results["finished"]
    assert results["failures"] == [f"{failed}: killed by signal 9"]
    gfl = row_of(results, "gfl")
    assert [run["state"] for run in gfl["runs"]] == ["failed", "missing"]
    assert gfl["runs"][0]["error"] == "killed by signal 9"
    for name in ("measured", "difference", "correlation", "truncated_share", "curve"):
        assert gfl[name] is None, name
    assert {claim["verdict"] for claim in results["claims"]} == {"cannot tell"}


def test_a_damaged_run_is_a_failure(data: StudyData, tmp_path: Path) -> None:
    study = study_of(data, tmp_path)
    finish(study, "table3", "atss", 0, 0.3)
    run = study.plan.of_row["table3", "atss"][0].name
    (tmp_path / RUNS / run / RESAMPLED).write_bytes(b"")
    results = collect(study, TABLES["table3"], Outcome())
    assert row_of(results, "atss")["runs"][0]["state"] == "failed"
    assert "repeat the command to do that run again" in results["failures"][0]


def test_one_seed_speaks_of_images_alone(data: StudyData, tmp_path: Path) -> None:
    study = study_of(data, tmp_path, seeds=1)
    for key, values in AP.items():
        finish(study, "table3", key, 0, values[0])
    results = collect(study, TABLES["table3"], Outcome())
    assert row_of(results, "gfl")["difference"]["by"] == "pictures"
    assert row_of(results, "gfl")["measured"]["AP"]["spread"] is None


def test_other_tables_runs_say_how_far_a_seed_moves_a_run(data: StudyData, tmp_path: Path) -> None:
    """Their rows differ from seed to seed by far more than those of the table itself."""
    study = study_of(data, tmp_path)
    for key in AP:
        for seed in (0, 1):
            finish(study, "table3", key, seed, 0.3)
    quiet = row_of(collect(study, TABLES["table3"], Outcome()), "gfl")["difference"]
    other = study_of(data, tmp_path, "table1b")
    for i, row in enumerate(TABLES["table1b"].rows):
        for seed in (0, 1):
            finish(other, "table1b", row.key, seed, 0.3 + (0.05 if (i + seed) % 2 else 0.0))
    loud = row_of(collect(study, TABLES["table3"], Outcome()), "gfl")["difference"]
    assert loud["value"] == quiet["value"] == 0
    assert quiet["high"] - quiet["low"] < 0.02 < 0.05 < loud["high"] - loud["low"]


def test_rows_that_learnt_nothing_do_not_make_others_look_steady(data: StudyData, tmp_path: Path) -> None:
    def width(*blank: str) -> float:
        study = study_of(data, tmp_path / str(len(blank)), "table3", "table1b")
        for key, values in AP.items():
            for seed, value in enumerate(values):
                finish(study, "table3", key, seed, value)
        for key in blank:
            for seed in (0, 1):
                finish(study, "table1b", key, seed, 0.001)
        apart = row_of(collect(study, TABLES["table3"], Outcome()), "gfl")["difference"]
        return apart["high"] - apart["low"]

    assert width("ssd", "ssd-joint", "foveabox", "retinanet") == pytest.approx(width())


def test_a_detector_with_a_schedule_of_its_own(data: StudyData, tmp_path: Path) -> None:
    budget = replace(SECONDS, name="full", pyramid="full", iterations=None, size=None, lr=None)
    study = open_study(StudySettings(("table1b",), str(data.path), budget, 1, tmp_path))
    settings = collect(study, TABLES["table1b"], Outcome())["settings"]
    assert (settings["picture"], settings["pictures_a_step"]) == ("short side 800, long side at most 1333", 16)
    assert settings["unlike_the_others"] == ["ssd512_vgg16: 512 x 512 pixels, 120 steps of 48 pictures (120 epochs)"]


def test_some_rows(data: StudyData, tmp_path: Path) -> None:
    study = open_study(StudySettings(("table1a", "table1b"), str(data.path), SECONDS, 1, tmp_path, rows=("atss-iou",)))
    assert [table.name for table in study.tables] == ["table1a"]
    finish(study, "table1a", "atss-iou", 0, 0.4)
    finish(study, "table1a", "atss-centerness", 0, 0.3)
    results = collect(study, TABLES["table1a"], Outcome())
    assert [row["key"] for row in results["rows"]] == ["atss-centerness", "atss-iou"]
    assert row_of(results, "atss-iou")["difference"]["value"] == pytest.approx(0.1)
    # Claims about rows that were left out are not judged.
    assert [claim["statement"] for claim in results["claims"]] == [
        "On ATSS: joint > IoU branch > centerness branch > none"
    ]
    assert results["finished"]


def test_spread() -> None:
    assert spread([]) is None
    assert spread([None, float("nan")]) is None
    assert spread([0.5, None]) == {"mean": 0.5, "spread": None, "runs": [0.5]}
    assert spread([0.4, 0.6]) == {"mean": 0.5, "spread": pytest.approx(0.02**0.5), "runs": [0.4, 0.6]}

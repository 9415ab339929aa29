"""Agreement on the same boxes in every row, and a table over its schedule, from runs whose numbers are made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfocal.evaluation import Matches, save_matches, spearman
from gfocal.evaluation.matches import IOUS, FoundObjects
from gfocal.studies.comparison.agreement import common_runs
from gfocal.studies.comparison.content import AgreementBasis, Statistic
from gfocal.studies.comparison.results import collect
from gfocal.studies.execution.plan import StudyData
from gfocal.studies.execution.run_metrics import (
    MATCHES,
    MEASURED,
    RESAMPLED,
    RESAMPLES,
    Measured,
    Measurement,
    PositivesSummary,
    at_step,
)
from gfocal.studies.execution.runner import RUNS, Outcome
from gfocal.studies.execution.study import Study, StudySettings, open_study
from gfocal.studies.paper.tables import TABLES
from gfocal.utils.records import to_json
from helpers.made_study import SECONDS, made_facts, made_metrics, scenes

IMAGES = 24


def measured(folder: Path, ap: float, objects: FoundObjects | None) -> Measured:
    """A run that found these objects."""
    none = np.zeros(0, int)
    right = np.zeros((len(IOUS), 0), bool)
    nothing = Matches(none, none, right, right, np.ones((IMAGES, 1), int), np.zeros(0), np.zeros(0), objects)
    folder.mkdir(parents=True, exist_ok=True)
    save_matches(folder / MATCHES, nothing)
    return Measured(Measurement(made_metrics(ap)), {}, folder)


def objects(scores: list[float], ious: list[float]) -> FoundObjects:
    return FoundObjects(np.arange(len(scores)), np.array(scores), np.array(ious))


def test_common_objects_by_hand(tmp_path: Path) -> None:
    nan = np.nan
    one = measured(tmp_path / "one", 0.3, objects([0.1, 0.2, 0.3, 0.4, nan], [0.5, 0.6, 0.7, 0.8, nan]))
    two = measured(tmp_path / "two", 0.3, objects([0.3, nan, 0.1, 0.2, 0.9], [0.5, nan, 0.7, 0.9, 0.9]))
    blank = measured(tmp_path / "blank", 0.01, objects([nan] * 5, [nan] * 5))
    found, counts = common_runs({"one": {0: one}, "two": {0: two}, "blank": {0: blank}})
    # Both find objects 0, 2 and 3: ranks 1 2 3 of both kinds, and 3 1 2 beside 1 2 3: 1 - 6 * (4 + 1 + 1) / (3 * 8).
    assert counts == [3]
    assert found["one"][0].value == pytest.approx(1)
    assert found["two"][0].value == pytest.approx(-0.5)
    assert found["blank"] == {}
    assert found["one"][0].resampled.shape == (RESAMPLES,)
    # Sets without all three images have fewer pairs or tied ones.
    assert 0 < np.isfinite(found["two"][0].resampled).sum() < RESAMPLES


def test_seeds_and_what_cannot_be_compared(tmp_path: Path) -> None:
    scores = [[0.1, 0.2, 0.3, 0.4], [0.4, 0.2, 0.3, 0.1]]
    runs = [measured(tmp_path / str(i), 0.3, objects(own, [0.5, 0.6, 0.7, 0.8])) for i, own in enumerate(scores)]
    old = measured(tmp_path / "old", 0.3, None)
    found, counts = common_runs({"a": {0: runs[0], 1: runs[0]}, "b": {0: runs[1]}, "c": {1: old}})
    assert counts == [4], "of seed 1 a single row has its objects"
    assert {key: list(own) for key, own in found.items()} == {"a": [0], "b": [0], "c": []}
    assert found["b"][0].value == pytest.approx(spearman(np.array(scores[1]), np.arange(4.0)))


# --- over the schedule ----------------------------------------------------------------------------------------------

STEPS = (2, 4)
# AP of each row after steps 2 and 4 and at the end.
AP = {"atss": (0.10, 0.20, 0.30), "atss-qfl": (0.08, 0.20, 0.36), "atss-dfl": (0.1, 0.2, 0.3), "gfl": (0.1, 0.2, 0.37)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    return scenes(tmp_path_factory.mktemp("agreement") / "scenes")


def leave(folder: Path, ap: float, seed: int, key: str) -> None:
    """What a worker leaves of one measurement."""
    rng = np.random.default_rng([ord(key[-1]), len(key), seed, round(1000 * ap)])
    noise = rng.normal(0, 0.001, RESAMPLES)
    measured(folder, ap, objects(list(rng.random(IMAGES)), list(rng.uniform(0.5, 1, IMAGES))))
    metrics = made_metrics(ap, APs=np.nan, APm=np.nan, APl=np.nan, per_class={"disc": ap + 0.1, "rare": None})
    positives = PositivesSummary(count=9, correlation=2 * ap, mean_iou=0.4 + ap)
    facts = made_facts(ap, seed, metrics=metrics, positives=positives)
    values = {"AP": ap, "correlation": 0.5, "positives": 2 * ap, "mean_iou": 0.4 + ap}
    np.savez(folder / RESAMPLED, **{name: value + noise for name, value in values.items()})
    (folder / MEASURED).write_text(json.dumps(to_json(facts)))


def finished(data: StudyData, out: Path) -> Study:
    study = open_study(StudySettings(("table3",), str(data.path), SECONDS, 2, out))
    for key, values in AP.items():
        for seed, run in enumerate(study.plan.of_row["table3", key]):
            for place, ap in zip((*STEPS, None), values, strict=True):
                folder = out / RUNS / run.name
                leave(folder if place is None else at_step(folder, place), ap + 0.002 * seed, seed, key)
    return study


def test_a_table_over_its_schedule(data: StudyData, tmp_path: Path) -> None:
    study = finished(data, tmp_path)
    results = collect(study, TABLES["table3"], Outcome())
    json.dumps(results.to_dict(), allow_nan=False)
    early, middle, end = results.schedule
    assert [moment.step for moment in results.schedule] == [2, 4, 12]
    qfl = early.rows["atss-qfl"]
    assert qfl.ap is not None
    assert qfl.ap.runs == pytest.approx((0.08, 0.082))
    assert qfl.difference is not None
    assert qfl.difference.value == pytest.approx(-0.02)
    spread = pytest.approx(0.001 * 2**0.5)
    assert qfl.per_class == {"disc": Statistic(pytest.approx(0.181), spread, (0.18, 0.182)), "rare": None}
    last = {row.key: row for row in results.rows}
    for key, row in end.rows.items():
        for name in ("difference", "agreement", "per_class"):
            assert getattr(row, name) == getattr(last[key], name)
        assert row.ap == (last[key].measured or {})["AP"]
    verdicts = [
        next(claim.verdict for claim in moment.claims if claim.statement == "QFL improves ATSS")
        for moment in (early, middle, end)
    ]
    assert verdicts == ["does not", "cannot tell", "holds"]
    assert [c.statement for c in end.claims] == [c.statement for c in results.claims if "over" not in c.statement]


def test_three_kinds_of_agreement(data: StudyData, tmp_path: Path) -> None:
    results = collect(finished(data, tmp_path), TABLES["table3"], Outcome())
    qfl = next(row for row in results.rows if row.key == "atss-qfl").agreement
    mean = {name: found.measured.mean for name, found in qfl.items() if found is not None}
    apart = {name: found.difference for name, found in qfl.items() if found is not None}
    assert mean["positives"] == pytest.approx(2 * 0.361)
    assert mean["detections"] == 0.5
    for name, value in (("positives", 2 * 0.06), ("mean_iou", 0.06)):
        assert apart[name] is not None
        assert apart[name].value == pytest.approx(value)
        assert apart[name].low > 0
    assert apart["common"] is not None
    assert apart["common"].low < apart["common"].high
    assert results.agreement == AgreementBasis("positives", {"": (IMAGES, IMAGES)})


def test_the_claim_about_agreement_is_judged_by_positives(data: StudyData, tmp_path: Path) -> None:
    """Here the detections above a score say nothing, and runs of earlier versions have nothing else."""
    study = open_study(StudySettings(("table1a",), str(data.path), SECONDS, 2, tmp_path, rows=("atss-*",)))
    for row in study.rows(TABLES["table1a"]):
        for seed, run in enumerate(study.plan.of_row["table1a", row.key]):
            leave(tmp_path / RUNS / run.name, 0.4 if row.key == "atss-joint" else 0.3, seed, row.key)

    def judged() -> tuple[str, Any]:
        results = collect(study, TABLES["table1a"], Outcome())
        claim = next(c for c in results.claims if c.statement.endswith("joint scores agree best with IoU"))
        assert results.agreement is not None
        return results.agreement.judged_by, (claim.verdict, claim.parts[0].difference)

    assert judged() == ("positives", ("holds", pytest.approx(0.2)))
    run = study.plan.of_row["table1a", "atss-none"][0]
    with np.load(tmp_path / RUNS / run.name / RESAMPLED) as file:
        kept = {name: file[name] for name in ("AP", "correlation")}
    np.savez(tmp_path / RUNS / run.name / RESAMPLED, **kept)
    assert judged() == ("detections", ("cannot tell", 0.0))

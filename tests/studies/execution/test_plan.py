from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gfocal.errors import UsageError
from gfocal.recipe import load_recipe
from gfocal.studies.execution.budget import BUDGETS
from gfocal.studies.execution.plan import RunPlan, StudyData, _identity, make_plan, open_study_data, steps_of
from gfocal.studies.paper.tables import TABLES
from helpers.made_study import SECONDS, scenes

PUBLISHED = [table for table in TABLES.values() if table.published]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    return scenes(tmp_path_factory.mktemp("plan") / "scenes")


def test_all_tables_are_35_published_runs(data: StudyData) -> None:
    plan = make_plan(PUBLISHED, data, BUDGETS["full"])
    extra = [run for run in plan.runs if all(place == ("table2a", "atss-dirac_distances") for place in run.rows)]
    assert (len(plan.runs), len(extra), len(plan.of_row)) == (36, 1, 44)
    assert len({run.name for run in plan.runs}) == 36


def test_a_run_stands_for_all_of_its_rows(data: StudyData) -> None:
    plan = make_plan(PUBLISHED, data, SECONDS, seeds=(0, 1))
    gfl = plan.of_row["table3", "gfl"]
    assert [run.seed for run in gfl] == [0, 1]
    assert gfl == plan.of_row["table2b", "n-16"] == plan.of_row["table2c", "delta-1"]
    assert gfl[0].rows == (("table2b", "n-16"), ("table2c", "delta-1"), ("table3", "gfl"))
    assert gfl[0].recipe.runtime.seed == 0
    assert gfl[1].recipe.runtime.seed == 1
    # A run has the same name in whatever study it is done.
    for table in PUBLISHED:
        alone = make_plan([table], data, SECONDS)
        assert all(runs[0].name == plan.of_row[place][0].name for place, runs in alone.of_row.items())
    # First seeds come first: a study that is cut off has whole tables.
    assert [run.seed for run in plan.runs] == sorted(run.seed for run in plan.runs)


def test_names_tell_what_decides_the_result(data: StudyData, tmp_path: Path) -> None:
    def names(budget=SECONDS, of=data, **more) -> set[str]:
        return {run.name for run in make_plan([TABLES["table3"]], of, budget, **more).runs}

    usual = names()
    assert names() == usual
    assert names(overrides=["data.workers=1", "runtime.threads=3"]) == usual  # last bits at most
    assert names(replace(SECONDS, name="other", seeds=5)) == usual
    for other in (
        names(replace(SECONDS, size=96)),
        names(overrides=["optim.lr=0.001"]),
        names(init="other weights"),
        names(seeds=(1,)),
        names(of=scenes(tmp_path / "more", train=56)),
        names(of=scenes(tmp_path / "val", val=25)),
    ):
        assert usual.isdisjoint(other)


def test_runs_of_before_there_was_padding_to_leave_out_are_the_same_where_there_is_none(data: StudyData) -> None:
    """Squares of a multiple of 32 pixels; of all others the positives are other ones since."""

    def names(*overrides: str) -> set[str]:
        return {run.name for run in make_plan([TABLES["table3"]], data, SECONDS, overrides=overrides).runs}

    old = "model.assigner.in_padding=true"
    assert names(old) == names()
    for padded in ("data.resize.size=100", "data.resize.kind=short_long"):
        assert names(padded, old).isdisjoint(names(padded))
    drawn = ("data.resize.size=100", "data.multi_scale=[0.5,2]")
    assert names(*drawn, old) == names(*drawn)


def test_runs_of_before_classes_could_be_dropped_are_the_same_where_none_is(data: StudyData) -> None:
    def names(*overrides: str) -> set[str]:
        return {run.name for run in make_plan([TABLES["table3"]], data, SECONDS, overrides=overrides).runs}

    assert names("data.drop_empty_classes=false") == names()
    assert names("data.drop_empty_classes=true").isdisjoint(names())


def test_keys_that_are_younger_than_a_study_s_folder_leave_its_runs_as_they_were() -> None:
    # As computed before there was predict.class_agnostic. Another value means that no old run is known again.
    before = "2b551aa83a4d458d876861653a9ef2201e426f3e85e2ffe38d5e34b10da1e3aa"
    assert _identity(load_recipe("gfl_nano"), "facts") == before
    assert _identity(load_recipe("gfl_nano", ["predict.class_agnostic=true"]), "facts") != before
    assert _identity(load_recipe("gfl_nano", ["predict.voting=0.02"]), "facts") != before
    dynamic = load_recipe("gfl_r50", ["model.assigner.kind=dsla"])
    assisted = load_recipe("gfl_r50", ["model.assigner.kind=dsla", "model.assistant.kind=agm"])
    assert _identity(assisted, "facts") != _identity(dynamic, "facts")
    for deformable in ("model.deformable=[4]", "model.deformable_tower=true"):
        assert _identity(load_recipe("gfl_r50", [deformable]), "facts") != _identity(load_recipe("gfl_r50"), "facts")


def test_a_range_of_values_makes_other_runs_and_none_is_as_before(data: StudyData) -> None:
    def names(*overrides: str) -> set[str]:
        return {run.name for run in make_plan([TABLES["table3"]], data, SECONDS, overrides=overrides).runs}

    assert names("data.range=type") == names()
    assert names("data.range=[0,4095]").isdisjoint(names())


def test_runs_are_the_same_whatever_is_chosen_elsewhere_by_measuring(data: StudyData) -> None:
    """One layout for all runs on all machines: the one that studies had before it could be chosen."""

    def runs(*overrides: str) -> tuple[RunPlan, ...]:
        return make_plan([TABLES["table3"]], data, SECONDS, overrides=overrides).runs

    usual = runs()
    told, other = runs("runtime.channels_last=true"), runs("runtime.channels_last=false")
    assert [run.name for run in told] == [run.name for run in usual]
    assert {run.name for run in other}.isdisjoint(run.name for run in usual)
    # A row as it was before there were these keys: its hash is that of then.
    content = usual[0].recipe.to_dict()
    assert (content["schedule"]["minutes"], content["schedule"]["epoch_steps"]) == (None, None)
    assert {run.name for run in runs("schedule.epoch_steps=1")}.isdisjoint(run.name for run in usual)
    assert {run.steps for run in runs("schedule.epoch_steps=1")} == {SECONDS.iterations}
    with pytest.raises(UsageError, match=r"schedule\.minutes: the runs of a study take the same steps"):
        runs("schedule.minutes=5")


def test_rows_of_a_study_differ_in_the_row_alone(data: StudyData) -> None:
    runs = make_plan([TABLES["table1a"]], data, SECONDS, overrides=["schedule.batch_size=8"]).runs
    for part in ("data", "optim", "schedule", "runtime"):
        assert len({getattr(run.recipe, part).model_dump_json() for run in runs}) == 1, part
    assert {run.recipe.schedule.batch_size for run in runs} == {8}
    assert {run.steps for run in runs} == {steps_of(runs[0].recipe, data.train)} == {10}


def test_steps_are_those_that_training_takes(data: StudyData) -> None:
    runs = make_plan([TABLES["table3"]], data, SECONDS, overrides=["schedule.accumulate=3"]).runs
    # A step is 48 images, all of them; ten steps are ten epochs.
    assert {run.steps for run in runs} == {10}


def test_an_override_that_a_row_cannot_have(data: StudyData) -> None:
    with pytest.raises(UsageError, match=r"atss_nano \(atss\).*lrr"):
        make_plan([TABLES["table3"]], data, SECONDS, overrides=["optim.lrr=1"])


@pytest.mark.parametrize("override", ["model.boxes.reg_max=8", "model.boxes={kind: general_dfl, reg_max: 8}"])
def test_what_a_row_is_made_by_is_not_set(data: StudyData, override: str) -> None:
    with pytest.raises(UsageError, match=r"--set model.boxes.reg_max: .*the row n-4 is made by"):
        make_plan([TABLES["table2b"]], data, SECONDS, overrides=[override])


def test_seeds_are_the_study_s(data: StudyData) -> None:
    with pytest.raises(UsageError, match="--seeds N"):
        make_plan([TABLES["table3"]], data, SECONDS, overrides=["runtime.seed=7"])


def test_other_images_are_other_runs(data: StudyData, tmp_path: Path) -> None:
    """The same annotations with other images: what was measured on these is not compared with them."""
    other = scenes(tmp_path / "scenes")
    assert other.fingerprint == data.fingerprint
    image = other.train.path(0)
    image.write_bytes(image.read_bytes() + b"0")
    assert open_study_data(other.path).fingerprint != data.fingerprint


def test_some_rows_with_their_baselines(data: StudyData) -> None:
    plan = make_plan(TABLES.values(), data, SECONDS, only=["atss-joint", "n-1*"])
    keys = {
        ("table1a", "atss-joint"),
        ("table1a", "atss-centerness"),
        *(("table2b", f"n-{n}") for n in (12, 14, 16, 18)),
    }
    assert set(plan.of_row) == keys
    with pytest.raises(UsageError, match=r"--rows resnet\*: no row"):
        make_plan(TABLES.values(), data, SECONDS, only=["resnet*"])


def test_nothing_to_measure_on(data: StudyData) -> None:
    with pytest.raises(UsageError, match="no val split"):
        open_study_data(data.train.annotations)

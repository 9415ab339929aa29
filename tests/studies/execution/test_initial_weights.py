"""The first weights of runs: what they share, and what they draw themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gfocal.errors import UsageError
from gfocal.recipe import load_recipe
from gfocal.runs.checkpoint import load_detector, save_detector
from gfocal.runs.initial_weights import start_weights
from gfocal.studies.execution.initial_weights import init_identity, make_start, reference_of
from gfocal.studies.execution.plan import Plan, RunPlan, StudyData, make_plan
from gfocal.studies.paper.tables import TABLES
from gfocal.zoo import build_detector
from helpers.made_study import SECONDS, scenes

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    return scenes(tmp_path_factory.mktemp("starts") / "scenes")


@pytest.fixture(scope="module")
def plan(data: StudyData) -> Plan:
    return make_plan(TABLES.values(), data, SECONDS, seeds=(0, 1))


def first_weights(run: RunPlan, data: StudyData, folder: Path, init: Path | None = None) -> Weights:
    """As the worker's training makes them."""
    start = make_start(run, data.train.names, init, folder)
    torch.manual_seed(run.seed)
    detector = build_detector(run.recipe, data.train.names, pretrained=False)
    start_weights(detector, run.recipe, start)
    return {name: value.clone() for name, value in detector.state_dict().items()}


def same(one: Weights, other: Weights, part: str) -> bool:
    names = [name for name in one if name.startswith(part) and name in other and one[name].shape == other[name].shape]
    assert names
    return all(torch.equal(one[name], other[name]) for name in names)


def test_rows_of_a_seed_share_all_that_means_the_same(plan: Plan, data: StudyData, tmp_path: Path) -> None:
    atss, qfl, dfl, gfl = (
        first_weights(plan.of_row["table3", row.key][0], data, tmp_path) for row in TABLES["table3"].rows
    )
    retina = first_weights(plan.of_row["table1b", "retinanet"][0], data, tmp_path)
    for other in (qfl, dfl, gfl, retina):
        assert same(atss, other, "backbone.")
        assert same(atss, other, "neck.")
    towers = [name for name in atss if name.startswith("head.") and not name.startswith("head.out")]
    assert towers
    for other in (qfl, dfl, gfl):
        assert all(torch.equal(atss[name], other[name]) for name in towers)
        # Class outputs come first, and mean the same everywhere.
        assert torch.equal(atss["head.out.0.weight"][:6], other["head.out.0.weight"][:6])
    assert torch.equal(atss["head.out.0.weight"][6:10], qfl["head.out.0.weight"][6:10])  # deltas both
    assert len(list(tmp_path.iterdir())) == 1


def test_another_seed_starts_elsewhere(plan: Plan, data: StudyData, tmp_path: Path) -> None:
    zero, one = (first_weights(run, data, tmp_path) for run in plan.of_row["table3", "atss"])
    assert not same(zero, one, "backbone.")
    assert not same(zero, one, "head.")
    again = first_weights(plan.of_row["table3", "atss"][0], data, tmp_path / "again")
    assert all(torch.equal(zero[name], again[name]) for name in zero)


def test_a_persons_weights_give_backbone_and_neck(plan: Plan, data: StudyData, tmp_path: Path) -> None:
    recipe = load_recipe("gfl_nano", ["model.boxes.reg_max=16"])
    torch.manual_seed(77)
    theirs = build_detector(recipe, data.train.names, pretrained=False).state_dict()
    file = tmp_path / "theirs.safetensors"
    save_detector(file, theirs, recipe, data.train.names)
    gfl = first_weights(plan.of_row["table3", "gfl"][0], data, tmp_path / "starts", file)
    assert same(gfl, theirs, "backbone.")
    assert same(gfl, theirs, "neck.")
    # Heads are what a study compares.
    assert not torch.equal(gfl["head.out.0.weight"][:6], theirs["head.out.0.weight"][:6])
    towers = [
        name for name in theirs if name.startswith("head.") and name.endswith("weight") and theirs[name].ndim == 4
    ]
    assert not any(torch.equal(gfl[name], theirs[name]) for name in towers if gfl[name].shape == theirs[name].shape)
    assert init_identity(file) != init_identity(next((tmp_path / "starts").iterdir()))


def test_whose_first_weights_a_run_has(data: StudyData) -> None:
    full = make_plan(
        [TABLES["table1b"], TABLES["table3"]],
        data,
        replace(SECONDS, pyramid="full", lr=None, iterations=None, size=None),
    )
    ssd, retina = (reference_of(full.of_row["table1b", key][0]) for key in ("ssd-joint", "retinanet"))
    assert (ssd.model.detector, ssd.model.quality.kind) == ("ssd", "softmax_mined")
    assert (retina.model.detector, retina.model.backbone) == ("atss", "resnet50.tv_in1k")
    assert reference_of(full.of_row["table3", "gfl"][0]).model == load_recipe("atss_r50").model


def test_what_would_stay_random_is_refused(data: StudyData, tmp_path: Path) -> None:
    plan = make_plan([TABLES["table3"]], data, SECONDS, overrides=["model.frozen=[neck]"])
    with pytest.raises(UsageError, match=r"model\.frozen has the neck"):
        make_start(plan.runs[0], data.train.names, None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_a_checkpoint(plan: Plan, data: StudyData, tmp_path: Path) -> None:
    detector, recipe, _ = load_detector(make_start(plan.runs[0], data.train.names, None, tmp_path))
    assert tuple(detector.names) == tuple(data.train.names)
    assert recipe.runtime.seed == 0

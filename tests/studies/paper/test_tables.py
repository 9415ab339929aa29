"""The tables against what the paper prints, and their rows against the recipes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gfocal.recipe import load_recipe
from gfocal.studies.paper.published import COLUMNS
from gfocal.studies.paper.tables import RECIPES, TABLES, Row

ROWS = [(table, row) for table in TABLES.values() for row in table.rows]


def test_the_paper_has_43_rows_and_35_runs() -> None:
    printed = [row for _, row in ROWS if row.figures is not None]
    assert len(printed) == 43
    recipes = {load_recipe(RECIPES["full"][row.detector], row.changes).model_dump_json() for row in printed}
    assert len(recipes) == 35


@pytest.mark.parametrize("pyramid", ["full", "nano"])
def test_equal_rows_are_equal_on_both_pyramids(pyramid: str) -> None:
    def recipe(table: str, key: str) -> str:
        row = next(row for row in TABLES[table].rows if row.key == key)
        return load_recipe(RECIPES[pyramid][row.detector], row.changes).model_dump_json()

    same = [
        [("table1a", "fcos-centerness"), ("table2a", "fcos-dirac")],
        [("table1a", "atss-centerness"), ("table2a", "atss-dirac"), ("table3", "atss")],
        [("table1a", "atss-joint"), ("table1c", "beta-2"), ("table3", "atss-qfl")],
        [("table2a", "atss-general_dfl"), ("table3", "atss-dfl")],
        [("table2b", "n-16"), ("table2c", "delta-1"), ("table3", "gfl")],
    ]
    for places in same:
        assert len({recipe(*place) for place in places}) == 1, places


def test_full_rows_are_the_published_recipes() -> None:
    as_it_is = {row.key: load_recipe(RECIPES["full"][row.detector], row.changes) for _, row in ROWS}
    for key, name in [
        ("fcos-centerness", "fcos_r50"),
        ("atss", "atss_r50"),
        ("gfl", "gfl_r50"),
        ("n-16", "gfl_r50"),
        ("retinanet", "retinanet_r50"),
        ("foveabox", "foveabox_r50"),
        ("ssd", "ssd512_vgg16"),
    ]:
        assert as_it_is[key] == load_recipe(name), key


def test_every_row_says_what_its_key_says() -> None:
    for _, row in ROWS:
        model = load_recipe(RECIPES["full"][row.detector], row.changes).model
        kind = row.key.partition("-")[2]
        if row.key.startswith("beta-"):
            assert model.quality.kind == "joint"
            assert model.quality.beta == float(kind)
        elif row.key.startswith("n-"):
            assert model.boxes.reg_max == int(kind)
        elif row.key.startswith("delta-"):
            assert (model.boxes.delta, model.boxes.reg_max) == (float(kind), 16)
        elif kind in ("none", "centerness", "iou", "centerness_guided", "iou_guided", "joint"):
            assert model.quality.kind == kind
        elif kind in ("dirac", "gaussian", "general", "general_dfl"):
            assert model.boxes.kind == kind


def test_the_assigners_differ_in_nothing_else() -> None:
    table = TABLES["assigners"]
    assert not table.published
    assert all(row.figures is None for row in table.rows)
    atss, aligned, target = (load_recipe(RECIPES["nano"][row.detector], row.changes).to_dict() for row in table.rows)
    assert aligned["model"]["assigner"]["kind"] == target["model"]["assigner"]["kind"] == "task_aligned"
    assert (aligned["model"].pop("box_weight"), target["model"].pop("box_weight")) == ("score", "target")
    assert aligned == target
    aligned["model"]["assigner"]["kind"] = "atss"
    assert atss["model"].pop("box_weight") == "score"
    assert atss == aligned


def test_table_1a_weights_boxes_alike_in_all_forms() -> None:
    weights = {
        load_recipe(RECIPES["full"][row.detector], row.changes).model.box_weight for row in TABLES["table1a"].rows
    }
    assert weights == {"centerness"}


def test_baselines_are_rows_of_the_same_table() -> None:
    for table in TABLES.values():
        keys = [row.key for row in table.rows]
        assert len(set(keys)) == len(keys)
        assert all(row.baseline is None or row.baseline in keys for row in table.rows)
        assert all(row.baseline != row.key for row in table.rows)


def test_differences_of_the_paper() -> None:
    rows = {(table.name, row.key): row for table, row in ROWS}
    assert rows["table1a", "atss-joint"].published_difference == 0.7
    assert rows["table1b", "foveabox-joint"].published_difference == 0.6
    assert rows["table1c", "beta-4"].published_difference == -1.7
    assert rows["table3", "gfl"].published_difference == 1.0
    assert rows["table3", "atss"].published_difference is None
    assert rows["table2b", "n-7"].published_difference is None


def test_small_rows_are_left_out_of_full_tables() -> None:
    assert [row.key for row in TABLES["table2b"].shown("full")] == ["n-12", "n-14", "n-16", "n-18"]
    assert [row.key for row in TABLES["table2b"].shown("nano")][:2] == ["n-4", "n-7"]


def _printed(row: Row) -> list[str]:
    assert row.figures is not None
    return [f"{row.figures[name]:.1f}" for name in COLUMNS if name in row.figures]


def test_figures_are_the_paper_s(shared: Path) -> None:
    """Every row's figures stand side by side in a line of the review."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in (shared / "paper").iterdir())
    lines = [" ".join(re.findall(r"\d+\.\d\b", line)) for line in text.splitlines()]
    for table, row in ROWS:
        if row.figures is not None:
            assert any(" ".join(_printed(row)) in line for line in lines), (table.name, row.key)

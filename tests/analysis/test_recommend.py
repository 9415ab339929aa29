"""What is proposed, and that it does what it says."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import torch

from gfocal.analysis.assignment import smallest_reg_max
from gfocal.analysis.coverage import least_reach, out_of_reach
from gfocal.analysis.recommend import cost_line
from gfocal.analysis.statistics import data_statistics
from gfocal.data.index.data_index import DataIndex
from gfocal.recipe import load_recipe
from gfocal.representation import GeneralBoxes
from helpers.made_index import made_index

LARGE = ("data.resize.kind=square", "data.resize.size=512", "model.strides=[8,16,32]")


def large_objects(side: int = 512) -> DataIndex:
    """Objects nearly as large as their images, and middling ones."""
    boxes = [(3.0 * i, 2.0 * i, side - i, side - 2.0 * i) for i in range(1, 20)]
    boxes += [(5.0 * i, 30.0, 5.0 * i + 60, 90.0) for i in range(1, 40)]
    return made_index([(side, side, [box]) for box in boxes])


def typed(option: dict[str, Any]) -> list[str]:
    """The overrides as a shell would hand them over."""
    words = shlex.split(option["set"])
    assert words[::2] == ["--set"] * (len(words) // 2)
    return words[1::2]


def again(index: DataIndex, name: str, base: tuple[str, ...], option: dict[str, Any]) -> dict[str, Any]:
    return data_statistics(index, load_recipe(name, [*base, *typed(option)]))[0]


@pytest.mark.parametrize("delta", [0.1, 0.3, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("count", [1, 7, 999, 1000, 1001, 3000, 20000])
def test_n_is_the_smallest(count: int, delta: float) -> None:
    edges = torch.rand(count, generator=torch.Generator().manual_seed(count)).pow(3) * 9
    n = smallest_reg_max(edges, delta)
    assert int((edges > n * delta).sum()) <= 0.001 * count
    assert n == 1 or int((edges > (n - 1) * delta).sum()) > 0.001 * count


@pytest.mark.parametrize(("far", "n"), [(2, 3), (3, 10)])
def test_a_thousandth_may_stay_out(far: int, n: int) -> None:
    assert smallest_reg_max(torch.tensor([9.5] * far + [2.5] * (2000 - far)), 1.0) == n


@pytest.mark.parametrize("delta", [0.1, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("n", [1, 3, 6, 7, 29])
def test_an_edge_just_in_reach_is_reached(n: int, delta: float) -> None:
    # n * delta in float32, as the representation compares it.
    assert smallest_reg_max(torch.tensor([n * delta]), delta) == n
    assert smallest_reg_max(torch.tensor([n * delta]).nextafter(torch.tensor(99.0)), delta) == n + 1


def test_no_edges_need_the_least() -> None:
    assert smallest_reg_max(torch.zeros(0), 1.0) == 1
    assert smallest_reg_max(torch.tensor([-3.0]), 1.0) == 1


def test_out_of_reach_is_what_the_boxes_truncate() -> None:
    recipe = load_recipe("gfl_nano", ["model.boxes.reg_max=5", "model.boxes.delta=0.5"])
    _, assigned = data_statistics(large_objects(), recipe, proposal=False)
    assert out_of_reach(assigned, 5, 0.5) == assigned.worst_share > 0.1
    assert GeneralBoxes(5, 0.5).channels == 24


def test_more_bins_are_proposed_and_are_enough() -> None:
    index = large_objects()
    base = ("data.resize.size=512",)
    found, assigned = data_statistics(index, load_recipe("gfl_nano", base))
    (option,) = found["proposal"]["options"]
    n = least_reach(assigned, 1.0)
    assert typed(option) == [f"model.boxes.reg_max={n}"]
    assert 7 < n < 16
    assert option["cost"]["box_channels"] == [32, 4 * (n + 1)]
    assert option["cost_line"] == (
        "the head works on as many points per picture, the backbone on as many pixels, "
        f"{4 * (n + 1)} box channels instead of 32"
    )
    assert found["proposal"]["reasons"][0].startswith("level of stride 32: ")
    after = again(index, "gfl_nano", base, option)
    assert all(row["truncated_share"] <= 0.001 for row in after["levels"] if row["edges"])
    assert after["proposal"]["reasons"] == []
    assert after["proposal"]["options"] == []
    fewer = {**option, "set": f"--set model.boxes.reg_max={n - 1}"}
    assert again(index, "gfl_nano", base, fewer)["proposal"]["reasons"]


def test_a_coarser_level_where_the_recipe_takes_one() -> None:
    index, base = large_objects(), (*LARGE, "model.boxes.reg_max=5")
    found, _ = data_statistics(index, load_recipe("gfl_r18", base))
    bins, coarser = found["proposal"]["options"]
    assert (bins["kind"], coarser["kind"]) == ("reach", "coarser")
    assert typed(coarser)[0] == "model.strides=[8,16,32,64]"
    assert coarser["cost"]["box_channels"][1] < bins["cost"]["box_channels"][1]
    for option in (bins, coarser):
        after = again(index, "gfl_r18", base, option)
        shares = [row["truncated_share"] for row in after["levels"] if row["edges"]]
        assert max(shares) == option["truncated_share"] <= 0.001


def test_small_objects_get_larger_images_or_a_finer_level() -> None:
    # 5 pixels at 320, every one between the points of stride 8 (0, 8, ...: gfl's offset).
    boxes = [(8.0 * i + 1.5, 81.5, 8.0 * i + 6.5, 86.5) for i in range(2, 30)]
    index = made_index([(320, 320, boxes)])
    base = ("data.resize.kind=square", "data.resize.size=320")
    found, _ = data_statistics(index, load_recipe("gfl_r18", base))
    assert found["missed"] == len(boxes)
    assert found["proposal"]["reasons"] == [
        "100.00 % of the objects get no point: half of those are smaller than 5 pixels",
        "a quarter of the objects is smaller than 5 pixels as they enter",
    ]
    larger, finer = found["proposal"]["options"]
    assert typed(larger)[0] in ("data.resize.size=512", "data.resize.size=640")
    assert typed(finer)[0] == "model.strides=[4,8,16,32,64,128]"
    for option in (larger, finer):
        after = again(index, "gfl_r18", base, option)
        assert after["missed_share"] == option["missed_share"] <= 0.6
    assert finer["cost"]["points"][1] == pytest.approx(4 * finer["cost"]["points"][0], rel=0.01)
    assert "the pictures' own longer side is 320 pixels" in found["proposal"]["notes"][0]


def test_anchors_where_objects_lie_between_two() -> None:
    # 56 pixels lie between anchors of 5 * 8 and 5 * 16; with 4 strides a side those are 32, 64 and 128.
    index = made_index([(320, 320, [(40.0 + i, 60.0 + 2 * i, 96.0 + i, 116.0 + 2 * i)]) for i in range(60)])
    found, _ = data_statistics(index, load_recipe("gfl_nano"))
    assert found["missed_share"] > 0.01
    option = next(option for option in found["proposal"]["options"] if option["kind"] == "anchors")
    assert again(index, "gfl_nano", (), option)["missed_share"] == option["missed_share"] < 0.6 * found["missed_share"]
    assert option["cost"]["points"][0] == option["cost"]["points"][1]
    assert any("must learn them again" in note for note in found["proposal"]["notes"])
    assert not any(
        o["kind"] == "anchors" for o in data_statistics(index, load_recipe("fcos_nano"))[0]["proposal"]["options"]
    )


def test_both_sides_grow_where_images_keep_their_shape() -> None:
    boxes = [(4.0 * i + 0.8, 41.0, 4.0 * i + 3.2, 43.0) for i in range(2, 30)]
    base = ("data.resize.short_side=320", "data.resize.long_side=533")
    found, _ = data_statistics(made_index([(160, 160, boxes)]), load_recipe("gfl_r18", base))
    larger = next(option for option in found["proposal"]["options"] if option["kind"] == "larger")
    long, short = (int(override.partition("=")[2]) for override in typed(larger)[:2])
    assert short % 32 == 0
    assert long / short == pytest.approx(533 / 320, rel=0.01)
    again(made_index([(160, 160, boxes)]), "gfl_r18", base, larger)


def test_smaller_images_where_all_is_large() -> None:
    index = made_index([(640, 640, [(20.0 + i, 30.0, 420.0 + i, 400.0)]) for i in range(30)])
    base = ("data.resize.size=640", "model.boxes.reg_max=16")
    found, _ = data_statistics(index, load_recipe("gfl_nano", base))
    (option,) = found["proposal"]["options"]
    assert (option["kind"], found["proposal"]["reasons"]) == ("smaller", [])
    assert typed(option) == ["data.resize.size=128"]
    assert again(index, "gfl_nano", base, option)["missed"] == 0


def test_smaller_images_must_not_cost_points() -> None:
    # One object over another: at 160 pixels their centres are 3 pixels apart, and the smaller one takes all points.
    starts = [(40.0 + 4 * i, 60.0 + 8 * i) for i in range(50)]
    index = made_index([(640, 640, [(x, y, x + 112, y + 112), (x + 10, y - 2, x + 126, y + 114)]) for x, y in starts])
    found, _ = data_statistics(index, load_recipe("fcos_nano", ["data.resize.size=640"]))
    small, _ = data_statistics(index, load_recipe("fcos_nano", ["data.resize.size=160"]), proposal=False)
    assert (found["missed"], found["proposal"]["options"]) == (0, [])
    assert small["missed_share"] > 0.1


def test_enough_bins_are_said_to_be_more_than_needed() -> None:
    index = made_index([(320, 320, [(40.0 + i, 40.0, 90.0 + i, 90.0)]) for i in range(9)])
    found, assigned = data_statistics(index, load_recipe("gfl_nano", ["model.boxes.reg_max=16"]))
    n = least_reach(assigned, 1.0)
    assert found["proposal"] == {
        "reasons": [],
        "options": [],
        "notes": [f"reg_max {n} would do ({4 * (n + 1)} box channels instead of 68); more costs little"],
    }


def test_edges_that_no_n_fixes_are_distinguished() -> None:
    # Max-IoU takes points outside of an object: their edges lie behind them, whatever n is.
    recipe = load_recipe(
        "gfl_nano",
        [
            "model.assigner.kind=max_iou",
            "model.assigner.positive_iou=0.1",
            "model.assigner.negative_iou=0.05",
            "model.boxes.reg_max=40",
        ],
    )
    index = made_index([(320, 320, [(100, 100, 112, 180), (30, 200, 290, 214)])])
    found, assigned = data_statistics(index, recipe)
    assert out_of_reach(assigned, 40, 1.0) == assigned.worst_share
    assert not any(line.startswith("level of") for line in found["proposal"]["reasons"])
    assert any("which no reg_max fixes" in note for note in found["proposal"]["notes"])
    assert sum(row["behind"] for row in found["levels"]) > 0


@pytest.mark.parametrize("name", ["atss_nano", "fcos_nano", "foveabox_nano", "retinanet_nano", "ssd_nano"])
def test_other_rows_reach_everything(name: str) -> None:
    found, _ = data_statistics(large_objects(320), load_recipe(name))
    assert found["truncated"] == 0
    assert not any(option["kind"] in ("reach", "coarser") for option in found["proposal"]["options"])


def test_cost_line() -> None:
    cost = {"points": [2000.0, 3000.0], "pixels": [100.0, 100.0], "box_channels": [32, 32]}
    assert cost_line(cost) == (
        "the head works on 1.50 times the points per picture, the backbone on as many pixels, 32 box channels as before"
    )

"""What is proposed, and that it does what it says."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
import torch

from gfocal.analysis.assignment import Assigned, smallest_reg_max
from gfocal.analysis.coverage import least_reach, out_of_reach
from gfocal.analysis.recommend import Cost, Option, Proposal
from gfocal.analysis.statistics import DataStatistics, data_statistics
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


def typed(option: Option) -> list[str]:
    """The overrides as a shell would hand them over."""
    words = shlex.split(option.typed)
    assert words[::2] == ["--set"] * (len(words) // 2)
    return words[1::2]


def look(index: DataIndex, name: str, *overrides: str) -> tuple[DataStatistics, Proposal, Assigned]:
    found, assigned = data_statistics(index, load_recipe(name, overrides))
    assert found.proposal is not None
    return found, found.proposal, assigned


def again(index: DataIndex, name: str, base: tuple[str, ...], option: Option) -> tuple[DataStatistics, Proposal]:
    return look(index, name, *base, *typed(option))[:2]


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
    _, proposal, assigned = look(index, "gfl_nano", *base)
    (option,) = proposal.options
    n = least_reach(assigned, 1.0)
    assert typed(option) == [f"model.boxes.reg_max={n}"]
    assert 7 < n < 16
    assert option.cost.box_channels == (32, 4 * (n + 1))
    assert option.cost.describe() == (
        "the head works on as many points per picture, the backbone on as many pixels, "
        f"{4 * (n + 1)} box channels instead of 32"
    )
    assert proposal.reasons[0].startswith("level of stride 32: ")
    assert proposal.notes[-1].startswith("more bins: with --init, trained ones keep their outputs")
    after, next_one = again(index, "gfl_nano", base, option)
    assert all(row.truncated_share <= 0.001 for row in after.levels if row.truncated_share is not None)
    assert next_one.reasons == ()
    assert next_one.options == ()
    fewer = replace(option, overrides=(f"model.boxes.reg_max={n - 1}",))
    assert again(index, "gfl_nano", base, fewer)[1].reasons


def test_a_coarser_level_where_the_recipe_takes_one() -> None:
    index, base = large_objects(), (*LARGE, "model.boxes.reg_max=5")
    bins, coarser = look(index, "gfl_r18", *base)[1].options
    assert (bins.kind, coarser.kind) == ("reach", "coarser")
    assert typed(coarser)[0] == "model.strides=[8,16,32,64]"
    assert look(index, "gfl_r18", *base)[1].notes[-1].startswith("other levels: with --init, those of the same strides")
    assert coarser.cost.box_channels[1] < bins.cost.box_channels[1]
    for option in (bins, coarser):
        after, _ = again(index, "gfl_r18", base, option)
        shares = [row.truncated_share for row in after.levels if row.truncated_share is not None]
        assert max(shares) == option.truncated_share <= 0.001


def test_small_objects_get_larger_images_or_a_finer_level() -> None:
    # 5 pixels at 320, every one between the points of stride 8 (0, 8, ...: gfl's offset).
    boxes = [(8.0 * i + 1.5, 81.5, 8.0 * i + 6.5, 86.5) for i in range(2, 30)]
    index = made_index([(320, 320, boxes)])
    base = ("data.resize.kind=square", "data.resize.size=320")
    found, proposal, _ = look(index, "gfl_r18", *base)
    assert found.totals.missed == len(boxes)
    assert proposal.reasons == (
        "100.00 % of the objects get no point: half of those are smaller than 5 pixels",
        "a quarter of the objects is smaller than 5 pixels as they enter",
    )
    larger, finer = proposal.options
    assert typed(larger)[0] in ("data.resize.size=512", "data.resize.size=640")
    assert typed(finer)[0] == "model.strides=[4,8,16,32,64,128]"
    for option in (larger, finer):
        after, _ = again(index, "gfl_r18", base, option)
        assert after.totals.missed_share == option.missed_share <= 0.6
    assert finer.cost.points[1] == pytest.approx(4 * finer.cost.points[0], rel=0.01)
    assert "the pictures' own longer side is 320 pixels" in proposal.notes[0]


def test_anchors_where_objects_lie_between_two() -> None:
    # 56 pixels lie between anchors of 5 * 8 and 5 * 16; with 4 strides a side those are 32, 64 and 128.
    index = made_index([(320, 320, [(40.0 + i, 60.0 + 2 * i, 96.0 + i, 116.0 + 2 * i)]) for i in range(60)])
    found, proposal, _ = look(index, "gfl_nano")
    missed = found.totals.missed_share
    assert missed > 0.01
    option = next(option for option in proposal.options if option.kind == "anchors")
    assert again(index, "gfl_nano", (), option)[0].totals.missed_share == option.missed_share < 0.6 * missed
    assert option.cost.points[0] == option.cost.points[1]
    assert any("must learn them again" in note for note in proposal.notes)
    assert not any(option.kind == "anchors" for option in look(index, "fcos_nano")[1].options)


def test_both_sides_grow_where_images_keep_their_shape() -> None:
    boxes = [(4.0 * i + 0.8, 41.0, 4.0 * i + 3.2, 43.0) for i in range(2, 30)]
    base = ("data.resize.short_side=320", "data.resize.long_side=533")
    proposal = look(made_index([(160, 160, boxes)]), "gfl_r18", *base)[1]
    larger = next(option for option in proposal.options if option.kind == "larger")
    long, short = (int(override.partition("=")[2]) for override in typed(larger)[:2])
    assert short % 32 == 0
    assert long / short == pytest.approx(533 / 320, rel=0.01)
    again(made_index([(160, 160, boxes)]), "gfl_r18", base, larger)


def test_smaller_images_where_all_is_large() -> None:
    index = made_index([(640, 640, [(20.0 + i, 30.0, 420.0 + i, 400.0)]) for i in range(30)])
    base = ("data.resize.size=640", "model.boxes.reg_max=16")
    proposal = look(index, "gfl_nano", *base)[1]
    (option,) = proposal.options
    assert (option.kind, proposal.reasons) == ("smaller", ())
    assert typed(option) == ["data.resize.size=128"]
    assert again(index, "gfl_nano", base, option)[0].totals.missed == 0


def test_smaller_images_must_not_cost_points() -> None:
    # One object over another: at 160 pixels their centres are 3 pixels apart, and the smaller one takes all points.
    starts = [(40.0 + 4 * i, 60.0 + 8 * i) for i in range(50)]
    index = made_index([(640, 640, [(x, y, x + 112, y + 112), (x + 10, y - 2, x + 126, y + 114)]) for x, y in starts])
    found, proposal, _ = look(index, "fcos_nano", "data.resize.size=640")
    small, _ = data_statistics(index, load_recipe("fcos_nano", ["data.resize.size=160"]), proposal=False)
    assert (found.totals.missed, proposal.options) == (0, ())
    assert small.totals.missed_share > 0.1


def test_enough_bins_are_said_to_be_more_than_needed() -> None:
    index = made_index([(320, 320, [(40.0 + i, 40.0, 90.0 + i, 90.0)]) for i in range(9)])
    _, proposal, assigned = look(index, "gfl_nano", "model.boxes.reg_max=16")
    n = least_reach(assigned, 1.0)
    assert proposal == Proposal(
        reasons=(),
        options=(),
        notes=(f"reg_max {n} would do ({4 * (n + 1)} box channels instead of 68); more costs little",),
    )


def test_edges_that_no_n_fixes_are_distinguished() -> None:
    # Max-IoU takes points outside of an object: their edges lie behind them, whatever n is.
    overrides = (
        "model.assigner.kind=max_iou",
        "model.assigner.positive_iou=0.1",
        "model.assigner.negative_iou=0.05",
        "model.boxes.reg_max=40",
    )
    index = made_index([(320, 320, [(100, 100, 112, 180), (30, 200, 290, 214)])])
    found, proposal, assigned = look(index, "gfl_nano", *overrides)
    assert out_of_reach(assigned, 40, 1.0) == assigned.worst_share
    assert not any(line.startswith("level of") for line in proposal.reasons)
    assert any("which no reg_max fixes" in note for note in proposal.notes)
    assert sum(row.behind for row in found.levels) > 0


@pytest.mark.parametrize("name", ["atss_nano", "fcos_nano", "foveabox_nano", "retinanet_nano", "ssd_nano"])
def test_other_rows_reach_everything(name: str) -> None:
    found, proposal, _ = look(large_objects(320), name)
    assert found.totals.truncated == 0
    assert not any(option.kind in ("reach", "coarser") for option in proposal.options)


def test_cost_in_words() -> None:
    cost = Cost(points=(2000.0, 3000.0), pixels=(100.0, 100.0), box_channels=(32, 32))
    assert cost.describe() == (
        "the head works on 1.50 times the points per picture, the backbone on as many pixels, 32 box channels as before"
    )

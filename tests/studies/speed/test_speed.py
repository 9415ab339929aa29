from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gfocal.errors import UsageError
from gfocal.recipe import load_recipe
from gfocal.studies.speed import equal_work as same_work
from gfocal.studies.speed.equal_work import boxes_on_anchors, build_alike, example_image, let_pass
from gfocal.studies.speed.records import SpeedResult
from gfocal.studies.speed.speed import describe_speed, measure_rows, speed_of, threads_of_torch
from gfocal.utils.records import from_json, to_json
from gfocal.utils.timing import Ratio
from gfocal.zoo import build_detector

SMALL = ["model.channels=32", "model.head_depth=1"]


@pytest.fixture(scope="module")
def measured() -> SpeedResult:
    recipes = {name: load_recipe(f"{name}_nano", SMALL) for name in ("atss", "gfl")}
    return measure_rows(recipes, (96, 128), num_classes=10, repeats=3, threads=1)


def test_the_form_of_a_measurement(measured: SpeedResult) -> None:
    content = to_json(measured)
    assert from_json(SpeedResult, content) == measured
    assert {key: value for key, value in content.items() if key != "rows"} == {
        "picture": [96, 128],
        "threads": 1,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "repeats": 3,
        # Points of strides 8, 16, 32: 12 x 16 + 6 x 8 + 3 x 4 = 252; a tenth of 252 x 10 pairs.
        "candidates": 252,
    }
    atss, gfl = measured.rows
    assert (atss.key, gfl.key) == ("atss", "gfl")
    assert (atss.ratio_flops, atss.ratio_network, atss.ratio_whole) == (1, Ratio(1, 1, 1), Ratio(1, 1, 1))
    for row in measured.rows:
        assert row.network.p10_ms <= row.network.median_ms <= row.network.p90_ms
        assert row.fps == pytest.approx(1000 / row.whole.median_ms)
        assert row.ratio_whole.low <= row.ratio_whole.median <= row.ratio_whole.high


def test_flops_and_parameters_by_hand(measured: SpeedResult) -> None:
    atss, gfl = measured.rows
    # A 1x1 convolution from 32 channels on each level: General with n = 7 gives 4 x 8 numbers a point, ATSS 4 and its
    # centerness, so 27 more.
    assert gfl.flops - atss.flops == 2 * 252 * 32 * 27
    assert gfl.parameters - atss.parameters == 3 * 27 * (32 + 1)
    assert gfl.ratio_flops == gfl.flops / atss.flops


@pytest.mark.parametrize("name", ["atss_nano", "gfl_nano", "retinanet_nano", "foveabox_nano", "ssd_nano"])
def test_every_row_has_the_same_work_after_the_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_work, "CANDIDATES", 300)
    recipe = load_recipe(name, ["data.resize.size=128"])
    torch.manual_seed(0)
    detector = build_detector(recipe, [f"{i}" for i in range(20)], pretrained=False).eval()
    image = example_image(128, 128)[None]
    with torch.no_grad():
        boxes_on_anchors(detector)
        let_pass(detector, image)
        out, points = detector.raw(image)[0], detector.points(128, 128)
        place, _, scores = detector.postprocess.candidates(out, points, detector.quality)
        decoded = detector.box_coder.decode(points[place], out.box[place])
    # About: the logits of an untrained detector lie so close together that their last bit decides about a few.
    assert abs(len(place) - 300) <= 9
    assert scores.min() > detector.postprocess.score_threshold
    side = (points.anchors[place][:, 2:] - points.anchors[place][:, :2]).repeat(1, 2)
    assert ((decoded - points.anchors[place]).abs() / side).max() < 0.25


def test_detectors_that_differ_in_their_boxes_have_the_same_candidates() -> None:
    image = example_image(96, 96)[None]
    depthwise = {name: load_recipe(f"{name}_nano", SMALL) for name in ("atss", "gfl")}
    conv = {name: load_recipe(f"{name}_nano", [*SMALL, "model.head=conv"]) for name in ("atss", "gfl")}
    for recipes in (depthwise, conv):
        with torch.no_grad():
            detectors = build_alike(recipes, 10, image).values()
            chosen = [
                one.postprocess.candidates(one.raw(image)[0], one.points(96, 96), one.quality) for one in detectors
            ]
        assert len(chosen[0][0]) > 100
        # Not all: the last bit of a logit may be another, since the convolutions have other sizes.
        common = set(zip(*(t.tolist() for t in chosen[0][:2]), strict=True)) & set(
            zip(*(t.tolist() for t in chosen[1][:2]), strict=True)
        )
        assert len(common) > 0.98 * len(chosen[0][0])


def test_what_is_told(measured: SpeedResult) -> None:
    lines = describe_speed(measured)
    assert lines[0].startswith("one picture of 96 x 128 pixels")
    assert "252 candidates" in lines[0]
    assert [line.split()[0] for line in lines if line.startswith(("atss ", "gfl "))] == ["atss", "gfl", "gfl"]
    alone = replace(measured, rows=measured.rows[:1])
    assert not [line for line in describe_speed(alone) if "ratios" in line]


def test_recipes_by_name_take_the_size_of_the_first() -> None:
    found = speed_of(["gfl_nano"], overrides=[*SMALL, "data.resize.size=64"], num_classes=2, repeats=1, threads=1)
    assert found.image == (64, 64)
    assert [row.key for row in found.rows] == ["gfl_nano"]


def test_threads_are_as_before() -> None:
    before = torch.get_num_threads()
    with threads_of_torch(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with threads_of_torch(None):
        assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: speed_of([]), "one or several recipes"),
        (lambda: speed_of(["gfl_nano", "gfl_nano"]), "each once"),
        (lambda: speed_of(["gfl_nan"]), "gfl_nano"),
        (lambda: measure_rows({}), "nothing to measure"),
        (lambda: speed_of(["gfl_nano"], image=(31, 64)), "at least 32 pixels"),
        (lambda: speed_of(["gfl_nano"], repeats=0), "repeats must be at least 1"),
        (lambda: speed_of(["gfl_nano"], threads=0), "threads must be at least 1"),
    ],
)
def test_refusals(call, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()

"""What of a data set a detector can represent: hand-worked, and as training counts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gfocal.analysis.assignment import assign, choose_images, reach_in_strides, resized
from gfocal.analysis.coverage import smallest_by_delta
from gfocal.analysis.recommend import Proposal
from gfocal.analysis.start import before_training
from gfocal.analysis.statistics import Tiny, data_statistics, totals
from gfocal.data.augment.transforms import EvalTransform
from gfocal.data.index.data_index import DataIndex
from gfocal.data.loading.loader import DetectionDataset, make_loader
from gfocal.errors import UsageError
from gfocal.recipe import load_recipe
from gfocal.training.step import Counts
from gfocal.training.train import train
from gfocal.utils.records import to_json
from gfocal.utils.text import percent
from gfocal.zoo import build_detector, build_matching
from helpers.made_index import made_index
from helpers.small_runs import EVERY_STEP, TASK_ALIGNED, cut_run, metrics_of, small

FCOS = ("model.boxes.kind=general_dfl", "model.boxes.reg_max=3")
NOTHING = Proposal(reasons=(), options=(), notes=())
ROWS = ("gfl_nano", "atss_nano", "fcos_nano", "retinanet_nano", "foveabox_nano", "ssd_nano")


def test_one_object_by_hand() -> None:
    # A square of 40 pixels around (60, 60). FCOS samples points nearer than 1.5 * 8 = 12 pixels to the centre in x and
    # in y: 52, 60, 68 each, so 9 points, all on the level of stride 8 (distances to 64). From 52 to the edges at 40 and
    # 80 it is 12 and 28 pixels: 1.5 and 3.5 strides; from 60 2.5 and 2.5. Every value belongs to 12 of the 36 edges.
    index = made_index([(320, 320, [(40, 40, 80, 80)])])
    found, assigned = data_statistics(index, load_recipe("fcos_nano", FCOS), proposal=False)
    assert assigned.edges.flatten().sort().values.tolist() == [1.5] * 12 + [2.5] * 12 + [3.5] * 12
    level = found.levels[0]
    assert (level.stride, level.objects, level.positives, level.edges) == (8, 1, 9, 36)
    assert (level.truncated, level.truncated_share, level.largest) == (12, 12 / 36, 3.5)
    assert level.percentiles == {"50": 2.5, "90": 3.5, "99": 3.5, "99.9": 3.5}
    assert [row.edges for row in found.levels[1:]] == [0, 0]
    assert found.levels[1].truncated_share is None
    assert found.smallest_reg_max == {"0.5": 7, "1": 4, "2": 2}
    assert found.reach_strides == 3.0
    by_size = [row.objects for row in found.sizes]
    assert by_size == [0, 0, 0, 1, 0]  # a side of 40 is from 32 to below 96
    assert found.sizes[3].truncated == 12
    assert found.sizes[0].missed_share is None


@pytest.mark.parametrize("within_reach", ["true", "false"])
def test_candidates_by_hand(within_reach: str) -> None:
    # The same square, 40 to 80, and an assigner that looks at predictions: all points inside may become positive. Those
    # are 44, 52, ... 76 in x and y on the level of stride 8, 56 and 72 on that of 16, 48 on that of 32: 25 + 4 + 1.
    task = ["model.assigner.kind=task_aligned", f"model.assigner.within_reach={within_reach}"]
    square = made_index([(320, 320, [(40, 40, 80, 80), (5, 5, 8, 8)])])  # and one without a point inside
    found, assigned = data_statistics(square, load_recipe("fcos_nano", task), proposal=False)
    assert assigned.dynamic
    assert [row.positives for row in found.levels] == [25, 4, 1]
    assert (found.positives, found.totals.edges, found.totals.truncated, found.totals.missed) == (30, 120, 0, 1)
    # Edges reach three strides, 24 pixels on the level of stride 8: from the point 60 alone that is enough. All count,
    # since nobody knows which the network will choose, so there is no smallest reg_max, and no other reach is proposed;
    # but for within_reach, which drops candidates beyond the reach where others are within.
    found, _ = data_statistics(square, load_recipe("fcos_nano", [*FCOS, *task]))
    assert [row.positives for row in found.levels] == ([1, 4, 1] if within_reach == "true" else [25, 4, 1])
    assert (found.totals.truncated == 0) == (within_reach == "true")
    assert (found.counted, found.smallest_reg_max) == ("candidates", None)
    assert found.proposal is not None
    assert not any("reg_max" in line for line in found.proposal.reasons)
    # With one stride, 32 pixels on the last level, 48 reaches 8 and 32: it alone is left. A square of 120 is reached
    # from nowhere: all of its candidates stay, and show what is cut off.
    short = [*task, "model.boxes.kind=general_dfl", "model.boxes.reg_max=1"]
    found, _ = data_statistics(square, load_recipe("fcos_nano", short), proposal=False)
    assert [row.positives for row in found.levels] == ([0, 0, 1] if within_reach == "true" else [25, 4, 1])
    large = made_index([(320, 320, [(40, 40, 160, 160)])])
    found, _ = data_statistics(large, load_recipe("fcos_nano", short), proposal=False)
    assert [row.positives for row in found.levels] == [15**2, 7**2, 4**2]
    assert found.totals.truncated > 0
    # A point may become positive of several objects, and counts for each.
    twice = made_index([(320, 320, [(40, 40, 80, 80)] * 2)])
    found, assigned = data_statistics(twice, load_recipe("fcos_nano", task), proposal=False)
    assert (found.positives, found.totals.missed, assigned.owner.bincount().tolist()) == (60, 0, [30, 30])


def test_positives_of_training_are_among_the_candidates(train_index: DataIndex) -> None:
    recipe = small(TASK_ALIGNED, "model.assigner.positives=1000", "data.resize.size=80", name="fcos_nano")
    detector = build_detector(recipe, train_index.names)
    dataset = DetectionDataset(train_index, EvalTransform(detector.resize), seed=0)
    counts, positives, claims = Counts(), 0, 0
    for batch in make_loader(dataset, batch_size=4):
        assignment = detector.assign_batch(batch.images, batch.targets, detector(batch.images), sizes=batch.sizes)
        counts.add(assignment)
        positives += len(assignment.positive)
        points = detector.points(*batch.images.shape[-2:])
        claims += sum(len(detector.assigner.candidates(points, target.boxes)[0]) for target in batch.targets)
    assigned = assign(train_index, recipe)
    assert len(assigned.owner) == claims
    assert 200 < positives < claims, "as many as there are points inside an object: some points are inside several"
    found = totals(assigned)
    assert counts.objects == found.objects > 30
    assert found.missed <= counts.missed


def test_sizes_and_shapes_are_those_at_which_images_enter() -> None:
    # 640 x 160 becomes 320 x 320: 60 x 10 becomes 30 x 20, a side of 24.5 and 1.5 : 1.
    found, assigned = data_statistics(made_index([(640, 160, [(100, 100, 160, 110)])]), load_recipe("gfl_nano"))
    assert assigned.boxes.tolist() == [[50, 200, 80, 220]]
    assert [row.objects for row in found.sizes] == [0, 0, 1, 0, 0]
    assert [row.group.objects for row in found.aspects] == [0, 0, 1, 0, 0]


def test_a_line_is_tiny_and_not_small() -> None:
    found, _ = data_statistics(made_index([(320, 320, [(10, 10, 110, 10.5)])]), load_recipe("gfl_nano"))
    assert found.tiny == Tiny(below_a_pixel=1, below_a_stride=0)


def test_an_object_without_a_point_is_counted_with_its_size() -> None:
    # 3 pixels between the points of stride 8, at 4, 12, ...: FCOS has no point inside.
    found, assigned = data_statistics(
        made_index([(320, 320, [(5, 5, 8, 8), (40, 40, 80, 80)])]), small(name="fcos_nano")
    )
    # 320 -> 64 pixels: the other one is 8 pixels from 8 to 16, with the point 12.
    assert assigned.missed.tolist() == [True, False]
    assert (found.totals.missed, found.totals.missed_share) == (1, 0.5)
    assert (found.sizes[0].objects, found.sizes[0].missed) == (1, 1)
    assert found.tiny == Tiny(below_a_pixel=1, below_a_stride=1)


@pytest.mark.parametrize("name", ROWS)
def test_counts_are_those_of_training(train_index: DataIndex, name: str) -> None:
    recipe = small("model.boxes.reg_max=2", "data.resize.size=80", name=name)  # padded to 96
    detector = build_detector(recipe, train_index.names)
    dataset = DetectionDataset(train_index, EvalTransform(detector.resize), seed=0)
    counts, positives = Counts(), 0
    for batch in make_loader(dataset, batch_size=4):
        assignment = detector.assign_batch(batch.images, batch.targets, sizes=batch.sizes)
        counts.add(assignment)
        positives += len(assignment.positive)
    assigned = assign(train_index, recipe)
    assert to_json(totals(assigned)) == counts.describe()
    assert len(assigned.owner) == positives
    assert counts.objects > 30
    assert positives > 30


@pytest.mark.parametrize("random", [False, True])
def test_a_run_counts_the_same(train_index: DataIndex, tmp_path: Path, random: bool) -> None:
    changes = ["data.mosaic=0.5", "data.iou_crop=0.5", "data.zoom_out=0.5", "data.multi_scale=[0.5,2]"]
    recipe = small(
        *(changes if random else ["data.flip=0", "data.scale=null"]), "model.boxes.reg_max=1", "schedule.epochs=1"
    )
    train(recipe, train_index, None, tmp_path / "run", progress=False)
    (epoch,) = metrics_of(tmp_path / "run", "epoch")
    expected = to_json(totals(assign(train_index, recipe, augmented=random)))
    assert expected["truncated"] > 0
    assert {key: epoch[key] for key in expected} == expected
    assert random == (to_json(totals(assign(train_index, recipe))) != expected)


def test_no_image_is_opened(train_index: DataIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a picture was opened")

    monkeypatch.setattr("gfocal.data.loading.loader.read_image", opened)
    recipe = small("data.mosaic=0.5", "model.boxes.reg_max=1")
    for augmented in (False, True):
        found, _ = data_statistics(train_index, recipe, augmented=augmented)
        assert found.proposal is not None
        assert found.proposal.reasons


@pytest.mark.parametrize("kind", ["square", "short_long"])
def test_boxes_are_those_of_the_transform(kind: str) -> None:
    recipe = load_recipe(
        "gfl_nano",
        [f"data.resize.kind={kind}", "data.resize.size=97", "data.resize.short_side=75", "data.resize.long_side=133"],
    )
    sizes = [(61, 47), (47, 61), (200, 33), (97, 97), (1, 40)]
    index = made_index([(w, h, [(0.3, 0.2, w * 0.7, h * 0.9), (-5, -5, w + 5, h)]) for w, h in sizes])
    matching = build_matching(recipe)
    learnt = resized(index, matching)
    for i, (width, height) in enumerate(sizes):
        image, targets = EvalTransform(matching.resize)(
            torch.zeros(3, height, width, dtype=torch.uint8), index.targets(i)
        )
        ours, size = learnt(i)
        assert torch.equal(ours.boxes, targets.boxes)
        assert size == tuple(image.shape[-2:])


@pytest.mark.parametrize(
    ("recipe", "overrides", "reach"),
    [
        ("gfl_nano", ["model.boxes.delta=0.5"], 3.5),
        ("gfl_r50", [], 16.0),
        ("foveabox_r50", [], 32.0),  # 16 sides of anchors of 2 strides
        ("retinanet_r50", [], None),
        ("fcos_r50", [], None),
        ("fcos_nano", ["model.boxes.kind=gaussian"], None),
    ],
)
def test_reach(recipe: str, overrides: list[str], reach: float | None) -> None:
    assert reach_in_strides(load_recipe(recipe, overrides)) == reach


def test_reach_is_what_the_boxes_say() -> None:
    # An object of 600 pixels whose edges are at most 300 / 8 = 37.5 strides from a point: beyond 16 sides of 16 pixels
    # on no level but the first, which only takes objects up to 2 * 4 * 8 = 64 pixels. On one level it takes all.
    recipe = load_recipe("foveabox_nano", ["data.resize.size=640"])
    _, assigned = data_statistics(made_index([(640, 640, [(20, 20, 620, 620)])]), recipe, proposal=False)
    assert torch.equal(assigned.truncated, (assigned.edges > 32) | (assigned.edges <= 0))


def test_no_boxes() -> None:
    index = made_index([(320, 240, []), (100, 100, [])])
    for name in ROWS:
        found, _ = data_statistics(index, load_recipe(name))
        assert found.proposal == NOTHING
        assert (found.totals.objects, found.totals.missed_share, found.totals.truncated_share) == (0, 0.0, 0.0)
        assert found.smallest_reg_max is None


def test_no_images() -> None:
    found, _ = data_statistics(made_index([]), load_recipe("gfl_nano"))
    assert (found.images, found.totals.objects, found.proposal) == (0, 0, NOTHING)


def test_no_positives() -> None:
    index = made_index([(320, 320, [(5, 5, 7, 7)])])
    found, _ = data_statistics(index, load_recipe("fcos_nano", FCOS))
    assert (found.totals.missed_share, found.positives, found.smallest_reg_max) == (1.0, 0, None)
    assert found.proposal is not None
    assert found.proposal.reasons == (
        "100.00 % of the objects get no point: half of those are smaller than 2 pixels",
        "a quarter of the objects is smaller than 2 pixels as they enter",
    )


def test_objects_unlike_any_anchor() -> None:
    # RetinaNet's anchors on strides of 8 to 32 are 1 : 2 to 2 : 1. A line of 200 x 10 has at best the IoU of one as
    # long: 200 * 10 / (202 * 101) < 0.5. A square of 64 is an anchor.
    found, _ = data_statistics(
        made_index([(320, 320, [(50, 50, 250, 60), (100, 100, 164, 164)])]), load_recipe("retinanet_nano")
    )
    assert [row.unlike_anchors for row in found.aspects] == [0, 0, 0, 0, 1]
    found, _ = data_statistics(made_index([(320, 320, [(50, 50, 250, 60)])]), load_recipe("fcos_nano"))
    assert [row.unlike_anchors for row in found.aspects] == [None] * 5


def test_images_are_chosen_by_the_seed() -> None:
    chosen = choose_images(1000, 50, 3)
    assert len(set(chosen.tolist())) == 50
    assert (np.diff(chosen) > 0).all()
    assert (chosen == choose_images(1000, 50, 3)).all()
    assert (chosen != choose_images(1000, 50, 4)).any()
    assert choose_images(10, 50, 3).tolist() == list(range(10))
    assert choose_images(10, 0, 3).tolist() == list(range(10))
    with pytest.raises(UsageError, match="must not be negative"):
        choose_images(10, -1, 0)


def test_a_sample_is_looked_at_alone() -> None:
    boxes = [(320, 320, [(10.0 * i, 10.0, 10.0 * i + 40, 60.0)]) for i in range(20)]
    told: list[tuple[str, int, int]] = []

    def named(name: str) -> Any:
        return lambda done, total: told.append((name, done, total))

    found, assigned = data_statistics(made_index(boxes), load_recipe("gfl_nano"), images=5, progress=named)
    left = sorted(assigned.boxes[:, 0].tolist())
    assert left == [10.0 * i for i in choose_images(20, 5, 0)]
    assert (found.images, found.images_in_all, found.totals.objects) == (5, 20, 5)
    assert told[0] == ("assigning", 5, 5)


def test_json(train_index: DataIndex) -> None:
    """Its keys are what scripts read: they stay as they are."""
    found, _ = data_statistics(train_index, small("model.boxes.reg_max=1"))
    content = found.to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert list(content) == [
        "tile", "pictures", "pictures_in_all", "augmented", "counted", "objects", "missed", "edges", "truncated",
        "missed_share", "truncated_share", "positives", "reach_strides", "levels", "sizes", "aspects", "tiny",
        "crowding", "smallest_reg_max", "proposal",
    ]  # fmt: skip
    group = ["from", "to", "objects", "missed", "missed_share", "edges", "truncated", "truncated_share"]
    assert list(content["sizes"][0]) == group
    assert list(content["aspects"][0]) == [*group, "unlike_anchors"]
    option = content["proposal"]["options"][0]
    assert list(option) == ["kind", "overrides", "truncated_share", "missed_share", "cost", "set", "cost_line"]
    assert option["set"] == " ".join(f"--set {override}" for override in option["overrides"])
    assert option["cost"]["box_channels"][0] == 8
    without, _ = data_statistics(train_index, small(), proposal=False)
    assert "proposal" not in without.to_dict()


def test_a_run_is_told_what_its_boxes_cannot_reach(train_index: DataIndex, tmp_path: Path, capsys: Any) -> None:
    recipe = small("model.boxes.reg_max=1", "data.scale=null", "schedule.epochs=1")
    lines = before_training(train_index, recipe)
    assigned = assign(train_index, recipe)
    share = 100 * assigned.truncated_share
    assert lines[0].startswith(f"in 12 pictures {share:.2f} % of the edges lie beyond what the boxes can reach, ")
    assert lines[1].startswith("warning: level of stride 8: ")
    assert f"--set model.boxes.reg_max={(smallest_by_delta(recipe, assigned) or {})['1']} reaches them" in lines[1]
    train(recipe, train_index, None, tmp_path / "run", progress=True)
    said = capsys.readouterr().err
    assert all(line in said for line in lines)


def test_advice_for_trained_outputs_keeps_them(train_index: DataIndex, tmp_path: Path, capsys: Any) -> None:
    """A run with --init is told what more bins cost; whoever does as told loses only what was told."""
    few = small("model.boxes.reg_max=1", "data.scale=null", "schedule.epochs=1")
    train(few, train_index, None, tmp_path / "first", progress=False)
    (warning,) = (line for line in before_training(train_index, few, trained=True) if "reg_max=" in line)
    n = int(warning.partition("reg_max=")[2].partition(" ")[0])
    assert (
        f"with --init the trained bins keep their outputs ({4 * (n - 1)} of {4 * (n + 1)} numbers of a box" in warning
    )
    capsys.readouterr()
    train(few, train_index, None, tmp_path / "second", init=tmp_path / "first", progress=True)
    assert warning in capsys.readouterr().err
    more = small(f"model.boxes.reg_max={n}", "data.scale=null", "schedule.epochs=1")
    train(more, train_index, None, tmp_path / "third", init=tmp_path / "first", progress=True)
    said = capsys.readouterr().err
    assert f"start from scratch, since model.boxes.reg_max 1 -> {n}; the others are kept" in said
    assert "trained bins keep" not in said
    deltas = small("model.boxes.reg_max=1", name="fcos_nano")
    assert not any("reg_max" in line for line in before_training(train_index, deltas, trained=True))


def test_a_run_whose_boxes_reach_is_not_warned(train_index: DataIndex) -> None:
    for recipe in (small("model.boxes.reg_max=30"), small(name="fcos_nano")):
        line, *warnings = before_training(train_index, recipe)
        assert " 0 % of the edges" in line
        # Points between small objects are another matter.
        expected = assign(train_index, recipe, augmented=bool(recipe.data.scale)).missed_share > 0.001
        assert [" of the objects get no point and " in warning for warning in warnings] == [True] * expected


def test_what_moves_boxes_at_random_is_looked_at(train_index: DataIndex) -> None:
    line, warning = before_training(train_index, small("model.boxes.reg_max=30", "data.scale=[0.3,0.4]"))
    missed = assign(train_index, small("data.scale=[0.3,0.4]"), augmented=True).missed_share
    assert missed > assign(train_index, small()).missed_share
    assert f"{100 * missed:.2f} % of the objects get no point" in line
    assert warning.startswith(f"warning: {100 * missed:.2f} % of the objects get no point and teach nothing, half of ")
    assert "`gfocal data stats` shows more" in warning


def test_a_resumed_run_is_not_told_again(train_index: DataIndex, tmp_path: Path, capsys: Any) -> None:
    recipe = small(EVERY_STEP, "model.boxes.reg_max=1", "schedule.epochs=1")
    cut_run(recipe, train_index, tmp_path / "run", 1)
    capsys.readouterr()
    train(recipe, train_index, None, tmp_path / "run", resume=True, progress=True)
    assert "warning" not in capsys.readouterr().err


def test_shares_in_words() -> None:
    shares = [None, 0.0, 1e-7, 0.00104, 0.0042, 0.5, 1.0]
    assert [percent(share) for share in shares] == ["-", "0 %", "0.001 %", "0.104 %", "0.42 %", "50.00 %", "100.00 %"]


@pytest.mark.parametrize(
    ("early", "epochs", "words"), [(2, 5, "from epoch 3 on it is task_aligned"), (5, 5, "warning")]
)
def test_a_run_that_starts_with_a_static_assigner_counts_with_it(
    train_index: DataIndex, early: int, epochs: int, words: str
) -> None:
    sets = ("model.boxes.reg_max=2", f"schedule.epochs={epochs}", "data.scale=null")
    atss = before_training(train_index, small(*sets))
    static = before_training(train_index, small(*sets, TASK_ALIGNED, f"model.assigner.static_epochs={early}"))
    assert static[0] == atss[0]
    assert words in static[1]
    assert static[2:] == atss[1:]
    (line, *_) = before_training(train_index, small(*sets, TASK_ALIGNED))
    assert "chooses the points of the others by predictions" in line


def test_a_run_is_told_of_objects_beyond_the_limit() -> None:
    grid = [(9 * x + 1, 9 * y + 1, 9 * x + 8, 9 * y + 8) for x in range(12) for y in range(12)]
    index = made_index([(128, 128, grid), (128, 128, grid[:5])])
    recipe = small()
    train, coco = (line for line in before_training(index, recipe) if "more than 100" in line)
    assert train.startswith("warning: train: 1 picture has more than 100 objects, the fullest 144 (0.jpg)")
    assert "at most 70.4 % of all objects" in train  # 105 of 149
    assert "AP cannot exceed 0.703" in coco  # 71 of 101 recalls
    lines = before_training(index.take([1]), small("predict.max_detections=200"), index)
    (only,) = (line for line in lines if "more than" in line)
    assert only.startswith("warning: val: 1 picture has more than 100 objects of one class, up to 144: COCO's AP")
    assert not [line for line in before_training(index.take([1]), recipe, index.take([1])) if "more than" in line]


@pytest.mark.parametrize("side", [2**20, 2**31 - 1])
@pytest.mark.parametrize(
    "moves", ["data.scale=[0.3,2.0]", "data.mosaic=1.0", "data.zoom_out=1.0", "data.iou_crop=1.0", "data.scale=null"]
)
def test_no_pixel_is_made_of_a_size_that_annotations_claim(moves: str, side: int) -> None:
    # 3 TB and more: an image of that size is refused when it is read, later.
    index = made_index([(side, side, [(0, 0, side / 2, side / 2)])])
    assert before_training(index, small(moves, "data.flip=0.5"))[0].startswith("in 1 picture 0 % of the edges")

"""Runs that learn from tiles, and what measures and uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from typer.testing import CliRunner

import gfocal
from gfocal.analysis.statistics import data_statistics
from gfocal.cli.app import app
from gfocal.commands.evaluate import evaluate_files
from gfocal.commands.predict import predict_patterns
from gfocal.commands.preview import draw_preview
from gfocal.data import pipeline
from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.data.index.tiled import cut_into_tiles
from gfocal.data.pipeline import batches_from, images_per_epoch, in_tiles, tile_lines
from gfocal.data.scenes.generate import make_scenes
from gfocal.errors import UsageError
from gfocal.evaluation.evaluator import evaluate
from gfocal.images.io import Resize
from gfocal.images.tiling import Tiling
from gfocal.prediction.load import open_model
from gfocal.recipe import Recipe, load_recipe
from gfocal.structures import Detections, Targets
from gfocal.studies.execution.plan import steps_of
from gfocal.training.batch_size import find_batch_size
from gfocal.training.lr_finder import find_lr
from gfocal.training.train import train
from gfocal.utils.records import to_json
from gfocal.zoo import build_detector
from helpers.made_index import made_index
from helpers.small_runs import EVERY_STEP, assert_same_weights, cut_run, metrics_of, small

# Images of 100 pixels: the whole and four tiles of 64 each.
TILED = ("data.tile=64", "data.tile_overlap=0.25")
ALL = (
    *TILED,
    "schedule.batch_size=4",
    "schedule.eval_every=2",
    "data.tile_empty=0.2",
    "data.mosaic=0.5",
    "data.scale=[0.6,1.4]",
    "data.multi_scale=[0.5,1]",
    "data.repeat_threshold=0.5",
    "optim.lr=0.02",
)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("large")
    make_scenes(out, train=4, val=2, size=100)
    return out


@pytest.fixture(scope="module")
def learn(large: Path) -> DataIndex:
    return open_dataset(large, "train")


@pytest.fixture(scope="module")
def measure(large: Path) -> DataIndex:
    return open_dataset(large, "val")


def test_a_run_that_was_cut_in_the_middle_of_an_epoch_ends_alike(
    learn: DataIndex, measure: DataIndex, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    steps = images_per_epoch(small(*ALL), in_tiles(small(*ALL), learn)) // 4
    assert steps > 3
    train(small(*ALL), learn, measure, whole, progress=False)
    cut_run(small(*ALL, EVERY_STEP), learn, cut, steps + 2, measure)
    train(small(*ALL, "data.workers=1"), learn, measure, cut, resume=True, progress=False)
    assert_same_weights(whole, cut)
    assert [line["AP"] for line in metrics_of(whole, "val")] == [line["AP"] for line in metrics_of(cut, "val")]


def test_an_epoch_shows_objects_and_some_background(large: Path) -> None:
    # Of 5 rows each: objects in the whole and one tile of the first, in none of the others.
    index = made_index([(100, 100, [(0.0, 0.0, 9.0, 9.0)]), *[(100, 100, [])] * 4])
    rows = in_tiles(small(*TILED), index)
    assert rows.tiles is not None
    assert rows.tiles.empty.tolist() == [False, False, *[True] * 23]
    assert in_tiles(small(*TILED), rows) is rows
    for share, expected in (("0.5", 3), ("2", 6), ("0", 2), ("null", 25), ("100", 25)):
        assert images_per_epoch(small(*TILED, f"data.tile_empty={share}"), rows) == expected
    nothing = in_tiles(small(*TILED), made_index([(100, 100, [])] * 2))
    assert images_per_epoch(small(*TILED), nothing) == 10
    recipe = small(*TILED, "data.tile_empty=2", "schedule.epochs=12")
    sampler = batches_from(recipe, rows, Resize("square", 64), 0, 2, False).loader.batch_sampler
    shown = [key for keys in sampler for key in keys]
    by_epoch = [{row for row, epoch, _ in shown if epoch == e} for e in range(12)]
    assert all(len(own) == 6 and {0, 1} <= own for own in by_epoch)
    assert len(set.union(*by_epoch)) > 15, "other background each epoch"
    mosaics = small(*TILED, "data.tile_empty=0", "data.mosaic=1")
    drawn = batches_from(mosaics, rows, Resize("square", 64), 0, 2, False).loader.dataset.dataset
    assert drawn.ends.tolist() == [1, *[2] * 24], "parts of mosaics are drawn as pictures are"


def test_whole_images_where_tiles_are_learnt_are_refused(learn: DataIndex) -> None:
    for inside in (images_per_epoch, lambda *both: batches_from(*both, Resize("square", 64), 0, 2, False)):
        with pytest.raises(ValueError, match="the recipe learns from tiles"):
            inside(small(*TILED), learn)


def _trained_on_the_command_line(recipe: Recipe, data: Path, out: Path) -> None:
    file = out / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.to_dict()))
    words = ["train", file, "--data", data, "--out", out / "run", "--batch", "auto"]
    assert CliRunner().invoke(app, list(map(str, words))).exit_code == 0


@pytest.mark.parametrize(
    "verb",
    [
        lambda recipe, data, out: train(recipe, open_dataset(data, "train"), None, out / "run", progress=False),
        lambda recipe, data, out: find_lr(recipe, open_dataset(data, "train"), steps=10),
        lambda recipe, data, out: data_statistics(open_dataset(data, "train"), recipe, augmented=True),
        lambda recipe, data, out: draw_preview(data, recipe, out / "sheet.png", count=2),
        lambda recipe, data, out: find_batch_size(recipe, open_dataset(data, "train")),
        lambda recipe, data, out: steps_of(recipe, open_dataset(data, "train")),
        _trained_on_the_command_line,
    ],
)
def test_data_are_cut_once(
    verb: Callable[[Recipe, Path, Path], object], large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = []

    def counted(index: DataIndex, tiling: Tiling) -> DataIndex:
        assert index.tiles is None
        cut.append((index.annotations.stem, tiling))
        return cut_into_tiles(index, tiling)

    monkeypatch.setattr(pipeline, "cut_into_tiles", counted)
    verb(small(*TILED, "schedule.epochs=1", "data.scale=[0.9,1.1]"), large, tmp_path)
    # What is measured is cut to count the objects of each tile, before a run that measures.
    assert cut in ([("train", Tiling(64, 0.25))], [("train", Tiling(64, 0.25)), ("val", Tiling(64, 0.25))])


def test_what_is_told(learn: DataIndex) -> None:
    recipe = small(*TILED)
    assert tile_lines(recipe, learn) == []
    index = made_index([(200, 100, [(0.0, 0.0, 9.0, 9.0), (10.0, 10.0, 150.0, 30.0), (0.0, 0.0, 0.0, 9.0)])] * 3)
    lines = tile_lines(recipe, in_tiles(recipe, index))
    assert lines[0] == (
        "tiles: 3 pictures are 27 tiles of 64 pixels (whole pictures included), 15 of them without objects; "
        "an epoch shows 18"
    )
    assert lines[1].startswith(
        "tiles: 3 of 6 objects are larger than the 16 pixels that tiles share, and complete in no tile:"
    )
    assert len(lines) == 2
    # A line of 1000 pixels: no tile shows a fifth of it.
    long = made_index([(1000, 1000, [(0.0, 5.0, 1000.0, 9.0), (0.0, 0.0, 9.0, 9.0)])])
    alone = small("data.tile=64", "data.tile_whole=false")
    assert "none is learnt complete" in tile_lines(alone, in_tiles(alone, long))[1]
    assert tile_lines(alone, in_tiles(alone, long))[2].startswith("warning: 1 objects are in no tile at all")
    assert len(tile_lines(small("data.tile=64"), in_tiles(small("data.tile=64"), long))) == 2


def test_statistics_are_those_of_tiles(learn: DataIndex) -> None:
    plain, _ = data_statistics(learn, small("data.resize.size=64"), proposal=False)
    tiled, assigned = data_statistics(learn, small(*TILED, "data.tile_whole=false"), proposal=False)
    assert (plain.images_in_all, tiled.images_in_all) == (4, 16)
    assert (plain.tile, tiled.tile) == (None, 64)
    # 100 pixels shrink to 64, a tile of 64 does not: what is whole in a tile is 1.56 times as large.
    rows = in_tiles(small(*TILED, "data.tile_whole=false"), learn)
    exact = torch.cat([rows.targets(i).boxes for i in range(16)])
    assert torch.allclose(assigned.boxes, exact)
    moved, _ = data_statistics(learn, small(*ALL), augmented=True, proposal=False, images=8)
    assert moved.totals.objects > 0


def test_a_preview_shows_tiles(large: Path, tmp_path: Path) -> None:
    told = draw_preview(
        large, small(*TILED, "data.tile_whole=false", "data.scale=null"), tmp_path / "sheet.png", count=5
    )
    assert told["pictures"] == 5
    assert set(told["sizes"]) == {(64, 64)}
    assert set(told["image_ids"]) <= {1, 2, 3, 4}


# --- measuring ------------------------------------------------------------------------------------------------------


def test_evaluation_looks_where_the_detector_does(measure: DataIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = build_detector(small(*TILED), measure.names).eval()
    assert detector.tiling == Tiling(64, 0.25)
    turn = iter(range(len(measure)))

    def predict(image: Tensor, *, batch_size: int) -> Detections:
        i = next(turn)
        assert image.shape == (3, 100, 100)
        assert batch_size == 5
        targets = measure.targets(i)
        return Detections(targets.boxes, torch.full((len(targets),), 0.9), targets.labels, measure.names)

    monkeypatch.setattr(detector, "predict", predict)
    assert evaluate(detector, measure, batch_size=5, workers=0).result.stats["AP"] == 1.0


@pytest.fixture(scope="module")
def run(learn: DataIndex, measure: DataIndex, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiled") / "run"
    recipe = small(*TILED, "schedule.epochs=1", "predict.score_threshold=0.005")
    train(recipe, learn, measure, out, progress=False)
    return out


def test_a_run_of_tiles_is_measured_and_used_in_tiles(run: Path, large: Path, tmp_path: Path) -> None:
    logged = metrics_of(run, "val")[-1]
    measured = evaluate_files(str(run), large)
    assert (measured.tile, measured.tile_overlap) == (64, 0.25)
    content = to_json(measured)
    for key in ("AP", "AP50", "AR100", "num_detections"):
        assert content[key] == pytest.approx(logged[key], abs=1e-6)
    plain = evaluate_files(str(run), large, tile=0)
    assert (plain.tile, plain.tile_overlap) == (None, None)
    assert plain.evaluation.result.num_detections < measured.evaluation.result.num_detections
    finer = evaluate_files(str(run), large, tile=48, overlap=0.5, batch_size=3)
    assert (finer.tile, finer.tile_overlap) == (48, 0.5)
    with pytest.raises(UsageError, match="at least 32 pixels, got 16"):
        evaluate_files(str(run), large, tile=16)
    with pytest.raises(UsageError, match="--overlap is that of tiles: give --tile too"):
        evaluate_files(str(run), large, tile=0, overlap=0.5)
    with pytest.raises(UsageError, match=r"must lie in \[0, 0.9\], got 0.95"):
        evaluate_files(str(run), large, overlap=0.95)
    none = ("data.tile=null", "data.tile_overlap=0.4", "data.tile_whole=false")
    assert open_model(str(run), none)[0].tiling is None
    assert open_model(str(run), none, tile=48)[0].tiling == Tiling(48, 0.4, whole=False)
    assert open_model(str(run), (), overlap=0.1)[0].tiling == Tiling(64, 0.1)
    result = predict_patterns(
        str(run), [str(large / "images" / "val_*.jpg")], tmp_path / "out", score=0.001, batch_size=2
    )
    content = json.loads(result.results.read_text())
    assert content["images"][0]["width"] == 100
    assert result.num_detections > 0
    corners = np.array([[a["bbox"][0] + a["bbox"][2], a["bbox"][1] + a["bbox"][3]] for a in content["annotations"]])
    assert 64 < corners.max() <= 100.001
    assert all(len(a["edge_std"]) == 4 for a in content["annotations"])


def test_the_command_line(run: Path, large: Path, tmp_path: Path) -> None:
    def call(*words: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, list(map(str, words)))
        return result.exit_code, result.stdout + result.stderr

    image = large / "images" / "val_000001.jpg"
    options = ("--out", tmp_path / "out", "--tile", 48, "--overlap", 0.5, "--batch-size", 2, "--score", 0.005)
    code, _ = call("predict", run, image, *options)
    assert code == 0
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    [expected] = [gfocal.load(run).predict(p, score_threshold=0.005, tile=48, overlap=0.5) for p in (image,)]
    assert len(content["annotations"]) == len(expected)
    code, text = call("eval", run, "--data", large, "--tile", 0, "--json", "-o", tmp_path / "eval.json")
    assert code == 0
    assert json.loads((tmp_path / "eval.json").read_text())["tile"] is None
    code, text = call("eval", run, "--data", large, "--tile", 16)
    assert code == 2
    assert "the side of a tile must be at least 32 pixels, got 16" in text
    assert call("predict", run, image, "--tile", 64, "--overlap", 0.95)[0] == 2


# --- a finer level --------------------------------------------------------------------------------------------------


def test_a_pyramid_from_stride_4_learns_and_finds(large: Path, tmp_path: Path) -> None:
    """Level P2 for small objects: one real step, saved, loaded and measured."""
    recipe = load_recipe(
        "gfl_r18",
        [
            "model.backbone=test_resnet",
            "model.strides=[4,8,16,32]",
            "model.pretrained=false",
            "model.frozen_stages=0",
            "model.norm_eval=false",
            "model.channels=32",
            "model.head_depth=1",
            "data.resize.kind=square",
            "data.resize.size=64",
            "data.workers=0",
            "schedule.epochs=1",
            "schedule.batch_size=2",
            "schedule.warmup_steps=0",
            "runtime.threads=1",
        ],
    )
    index = open_dataset(large, "train")
    result = train(recipe, index, open_dataset(large, "val"), tmp_path / "run", progress=False)
    assert result.steps == 2
    line = metrics_of(tmp_path / "run", "train")[-1]
    assert 0 < line["loss"] < 100
    detector = build_detector(recipe, index.names).eval()
    assert detector.points(64, 64).level_counts == [256, 64, 16, 4]
    # Six pixels between two points of stride 8: only the finest level has any inside.
    tiny = Targets(torch.tensor([[25.5, 25.5, 31.5, 31.5]]), torch.tensor([0]))
    learns = detector.assign_batch(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), [tiny])
    assert set(detector.points(64, 64).level[learns.positive].tolist()) == {0}
    coarse = build_detector(small("model.backbone=test_resnet", "model.pretrained=false", name="gfl_r18"), index.names)
    assert coarse.assign_batch(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), [tiny]).missed == 1

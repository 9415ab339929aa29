"""The training loop: what a step computes, what is reported, what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from gfocal.data.formats.coco.reader import read_coco
from gfocal.data.index.data_index import DataIndex
from gfocal.data.loading.loader import PositionSampler
from gfocal.errors import GfocalError, UsageError
from gfocal.runs.checkpoint import LAST, add_notes, load_detector, read_about
from gfocal.training import trainer as trainer_module
from gfocal.training.train import train
from helpers.small_runs import EVERY_STEP, assert_same_weights, cut_run, metrics_of, rewritten, small, state_of


def run(index: DataIndex, out: Path, *overrides: str, val: DataIndex | None = None, **options: Any) -> Path:
    """Train into ``out`` and return it."""
    train(small(*overrides), index, val, out, progress=False, **options)
    return out


# --- the same results -----------------------------------------------------------------------------------------------


def test_seeds_and_workers(tmp_path: Path, train_index: DataIndex) -> None:
    options = ("data.scale=[0.6,1.4]", "data.photometric=0.7", "schedule.ema=0.9", "schedule.epochs=1")
    first = run(train_index, tmp_path / "a", *options)
    torch.manual_seed(77)  # what happened before in the process must not matter
    assert_same_weights(first, run(train_index, tmp_path / "b", *options))
    assert_same_weights(first, run(train_index, tmp_path / "c", *options, "data.workers=2"))
    assert metrics_of(first) == metrics_of(tmp_path / "b") == metrics_of(tmp_path / "c")
    other = run(train_index, tmp_path / "d", *options, "runtime.seed=1")
    assert state_of(other)["step"] == 3
    assert metrics_of(other, "train")[0]["loss"] != metrics_of(first, "train")[0]["loss"]


def test_a_seed_beyond_32_bits(tmp_path: Path, train_index: DataIndex) -> None:
    run(train_index, tmp_path / "run", "runtime.seed=9999999999", "schedule.epochs=1")


# --- precision ------------------------------------------------------------------------------------------------------


def test_bf16_trains_in_float32_weights(tmp_path: Path, train_index: DataIndex, val_index: DataIndex) -> None:
    # After a run in another precision: accelerate would refuse a second one in the same process.
    single = run(train_index, tmp_path / "fp32", "schedule.epochs=1")
    options = ("schedule.epochs=1", "runtime.precision=bf16", "schedule.accumulate=1")
    out = run(train_index, tmp_path / "bf16", *options, val=val_index)
    for tensor in state_of(out)["model"].values():
        assert tensor.dtype in (torch.float32, torch.int64)
        assert torch.isfinite(tensor).all()
    one, other = metrics_of(single, "train")[0], metrics_of(out, "train")[0]
    assert one["loss"] != other["loss"], "that it was bf16 at all"
    assert one["loss"] == pytest.approx(other["loss"], rel=0.05)
    assert load_detector(out)[2].notes["environment"]["precision"] == "bf16"


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 works on a CUDA device")
def test_fp16_needs_a_gpu(tmp_path: Path, train_index: DataIndex) -> None:
    with pytest.raises(UsageError, match="fp16 needs a CUDA device; on a CPU use bf16 or fp32"):
        run(train_index, tmp_path / "run", "runtime.precision=fp16")
    assert not (tmp_path / "run").exists()


# --- steps that cannot be taken -------------------------------------------------------------------------------------


def ids_of_step(step: int) -> str:
    """Four ids of the order that seed 0 gives 12 images in epoch 0, in which ids count from 1."""
    keys = list(PositionSampler(12, seed=0, epoch=0))[4 * step : 4 * step + 4]
    return ", ".join(str(key[0] + 1) for key in keys)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, train_index: DataIndex) -> None:
    options = ("optim.lr=1e30", "optim.reference_batch=null", "schedule.warmup_steps=0")
    with pytest.raises(GfocalError) as caught:
        run(train_index, tmp_path / "run", *options, EVERY_STEP)
    assert not isinstance(caught.value, UsageError), "exit code 1, not 2"
    message = str(caught.value)
    assert f"the last saved state is {tmp_path / 'run' / 'state.pt'}" in message
    assert message.startswith("step 2 stopped the run: the loss is not finite: loss terms cls ")
    assert "box nan" in message
    assert "learning rate " in message
    assert f"image ids {ids_of_step(1)};" in message
    norm = metrics_of(tmp_path / "run", "train")[0]["grad_norm"]
    assert f"gradient norm of the step before {norm:.4g}." in message
    state = state_of(tmp_path / "run")
    assert state["step"] == 1
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())


# --- data of all kinds ----------------------------------------------------------------------------------------------


def test_images_without_objects_train(tmp_path: Path, train_index: DataIndex) -> None:
    index = rewritten(train_index, tmp_path, lambda content: content.update(annotations=[]))
    for accumulate in (1, 3):
        out = run(index, tmp_path / str(accumulate), f"schedule.accumulate={accumulate}")
        for line in metrics_of(out, "train"):
            assert line["box"] == line["dfl"] == 0
            assert line["cls"] > 0
            assert line["grad_norm"] > 0
        assert metrics_of(out, "epoch")[0]["missed_share"] == 0


def test_fewer_images_than_a_batch(tmp_path: Path, train_index: DataIndex, val_index: DataIndex) -> None:
    def three(content: dict[str, Any]) -> None:
        content["images"] = content["images"][:3]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] <= 3]

    index = rewritten(train_index, tmp_path, three)
    result = train(
        small("schedule.batch_size=8", "schedule.warmup_steps=0", "optim.lr=0.08", "optim.reference_batch=24"),
        index,
        None,
        tmp_path / "run",
        progress=False,
    )
    assert result.steps == 2
    # The learning rate scales with the 3 images there are: 0.08 * 3 / 24.
    assert metrics_of(tmp_path / "run", "train")[0]["lr"] == pytest.approx(0.01)
    lines = metrics_of(tmp_path / "run", "epoch")
    with_scale_off = sum(len(index.targets(i)) for i in range(3))
    assert 0 < lines[0]["objects"] <= with_scale_off
    with pytest.raises(UsageError, match=r"an epoch has 1 batches of 8, fewer than schedule\.accumulate=2"):
        run(index, tmp_path / "other", "schedule.batch_size=8", "schedule.accumulate=2")


def one_object(folder: Path) -> DataIndex:
    """Four images, each with the same box twice."""
    images, annotations = [], []
    for i in range(4):
        Image.new("RGB", (64, 64), (60 * i, 90, 30)).save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": 64, "height": 64})
        annotations += [{"image_id": i, "category_id": label, "bbox": [16, 16, 40, 42]} for label in (1, 2)]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    (folder / "some.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return read_coco(folder / "some.json", folder)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_missed_objects_and_truncated_edges_are_counted(accumulate: int, tmp_path: Path) -> None:
    # One candidate a level. The box [16, 16, 56, 58] has IoU 1600 / 1680 = 0.952 with the stride-8 anchor (side 40)
    # of the point (36, 36); those of strides 16 and 32 hold it: 1680 / 80^2 = 0.2625, 1680 / 160^2 = 0.066. Mean 0.427
    # + deviation 0.466 = 0.893: that one point learns it, and of two equal boxes the first.
    # Its edges lie 20, 20, 20 and 22 pixels off; 7 bins of 0.375 strides reach 7 * 0.375 * 8 = 21: one is truncated.
    options = ["model.assigner.top_k=1", "model.boxes.delta=0.375", "data.flip=0", "data.scale=null"]
    options += ["schedule.batch_size=2", f"schedule.accumulate={accumulate}", "schedule.save_every=100"]
    out = run(one_object(tmp_path), tmp_path / "run", *options)
    expected = {"objects": 8, "missed": 4, "edges": 16, "truncated": 4, "missed_share": 0.5, "truncated_share": 0.25}
    assert metrics_of(out, "epoch") == [
        {"kind": "epoch", "step": 2 // accumulate * epoch, "epoch": epoch, **expected} for epoch in (1, 2)
    ]


def test_the_share_of_truncated_edges_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["model.assigner.top_k=1", "model.boxes.delta=0.375", "data.flip=0", "data.scale=null"]
    train(small(*options), one_object(tmp_path), None, tmp_path / "run")
    said = capsys.readouterr().err
    assert "epoch 1: 25.00 % of the edges lie beyond what the boxes can reach, 50.00 % of the objects" in said
    assert "in 4 pictures 25.00 % of the edges" in said, "before the first step"
    assert said.count("of the objects got no point") == 1, "again only when it is twice as much"


def test_no_images(tmp_path: Path, train_index: DataIndex) -> None:
    with pytest.raises(UsageError, match="lists no pictures: there is nothing to train on"):
        run(replace(train_index, image_ids=train_index.image_ids[:0]), tmp_path / "run")


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_replaced_and_listed(workers: int, tmp_path: Path, train_index: DataIndex) -> None:
    index = replace(train_index, images_dir=shutil.copytree(train_index.images_dir, tmp_path / "pictures"))
    index.path(3).write_bytes(b"no picture")
    recipe = small(f"data.workers={workers}")
    with pytest.raises(UsageError, match=index.file_name(3)):
        train(recipe, index, None, tmp_path / "run", progress=False)
    result = train(recipe, index, None, tmp_path / "other", skip_broken=True, progress=False)
    assert result.steps == 6
    assert len(result.skipped) == 1, "once, not once an epoch"
    assert index.file_name(3) in result.skipped[0]
    again = train(recipe, index, None, tmp_path / "other", skip_broken=True, resume=True, progress=False)
    assert (again.steps, again.skipped) == (6, result.skipped), "a call that takes no step knows what the run has met"


# --- what a run leaves ----------------------------------------------------------------------------------------------


def test_weights_records_and_the_best(
    tmp_path: Path, train_index: DataIndex, val_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, measured = trainer_module.evaluate, []

    def record(detector: nn.Module, *args: Any, **options: Any) -> Any:
        measured.append({name: tensor.clone() for name, tensor in detector.state_dict().items()})
        return real(detector, *args, **options)

    monkeypatch.setattr(trainer_module, "evaluate", record)
    options = ("schedule.ema=0.9", "schedule.epochs=3", "schedule.eval_every=2", "optim.lr=0.01")
    result = train(small(*options), train_index, val_index, tmp_path / "run", progress=False)
    assert [line["epoch"] for line in metrics_of(result.out, "val")] == [2, 3]
    assert result.metrics["num_images"] == 4
    assert result.best_ap == max(line["AP"] for line in metrics_of(result.out, "val"))
    assert result.images_per_second > 0
    detector, recipe, about = load_detector(result.out / LAST)
    assert recipe == small(*options)
    assert detector.names == train_index.names
    assert about.category_ids == train_index.category_ids.tolist()
    notes = about.notes
    assert (notes["epoch"], notes["step"], notes["metrics"]["AP"]) == (3, 9, result.metrics["AP"])
    assert notes["environment"].keys() >= {"torch", "threads", "precision", "channels_last", "device"}
    assert notes["environment"]["threads"] == 1
    # The averaged weights are what is measured and kept, and the training weights come back afterwards.
    state = state_of(result.out)
    for name, tensor in detector.state_dict().items():
        assert torch.equal(tensor, state["average"]["state"][name])
        assert torch.equal(tensor, measured[-1][name])
    assert not torch.equal(state["average"]["state"]["head.out.0.bias"], state["model"]["head.out.0.bias"])


def test_measuring_does_not_change_the_training(tmp_path: Path, train_index: DataIndex, val_index: DataIndex) -> None:
    alone = run(train_index, tmp_path / "alone", "schedule.ema=0.9")
    measured = run(train_index, tmp_path / "measured", "schedule.ema=0.9", "schedule.eval_every=1", val=val_index)
    one, other = state_of(alone), state_of(measured)
    for part in ("model", "average"):
        tensors = [s[part]["state"] if part == "average" else s[part] for s in (one, other)]
        assert all(torch.equal(tensor, tensors[1][name]) for name, tensor in tensors[0].items())


def test_starting_from_another_run(tmp_path: Path, train_index: DataIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(train_index, tmp_path / "first", "schedule.epochs=1")
    weights = load_detector(first)[0].state_dict()

    def compare(detector: nn.Module, *args: Any, **options: Any) -> None:
        assert all(torch.equal(tensor, weights[name]) for name, tensor in detector.state_dict().items())
        raise RuntimeError("enough")

    monkeypatch.setattr(trainer_module, "optimizer_step", compare)
    with pytest.raises(RuntimeError, match="enough"):
        run(train_index, tmp_path / "second", "runtime.seed=5", init=first)


def test_what_starting_from_another_run_did_is_told(
    tmp_path: Path, train_index: DataIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(train_index, tmp_path / "first", "schedule.epochs=1")
    total = len(load_detector(first)[0].state_dict())
    options = ("model.boxes.reg_max=8", "model.points.offset=0", "schedule.epochs=1")
    origins = [{"words": "somebody's", "licence": "MIT", "noncommercial": False}]
    add_notes(first / LAST, {"origins": origins})
    train(small(*options), train_index, None, tmp_path / "second", init=first)
    assert read_about(tmp_path / "second" / "last.safetensors").notes["origins"] == origins
    said = capsys.readouterr().err
    assert f"init: 6 of {total} tensors start from scratch: head.out.0." in said
    assert "trained for other inputs than this run has: model.points.offset 0.5 -> 0.0" in said
    noted = json.loads((tmp_path / "second" / "run.json").read_text())["init"]
    assert (noted["from"], noted["tensors"], len(noted["fresh"])) == (str(first), total, 6)
    assert json.loads((first / "run.json").read_text())["init"] is None


@pytest.mark.parametrize("keep", ["model.frozen_stages=1", "model.norm_eval=true"])
def test_a_frozen_backbone_of_random_values_is_refused(keep: str, tmp_path: Path, train_index: DataIndex) -> None:
    options = ["model.pretrained=false", "model.frozen_stages=0", "model.norm_eval=false", keep]
    with pytest.raises(UsageError, match=r"random values") as caught:
        train(small(*options, name="gfl_r18"), train_index, None, tmp_path / "run", progress=False)
    for key in ("model.pretrained=false", "model.frozen_stages=0", "model.norm_eval=false"):
        assert f"--set {key}" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_weights_of_a_step_are_those_of_a_run_that_ends_there(tmp_path: Path, train_index: DataIndex) -> None:
    options = ("schedule.ema=0.9", "schedule.kind=multistep", "schedule.milestones=[9]", "optim.lr=0.01")
    run(train_index, tmp_path / "short", *options, "schedule.epochs=1")  # 3 steps
    run(train_index, tmp_path / "long", *options, "schedule.epochs=2", "schedule.keep_steps=[2, 3]")
    files = ("long/step-3.safetensors", "short/last.safetensors", "long/step-2.safetensors")
    then, ended, before = (load_detector(tmp_path / file)[0].state_dict() for file in files)
    assert all(torch.equal(tensor, ended[name]) for name, tensor in then.items())
    assert not all(torch.equal(tensor, before[name]) for name, tensor in then.items())


def test_idle_settings_are_told(tmp_path: Path, train_index: DataIndex, capsys: pytest.CaptureFixture[str]) -> None:
    train(small("schedule.warmup_steps=50", "schedule.epochs=1"), train_index, None, tmp_path / "run")
    assert "schedule.warmup_steps=50, but the run has 3 steps" in capsys.readouterr().err


def test_weights_are_there_after_each_epoch(tmp_path: Path, train_index: DataIndex) -> None:
    cut_run(small("schedule.epochs=3", "schedule.eval_every=3"), train_index, tmp_path / "run", 4)
    notes = load_detector(tmp_path / "run")[2].notes
    assert (notes["epoch"], notes["step"], notes["metrics"]) == (1, 3, {})


def test_tensorboard(tmp_path: Path, train_index: DataIndex, val_index: DataIndex) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = run(train_index, tmp_path / "run", "runtime.trackers=[tensorboard]", val=val_index)
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert {"train/loss", "train/lr", "epoch/truncated_share", "val/AP"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    losses = [line["loss"] for line in metrics_of(out, "train")]
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(losses)


def test_validations_still_to_come_count_in_the_time_left(
    tmp_path: Path, train_index: DataIndex, val_index: DataIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = trainer_module.ProgressBar.update, []

    def note(bar: Any, done: int, text: str = "", *, more: float) -> None:
        seen.append(more)
        real(bar, done, text, more=more)

    monkeypatch.setattr(trainer_module.ProgressBar, "update", note)
    run(train_index, tmp_path / "run", "schedule.epochs=2", "schedule.eval_every=1", val=val_index)
    assert min(seen[:6]) > 0
    assert seen[3] == seen[4] == seen[5], "one is left, which takes as long as the one that was measured"
    seen.clear()
    run(train_index, tmp_path / "alone", "schedule.epochs=1")
    assert seen == [0.0] * 3

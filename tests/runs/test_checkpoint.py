"""Files that hold a detector or a state: what is read back, what is refused, and being killed while writing."""

from __future__ import annotations

import json
import os
import random
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import gfocal
from gfocal.errors import UsageError
from gfocal.runs.checkpoint import (
    BEST,
    LAST,
    STATE,
    find_weights,
    load_detector,
    load_state,
    read_about,
    read_weights,
    save_detector,
    save_state,
)
from gfocal.runs.replacement import intact_copies
from gfocal.runs.transfer import start_from
from gfocal.utils.files import remove_unfinished, write_atomically
from gfocal.zoo import build_detector
from helpers.launched import Started
from helpers.small_runs import small


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A detector of two classes."""
    torch.manual_seed(5)
    recipe = small("data.resize.size=96", "predict.nms_iou=0.4")
    path = tmp_path / "some.safetensors"
    weights = build_detector(recipe, ("cat", "dog")).state_dict()
    save_detector(path, weights, recipe, ("cat", "dog"), category_ids=[3, 17], notes={"metrics": {"AP": 0.25}})
    return path


def change(path: Path, about: Any = None, **tensors: torch.Tensor | None) -> None:
    """Write a checkpoint anew with other tensors (None: without it) or another text about itself, as other tools do."""
    with safe_open(path, framework="pt") as file:
        content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = {"gfocal": file.metadata()["gfocal"]}
    for name, tensor in tensors.items():
        if tensor is None:
            del content[name]
        else:
            content[name] = tensor
    save_file(content, path, metadata=metadata if about is None else about)


def about_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return dict(json.loads(file.metadata()["gfocal"]))


# --- detectors ------------------------------------------------------------------------------------------------------


def test_a_detector_comes_back(saved: Path) -> None:
    torch.manual_seed(5)
    expected = build_detector(small("data.resize.size=96"), ("cat", "dog"))
    detector, recipe, about = load_detector(saved)
    assert detector.names == ("cat", "dog")
    assert not detector.training
    assert (recipe.data.resize.size, detector.resize.size, detector.postprocess.nms_iou) == (96, 96, 0.4)
    assert about.category_ids == [3, 17]
    assert about.notes == {"metrics": {"AP": 0.25}}
    assert about.gfocal == gfocal.__version__
    ours, theirs = detector.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    other, recipe, _ = load_detector(saved, ["data.resize.size=128", "predict.nms_iou=0.5"])
    assert (other.resize.size, other.postprocess.nms_iou) == (128, 0.5)


def test_a_run_folder_stands_for_its_best_weights(saved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(UsageError, match=r"neither best\.safetensors nor last\.safetensors"):
        find_weights(run)
    (run / STATE).touch()
    with pytest.raises(UsageError, match="is a run without weights yet: continue it with --resume"):
        find_weights(run)
    (run / LAST).write_bytes(saved.read_bytes())
    assert find_weights(run) == run / LAST
    (run / BEST).write_bytes(saved.read_bytes())
    assert find_weights(run) == run / BEST
    assert find_weights(saved) == saved
    with pytest.raises(UsageError, match="there is no run folder or checkpoint"):
        find_weights(tmp_path / "nowhere")


def test_files_that_are_no_checkpoint(saved: Path, tmp_path: Path) -> None:
    for name, content in (("a.safetensors", b""), ("b.safetensors", b"x" * 5000), ("c.pth", b"PK\x03\x04 and so on")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=f"{name} is not a gfocal checkpoint") as caught:
            load_detector(tmp_path / name)
        assert ("gfocal import" in str(caught.value)) == name.endswith(".pth")
    half = tmp_path / "half.safetensors"
    half.write_bytes(saved.read_bytes()[: saved.stat().st_size // 2])
    with pytest.raises(UsageError, match="is not a gfocal checkpoint"):
        load_detector(half)
    with pytest.raises(UsageError, match="there is no run folder"):
        load_detector(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_somebody_else(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
    with pytest.raises(UsageError, match="not one that gfocal wrote"):
        load_detector(path)


NO_CLASSES = '{"format": 1, "recipe": {}}'
NO_RECIPE = '{"format": 1, "names": ["a"]}'
NAMES = '{"format": 1, "recipe": {}, "names": "cat"}'
IDS = '{"format": 1, "recipe": {}, "names": ["a"], "category_ids": ["1"]}'
NOTES = '{"format": 1, "recipe": {}, "names": ["a"], "notes": [1]}'


@pytest.mark.parametrize(
    "about", ["{", "[1]", "{}", '{"format": "new"}', NO_CLASSES, NO_RECIPE, NAMES, IDS, NOTES, '{"format": null}']
)
def test_a_header_that_makes_no_sense(saved: Path, about: str) -> None:
    change(saved, {"gfocal": about})
    with pytest.raises(UsageError, match="its metadata cannot be read; the file is damaged"):
        load_detector(saved)


def test_a_newer_format(saved: Path) -> None:
    change(saved, {"gfocal": json.dumps({**about_of(saved), "format": 2, "gfocal": "9.1"})})
    with pytest.raises(UsageError, match=r"written by gfocal 9\.1, which is newer: update"):
        load_detector(saved)


def test_tensors_that_do_not_fit_are_named(saved: Path) -> None:
    change(
        saved,
        **{
            "backbone.body.conv1.0.weight": None,
            "head.out.0.bias": torch.zeros(5),
            "of.another": torch.zeros(1),
        },
    )
    with pytest.raises(UsageError) as caught:
        load_detector(saved)
    for part in (
        "1 missing (backbone.body.conv1.0.weight)",
        "1 unexpected (of.another)",
        "1 of another shape (head.out.0.bias is (5,), not (34,))",  # 2 classes + 4 edges of 8 bins
    ):
        assert part in str(caught.value)


def test_a_recipe_of_the_file_that_is_not_valid(saved: Path) -> None:
    about = about_of(saved)
    about["recipe"]["model"]["neck"] = "giraffe"
    change(saved, {"gfocal": json.dumps(about)})
    with pytest.raises(UsageError, match=r"some\.safetensors: model\.neck"):
        load_detector(saved)


@pytest.mark.parametrize("model", [None, [], "fcos"])
def test_a_recipe_of_the_file_without_a_model(saved: Path, model: Any) -> None:
    about = about_of(saved)
    about["recipe"]["model"] = model
    change(saved, {"gfocal": json.dumps(about)})
    with pytest.raises(UsageError, match=r"some\.safetensors: model: "):
        load_detector(saved)


def test_a_checkpoint_of_the_first_version(saved: Path) -> None:
    about = about_of(saved)
    points = about["recipe"]["model"].pop("points")
    about["recipe"]["model"] |= {"anchor_scale": 7.0, "point_offset": 0.25}
    change(saved, {"gfocal": json.dumps(about)})
    recipe = load_detector(saved)[1]
    assert (recipe.model.points.scale, recipe.model.points.offset) == (7, 0.25)
    assert recipe.model.points.kind == points["kind"]


def test_trained_weights_keep_their_meaning(saved: Path) -> None:
    for key, value in (("boxes.delta", "0.5"), ("quality.kind", "iou"), ("points.offset", "0")):
        with pytest.raises(
            UsageError, match=rf"trained with another model.{key.partition('.')[0]}: only data, predict"
        ):
            load_detector(saved, [f"model.{key}={value}"])
    detector, _, _ = load_detector(saved, ["model.pixels.mean=[1, 2, 3]"])
    assert detector.pixels.mean.flatten().tolist() == [1, 2, 3]


# --- damage ---------------------------------------------------------------------------------------------------------


def flip(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flipped_bits(content: bytes, count: int) -> list[int]:
    """Some of all bits, the same each time."""
    draw = random.Random(4)
    return [draw.randrange(8 * len(content)) for _ in range(count)]


def test_every_flipped_bit_is_found_or_harmless(saved: Path) -> None:
    # Numbers and header are as long as each other.
    save_detector(saved, {"a": torch.arange(900.0), "b": torch.tensor(3)}, small(), ("cat", "dög"), notes={"AP": 0.25})
    content = saved.read_bytes()
    about, weights = read_about(saved), {name: tensor.clone() for name, tensor in read_weights(saved).items()}
    refused = 0
    for bit in flipped_bits(content, 200):
        saved.write_bytes(flip(content, bit))
        try:
            found = read_about(saved), read_weights(saved)
        except UsageError as error:
            refused += "is damaged" in str(error) or "is not a gfocal checkpoint" in str(error)
            continue
        assert found[0] == about, bit
        assert found[1].keys() == weights.keys(), bit
        assert all(torch.equal(found[1][name], weights[name]) for name in weights), bit
    assert 190 < refused <= 200


def test_damaged_weights_are_refused_wherever_they_are_loaded(saved: Path) -> None:
    content = saved.read_bytes()
    saved.write_bytes(flip(content, 8 * (len(content) - 3)))
    detector = build_detector(small(), ("cat", "dog"))
    for load in (load_detector, gfocal.load, lambda path: start_from(detector, path)):
        with pytest.raises(UsageError, match="is damaged: 1 of 138 tensors are not what was written: "):
            load(saved)


def test_the_intact_copy_is_named(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = saved.read_bytes()
    damaged, run = flip(content, 8 * (len(content) - 3)), tmp_path / "run"
    run.mkdir()
    (run / BEST).write_bytes(damaged)
    with pytest.raises(UsageError, match=r"written: \S+ \(a tool that .*\)\. Copy it again from where it came from$"):
        load_detector(run)
    for name, seconds in (("step-3.safetensors", 3), ("step-20.safetensors", 20)):
        (run / name).write_bytes(content)
        os.utime(run / name, (seconds, seconds))
    with pytest.raises(UsageError, match=r"\. run/step-20\.safetensors is intact: use that file"):
        load_detector("run")
    (run / LAST).write_bytes(content)
    (run / STATE).touch()
    with pytest.raises(
        UsageError,
        match=r"run/last\.safetensors is intact: use that file; or if the run is unfinished, repeat .* --resume",
    ):
        load_detector(run)
    (run / LAST).write_bytes(damaged)
    with pytest.raises(UsageError, match=r"run/step-20\.safetensors is intact"):
        load_detector(run)
    (run / STATE).write_bytes(b"PK\x03\x04")
    with pytest.raises(UsageError, match=r"start a new run from them with --init \S+step-20\.safetensors$"):
        load_state(run / STATE)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_refused(saved: Path, value: float) -> None:
    about, weights = read_about(saved), read_weights(saved)
    weights["head.out.1.bias"][3:5] = value
    save_detector(saved, weights, small("data.resize.size=96"), about.names)
    with pytest.raises(
        UsageError, match=r"infinite or not a number: 2 of 34 in head\.out\.1\.bias\. It would find nothing"
    ):
        load_detector(saved)


def test_variances_below_zero_are_refused(saved: Path) -> None:
    about, weights = read_about(saved), read_weights(saved)
    name = next(name for name in weights if name.endswith("running_var"))
    weights[name][0] = -1e-3
    save_detector(saved, weights, small("data.resize.size=96"), about.names)
    with pytest.raises(UsageError, match=rf"has variances below 0: 1 of \d+ in {name}\. It would find nothing"):
        load_detector(saved)
    saved.with_name("best.safetensors").write_bytes(saved.read_bytes())
    assert intact_copies(saved) == []


def test_a_file_of_another_tool_loads_without_its_sums(saved: Path) -> None:
    weights = read_weights(saved)
    change(saved, **{"head.out.1.bias": weights["head.out.1.bias"] + 1})
    assert torch.equal(load_detector(saved)[0].state_dict()["head.out.1.bias"], weights["head.out.1.bias"] + 1)


@pytest.mark.parametrize(
    "model",
    [{"head_depth": 40, "channels": 4096}, {"boxes": {"kind": "general_dfl", "reg_max": 4096}, "channels": 4096}],
)
def test_a_recipe_that_asks_for_more_than_the_file_has(saved: Path, model: dict[str, Any]) -> None:
    about = about_of(saved)
    about["recipe"]["model"] |= model
    change(saved, {"gfocal": json.dumps(about)})
    with pytest.raises(UsageError, match=r"asks for a network of far more \(over [\d,]+\): the file is damaged, or"):
        load_detector(saved)


def test_names_without_end(saved: Path) -> None:
    change(saved, {"gfocal": json.dumps({**about_of(saved), "names": ["a"] * 2_000_000})})
    with pytest.raises(UsageError, match="2,000,000 classes asks for a network of far more"):
        load_detector(saved)
    change(saved, {"gfocal": json.dumps({**about_of(saved), "names": ["a"] * 5_000_000})})
    with pytest.raises(UsageError, match=r"is damaged: its header has 35,0.* bytes, and at most 16,777,216 are read"):
        load_detector(saved)


@pytest.mark.parametrize("depth", [600, 100_000])
def test_a_text_nested_without_end(saved: Path, depth: int) -> None:
    change(saved, {"gfocal": '{"format": 1, "names": ["a"], "recipe": {"model": ' + "[" * depth + "]" * depth + "}}"})
    with pytest.raises(UsageError):
        load_detector(saved)


# --- states ---------------------------------------------------------------------------------------------------------


def test_a_state_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / STATE
    save_state(path, {"format": 1, "step": 3, "tensor": torch.arange(4)})
    state = load_state(path)
    assert state["step"] == 3
    assert torch.equal(state["tensor"], torch.arange(4))


def test_states_that_cannot_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / STATE
    with pytest.raises(UsageError, match="nothing to resume"):
        load_state(path)
    path.write_bytes(b"no state")
    with pytest.raises(UsageError, match="is not the state of a gfocal run"):
        load_state(path)
    for content in ({"format": 2}, {"step": 1}, [1, 2]):
        torch.save(content, path)
        with pytest.raises(UsageError, match="not the state of a run that this gfocal can resume"):
            load_state(path)
    torch.save({"format": 1, "code": subprocess.Popen}, path)
    with pytest.raises(UsageError, match="is not the state"):
        load_state(path)


def test_every_flipped_bit_of_a_state_is_found_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / STATE
    state = {
        "format": 1,
        "step": 3,
        "told": "é",
        "model": {"a": torch.arange(40.0), "b": torch.tensor(3)},
        "list": [1.5],
    }
    save_state(path, state)
    content, refused = path.read_bytes(), 0
    directory = 8 * content.index(b"PK\x01\x02")
    for bit in [*range(directory, 8 * len(content), 11), *flipped_bits(content, 200)]:
        path.write_bytes(flip(content, bit))
        try:
            found = load_state(path)
        except UsageError:
            refused += 1
            continue
        assert {**found, "model": 0} == {**state, "model": 0}, bit
        assert all(torch.equal(found["model"][name], state["model"][name]) for name in ("a", "b")), bit
    assert refused > 200


def test_a_damaged_state_names_its_tensor(tmp_path: Path) -> None:
    path = tmp_path / STATE
    save_state(path, {"format": 1, "model": {"a": torch.zeros(4), "head.b": torch.full((40,), 3.0)}, "best": [1]})
    content = path.read_bytes()
    path.write_bytes(
        content.replace(torch.full((40,), 3.0).numpy().tobytes(), torch.full((40,), 2.0).numpy().tobytes())
    )
    with pytest.raises(
        UsageError, match=r"state\.pt is damaged: not what was written: model\.head\.b\. Copy it again from"
    ):
        load_state(path)


def test_a_state_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    path = tmp_path / STATE
    bad = torch.tensor([1, torch.nan])
    for part, name in (({"model": {"a": bad}}, "model.a"), ({"average": {"state": {"b": bad}}}, "average.b")):
        save_state(path, {"format": 1, **part})
        with pytest.raises(UsageError, match=rf"infinite or not a number: 1 of 2 in {name}; a run"):
            load_state(path)
    save_state(path, {"format": 1, "model": {"bn.running_var": -torch.ones(2)}})
    with pytest.raises(UsageError, match=r"variances below 0: 2 of 2 in model\.bn\.running_var; a run"):
        load_state(path)
    save_state(path, {"format": 1, "grad_norm": torch.nan, "optimizer": {"state": {0: {"momentum": bad}}}})
    assert load_state(path)["optimizer"]["state"][0]["momentum"].isnan().any()


def rezipped(path: Path, **options: Any) -> Path:
    """The same records in a zip file of somebody else."""
    with zipfile.ZipFile(path) as archive:
        records = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return path


def test_a_state_that_unfolds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / STATE
    save_state(path, {"format": 1, "model": {"a": torch.zeros(2**20)}})
    assert load_state(rezipped(path))["model"]["a"].numel() == 2**20
    size = rezipped(path, compression=zipfile.ZIP_DEFLATED).stat().st_size
    assert size < 2**14, "of four million bytes"
    with pytest.raises(UsageError, match="is damaged: it has compressed records, which torch does not write"):
        load_state(path)


# --- writing --------------------------------------------------------------------------------------------------------


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(file: Path) -> None:
        file.write_text("half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically(path, lambda file: file.write_text("new") and None)
    assert path.read_text() == "new"


DRILL = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from gfocal.runs.checkpoint import STATE, load_state, save_state
from gfocal.runs.replacement import intact_copies
from gfocal.runs.transfer import start_from
from gfocal.utils.files import remove_unfinished

torch.set_num_threads(1)
folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
state, leftovers, steps = folder / STATE, 0, []
save_state(state, {"format": 1, "step": 0, "tensor": torch.zeros(300_000)})
begin = time.perf_counter()
save_state(state, {"format": 1, "step": 0, "tensor": torch.zeros(300_000)})
one_save = time.perf_counter() - begin
for turn in range(rounds):
    first = load_state(state)["step"] + 1
    child = os.fork()
    if child == 0:
        for step in range(first, 10**6):
            save_state(state, {"format": 1, "step": step, "tensor": torch.full((300_000,), float(step))})
    time.sleep(random.uniform(0.5, 4) * one_save)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    leftovers += len(list(folder.glob(".state.pt.*")))
    remove_unfinished(folder, (STATE,))
    assert [file.name for file in folder.iterdir()] == [STATE]
    loaded = load_state(state)
    assert loaded["step"] >= first - 1
    assert (loaded["tensor"] == loaded["step"]).all()
    steps.append(loaded["step"])
print(leftovers, steps[-1])
"""


@pytest.mark.slow
def test_killed_while_writing_a_state(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    drill = Started(DRILL, str(folder), "30")
    said, errors = drill.communicate()
    assert drill.returncode == 0, errors
    leftovers, steps = map(int, said.split())
    # Otherwise the drill was none: some kills met a half-written file, and some states were finished.
    assert leftovers > 0
    assert steps > 0


def test_only_leftovers_are_removed(tmp_path: Path) -> None:
    for name in (STATE, ".state.pt.abcd1234", ".best.safetensors.x", ".hidden", "state.pt.bak"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path, (STATE, BEST))
    assert sorted(file.name for file in tmp_path.iterdir()) == [".hidden", STATE, "state.pt.bak"]
    remove_unfinished(tmp_path / "absent", (STATE,))

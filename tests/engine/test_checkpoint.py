"""Files that hold a detector or a state: what is read back, what is refused, and being killed while writing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import gfocal
from gfocal.engine.checkpoint import (
    BEST,
    LAST,
    PARTS,
    STATE,
    find_weights,
    generator_states,
    load_detector,
    load_state,
    other_inputs,
    remove_unfinished,
    restore_generators,
    save_detector,
    save_state,
    start_from,
    write_atomically,
)
from gfocal.errors import UsageError
from gfocal.zoo import build_detector
from small_runs import small


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
    """Write a checkpoint anew with other tensors (None: without it) or another text about itself."""
    with safe_open(path, framework="pt") as file:
        content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
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
    assert about["category_ids"] == [3, 17]
    assert about["notes"] == {"metrics": {"AP": 0.25}}
    assert about["gfocal"] == gfocal.__version__
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
    with pytest.raises(UsageError, match="run that has no weights yet: go on with --resume"):
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


@pytest.mark.parametrize("about", ["{", "[1]", "{}", '{"format": "new"}'])
def test_a_header_that_makes_no_sense(saved: Path, about: str) -> None:
    change(saved, {"gfocal": about})
    with pytest.raises(UsageError, match="what it says about itself cannot be read"):
        load_detector(saved)


def test_a_newer_format(saved: Path) -> None:
    change(saved, {"gfocal": json.dumps({**about_of(saved), "format": 2, "gfocal": "9.1"})})
    with pytest.raises(UsageError, match=r"written by gfocal 9\.1, which is newer: update"):
        load_detector(saved)


def test_tensors_that_do_not_fit_are_named(saved: Path) -> None:
    change(
        saved,
        **{
            "backbone.conv1.0.weight": None,
            "head.out.0.bias": torch.zeros(5),
            "of.another": torch.zeros(1),
        },
    )
    with pytest.raises(UsageError) as caught:
        load_detector(saved)
    for part in (
        "1 missing (backbone.conv1.0.weight)",
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


# --- starting from other weights ------------------------------------------------------------------------------------


def test_the_same_classes_take_everything(saved: Path) -> None:
    detector = build_detector(small(), ("cat", "dog"))
    assert start_from(detector, saved) == []
    source = load_detector(saved)[0].state_dict()
    assert all(torch.equal(tensor, source[name]) for name, tensor in detector.state_dict().items())


@pytest.mark.parametrize("names", [("cat", "cow"), ("cat", "dog", "cow"), ("cow",)])
def test_other_classes_keep_all_but_the_class_rows(saved: Path, names: tuple[str, ...]) -> None:
    detector = build_detector(small(), names)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    fresh = start_from(detector, saved)
    assert sorted(fresh) == [f"head.out.{level}.{kind}" for level in range(3) for kind in ("bias", "weight")]
    source = load_detector(saved)[0].state_dict()
    for name, tensor in detector.state_dict().items():
        if name in fresh:
            classes = len(names)
            assert torch.equal(tensor[:classes], before[name][:classes]), "class rows start new"
            assert torch.equal(tensor[classes:], source[name][2:]), "the box code's 32 rows come along"
            assert len(tensor[classes:]) == 32
        else:
            assert torch.equal(tensor, source[name]), name


def test_a_head_with_its_own_class_convolution(tmp_path: Path) -> None:
    recipe = small("model.channels=32", "model.head=conv", "model.head_depth=1")
    path = tmp_path / "conv.safetensors"
    save_detector(path, build_detector(recipe, ("cat", "dog")).state_dict(), recipe, ("cat", "dog"))
    fresh = start_from(build_detector(recipe, ("cat", "cow")), path)
    assert sorted(fresh) == ["head.class_out.bias", "head.class_out.weight"]


def test_other_bins_start_the_box_code_new(saved: Path) -> None:
    detector = build_detector(small("model.boxes.reg_max=9"), ("cat", "dog"))
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    fresh = start_from(detector, saved)
    assert len(fresh) == 6
    assert all(torch.equal(detector.state_dict()[name], before[name]) for name in fresh)


def test_a_head_can_start_anew(saved: Path) -> None:
    torch.manual_seed(8)
    detector = build_detector(small(), ("cat", "dog"))
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    theirs = load_detector(saved)[0].state_dict()
    fresh = start_from(detector, saved, ("backbone", "neck"))
    assert fresh == [name for name in before if name.startswith("head.")]
    for name, tensor in detector.state_dict().items():
        assert torch.equal(tensor, before[name] if name in fresh else theirs[name]), name


def test_another_detector_takes_backbone_and_neck(saved: Path) -> None:
    recipe = small(name="retinanet_nano")
    detector = build_detector(recipe, ("cat", "dog"))
    fresh = start_from(detector, saved, ("backbone", "neck"))
    assert {name.partition(".")[0] for name in fresh} == {"head"}
    # A head that starts anew learns any points; the pixels of the backbone must still be those it was trained with.
    assert other_inputs(recipe, saved, ("backbone", "neck")) == []
    assert any(line.startswith("model.points.kind square -> octave") for line in other_inputs(recipe, saved))


def test_a_quality_of_its_own_weights_belongs_to_the_head(tmp_path: Path) -> None:
    recipe = small("model.quality.kind=joint_v2")
    source, path = build_detector(recipe, ("a",)), tmp_path / "v2.safetensors"
    nn.init.constant_(source.quality.stack[0].weight, 0.5)
    save_detector(path, source.state_dict(), recipe, ("a",))
    for parts, value in ((PARTS, 0.5), (("backbone", "neck"), None)):
        detector = build_detector(recipe, ("a",))
        fresh = start_from(detector, path, parts)
        assert ("quality.stack.0.weight" in fresh) == (value is None)
        assert bool((detector.quality.stack[0].weight == 0.5).all()) == (value is not None)


def test_a_part_that_does_not_exist_is_refused(saved: Path) -> None:
    with pytest.raises(UsageError, match="--init-parts takes backbone, neck, head, not tail"):
        start_from(build_detector(small(), ("cat", "dog")), saved, ("backbone", "tail"))


def test_rows_of_several_anchors_are_not_mixed(saved: Path) -> None:
    # The rows of a head with one anchor a location are not those of one with nine, whatever their number.
    detector = build_detector(small(name="retinanet_nano"), ("cat", "dog"))
    before = detector.state_dict()["head.out.0.weight"].clone()
    start_from(detector, saved)
    assert torch.equal(detector.state_dict()["head.out.0.weight"], before)


def test_other_inputs_are_found(saved: Path) -> None:
    assert other_inputs(small("optim.lr=3"), saved) == []
    other = small("model.points.offset=0", "model.points.scale=8", "model.pixels.order=rgb")
    pixels, scale, offset = other_inputs(other, saved)
    assert "'bgr'" in pixels.partition(" -> ")[0]
    assert (offset, scale) == ("model.points.offset 0.5 -> 0.0", "model.points.scale 5.0 -> 8.0")


def test_another_architecture_is_refused(saved: Path, tmp_path: Path) -> None:
    recipe = small("model.pretrained=false", "model.channels=32", name="gfl_r18")
    with pytest.raises(UsageError, match=r"some\.safetensors has another architecture than the recipe"):
        start_from(build_detector(recipe, ("cat", "dog")), saved)
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="is not a gfocal checkpoint"):
        start_from(build_detector(small(), ("cat", "dog")), tmp_path / "x.safetensors")


# --- states ---------------------------------------------------------------------------------------------------------


def test_a_state_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / STATE
    save_state(path, {"format": 1, "step": 3, "tensor": torch.arange(4)})
    state = load_state(path)
    assert state["step"] == 3
    assert torch.equal(state["tensor"], torch.arange(4))


def test_random_generators_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = [torch.tensor([1]), torch.tensor([2])]
    put: list[list[torch.Tensor]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", put.append)
    state = generator_states()
    drawn = torch.rand(3)
    restore_generators(state)
    assert torch.equal(torch.rand(3), drawn)
    assert put == [cuda]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    restore_generators(state)
    restore_generators({"generator": state["generator"]})  # a state without them
    assert put == [cuda]


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
    assert path.stat().st_mode & 0o777 == 0o644, "others may read it, unlike a temporary file"


DRILL = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from gfocal.engine.checkpoint import STATE, load_state, remove_unfinished, save_state

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


def test_killed_while_writing_a_state(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    source = str(Path(gfocal.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DRILL, str(folder), "30"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    leftovers, steps = map(int, done.stdout.split())
    # Otherwise the drill was none: some kills met a half-written file, and some states were finished.
    assert leftovers > 0
    assert steps > 0


def test_only_leftovers_are_removed(tmp_path: Path) -> None:
    for name in (STATE, ".state.pt.abcd1234", ".best.safetensors.x", ".hidden", "state.pt.bak"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path, (STATE, BEST))
    assert sorted(file.name for file in tmp_path.iterdir()) == [".hidden", STATE, "state.pt.bak"]
    remove_unfinished(tmp_path / "absent", (STATE,))

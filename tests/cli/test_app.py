"""The command line: what it prints where, its exit codes, its messages; one small run from data to drawings."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

import gfocal
from gfocal.cli.app import app
from gfocal.cli.terminal import warn
from gfocal.data.scenes.generate import make_scenes
from gfocal.prediction.predict import Prediction
from gfocal.recipe.flags import with_flags
from gfocal.runs.checkpoint import load_detector
from gfocal.training.fitting.pace import Pace
from gfocal.utils.text import counted
from helpers.known_answers import keys_of, names_of
from helpers.mmdetection_files import empty_weights, save_as
from helpers.small_runs import TINY

VERBS = ("demo", "train", "eval", "predict", "calibrate", "explain", "models", "push", "import", "recipes", "doctor")
QUICK = ["schedule.batch_size=4", "schedule.epochs=1", "data.workers=0", "runtime.threads=1"]
SMALL = [*TINY, "data.resize.size=64", *QUICK]
STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def sets(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


@pytest.fixture(autouse=True)
def _no_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GFOCAL_DEBUG", "0")


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def refused(*words: str | Path, code: int = 2) -> str:
    """The one line that a refused command leaves on standard error."""
    result = call(*words)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert result.stderr.splitlines()[-1] == errors[0]
    assert "Traceback" not in result.stderr
    return errors[0]


# --- help


def python(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    source = str(Path(gfocal.__file__).parents[1])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=environment, cwd=cwd, check=False
    )


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_help_is_there(verb: str | None) -> None:
    result = call(*([verb] if verb else []), "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout
    for named in VERBS if verb is None else ("--json",):
        assert named in result.stdout


@pytest.mark.slow  # a clock on a machine with other work says little; what is loaded says the same, and exactly
@pytest.mark.parametrize("verb", [None, "train"])
def test_help_takes_less_than_half_a_second(verb: str | None) -> None:
    best = 9.0
    for _ in range(5):
        started = time.perf_counter()
        assert python("-m", "gfocal", *([verb] if verb else []), "--help").returncode == 0
        best = min(best, time.perf_counter() - started)
        if best < 0.5:
            break
    assert best < 0.5


@pytest.mark.parametrize("verb", [None, "train"])
def test_help_and_the_package_itself_load_nothing_heavy(verb: str | None) -> None:
    heavy = ["torch", "numpy", "PIL", "yaml", "jinja2", "matplotlib"]
    if verb is None:
        heavy.append("pydantic")  # reads recipes, and `train` offers their keys
    code = f"""
import contextlib, runpy, sys, gfocal
gfocal.__version__, dir(gfocal)
sys.argv = {["gfocal", *([verb] if verb else []), "--help"]}
with contextlib.suppress(SystemExit):
    runpy.run_module("gfocal", run_name="__main__")
print([name for name in {heavy} if name in sys.modules])
"""
    shown = python("-c", code).stdout
    assert "Usage" in shown
    assert shown.endswith("\n[]\n")


def test_the_lazy_name_of_the_package() -> None:
    assert "load" in dir(gfocal)
    assert callable(gfocal.load)
    with pytest.raises(AttributeError, match="no attribute 'lead'"):
        gfocal.lead  # noqa: B018


def test_version() -> None:
    assert call("--version").stdout == f"gfocal {gfocal.__version__}\n"


@pytest.mark.parametrize("words", [("nonsense",), ("train",), ("predict", "x"), ("eval", "x", "--nonsense")])
def test_wrong_words_exit_with_2(words: tuple[str, ...]) -> None:
    result = call(*words)
    assert result.exit_code == 2
    assert result.stdout == ""


# --- errors that nobody foresaw


def broken_doctor(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def examine() -> None:
        print("noise of a library")
        raise error

    monkeypatch.setattr("gfocal.commands.doctor.examine", examine)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RuntimeError("shapes\ndo not fit"), 1, "RuntimeError: shapes (unexpected; `gfocal --debug ...` shows where)"),
        (RuntimeError("CUDA out of memory"), 1, "schedule.batch_size"),
        (OSError(28, "No space left on device"), 2, "No space left on device; free some space"),
        (OSError(30, "Read-only", "/x/y"), 2, "error: /x/y: Read-only file system; choose another place"),
        (FileNotFoundError(2, "No such file", "/x/y"), 2, "/x/y: No such file or directory; it, or the folder"),
        (OSError(99, "of no file"), 1, "of no file"),
        (gfocal.errors.GfocalError("the loss is not finite"), 1, "error: the loss is not finite"),
        (gfocal.errors.UsageError("wrong\nuse"), 2, "error: wrong use"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
    ],
)
def test_every_error_is_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    broken_doctor(monkeypatch, error)
    assert message in refused("doctor", "--json", code=code)


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    broken_doctor(monkeypatch, RuntimeError("oops"))
    result = call("--debug", "doctor")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1] == "error: RuntimeError: oops"


# --- recipes, doctor


def test_recipes_are_listed_with_what_they_are() -> None:
    content = json.loads(call("recipes", "--json").stdout)
    listed, printed = content["recipes"], call("recipes").stdout
    lines = printed.splitlines()[: len(listed)]
    assert [r["name"] for r in listed] == [line.split()[0] for line in lines] == sorted(r["name"] for r in listed)
    assert any(line.startswith("gfl_nano ") and "CPU" in line for line in lines)
    assert all(len(r["description"]) > 10 for r in listed)
    # What goes with what: the rows and their axes.
    retinanet = content["detectors"]["retinanet"]
    assert (retinanet["points"], retinanet["assigner"], retinanet["code"]) == ("octave", "max_iou", "deltas")
    assert {"none", "joint"} <= set(retinanet["accepts"]["model.quality.kind"])
    assert "centerness" not in retinanet["accepts"]["model.quality.kind"]
    assert all(word in printed for word in ("retinanet", "softmax_mined", "centerness_guided", "log_deltas"))


def test_a_printed_recipe_can_be_used(tmp_path: Path) -> None:
    from gfocal.recipe import load_recipe

    for words in (("recipes", "gfl_nano"), ("recipes", "gfl_nano", "--all")):
        (tmp_path / "mine.yaml").write_text(call(*words).stdout)
        assert load_recipe(tmp_path / "mine.yaml") == load_recipe("gfl_nano")
    assert "# exponent of Quality Focal Loss" in (tmp_path / "mine.yaml").read_text()
    assert json.loads(call("recipes", "gfl_nano", "--json").stdout)["recipe"] == load_recipe("gfl_nano").to_dict()
    assert "did you mean gfl_nano?" in refused("recipes", "gfl_nan")


def test_doctor_finds_a_working_machine() -> None:
    content = json.loads(call("doctor", "--json").stdout)
    assert content["ok"] is True
    assert len(content["checks"]) == 8
    assert all(check["ok"] is True for check in content["checks"])
    assert {"pyyaml", "pillow", "torch"} <= content["versions"].keys()
    assert "MISSING" not in content["versions"].values()
    assert content["versions"]["gfocal"] == gfocal.__version__
    assert content["device"]["threads"] >= 1
    result = call("doctor")
    assert result.exit_code == 0
    assert "all is well" in result.stdout


def test_doctor_says_what_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gfocal.runtime.machine.keep_best", lambda boxes, *a, **k: torch.arange(len(boxes)))
    result = call("doctor", "--json")
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert [check["name"] for check in content["checks"] if not check["ok"]] == ["post-processing"]
    assert "FAILED" in call("doctor").stdout


def test_doctor_notices_images_and_folders_that_do_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gfocal.commands.doctor.read_image", lambda file: torch.zeros(3, 32, 48, dtype=torch.uint8))
    monkeypatch.setattr("gfocal.commands.doctor.write_atomically", full)
    content = json.loads(call("doctor", "--json").stdout)
    failed = {check["name"]: check["detail"] for check in content["checks"] if not check["ok"]}
    assert failed.keys() == {"reading pictures", "writing files"}
    assert "colours are off by 200" in failed["reading pictures"]
    assert "No space left" in failed["writing files"]


def test_only_the_cpus_of_this_process_count(monkeypatch: pytest.MonkeyPatch) -> None:
    from gfocal.data.scenes.generate import usable_cpus

    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 5, 7}, raising=False)
    assert usable_cpus() == 3
    monkeypatch.delattr("os.sched_getaffinity")
    assert usable_cpus() == 64


@pytest.mark.parametrize(("number", "text"), [(0, "0 classes"), (1, "1 class"), (2337, "2,337 classes")])
def test_numbers_of_things(number: int, text: str) -> None:
    assert counted(number, "class", "classes") == text
    assert counted(number, "picture").endswith("picture" if number == 1 else "pictures")


@pytest.mark.parametrize(("count", "text"), [(1, "1 broken record left out"), (2, "2 broken records left out")])
def test_warnings_count_in_words(capsys: pytest.CaptureFixture[str], count: int, text: str) -> None:
    warn(["this one"] * count, "broken record", "left out")
    assert capsys.readouterr().err.splitlines() == [f"warning: {text}:"] + ["  this one"] * count


# --- bad input


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "toys"
    make_scenes(folder, train=8, val=4, size=64, seed=1)
    return folder


@pytest.fixture
def data(scenes: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(scenes, tmp_path / "toys"))


def edit(data: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = data / "annotations/train.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def box_of(value: list[float]) -> Callable[[Path], None]:
    return lambda data: edit(data, lambda content: content["annotations"][0].update(bbox=value))


def unknown_category(data: Path) -> None:
    edit(data, lambda content: content["annotations"][0].update(category_id=99))


def first_image(data: Path) -> Path:
    return data / "images" / json.loads((data / "annotations/train.json").read_text())["images"][0]["file_name"]


def truncate_image(data: Path) -> None:
    first_image(data).write_bytes(first_image(data).read_bytes()[:200])


BROKEN = {
    "NaN": (box_of([1, 1, float("nan"), 5]), "box is not finite"),
    "negative size": (box_of([1, 1, -3, 5]), "box has a negative width or height"),
    "unknown category": (unknown_category, "unknown category id 99"),
    "picture missing": (lambda data: first_image(data).unlink(), "missing"),
    "picture truncated": (truncate_image, "truncated, damaged or not a picture"),
    "no picture": (lambda data: first_image(data).write_text("<html>"), "no known picture format"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_records_are_refused_or_skipped(data: Path, tmp_path: Path, fault: str) -> None:
    damage, message = BROKEN[fault]
    damage(data)
    words = ["train", "gfl_nano", "--data", data, "--out", tmp_path / "run", *sets(*SMALL)]
    line = refused(*words)
    assert message in line
    named = "image" if fault in ("NaN", "negative size", "unknown category") else first_image(data).name
    assert named in line
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    result = call(*words, "--skip-broken", "--json")
    assert result.exit_code == 0, result.stderr
    skipped = json.loads(result.stdout)["skipped"]
    assert len(skipped) == 1
    assert skipped[0] in result.stderr
    assert (tmp_path / "run/best.safetensors").is_file()


def not_json(data: Path) -> None:
    (data / "annotations/train.json").write_text("[1, 2")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "does not exist"),
        (not_json, "is not JSON"),
        (lambda data: edit(data, lambda content: content.pop("categories")), "lacks the key 'categories'"),
        (lambda data: edit(data, lambda content: content["annotations"][0].pop("bbox")), "lacks the key 'bbox'"),
        (lambda data: (data / "annotations/train.json").unlink(), "no train annotations"),
        (lambda data: edit(data, lambda content: content["categories"].pop()), "unknown category id"),
        (lambda data: edit(data, lambda c: c["categories"][0].update(name="orb")), "different classes: only one"),
    ],
)
def test_unusable_data_are_refused(data: Path, tmp_path: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(data)
    assert message in refused("train", "gfl_nano", "--data", data, "--out", tmp_path / "run", *sets(*SMALL))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("optim.lrr=0.1", "unknown key optim.lrr (did you mean optim.lr?)"),
        ("schedule.epochs=many", "schedule.epochs"),
        ("schedule.epochs", "--set takes key=value"),
        ("runtime.precision=fp16", "fp16 needs a CUDA device"),
    ],
)
def test_wrong_recipe_keys_are_refused(
    scenes: Path, tmp_path: Path, pair: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = ("train", "gfl_nano", "--data", scenes, "--out", tmp_path / "run", *sets(*SMALL, pair))
    assert message in refused(*words)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_is_none_is_refused(scenes: Path, tmp_path: Path) -> None:
    false = tmp_path / "false.safetensors"
    false.write_bytes(b"no weights")
    image = first_image(scenes)
    assert "not a gfocal checkpoint" in refused("eval", false, "--data", scenes)
    assert "not a gfocal checkpoint" in refused("predict", false, image)
    assert "not a gfocal checkpoint" in refused("train", "gfl_nano", "--data", scenes, "--init", false)
    assert "not a checkpoint of tensors" in refused("import", false, "-o", tmp_path / "out")
    assert "no run folder or checkpoint" in refused("predict", tmp_path / "absent", image)
    assert "neither best.safetensors nor last.safetensors" in refused("predict", tmp_path, image)
    assert "is a recipe, a detector without training" in refused("eval", "gfl_nano", "--data", scenes)


def test_import_names_the_option_that_replaces(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"")
    assert "--overwrite" in refused("import", tmp_path / "some.ckpt", "-o", tmp_path)


def test_import_takes_a_style_and_says_what_it_did(tmp_path: Path) -> None:
    state = empty_weights(keys_of("retinanet_r50"))
    save_as(tmp_path / "a.pth", {name: value.half().contiguous() for name, value in state.items()}, {}, "3.x")
    assert "--style caffe" in refused("import", tmp_path / "a.pth", "-o", tmp_path / "out")
    styled = ("import", tmp_path / "a.pth", "-o", tmp_path / "out", "--style", "caffe")
    said = call(*styled).stdout
    assert "retinanet_r50 of mmdetection, 354 tensors, 80 classes" in said
    assert "note: no class names in the file" in said
    assert "left out, not run: objects of" in said
    assert f"predict {tmp_path / 'out'} PICTURES" in said
    assert json.loads(call(*styled, "--overwrite", "--json").stdout)["recipe"] == "retinanet_r50"


def test_import_takes_the_names_of_the_classes(tmp_path: Path) -> None:
    shapes = {f"head.gfl_cls.{i}.{what}": (34, 96, 1, 1)[: 4 if what == "weight" else 1] for i in range(4)
              for what in ("weight", "bias")}  # fmt: skip
    state = empty_weights(names_of("nanodet_plus_m"), shapes)
    save_as(tmp_path / "a.pth", {name: value.half().contiguous() for name, value in state.items()}, {}, "2.x")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    given = ("import", tmp_path / "a.pth", "-o", tmp_path / "out", "--overwrite")
    for names in ("cat,dog", "cat, dog ", str(tmp_path / "names.txt")):
        call(*given, "--names", names)
        assert load_detector(tmp_path / "out")[0].names == ("cat", "dog")
    assert "one of the names is empty" in refused(*given, "--names", "cat,,dog")
    assert "--names has 3 names, and the file has outputs for 2" in refused(*given, "--names", "cat,dog,bus")


# --- from data to drawings


@pytest.fixture(scope="session")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "toys"
    result = call("train", "gfl_nano", "--data", scenes, "--out", folder, *sets(*SMALL))
    assert result.exit_code == 0, result.stderr
    return folder


def test_train_says_what_it_did(scenes: Path, tmp_path: Path) -> None:
    words = ("train", "gfl_nano", "--data", scenes, "--out", tmp_path / "run", *sets(*SMALL))
    result = call(*words, "--json")
    content = json.loads(result.stdout)  # one object, nothing else
    assert content["out"] == str(tmp_path / "run")
    assert content["steps"] == 2  # 8 images, 4 a step
    assert set(STATS) <= content["metrics"].keys()
    assert "epoch 1" in result.stderr
    assert "already holds a run: continue it with --resume, or choose another --out" in refused(*words)
    again = call(*words, "--resume")
    assert again.exit_code == 0
    assert "2 steps" in again.stdout
    assert f"next: gfocal predict {tmp_path / 'run'} PICTURES" in again.stdout.splitlines()


def test_train_says_what_is_in_the_data(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gfocal.training.trainer import TrainResult

    def damage(content: dict[str, Any]) -> None:
        ids = [image["id"] for image in content["images"]]
        box = {"category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
        changes: list[dict[str, Any]] = [{}, {}, {"iscrowd": 1}, {"ignore": 1}, {"bbox": [5, 5, 0, 9]}]
        images = [0, 0, 0, 1, 2]  # 2 objects in the first of 8 images, nothing to learn in the others
        content["annotations"] = [
            {**box, "id": i + 1, "image_id": ids[images[i]], **change} for i, change in enumerate(changes)
        ]

    edit(data, damage)
    done = TrainResult(out=tmp_path, steps=1, best_ap=None)
    monkeypatch.setattr("gfocal.training.train.train", lambda *args, **kwargs: done)
    result = call("train", "gfl_nano", "--data", data, "--out", tmp_path / "my run", "--json")
    line = "train: 8 pictures (7 without objects), 2 objects, 6 classes; not learnt: 1 crowd, 1 ignored, 1 without area"
    assert line in result.stderr.splitlines()
    (val,) = [line for line in result.stderr.splitlines() if line.startswith("val: ")]
    assert val.startswith("val: 4 pictures, ")
    assert "crowd" not in val
    assert "warning" not in result.stderr
    assert json.loads(result.stdout)["data"]["train"] == {
        "pictures": 8, "without_objects": 7, "objects": 2, "classes": 6, "crowd": 1, "ignored": 1, "without_area": 1,
    }  # fmt: skip
    edit(data, lambda content: [entry.update(iscrowd=1) for entry in content["annotations"]])
    result = call("train", "gfl_nano", "--data", data, "--out", tmp_path / "my run")
    assert result.exit_code == 0
    assert "warning: NO OBJECT TO LEARN in " in result.stderr
    assert "none of its 5 boxes can be learnt" in result.stderr


def test_the_command_to_type_next_is_one_that_the_shell_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gfocal.utils.text import program

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / ".venv" / "bin" / "gfocal")])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program() == ".venv/bin/gfocal"
    (tmp_path / "gfocal").touch(mode=0o755)
    assert program() == "gfocal"


def test_commands_to_type_next_are_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    from gfocal import TrainResult
    from gfocal.cli.tables.results import print_training

    print_training(TrainResult(Path("a b"), steps=1, seconds=1.0, images_per_second=1.0))
    printed = capsys.readouterr().out
    assert "next: gfocal predict 'a b' PICTURES" in printed.splitlines()
    assert printed.startswith("1 step in")


def test_train_goes_to_runs_and_can_do_without_val(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    (data / "annotations/val.json").unlink()
    result = call("train", "gfl_nano", "--data", "toys", *sets(*SMALL))
    assert result.exit_code == 0, result.stderr
    assert Path("runs/gfl_nano-toys/last.safetensors").is_file()
    assert "no data to measure on" in result.stderr
    # An annotation file alone is not measured on itself, and the name comes from the folder around it.
    result = call("train", "gfl_nano", "--data", "toys/annotations/train.json", *sets(*SMALL))
    assert "already holds a run" in result.stderr


def test_resume_without_a_run_is_refused(scenes: Path, tmp_path: Path) -> None:
    words = ("train", "gfl_nano", "--data", scenes, "--out", tmp_path / "run", "--resume", *sets(*SMALL))
    assert "nothing to resume" in refused(*words)


def test_eval_prints_all_numbers(scenes: Path, run: Path, tmp_path: Path) -> None:
    words = ("eval", run, "--data", scenes, *sets("data.workers=0"))
    result = call(*words, "--json", "--out", tmp_path / "deep/result.json")
    content = json.loads(result.stdout)
    assert all(content[name] is None or 0 <= content[name] <= 1 for name in STATS)
    assert content["APl"] is None  # no object of 96 x 96 pixels fits into 64
    assert content["num_images"] == 4
    assert len(content["per_class"]) == 6
    assert {"score_iou_correlation", "num_detections", "speed"} <= content.keys()
    assert json.loads((tmp_path / "deep/result.json").read_text()) == content
    table = call(*words).stdout
    for name in (*STATS, *content["per_class"], "Spearman", "ms per picture"):
        assert name in table


def test_eval_draws_and_counts_what_predict_finds_at_the_same_score(scenes: Path, run: Path, tmp_path: Path) -> None:
    images, low = scenes / "images" / "val*.jpg", sets("data.workers=0", "predict.score_threshold=0.001")
    results = tmp_path / "all" / "predictions.json"
    call("predict", run, images, "--score", "0.001", "--draw", "none", "--out", results.parent)
    scores = sorted(found["score"] for found in json.loads(results.read_text())["annotations"])
    middle = (scores[len(scores) // 2] + scores[len(scores) // 2 - 1]) / 2
    words = ("eval", run, "--data", scenes, *low, "--score", str(middle))
    result = call(*words, "--plots", tmp_path / "plots", "--examples", "1", "--json")
    content = json.loads(result.stdout)
    matrix = content["confusion"]["matrix"]
    assert content["confusion"]["score"] == middle
    found = call("predict", run, images, "--score", str(middle), "--draw", "none", "--out", tmp_path / "some", "--json")
    assert sum(map(sum, matrix)) - sum(row[-1] for row in matrix) == json.loads(found.stdout)["num_detections"] > 0
    assert {Path(file).suffix for file in content["plots"]} == {".png", ".jpg", ".json"}
    assert sorted(content["plots"]) == sorted(map(str, (tmp_path / "plots").iterdir()))
    printed = call(*words, "--plots", tmp_path / "plots", "--examples", "0").stdout
    assert f"curves, confusion matrix and pictures: {tmp_path / 'plots'}" in printed
    assert "precision and recall at IoU 0.5" in printed


def test_eval_refuses_scores_and_folders_before_the_work(
    scenes: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gfocal.commands.evaluate.evaluate", lambda *args, **kwargs: pytest.fail("it was run"))
    assert "--score must be at least 0 and below 1, got 1" in refused("eval", run, "--data", scenes, "--score", "1")
    (tmp_path / "f1.png").write_bytes(b"mine")
    assert "was not written by an evaluation" in refused("eval", run, "--data", scenes, "--plots", tmp_path)


@pytest.mark.parametrize("place", ["file/result.json", "folder"])
def test_eval_sees_before_the_work_that_it_cannot_write(
    scenes: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("gfocal.commands.evaluate.evaluate_files", lambda *args, **kwargs: pytest.fail("it was run"))
    said = refused("eval", run, "--data", scenes, "--out", tmp_path / place)
    assert f"cannot write {tmp_path / place.partition('/')[0]}" in said


def test_eval_prints_before_it_writes(scenes: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, write: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gfocal.commands.evaluate.evaluate_files", lambda *args, **kwargs: {"AP": 0.5})
    monkeypatch.setattr("gfocal.utils.files.write_atomically", full)
    result = call("eval", run, "--data", scenes, "--json", "--out", tmp_path / "result.json")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {"AP": 0.5}
    assert "No space left" in result.stderr


def test_eval_takes_the_split_and_refuses_others(scenes: Path, run: Path) -> None:
    words = ("eval", run, "--data", scenes, *sets("data.workers=0"))
    assert json.loads(call(*words, "--json", "--split", "train").stdout)["num_images"] == 8
    assert "no test annotations in" in refused(*words, "--split", "test")
    assert "--split is train, val or test, not 'dev'" in refused(*words, "--split", "dev")


def test_eval_refuses_other_classes_and_fp16(data: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "fp16 needs a CUDA device" in refused("eval", run, "--data", data, *sets("runtime.precision=fp16"))
    edit(data, lambda content: content["categories"][0].update(name="orb"))
    line = refused("eval", run, "--data", data / "annotations/train.json", *sets("data.workers=0"))
    assert "it does not know orb" in line


def test_predict_writes_drawings_and_json(scenes: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    words = ("predict", run, scenes / "images" / "val*.jpg", "--out", out, "--score", "0.001")
    content = json.loads(call(*words, "--json").stdout)
    assert len(content["drawings"]) == 4
    assert all(Path(path).is_file() for path in content["drawings"])
    results = json.loads(Path(content["results"]).read_text())
    assert len(results["annotations"]) == content["num_detections"] > 0
    assert {a["category_id"] for a in results["annotations"]} <= {c["id"] for c in results["categories"]}
    assert all(0 <= v <= 64 for a in results["annotations"] for v in a["bbox"])
    assert all(len(a["edge_std"]) == 4 for a in results["annotations"])
    printed = call(*words).stdout
    assert str(out / "predictions.json") in printed
    assert content["drawings"][0] in printed


def test_predict_says_once_what_it_did_not_read(scenes: Path, run: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(first_image(scenes), photos / "good.png")
    frames = [Image.new("RGB", (32, 32), (shade, 0, 0)) for shade in (0, 200)]
    frames[0].save(photos / "moving.gif", save_all=True, append_images=frames[1:])
    (photos / "gone.png").symlink_to("nowhere")
    os.mkfifo(photos / "pipe.png")
    for i in range(5):
        (photos / f"empty{i}.jpg").write_bytes(b"")
    result = call("predict", run, photos, "--out", tmp_path / "found")
    assert result.exit_code == 1
    lines = [line for line in result.stderr.splitlines() if not line.startswith("predicting")]
    assert lines == [
        f"note: folder {photos}: 1 broken link not read (gone.png)",
        f"note: folder {photos}: 1 pipe or device not read (pipe.png)",
        f"note: 1 picture has several frames or pages, of which only the first is looked at ({photos / 'moving.gif'})",
        "warning: 5 unreadable pictures left out:",
        f"  5 pictures ({photos / 'empty0.jpg'}, {photos / 'empty1.jpg'}, {photos / 'empty2.jpg'}, ...): "
        "each is an empty file; replace it",
    ]
    result = call("predict", run, photos / "gone.png", "--out", tmp_path / "found")
    assert result.exit_code == 2
    assert "gone.png is a broken link: it leads to nowhere" in result.stderr


def test_predict_draws_what_is_asked_for(scenes: Path, run: Path, tmp_path: Path) -> None:
    words = ("predict", run, first_image(scenes), "--score", "0.001", "--out", tmp_path / "found")
    drawings = {}
    for parts in ("boxes", "boxes,scores", "none"):
        result = call(*words, "--draw", parts, "--line-width", "3", "--json")
        assert result.exit_code == 0, result.stderr
        drawings[parts] = [Path(file).read_bytes() for file in json.loads(result.stdout)["drawings"]]
    assert drawings["boxes"] != drawings["boxes,scores"]
    assert drawings["none"] == []
    (record,) = json.loads((tmp_path / "found" / "predictions.json").read_text())["images"]
    assert "drawing" not in record
    assert "in 1 picture;" in call(*words, "--draw", "none").stdout
    message = "--draw takes some of boxes,names,scores,edges, or none; got"
    assert f"{message} 'masks'" in refused(*words, "--draw", "boxes,masks")
    assert f"{message} nothing" in refused(*words, "--draw", " ,")
    assert f"{message} 'none'" in refused(*words, "--draw", "none,boxes")


@pytest.mark.parametrize(
    ("words", "threshold"),
    [
        ((), 0.3),
        (("--score", "0.45"), 0.45),
        (sets("predict.score_threshold=0.2"), 0.2),
        (("--score", "0.45", *sets("predict.score_threshold=0.2")), 0.45),
    ],
)
def test_predict_hands_on_threshold_and_precision(
    scenes: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], threshold: float
) -> None:
    given: dict[str, Any] = {}

    def predict(*args: object, **kwargs: object) -> Prediction:
        given.update(kwargs)
        return Prediction((), tmp_path, 0, ())

    monkeypatch.setattr("gfocal.commands.predict.predict", predict)
    result = call("predict", run, first_image(scenes), *sets("runtime.precision=bf16"), *words, "--json")
    assert result.exit_code == 0, result.stderr
    assert (given["score_threshold"], given["precision"]) == (threshold, "bf16")


def test_predict_runs_in_bf16(scenes: Path, run: Path, tmp_path: Path) -> None:
    words = ("predict", run, first_image(scenes), "--score", "0.001")
    for precision in ("fp32", "bf16"):
        call(*words, "--out", tmp_path / precision, *sets(f"runtime.precision={precision}"))
    full, low = (
        [a["score"] for a in json.loads((tmp_path / p / "predictions.json").read_text())["annotations"]]
        for p in ("fp32", "bf16")
    )
    assert full
    assert low
    assert full != low
    assert low[0] == pytest.approx(full[0], rel=0.1)


def test_predict_goes_on_without_a_broken_image(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / "a.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:40])
    result = call("predict", run, folder, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 1
    assert len(json.loads(result.stdout)["drawings"]) == 1
    assert "b.png" in result.stderr
    assert "b.png" in refused("predict", run, folder / "b.png", "--out", tmp_path / "out")
    assert "--score must be" in refused("predict", run, folder / "a.png", "--score", "1.5")
    assert "there is no picture" in refused("predict", run, folder / "c.png")


# --- short options of recipe keys


def test_short_options_are_recipe_keys(tmp_path: Path, scenes: Path) -> None:
    words = ("train", "gfl_nano", "--data", scenes, *sets(*TINY, "data.workers=0", "schedule.save_every=100"))
    options = ("--epochs", "1", "--batch", "6", "--lr", "0.002", "--size", "64")
    assert call(*words, *options, "--out", tmp_path / "run").exit_code == 0
    kept = gfocal.load_recipe(tmp_path / "run" / "recipe.yaml")
    assert (kept.schedule.epochs, kept.schedule.batch_size, kept.optim.lr, kept.data.resize.size) == (1, 6, 0.002, 64)
    again = sets("schedule.epochs=1", "schedule.batch_size=6", "optim.lr=2e-3", "data.resize.size=64")
    assert call(*words, *again, "--out", tmp_path / "run", "--resume").exit_code == 0, "it is the same recipe"


def test_a_time_budget_is_an_option(tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gfocal.training.fitting.choices.measure_pace", lambda *_, **__: Pace(20.0, 1.0, 0.0, 5))
    words = ("train", "gfl_nano", "--data", scenes, *sets(*TINY, "data.workers=0"), "--size", "64", "--batch", "6")
    budget = (*words, "--minutes", "1", "--out", tmp_path / "run")
    done = call(*budget)
    assert done.exit_code == 0, done.output
    # 55 s hold two steps of 20 s, each of them an epoch of these 8 images, and a validation of 1 s.
    assert "time budget of 1 min 0 s: measured 20 s a step, 1.0 s a validation; chosen 2 epochs of 1 st" in done.stderr
    kept = gfocal.load_recipe(tmp_path / "run" / "recipe.yaml").schedule
    assert (kept.minutes, kept.epochs, kept.epoch_steps) == (None, 2, 1), "what was laid out, and no budget"
    assert call(*budget, "--resume").exit_code == 0
    laid_out = str(tmp_path / "run" / "recipe.yaml")
    again = gfocal.load_recipe(laid_out, with_flags(laid_out, [], {"epochs": 3})).schedule
    assert again == kept.model_copy(update={"epochs": 3}), "a recipe like any other"
    older = tmp_path / "older.yaml"  # versions until 0.2 wrote the budget beside what it had chosen
    older.write_text(yaml.safe_dump(gfocal.load_recipe(laid_out, ["schedule.minutes=1"]).to_dict()))
    again = gfocal.load_recipe(older, with_flags(str(older), [], {"epochs": 3})).schedule
    assert (again.minutes, again.epochs, again.epoch_steps) == (None, 3, None), "whole epochs again"
    other = refused(*words, "--epochs", "3", "--resume", "--out", tmp_path / "run")
    assert "another recipe (schedule.epochs, schedule.epoch_steps" in other


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--epochs", "5", "--minutes", "30"), "--epochs 5 and --minutes 30 contradict each other: a time budget"),
        (("--minutes", "30", *sets("schedule.epochs=5")), "--set schedule.epochs=5 and --minutes 30 contradict"),
        (("--epochs", "5", *sets("schedule.minutes=9")), "--epochs 5 and --set schedule.minutes=9 contradict"),
        (
            tuple(sets("schedule.minutes=9", "schedule.epoch_steps=4")),
            "--set schedule.epoch_steps=4 and --set schedule.mi",
        ),
        (("--epochs", "5", *sets("schedule.epochs=6")), "--epochs 5 and --set schedule.epochs=6 contradict each other"),
        (("--batch", "8", *sets("schedule.batch_size=4")), "--batch 8 and --set schedule.batch_size=4 contradict"),
        (("--lr", "0.01", *sets("optim.lr=1e-3")), "--lr 0.01 and --set optim.lr=1e-3 contradict each other"),
        (("--minutes", "1e300"), "schedule.minutes: input should be less than or equal to 1000000 (got 1e+300)"),
        (("--minutes", "nan"), "schedule.minutes: input should be a finite number (got nan)"),
        (("--lr", "0"), "optim.lr: input should be greater than 0"),
        (("--minutes", "-1"), "schedule.minutes: input should be greater than 0"),
        (("--epochs", "0"), "schedule.epochs: input should be greater than 0"),
        (("--size", "8"), "data.resize.size: input should be greater than or equal to 32"),
        (("--batch", "many"), "--batch takes a number of pictures or auto, not 'many'"),
        (("--set", "runtime.channels_last=fast"), "runtime.channels_last: "),
    ],
)
def test_contradictions_are_refused_by_name(words: tuple[str, ...], said: str) -> None:
    assert said in refused("train", "gfl_nano", "--data", "nowhere", *words)


def test_the_side_of_a_square_is_no_other_size() -> None:
    # 800 x 1333 in proportion: 480 x 800.
    error = refused("train", "gfl_r50", "--data", "nowhere", "--size", "480")
    assert "--set data.resize.short_side=480 --set data.resize.long_side=800, or --set data.resize.kind=square" in error
    squared = refused("train", "gfl_r50", "--data", "nowhere", "--size", "480", *sets("data.resize.kind=square"))
    assert "nowhere" in squared, "the data are what is missing"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train gfl_nano --data x --imgsz 640", "--size"),
        ("train gfl_nano --data x --img-size 640", "--size"),
        ("train gfl_nano --data x --batch-size 8", "--batch"),
        ("train gfl_nano --data x --max-epochs 8", "--epochs"),
        ("train gfl_nano --data x --learning-rate 8", "--lr"),
        ("train gfl_nano --data x --device cpu", "CUDA_VISIBLE_DEVICES="),
        ("train gfl_nano --data x --weights a.pt", "--init MODEL"),
        ("train gfl_nano --data x --project a", "--out DIR"),
        ("train gfl_nano --data x --workers 4", "--set data.workers=..."),
        ("train gfl_nano --data x --patience 4", "--set schedule.patience=..."),
        ("train --config a.py --data x", "the recipe is the first argument"),
        ("find-lr gfl_nano --data x --imgsz 64", "--set data.resize.size=..."),
        ("eval m --data x --conf 0.2", "--set predict.score_threshold=..."),
        ("eval m --data x --batch 4", "--batch-size"),
        ("eval --weights m --data x", "the model is the first argument"),
        ("predict m x --conf-thres 0.2", "--score"),
        ("predict m x --iou 0.2", "--set predict.nms_iou=..."),
        ("predict m --source x", "gfocal predict MODEL PICTURES"),
        ("predict m x --device cpu", "CUDA_VISIBLE_DEVICES="),
    ],
)
def test_other_programs_spellings_get_a_hint(words: str, said: str) -> None:
    result = call(*words.split())
    assert result.exit_code == 2
    told = " ".join(result.stderr.replace("│", " ").split())
    assert "No such option: --" in told
    assert f"Here: {said}" in told or said in told.partition("Here: ")[2]


def test_an_option_that_nobody_has_gets_no_hint() -> None:
    for words in ("train gfl_nano --data x --zork 4", "data check x --imgsz 4", "recipes --imgsz 4"):
        result = call(*words.split())
        assert (result.exit_code, "Here:" in result.stderr) == (2, False), words


def test_conf_is_score(tmp_path: Path) -> None:
    assert "--score must be" in refused("predict", "nowhere", "x.png", "--conf", "1.5", "--out", tmp_path)


# --- demo


DEMO = ("--train", "6", "--val", "4", "--size", "64", *sets(*QUICK))


def test_demo_from_nothing_to_drawings_and_again(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    words = ("demo", "--out", out, *DEMO)
    printed = call(*words).stdout
    files = {"predictions", "overview.jpg", "metrics.json", "run/best.safetensors"}
    for file in files:
        assert (out / file).exists()
        assert str(out / file) in printed
    assert "next, on a data set of your own: gfocal train" in printed
    assert len(list((out / "predictions").glob("*.jpg"))) == 4
    weights = (out / "run/best.safetensors").stat().st_mtime_ns
    again = call(*words, "--json")
    content = json.loads(again.stdout)
    assert "finished" in again.stderr
    assert content["metrics"] == json.loads((out / "metrics.json").read_text())
    assert (out / "run/best.safetensors").stat().st_mtime_ns == weights
    assert "other settings (seed 0)" in refused(*words, "--seed", "1")
    kept = json.loads((out / "demo.json").read_text())
    del kept["result"]["metrics"]["AP50"]
    (out / "demo.json").write_text(json.dumps(kept))
    assert f"{out / 'demo.json'} is damaged (in metrics, AP50 is missing); --overwrite repeats the demo" in refused(
        *words
    )
    assert call(*words, "--seed", "1", "--overwrite").exit_code == 0
    assert (out / "run/best.safetensors").stat().st_mtime_ns != weights


@pytest.mark.slow
def test_demo_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "demo"

    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gfocal.commands.demo.evaluate", stop)
        refused("demo", "--out", out, *DEMO, code=130)
    weights = (out / "run/best.safetensors").stat().st_mtime_ns
    assert call("demo", "--out", out, *DEMO).exit_code == 0
    assert (out / "run/best.safetensors").stat().st_mtime_ns == weights  # it was not trained again


@pytest.mark.parametrize(
    ("step", "epochs", "planned"),
    [
        (0.01, 4, "all of the schedule, within 4 min 0 s"),
        pytest.param(99.0, 3, "the shortest schedule, more than 4 min 0 s on this", marks=pytest.mark.slow),
    ],
)
def test_demo_goes_by_the_pace_of_the_machine(
    step: float, epochs: int, planned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gfocal.training.fitting.memory_layout.LEAST_PIXELS", 1)
    quick = sets("schedule.batch_size=4", "data.workers=0", "runtime.threads=1", "runtime.channels_last=true")
    words = ("demo", "--out", tmp_path / "demo", "--train", "6", "--val", "4", "--size", "64", *quick, *sets(*TINY))

    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gfocal.training.fitting.choices.measure_pace", lambda *_, **__: Pace(step, 0.01, 0.0, 5))
        patch.setattr("gfocal.commands.demo.evaluate", stop)
        result = call(*words)
    assert result.exit_code == 130
    assert f"{planned}" in result.stderr
    assert f"chosen {epochs} epochs of 1 step" in result.stderr
    assert f"2/4 training: {epochs} epochs" in result.stderr
    monkeypatch.setattr("gfocal.training.fitting.choices.measure_pace", stop)
    assert call(*words).exit_code == 0, "it goes on with the schedule that was chosen"
    assert gfocal.load_recipe(tmp_path / "demo" / "run" / "recipe.yaml").schedule.epochs == epochs


def test_demo_leaves_foreign_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "not a demo's" in refused("demo", "--out", tmp_path, *DEMO)
    assert "not a demo's" in refused("demo", "--out", tmp_path, "--overwrite", *DEMO)
    assert (tmp_path / "thesis.txt").exists()

"""The command line, fed with whatever people type and point it at: no traceback, no hang, no exit code of its own.

The generator walks the commands that there are, so a new verb or option takes part by itself. A command line is a verb
with some of its parameters, up to two of which have odd values, and now and then a word too few or too many. Files come
from a folder of whole and odd things, made anew for each command line, as verbs write too; no value leads out of it.

Verbs that train may take long; they are stopped as with Ctrl-C, and must end as it is promised. `docs/design.md` says
how to run more of them.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gfocal.cli.app import app
from gfocal.recipe import load_recipe
from gfocal.runs.checkpoint import save_detector
from gfocal.zoo import build_detector
from helpers.broken_inputs import BYTES, DEEP, write_coco
from helpers.layouts import CLASSES, images, yolo_labels
from helpers.small_runs import SMALL

EACH = int(os.environ.get("GFOCAL_FUZZ", "12"))
"""Command lines of each verb."""
STOPPED_AFTER, HANGS_AFTER = 20, 60  # seconds: Ctrl-C to what trains, and then the end of patience
CODES = {0, 1, 2, 130}
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="it needs setitimer")]


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(words of the verb, its command) of everything that can be called."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from verbs(inner, (*path, name))
    else:
        yield path, command


VERBS = dict(verbs(typer.main.get_command(app)))
LONG = {"demo", "train", "find-lr", "study", "export"}

FILES = (
    *("coco", "yolo", "coco.zip", "model.safetensors", "photo.png", "photo.jpg", "recipe.yaml", "folder", "missing"),
    *("empty", "noise.png", "cut.jpg", "deep.json", "list.json", "null.yaml", "loop.yaml", "noise.zip", "bomb.zip"),
    *("noise.safetensors", "cut.safetensors", "link", "loop", "pipe", "a b\tc\n.png", "\x1b[31mred.png", "-o.png"),
    *("Ünïcödé 日本.png", "coco/annotations/train.json"),
    *("", ".", "..", "~", "x" * 300, "coco/../coco", "photo.png/inside", "https://example.org/a.png"),
)
WORDS = (
    *("0", "1", "-1", "2", "64", "65", "1e9", "nan", "inf", "-0", "0.5", "1.5", "9" * 30, "0x10", "1_0", "", " "),
    *("train", "val", "test", "both", "coco", "yolo", "voc", "gfl_nano", "gfl_nan", "ssd512_vgg16", "small", "long"),
    *("model.channels=16", "model.channels=0", "model.channels=1e9", "data.resize.size=1", "optim.lr=nan", "x", "a=b"),
    *("schedule.epochs=0", "schedule.batch_size=1000000", "model.head=[]", "model={}", "=", "model.boxes.reg_max=99"),
    *("predict.score_threshold=2", "runtime.device=tpu", "optim.lr=[", "data.workers=-1", "{a: &a [*a]}", "√", "\x07"),
)
KNOWN = {  # what fits; of other parameters a value is always odd
    "recipe": ("gfl_nano", "ssd_nano", "recipe.yaml"),
    "model": ("model.safetensors",),
    "style": ("pytorch", "caffe"),
    "images": ("photo.png", "coco/images", "yolo/images"),
    "file": ("model.safetensors",),
    "data": ("coco", "yolo", "coco.zip"),
    "path": ("coco", "yolo"),
    "source": ("coco", "yolo", "coco.zip"),
    "name": ("gfl_nano", "recipe.yaml"),
    "recipes": ("gfl_nano",),
    "to": ("coco", "yolo"),
    "out": ("new", "new/deeper", "folder"),
    "folder": ("folder",),
    "init": ("model.safetensors",),
    "format_": ("coco", "yolo"),
    "split": ("train", "val"),
    "budget": ("smoke", "small"),
    "pyramid": ("nano",),
    "overrides": ("predict.max_detections=5", "optim.lr=0.01", "model.assigner.kind=fcos", "data.flip=0"),
    "val": ("1", "coco", "0.5"),
    "tile": ("0", "64"),
    "overlap": ("0.2",),
    "score": ("0.1", "0"),
    "low": ("1e-5",),
    "high": ("0.1",),
    **dict.fromkeys(("seed", "epoch", "workers"), ("0", "1")),
    **dict.fromkeys(
        ("seeds", "jobs", "count", "repeats", "threads", "iterations", "classes", "batch_size"), ("1", "2")
    ),
    **dict.fromkeys(("steps", "train"), ("3",)),
    **dict.fromkeys(("size",), ("64", "96")),
}
ODD = st.sampled_from(FILES) | st.sampled_from(WORDS) | st.text(st.characters(exclude_characters="/\0"), max_size=8)


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of each of :data:`FILES` that can be made."""
    root = tmp_path_factory.mktemp("things")
    write_coco(root / "coco")
    images(root / "yolo" / "images")
    yolo_labels(root / "yolo" / "labels")
    (root / "yolo" / "data.yaml").write_text(f"train: images\nval: images\nnames: [{', '.join(CLASSES)}]\n")
    shutil.make_archive(str(root / "coco"), "zip", root / "coco")
    recipe = load_recipe("gfl_nano", SMALL)
    weights = build_detector(recipe, CLASSES).state_dict()
    save_detector(root / "model.safetensors", weights, recipe, CLASSES)
    whole = (root / "model.safetensors").read_bytes()
    texts = {
        "recipe.yaml": "base: gfl_nano\nmodel: {backbone: test_resnet, channels: 16, head_depth: 1}\n",
        "deep.json": DEEP,
        "list.json": "[1, 2]",
        "null.yaml": "null",
        "loop.yaml": "a: &a\n  b: *a\n",
        "empty": "",
    }
    for name, text in texts.items():
        (root / name).write_text(text)
    noise = bytes(range(256)) * 4
    for name in ("noise.png", "noise.zip", "noise.safetensors"):
        (root / name).write_bytes(noise)
    (root / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (root / "cut.jpg").write_bytes(BYTES["b.jpg"][:200])
    (root / "photo.jpg").write_bytes(BYTES["b.jpg"])
    for name in ("photo.png", "a b\tc\n.png", "\x1b[31mred.png", "-o.png", "Ünïcödé 日本.png"):
        (root / name).write_bytes(BYTES["a.png"])
    with zipfile.ZipFile(root / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("images/a.png", b"\0" * (1 << 26))
    (root / "folder").mkdir()
    return root


def specials(root: Path) -> None:
    """What a copy of a folder does not take along."""
    (root / "link").symlink_to("missing")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")


@st.composite
def command_lines(draw: st.DrawFn, name: tuple[str, ...]) -> list[str]:
    """The words of a call of one verb: of what it takes a part, and of that at most two odd values."""
    parameters = VERBS[name].params
    optional = [p.name for p in parameters if p.param_type_name != "argument" and not p.required]
    taken = draw(st.sets(st.sampled_from(optional), max_size=4)) | {
        p.name for p in parameters if p.name not in optional
    }
    many = draw(st.sampled_from((0, 1, 1, 2)))
    odd = draw(st.sets(st.sampled_from(sorted(taken)), min_size=min(many, len(taken)), max_size=many)) if taken else ()
    options, arguments = [], []
    for parameter in parameters:
        if parameter.name not in taken:
            continue
        fits = () if parameter.name in odd else KNOWN.get(parameter.name, ())
        value = draw(st.sampled_from(fits) if fits else ODD)
        if parameter.param_type_name == "argument":
            arguments.append(value)
        elif parameter.is_flag:
            options.append(parameter.opts[0])
        else:
            options += [draw(st.sampled_from(parameter.opts)), value]
    if name[0] in ("demo", "train", "find-lr"):
        options += [word for key in SMALL for word in ("--set", key)]
    if draw(st.integers(0, 19)) == 19:  # nothing where something is needed, or one too many
        arguments = draw(st.sampled_from(([], [*arguments, draw(ODD)])))
    return [*name, *arguments, *options]


@contextmanager
def patience(stopped_after: int) -> Iterator[None]:
    """Ctrl-C after some seconds, and an error if that does not end it."""
    waits = iter((HANGS_AFTER,))

    def ring(_signal: int, _frame: FrameType | None) -> None:
        again = next(waits, None)
        if again is None:
            raise AssertionError("it hangs")
        signal.setitimer(signal.ITIMER_REAL, again)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, stopped_after)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Python leaves a process that it has killed on Ctrl-C to be waited for at its own end.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", VERBS, ids="-".join)
def test_no_command_line_ends_in_a_traceback_or_never(name: tuple[str, ...], things: Path) -> None:
    @settings(max_examples=EACH, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(command_lines(name))
    def run(words: list[str]) -> None:
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            root = Path(folder) / "things"
            shutil.copytree(things, root)
            specials(root)
            patch.chdir(root)
            patch.setenv("GFOCAL_CACHE", str(Path(folder) / "cache"))
            patch.setenv("HOME", folder)
            with patience(STOPPED_AFTER if name[0] in LONG else HANGS_AFTER):
                result = CliRunner().invoke(app, words)
            said = result.output + result.stderr
            assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
            assert result.exit_code in CODES, said
            assert "Traceback" not in said, said
            assert "(unexpected;" not in said, said
            assert result.exit_code == 0 or said.strip(), "it says nothing"
            if result.exit_code == 130:
                assert name[0] in LONG, f"it took more than {HANGS_AFTER} s"

    run()

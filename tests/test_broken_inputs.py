"""Whatever people feed it: a message that names the file and the fault, and the valid part where it was asked for.

Every case goes through ``check``, ``train`` (one step of a small detector) and ``predict``; none may show a traceback,
hang, or leave something out without saying so.
"""

from __future__ import annotations

import copy
import functools
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from typer.testing import CliRunner

from gfocal.cli.app import app
from gfocal.data.checks.check import check_data
from gfocal.data.checks.report import LeftOut, Report
from gfocal.data.index.data_index import DataIndex
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.prediction.open import load
from gfocal.prediction.predict import Prediction, predict
from gfocal.runs import folder as run_module
from gfocal.runs.checkpoint import save_detector
from gfocal.runs.datasets import open_train_data
from gfocal.training import train as train_module
from gfocal.training import trainer as trainer_module
from gfocal.training.train import train
from gfocal.training.trainer import TrainResult
from gfocal.zoo import build_detector
from helpers import broken_formats, broken_inputs
from helpers.broken_inputs import BYTES, COCO, Case, write_coco
from helpers.launched import Started
from helpers.small_runs import TINY, small

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def detector() -> DenseDetector:
    return load("gfl_nano", ["data.resize.size=64", *TINY], names=("cat", "dog"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GFOCAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _only_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a training does around its step takes several times as long, and has nothing to do with what is read."""
    monkeypatch.setattr(run_module, "save_state", lambda *_: None)
    monkeypatch.setattr(run_module, "save_detector", lambda *_, **__: None)
    monkeypatch.setattr(run_module.yaml, "safe_dump", lambda recipe, **_: json.dumps(recipe))  # JSON is YAML too
    monkeypatch.setattr(trainer_module, "memory_notes", lambda *_: [])
    monkeypatch.setattr(train_module, "build_detector", lambda _, names, **__: again(tuple(names)))


@functools.cache
def built(names: tuple[str, ...]) -> tuple[DenseDetector, dict[str, Tensor]]:
    """The detector of some classes, and its first weights."""
    detector = build_detector(RECIPE, names)
    return detector, {name: tensor.clone() for name, tensor in detector.state_dict().items()}


def again(names: tuple[str, ...]) -> DenseDetector:
    """A detector as it is built: the one of these classes with its first weights."""
    detector, weights = built(names)
    detector.load_state_dict(weights)
    return detector


def names_both(text: str, case: Case) -> bool:
    """Whether a message names the file and the fault."""
    return case.file in text and re.search(case.fault, text.replace(case.file, ""), re.IGNORECASE) is not None


def checked(root: Path) -> tuple[Report | None, list[str]]:
    """The report, None where nothing can be examined, and all messages."""
    try:
        report = check_data(root)
    except UsageError as error:
        return None, [str(error)]
    return report, [f"{finding.severity} {finding.file}: {finding.message}" for finding in report.findings]


RECIPE = small("schedule.epochs=1", "schedule.save_every=9")


def trained(root: Path, out: Path, skip_broken: bool) -> tuple[DataIndex, TrainResult]:
    index, val = open_train_data(root, None, skip_broken=skip_broken)
    return index, train(RECIPE, index, val, out, skip_broken=skip_broken, progress=False)


def predicted(detector: DenseDetector, root: Path) -> Prediction:
    images = [root / "images" / name for name in ("a.png", "b.jpg")]  # one of them is broken
    return predict(detector, images, root / "out")


@pytest.mark.parametrize("case", [*broken_inputs.CASES, *broken_formats.CASES], ids=str)
def test_check_train_and_predict(case: Case, tmp_path: Path, detector: DenseDetector) -> None:
    root = tmp_path / "data"
    case.write(root)
    case.break_it(root)
    root = root / case.place

    report, messages = checked(root)
    if case.fault:
        assert any(names_both(message, case) for message in messages), messages
    assert case.refused == (report is None or not report.ok) or not case.refused

    if case.refused:
        with pytest.raises(UsageError) as caught:
            trained(root, tmp_path / "strict", skip_broken=False)
        assert names_both(str(caught.value), case), caught.value
    if case.left is None:
        with pytest.raises(UsageError) as caught:
            trained(root, tmp_path / "skip", skip_broken=True)
        assert names_both(str(caught.value), case) or "no picture is left" in str(caught.value)
    else:
        index, result = trained(root, tmp_path / "skip", skip_broken=case.refused)
        assert report is not None
        unusable = report.left_out["train"].images
        boxes = len(index.boxes) - 2 * unusable
        assert (len(index) - unusable, boxes) == case.left
        told = [*index.skipped, *result.skipped]
        assert bool(told) == case.refused, told
        if case.refused:
            assert any(names_both(line, case) for line in told), told
            assert report.left_out["train"].records == len(index.skipped)

    if case.images:
        found = predicted(detector, root)
        unreadable = case.refused and "size" not in case.fault and not re.search("41x32|1x1|40x30", case.fault)
        assert len(found.drawings) == (1 if unreadable else 2)
        assert [names_both(line, case) for line in found.skipped] == [True] * unreadable


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=6),
    st.lists(st.floats(), max_size=5),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd"),
    "categories": ("id", "name"),
}
Mutation = Callable[[Path], None]


@st.composite
def records(draw: st.DrawFn) -> Mutation:
    """Drop, replace or repeat keys and records of the annotation file."""
    content = copy.deepcopy(COCO)
    for _ in range(draw(st.integers(1, 3))):
        section = draw(st.sampled_from(sorted(KEYS)))
        kind = draw(st.sampled_from(["drop", "replace", "duplicate", "drop record", "replace record"]))
        if not content[section]:
            continue
        row = draw(st.integers(0, len(content[section]) - 1))
        key = draw(st.sampled_from(KEYS[section]))
        if kind == "duplicate":
            content[section].append(copy.deepcopy(content[section][row]))
        elif kind == "drop record":
            del content[section][row]
        elif kind == "replace record":
            content[section][row] = draw(JUNK)
        elif isinstance(content[section][row], dict):
            content[section][row].pop(key, None)
            if kind == "replace":
                content[section][row][key] = draw(JUNK)
    return lambda root: (root / "annotations" / "train.json").write_text(json.dumps(content)) and None


@st.composite
def splices(draw: st.DrawFn) -> Mutation:
    """Replace, insert or cut bytes of a file."""
    file = draw(st.sampled_from(["annotations/train.json", "images/a.png", "images/b.jpg"]))
    size = len(json.dumps(COCO)) if file.endswith("json") else len(BYTES[Path(file).name])
    at, cut = draw(st.integers(0, size)), draw(st.sampled_from([0, 1, 2, 16, 200, size]))
    by = draw(st.binary(max_size=24))

    def splice(root: Path) -> None:
        data = (root / file).read_bytes()
        (root / file).write_bytes(data[:at] + by + data[at + cut :])

    return splice


def attempt(root: Path, out: Path, skip_broken: bool) -> tuple[DataIndex, TrainResult] | str:
    """What training made, or its refusal; any other exception fails the test."""
    try:
        return trained(root, out, skip_broken)
    except UsageError as error:
        return str(error)


def survives(mutate: Mutation) -> None:
    """Nothing but a UsageError comes out, and nothing is left out without a line that says so."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for name in ("save_state", "save_detector"):
            patch.setattr(run_module, name, lambda *_, **__: None)
        root = Path(folder) / "data"
        write_coco(root)
        mutate(root)
        report, messages = checked(root)
        strict = attempt(root, Path(folder) / "strict", skip_broken=False)
        if not isinstance(strict, str):
            assert report is not None
            seen = report.splits["train"]
            assert report.left_out["train"] == LeftOut(records=0, images=0)
            assert (len(strict[0]), len(strict[0].boxes)) == (len(seen), len(seen.boxes))
            return
        assert str(root) in strict
        assert report is None or not report.ok, (strict, messages)
        skipping = attempt(root, Path(folder) / "skip", skip_broken=True)
        if isinstance(skipping, str):
            assert str(root) in skipping
            return
        index, result = skipping
        assert report is not None
        assert len(index.skipped) == report.left_out["train"].records
        assert bool(result.skipped) == bool(report.left_out["train"].images)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(records())
def test_mutated_records(mutate: Mutation) -> None:
    survives(mutate)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(splices())
def test_spliced_files(mutate: Mutation) -> None:
    survives(mutate)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=1500, deadline=None)
@given(st.one_of(records(), splices()))
def test_many_mutations(mutate: Mutation) -> None:
    survives(mutate)


BY_NAME = {case.name: case for case in [*broken_inputs.CASES, *broken_formats.CASES]}
LINES = [  # (words before the path, case, exit code)
    (["data", "check"], "cut in the middle", 1),
    (["data", "check"], "annotation bbox = [2, nan, 20, 16]", 1),
    (["data", "check"], "picture: text named .jpg", 1),
    (["data", "check"], "VOC entity bomb", 1),
    (["data", "check"], "zip: a way out", 2),
    (["data", "check", "--json"], "YOLO line: class out of range", 1),
    (["train", "gfl_nano", "--data"], "brackets a hundred thousand deep", 2),
    (["train", "gfl_nano", "--data"], "annotation bbox = [2, 3, -20, 16]", 2),
    (["train", "gfl_nano", "--data"], "image file_name = 'gone.png'", 2),
    (["predict", "MODEL"], "picture: PNG of 100,000 x 100,000", 1),
    (["predict", "MODEL"], "picture: PNG with damaged data", 1),
    (["predict", "MODEL"], "picture: of 0 bytes", 1),
]


PROCESSES = (0, 6, 9)
"""Those that get a process of their own as well."""


def command_line(number: int, folder: Path) -> list[str]:
    """Write the data of a line of LINES; return the words after ``gfocal``."""
    words, name, _ = LINES[number]
    case, root = BY_NAME[name], folder / "data"
    case.write(root)
    case.break_it(root)
    given = [str(folder / "model.safetensors") if word == "MODEL" else word for word in words]
    if words[0] == "predict":
        return [*given, str(root / "images"), "--out", str(folder / "out")]
    return [*given, str(root / case.place)]


def assert_said(number: int, code: int, said: str) -> None:
    _, name, wanted = LINES[number]
    assert code == wanted, said
    assert "Traceback" not in said
    assert any(names_both(line, BY_NAME[name]) for line in said.splitlines()), said


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, detector: DenseDetector) -> Path:
    file = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_detector(file, detector.state_dict(), RECIPE, ("cat", "dog"), category_ids=[1, 2])
    return file


@pytest.mark.parametrize("number", range(len(LINES)), ids=[f"{words[0]}: {name}" for words, name, _ in LINES])
def test_the_command_line(number: int, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").symlink_to(model)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(app, command_line(number, tmp_path))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert_said(number, result.exit_code, result.output)


@pytest.mark.parametrize("number", PROCESSES)
def test_processes(number: int, model: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(model)
    program = "import runpy; runpy.run_module('gfocal', run_name='__main__', alter_sys=True)"
    process = Started(program, *command_line(number, tmp_path), environment={"COLUMNS": "200"}, cwd=tmp_path)
    said = "".join(process.communicate(timeout=50))
    assert_said(number, process.returncode, said)

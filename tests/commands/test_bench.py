"""`gfocal bench`: what its numbers are made of, and the processes that it asks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import gfocal
from gfocal.cli.app import app
from gfocal.commands.bench import bench as command
from gfocal.commands.bench.bench import bench_models, latency_of
from gfocal.commands.bench.records import Accuracy, BenchReport, Call, Cost, How, Job, Latency, Memory, Opened
from gfocal.commands.bench.subject import Subject
from gfocal.commands.bench.worker import Worker
from gfocal.commands.evaluate import evaluate_files
from gfocal.data.formats.open import open_dataset
from gfocal.data.index.rename import keep_classes, rename_classes
from gfocal.errors import BrokenInputError, GfocalError, UsageError
from gfocal.images.resizing import Resize
from gfocal.prediction.load import load_trained
from gfocal.utils.processor import processor_name, usual_threads
from gfocal.utils.timing import Ratio
from helpers.exporting import NAMES, checkpoint, written
from helpers.made_exports import INFO, graph, save
from helpers.small_runs import TINY

HOW = How(
    overrides=(),
    device="cpu",
    provider=None,
    threads=1,
    batch=1,
    resize=None,
    images=(),
    generated=(48, 64),
    data=None,
    split="val",
    samples=None,
)


def job(model: object, untrained: bool = False, **changes: Any) -> Job:
    return Job(str(model), untrained, replace(HOW, **changes))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def exported(model: Path) -> Path:
    detector, recipe, _ = load_trained(model)
    return written(model.parent, detector, recipe)[0]


@pytest.fixture(params=["torch", pytest.param("exported", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest, model: Path) -> Path:
    return model if request.param == "torch" else Path(request.getfixturevalue("exported"))


@pytest.fixture
def one_box(tmp_path: Path) -> Path:
    """An exported file that does nearly nothing, and needs no torch."""
    return save(tmp_path, graph(), INFO.to_text())


# --- statistics, by a process that is told what to say

OPENED = Opened(runtime="onnx", device="cpu", precision="fp32", bytes=10, tiles=False, fixed_batch=None)


class Told:
    """Stands in for a worker: its n-th call takes ``spent[label][n]`` milliseconds, half of it in the network."""

    spent: dict[str, list[float]]
    stops_at: int | None = None
    names: tuple[str, ...] = ("disc", "square", "triangle", "star", "ring", "cross")
    fails: GfocalError | None = None
    asked: list[tuple[str, str, object]]

    def __init__(self, label: str, job: Job, say: object) -> None:
        self.label, self.job, self.closed = label, job, False

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed = True

    def opened(self) -> Opened:
        return OPENED

    def ask(self, method: str, *args: Any, progress: object = None) -> object:
        Told.asked.append((self.label, method, args[0] if args else None))
        if method == "call":
            if Told.stops_at is not None and sum(how == "call" for _, how, _ in Told.asked) > Told.stops_at:
                Told.stops_at = None
                raise KeyboardInterrupt
            ms = Told.spent[self.label][args[0]]
            return Call(ms, ms / 2, (320, 32 * (args[0] + 1)), 3)
        if method == "names":
            return Told.names
        if method == "accuracy":
            if Told.fails is not None:
                raise Told.fails
            return Accuracy(0.5, 0.7, 9)
        return Memory(1000, None) if method == "memory" else Cost(7, 5)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> type[Told]:
    monkeypatch.setattr(command, "Worker", Told)
    monkeypatch.setattr(Told, "asked", [], raising=False)
    monkeypatch.setattr(Told, "stops_at", None)
    # Three rounds that do not count, then three that do; the machine is ten times slower in the last.
    warm = [1000.0] * 3
    monkeypatch.setattr(Told, "spent", {"a.onnx": [*warm, 10, 20, 300], "b.onnx": [*warm, 15, 30, 450]}, raising=False)
    return Told


def test_percentiles_by_hand() -> None:
    # Of 10, 20, 30, 40: the 50th lies between 20 and 30; the 90th at index 2.7, the 99th at 2.97. Half of it for each.
    found = latency_of([40, 10, 30, 20], 2)
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == pytest.approx((12.5, 18.5, 19.85))


def test_rows_by_hand(told: type[Told]) -> None:
    report = bench_models(["a.onnx", "b.onnx"], repeats=3, batch=2, threads=3)
    first, second = report.rows
    assert (report.rounds, report.batch, report.threads, report.signal) == (3, 2, 3, None)
    assert first.ratio == Ratio(1, 1, 1)
    assert second.ratio == Ratio(1.5, 1.5, 1.5), "within each round"
    assert first.latency == latency_of([10, 20, 300], 2)
    assert first.latency.p50_ms == 10, "of one image"
    assert first.network.p50_ms == 5
    assert first.images_per_second == 100
    assert (first.detections, first.size) == (1.5, (320, 192))
    assert (first.memory, first.cost, first.accuracy) == (Memory(1000, None), Cost(7, 5), None)


def test_models_take_turns_over_the_same_images_and_memory_comes_before_the_rest(told: type[Told]) -> None:
    bench_models(["a.onnx", "b.onnx"], repeats=3)
    calls = [(label, number) for label, method, number in told.asked if method == "call"]
    rounds = [calls[i : i + 2] for i in range(0, len(calls), 2)]
    assert [{number for _, number in one} for one in rounds] == [{i} for i in range(6)]
    assert all({label for label, _ in one} == {"a.onnx", "b.onnx"} for one in rounds)
    assert [method for _, method, _ in told.asked[12:]] == ["memory", "memory", "cost", "cost"]
    assert told.asked[-1] == ("b.onnx", "cost", (320, 192))


def test_seconds_decide_how_many_rounds(told: type[Told], monkeypatch: pytest.MonkeyPatch) -> None:
    told.spent = {"a.onnx": [1.0] * 100}
    clock = iter(float(i) for i in range(1000))
    monkeypatch.setattr(command.time, "monotonic", lambda: next(clock))
    assert bench_models(["a.onnx"], seconds=0).rounds == command.LEAST
    many = bench_models(["a.onnx"], seconds=30).rounds
    assert command.LEAST < many < 30


def test_what_was_measured_before_ctrl_c_is_not_lost(told: type[Told]) -> None:
    told.stops_at = 9  # in the second round that counts
    report = bench_models(["a.onnx", "b.onnx"], repeats=3)
    assert (report.signal, report.rounds) == (signal.SIGINT, 1)
    assert [row.latency.p50_ms for row in report.rows] == [10, 15]
    assert report.rows[0].memory == Memory(1000, None)
    assert report.rows[0].cost is None


def test_without_a_whole_round_there_is_nothing_to_tell(told: type[Told]) -> None:
    told.stops_at = 7
    with pytest.raises(KeyboardInterrupt):
        bench_models(["a.onnx", "b.onnx"], repeats=3)


def test_a_model_may_be_given_twice(told: type[Told]) -> None:
    told.spent |= {"a.onnx (2)": told.spent["a.onnx"]}
    report = bench_models(["a.onnx", "a.onnx"], repeats=3)
    assert [row.model for row in report.rows] == ["a.onnx", "a.onnx (2)"]
    assert report.rows[1].ratio.median == 1


def test_ap_of_each_where_there_are_data(told: type[Told], scenes: Path) -> None:
    report = bench_models(["a.onnx"], repeats=1, data=scenes)
    assert report.rows[0].accuracy == Accuracy(0.5, 0.7, 9)
    assert report.shown == f"4 images of {scenes}"


def test_other_classes_are_told_of_before_and_cost_no_timings(
    told: type[Told], scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Told, "names", ("cat", "disc"))
    asked_when_said: list[int] = []
    report = bench_models(["a.onnx"], repeats=3, data=scenes, say=lambda line: asked_when_said.append(len(told.asked)))
    assert asked_when_said[-1] == 1, "before the first call"
    assert not [method for _, method, _ in told.asked if method == "accuracy"]
    (row,) = report.rows
    assert (row.latency.p50_ms, row.accuracy) == (20, None)
    assert any(note.startswith("AP of a.onnx is not measured: the classes of ") for note in report.notes)


def test_an_image_that_cannot_be_read_costs_no_timings(
    told: type[Told], scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Told, "fails", BrokenInputError("x.jpg is broken", "x.jpg", "is broken"))
    report = bench_models(["a.onnx"], repeats=3, data=scenes)
    assert report.rows[0].latency.p50_ms == 20
    assert "AP of a.onnx is not measured: x.jpg is broken" in report.notes


@pytest.mark.parametrize(
    ("models", "options", "said"),
    [
        ([], {}, "give one MODEL"),
        (["a.onnx"], {"batch": 0}, "batch must be"),
        (["a.onnx"], {"repeats": 0}, "repeats must be"),
        (["a.onnx"], {"repeats": 3, "seconds": 3}, "not both"),
        (["a.onnx"], {"seconds": -1}, "seconds must be"),
        (["a.onnx"], {"seconds": float("nan")}, "seconds must be"),
        (["a.onnx"], {"threads": 0}, "threads must be"),
        (["a.onnx"], {"threads": 99_999_999}, "threads must be between 1 and 4096"),
        (["a.onnx"], {"samples": 0}, "samples must be"),
        (["a.onnx"], {"size": "31"}, "--size takes"),
        (["a.onnx"], {"size": "x320"}, "--size takes"),
        (["a.onnx"], {"size": "416x320"}, "pictures keep their shape .* give --size 320x416"),
        (["a.onnx"], {"size": "320x320x3"}, "--size takes"),
        (["a.onnx"], {"size": "100000"}, "--size takes"),
        (["a.onnx"], {"size": "٣٢٠٠٠"}, "--size takes"),
        (["a.onnx"], {"device": "cpu"}, "--device and --set are for models of torch"),
        (["a.onnx"], {"overrides": ["a=1"]}, "--device and --set are for models of torch"),
        (["gfl_nano"], {"provider": "cpu"}, "--provider is for exported files"),
        (["gfl_nano"], {"device": "tpu"}, "--device is cpu or cuda"),
        (["gfl_nanoo"], {}, "the nearest recipe is gfl_nano"),
        (["a.onnx"], {"data": Path("nowhere")}, "nowhere"),
        (["a.onnx"], {"split": "holidays", "data": Path("nowhere")}, "nowhere|split"),
    ],
)
def test_wrong_options_are_refused_before_any_process_starts(
    models: list[str], options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "Worker", None)
    with pytest.raises(UsageError, match=said):
        bench_models(models, **options)


# --- a model that is measured


def test_it_finds_what_predict_finds_and_the_network_is_part_of_it(either: Path) -> None:
    subject = Subject(job(either))
    call = subject.call(0)
    detector = gfocal.load(either)
    assert call.detections == len(detector.predict(subject.images[0])) > 0
    assert 0 < call.network_ms < call.ms
    assert call.size == (64, 64)
    assert subject.call(1).detections == len(detector.predict(subject.images[1]))


def test_batches_go_round_the_images(one_box: Path) -> None:
    subject = Subject(job(one_box, batch=3))
    seen: list[list[int]] = []
    images = subject.images
    subject._find = lambda batch: seen.append([next(i for i, o in enumerate(images) if o is b) for b in batch]) or []
    for number in range(3):
        subject.call(number)
    assert seen == [[0, 1, 2], [3, 0, 1], [2, 3, 0]]


def test_a_batch_costs_one_run(either: Path) -> None:
    subject = Subject(job(either, batch=3))
    detector = gfocal.load(either)
    assert subject.call(0).detections == sum(len(detector.predict(image)) for image in subject.images[:3])


def test_the_size_that_is_asked_for_is_the_size_that_enters(either: Path) -> None:
    wide = Resize("short_long", short_side=96, long_side=160)
    assert Subject(job(either, resize=wide, generated=(96, 160))).call(0).size == (96, 160)


def test_a_static_file_takes_its_size_alone(tmp_path: Path) -> None:
    info = replace(INFO, height=64, width=64, resize=replace(INFO.resize, kind="square", size=64))
    file = save(tmp_path, graph(), info.to_text())
    assert Subject(job(file, resize=Resize("square", size=64), generated=(64, 64))).call(0).size == (64, 64)
    with pytest.raises(UsageError, match="takes images of 64x64 pixels alone, not 32x32"):
        Subject(job(file, resize=Resize("square", size=32), generated=(32, 32)))


def test_flops_and_parameters_of_a_file_are_those_of_its_recipe(model: Path, either: Path) -> None:
    ours = Subject(job(either)).cost((64, 64))
    assert ours.parameters == sum(p.numel() for p in load_trained(model)[0].parameters())
    assert ours.flops is not None
    assert Subject(job(model)).cost((128, 64)).flops == 2 * ours.flops


@pytest.mark.parametrize(
    "recipe",
    [{}, {"model": 3}, {"model": {"channels": 10**9}}, {"model": {"detector": "gfl", "head_depth": 10**9}}, {"a": "b"}],
)
def test_a_recipe_in_a_file_may_be_anything(recipe: dict[str, Any], tmp_path: Path) -> None:
    subject = Subject(job(save(tmp_path, graph(), replace(INFO, recipe=recipe).to_text())))
    assert subject.cost((64, 64)) == Cost(None, None), "none of them is that of so small a file"


def test_ap_is_that_of_eval(model: Path, either: Path, scenes: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    renamed = tmp_path / "own"
    index = rename_classes(open_dataset(scenes, "val"), dict(zip(("disc", "square", "star"), NAMES, strict=True)))
    gfocal.write_dataset({"val": keep_classes(index, NAMES)}, renamed, "coco")
    wanted = evaluate_files(str(model), renamed).evaluation.result
    found = Subject(job(either, data=renamed)).accuracy(lambda done, total: None, lines.append)
    assert (found.ap, found.images) == (pytest.approx(wanted.stats["AP"], abs=1e-6), 4)
    some = Subject(job(either, data=renamed, samples=2))
    assert some.accuracy(lambda done, total: None, lines.append).images == 2


def test_an_image_that_cannot_be_read(one_box: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    with pytest.raises(BrokenInputError, match=r"broken\.jpg"):
        Subject(job(one_box, images=(broken,)))


def test_what_is_broken_may_be_left_out(model: Path, scenes: Path, tmp_path: Path) -> None:
    index = rename_classes(open_dataset(scenes, "val"), dict(zip(("disc", "square", "star"), NAMES, strict=True)))
    gfocal.write_dataset({"val": keep_classes(index, NAMES)}, tmp_path / "own", "coco")
    files = open_dataset(tmp_path / "own", "val")
    paths = tuple(files.path(i) for i in range(len(files)))
    paths[1].write_bytes(b"no image")
    lines: list[str] = []
    subject = Subject(job(model, data=tmp_path / "own", images=paths, skip_broken=True))
    assert len(subject.images) == 3
    assert subject.accuracy(lambda done, total: None, lines.append).images == 3
    assert [line for line in lines if line.startswith("left out: ") and paths[1].name in line]
    with pytest.raises(BrokenInputError):
        Subject(job(model, images=paths[1:2], skip_broken=True))


def test_a_recipe_has_random_weights_and_no_file() -> None:
    keys = (*TINY, "data.resize.size=64")
    subject = Subject(job("gfl_nano", True, overrides=keys))
    assert subject.opened() == Opened(
        runtime="torch", device="cpu", precision="fp32", bytes=None, tiles=False, fixed_batch=None
    )
    assert subject.call(0).size == (64, 64)
    assert torch.get_num_threads() == 1


def test_tiles_are_timed_as_they_are_used() -> None:
    keys = (*TINY, "data.resize.size=64", "data.tile=64", "predict.score_threshold=0")
    subject = Subject(job("gfl_nano", True, overrides=keys, generated=(64, 128)))
    assert subject.opened().tiles
    entered = []
    subject.model.detector.register_forward_pre_hook(lambda module, given: entered.append(given[0].shape[0]))  # type: ignore[union-attr]
    subject.call(0)
    assert sum(entered) > 2


def test_memory_grows_with_what_is_held() -> None:
    source = """
import numpy as np
from gfocal.commands.bench.subject import peak_of_process
before = peak_of_process()
np.ones(100 * 2**20, np.uint8)
print(peak_of_process() - before)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert 95 * 2**20 < int(done.stdout) < 120 * 2**20


# --- processes


def test_processes_answer_and_leave_nothing(one_box: Path) -> None:
    lines: list[str] = []
    with Worker("one", job(one_box), lines.append) as worker:
        assert worker.opened().runtime == "onnx"
        call = worker.ask("call", 0)
        assert (call.detections, call.size) == (1, (64, 64))
        with pytest.raises(UsageError, match="AP needs --data"):
            worker.ask("accuracy")
        memory = worker.ask("memory")
        assert 20 * 2**20 < memory.process < 400 * 2**20, "without torch, which takes more"
        process = worker._process
    assert process.exitcode == 0


def test_one_that_is_killed_is_told_of(one_box: Path) -> None:
    with Worker("one", job(one_box), print) as worker:
        worker.opened()
        os.kill(worker._process.pid or 0, signal.SIGKILL)
        with pytest.raises(GfocalError, match=r"the process of one has ended \(signal 9\); the memory may"):
            worker.ask("call", 0)


def test_one_that_cannot_open_its_model_says_why(tmp_path: Path) -> None:
    with Worker("one", job(tmp_path / "no.onnx"), print) as worker:
        with pytest.raises(UsageError, match="there is no exported file"):
            worker.opened()
        process = worker._process
    assert not process.is_alive()


@pytest.mark.slow
def test_the_command(model: Path, one_box: Path) -> None:
    words = ["bench", str(model), str(one_box), "--repeats", "3", "--json", "--threads", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert [row["model"] for row in content["rows"]] == [str(model), str(one_box)]
    ours, theirs = content["rows"]
    assert (ours["opened"]["runtime"], theirs["opened"]["runtime"]) == ("torch", "onnx")
    assert ours["opened"]["bytes"] == model.stat().st_size
    assert ours["memory"]["process"] > theirs["memory"]["process"] > 0
    assert theirs["cost"] == {"flops": None, "parameters": None}, "its recipe is empty"
    assert ours["latency"]["p50_ms"] <= ours["latency"]["p90_ms"] <= ours["latency"]["p99_ms"]
    assert content["processor"] == processor_name()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs groups of processes")
def test_ctrl_c_shows_what_there_is(one_box: Path) -> None:
    # Where there is no terminal, progress is told every now and then: more often, or this test would wait for it.
    source = "from gfocal.utils import progress; progress._QUIET_SECONDS = 0.3; from gfocal.cli import main; main()"
    command_line = [sys.executable, "-c", source, "bench", str(one_box), "--seconds", "600"]
    with subprocess.Popen(
        command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        errors = list[str]()
        assert process.stderr is not None
        for line in process.stderr:
            errors.append(line)
            if line.startswith("measuring"):
                break
        os.killpg(process.pid, signal.SIGINT)
        out, rest = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "images/s" in out
    assert "error: interrupted: this is what was measured by then" in rest


# --- what people see


@pytest.fixture
def report(told: type[Told], scenes: Path) -> BenchReport:
    return bench_models(["a.onnx", "b.onnx"], repeats=3, data=scenes)


def test_the_tables(report: BenchReport, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from gfocal.cli.tables.bench import print_bench

    monkeypatch.setenv("COLUMNS", "80")
    hostile = replace(report.rows[1], model="evil\x1b[2J.onnx", accuracy=None, memory=None, cost=None)
    print_bench(replace(report, rows=(report.rows[0], hostile)))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "1.50 (1.50-1.50)" in out
    assert "3 rounds: p99 is next to the longest" in out
    assert ["a.onnx", "0.5000", "0.7000", "9"] in [line.split() for line in out.splitlines()]
    assert Latency(20, 244, 294.4).p50_ms == report.rows[0].latency.p50_ms


def test_threads_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7,2")
    assert usual_threads() == 7
    monkeypatch.setenv("OMP_NUM_THREADS", "99999999")
    assert usual_threads() == 4096
    for nothing in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", nothing)
        assert usual_threads() >= 1

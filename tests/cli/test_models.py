"""``gfocal models``, and names where a MODEL goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from gfocal.catalogue import entries
from gfocal.cli.app import app
from gfocal.data.scenes.generate import make_scenes
from helpers.file_server import FileServer, Served, running
from helpers.published_files import CLOSED, entry, nanodet_file


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GFOCAL_MIRROR", "GFOCAL_OFFLINE", "GFOCAL_YES", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("GFOCAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A catalogue of three: open, closed, and not readable."""
    with running(FileServer()) as own:
        own.files["/w.pth"] = Served(nanodet_file())
        several = (
            entry(f"{own.url}/w.pth", aliases=("Small-R1",), input="320 x 320"),
            entry(f"{own.url}/closed.pth", "closed_r1_coco", source=CLOSED),
            entry(f"{own.url}/dcn.pth", "dcn_r1_coco", state="needs", reason="DCNv2", row="", ap=None, test_dev=50),
        )
        own.files["/closed.pth"] = own.files["/w.pth"]
        monkeypatch.setattr(entries, "published", lambda: several)
        yield own


def call(*words: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def refused(*words: str | Path, code: int = 2) -> str:
    result = call(*words, code=code)
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last


def test_the_list_has_what_can_be_used(server: FileServer) -> None:
    lines = call("models").stdout.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["name", "AP", "detector,", "backbone", "input", "state"],
        ["small_r1_coco", "20.5", "NanoDet-m,", "ShuffleNetV2-1.0x", "320", "x", "320", "reads"],
        ["closed_r1_coco", "20.5", "NanoDet-m,", "ShuffleNetV2-1.0x", "reads,", "NC"],
    ]
    assert "NC: the licence forbids commercial use: CC BY-NC 4.0" in lines
    assert "licence of the others: Apache-2.0" in lines
    assert "1 more that gfocal cannot read: --all" in lines
    assert server.asked == []


def test_all_of_it(server: FileServer) -> None:
    shown = call("models", "--all").stdout
    assert "dcn_r1_coco     50.0*" in shown
    assert "needs: not readable yet" in shown
    assert "cannot read: --all" not in shown


def test_words_filter_the_list(server: FileServer) -> None:
    shown = call("models", "nanodet", "by-nc").stdout
    assert "closed_r1_coco" in shown
    assert "small_r1_coco" not in shown
    assert "licence of the others" not in shown
    assert "no published weights have nanodet and yolo" in refused("models", "nanodet", "yolo")
    assert "published weights of nearly that name: small_r1_coco" in refused("models", "smal_r1_coco")


def test_everything_about_one(server: FileServer, home: Path) -> None:
    shown = call("models", "small-r1").stdout
    for line in (
        "name:         small_r1_coco",
        "also called:  Small-R1",
        "AP:           20.5 (COCO val2017, AP)",
        "licence:      Apache-2.0; of the repository, which does not name the weights apart",
        f"address:      {server.url}/w.pth",
        "SHA-256:      not published",
        "use:          gfocal predict small_r1_coco PICTURES",
        "              gfocal train gfl_nano --data DATA --init small_r1_coco",
        "fetch now:    gfocal models small_r1_coco --download",
    ):
        assert line in shown.splitlines()
    assert f"put it at {home / 'downloads' / 'w.pth'}" in shown
    shown = call("models", "dcn_r1_coco").stdout
    assert "gfocal cannot read dcn_r1_coco yet: missing is DCNv2" in shown
    assert "gfocal predict" not in shown


def test_a_list_for_programs(server: FileServer) -> None:
    found = json.loads(call("models", "--json", "--all").stdout)["models"]
    assert [each["name"] for each in found] == ["small_r1_coco", "closed_r1_coco", "dcn_r1_coco"]
    one = json.loads(call("models", "closed_r1_coco", "--json").stdout)
    assert one == found[1]
    assert one["source"]["noncommercial"] is True
    assert one["asked"] == [f"{server.url}/closed.pth"]
    assert (one["folder"], one["readable"]) == (None, True)
    assert json.loads(call("models", "dcn", "--json").stdout) == {"models": []}, "it is there, and cannot be read"
    for more in ((), ("--json",), ("--json", "--all")):
        assert "no published weights have nothing in their line" in refused("models", "nothing", *more)


def test_download_list_and_remove(server: FileServer, home: Path) -> None:
    result = call("models", "small_r1_coco", "--download")
    assert result.stdout == f"small_r1_coco: {home / 'models' / 'small_r1_coco'}\n"
    assert "licence: Apache-2.0" in result.stderr
    assert " here" in call("models", "small").stdout
    assert f"here:         {home / 'models' / 'small_r1_coco'}" in call("models", "small_r1_coco").stdout
    listed = call("models", "--downloaded").stdout.splitlines()
    assert listed[0].startswith("small_r1_coco  3.9 MB  (Apache-2.0, fetched 20")
    assert listed[1] == f"3.9 MB in {home} (GFOCAL_HOME)"
    found = json.loads(call("models", "--downloaded", "--json").stdout)
    assert [each["record"]["licence"] for each in found["downloaded"]] == ["Apache-2.0"]
    assert call("models", "--remove", "small_r1_coco").stdout == "removed small_r1_coco: 3.9 MB\n"
    assert "there is nothing of small_r1_coco" in refused("models", "small_r1_coco", "--remove")
    assert call("models", "--downloaded").stdout == f"0.0 MB in {home} (GFOCAL_HOME)\n"


def test_closed_weights_want_a_yes(server: FileServer) -> None:
    line = refused("models", "closed_r1_coco", "--download")
    assert "gfocal models closed_r1_coco --download --yes" in line
    assert server.asked == []
    call("models", "closed_r1_coco", "--download", "--yes")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--download",), "--download wants names of weights"),
        (("--remove",), "--remove wants names of weights"),
        (("small_r1_coco", "--remove", "--download"), "--download and --remove do not go together"),
        (("small", "--download"), "there are no published weights small"),
        (("dcn_r1_coco", "--download"), "missing is DCNv2"),
    ],
)
def test_what_does_not_go(server: FileServer, words: tuple[str, ...], expected: str) -> None:
    assert expected in refused("models", *words)


def test_what_is_gone_is_a_failure_and_no_wrong_use(server: FileServer) -> None:
    server.files.clear()
    assert "by hand: fetch it with a browser" in refused("models", "small_r1_coco", "--download", code=1)


def test_predict_takes_a_name(server: FileServer, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), (200, 100, 50)).save(tmp_path / "street.jpg")
    result = call("predict", "small_r1_coco", tmp_path / "street.jpg", "-o", tmp_path / "out")
    assert result.stderr.startswith("small_r1_coco: NanoDet-m")
    assert (tmp_path / "out" / "predictions.json").is_file()


def test_eval_takes_a_name(server: FileServer, tmp_path: Path) -> None:
    make_scenes(tmp_path / "data", train=4, val=2, size=64)
    renames = ("--rename", "disc=person", "--rename", "star=car", "--only-common")
    measured = json.loads(call("eval", "small_r1_coco", "--data", tmp_path / "data", *renames, "--json").stdout)
    assert measured["model"].endswith("models/small_r1_coco/best.safetensors")


@pytest.mark.slow  # two trainings
def test_training_takes_a_name_and_continues_without_it(server: FileServer, tmp_path: Path) -> None:
    make_scenes(tmp_path / "data", train=4, val=2, size=64)
    keys = ("data.resize.size=64", "data.workers=0", "schedule.batch_size=4", "runtime.threads=1")
    sets = [word for key in keys for word in ("--set", key)]
    more = ("--epochs", "1", "--no-plots", "--out", tmp_path / "run")
    call("train", "gfl_nano", "--data", tmp_path / "data", "--init", "small_r1_coco", *sets, *more)
    again = call("train", "gfl_nano", "--data", tmp_path / "data", "--init", "small_r1_coco", *sets, *more, "--resume")
    assert "continues with its own weights; it began with" in again.stderr
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("train", "gfl_nano", "--data", "nowhere"),
        ("find-lr", "gfl_nano", "--data", "nowhere"),
        ("study", "table3", "--data", "scenes"),
    ],
)
def test_a_near_miss_of_init_is_told_before_any_work(server: FileServer, words: tuple[str, ...]) -> None:
    line = refused(*words, "--init", "small_r1_coc")
    assert "no run folder or checkpoint small_r1_coc; published weights of nearly that name: small_r1_coco" in line

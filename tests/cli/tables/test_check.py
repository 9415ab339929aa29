"""What a person reads of a check, on terminals of several widths and without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.text import Text

from gfocal.cli.tables.check import print_check
from gfocal.data.checks.report import LeftOut, Report
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import SEVERITIES, Finding, Kind
from helpers.made_index import made_index

LONG = "images/train/2024-05-01T12_33_55_camera_front_left_sequence_000123_frame_000045678.jpg"
WIDE = "航空写真/東京都千代田区丸の内一丁目_画像_0001.jpg"
FILE = Path("/data/a folder with a long name/annotations/instances_train.json")


def report(index: DataIndex | None = None) -> Report:
    """A finding of every kind, their names short, long and of letters of double width in turn."""
    names = ["1.jpg", LONG, WIDE]
    found = [Finding(kind, "train", FILE, "odd", image=names[n % 3]) for n, kind in enumerate(Kind)]
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    index = index or made_index([(640, 480, [(1, 2, 30, 40)]), (640, 480, [])])
    splits = {"train": index, "val": index.take([0]), "test": index.take([1])}
    return Report(Path("data"), splits, {}, found, [], ["understood"], {"train": LeftOut(2, 1)})


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, *of: DataIndex) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    print_check(report(*of))
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [45, 60, 71, 72, 80, 99, 100, 160])
def test_tables_fit_and_break_no_name_of_a_kind(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = printed(capsys, monkeypatch, width).splitlines()
    tables = [line for line in lines if line.startswith(("┃", "│", "┏", "├", "└"))]
    assert max(map(cell_len, tables)) <= width
    assert max(map(cell_len, tables)) > 0.75 * width or width > 100
    words = " ".join(" ".join(tables).replace("│", " ").split())
    assert [kind for kind in Kind if f" {kind.value} " not in words] == []
    assert "1.jpg" in words
    if width >= 60:  # the end of a name tells two of them apart
        assert "…" in words
        assert all(end in words for end in ("5678.jpg", "0001.jpg"))
    if width < 100:
        assert "--fix: left out with its boxes" in words or width < 60


def test_without_a_terminal_each_line_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = printed(capsys, monkeypatch, 40)
    assert f"error picture-missing: {FILE}: odd" in out.splitlines()
    assert "\x1b" not in out


def test_on_a_terminal_lines_are_wrapped_between_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    lines = Text.from_ansi(printed(capsys, monkeypatch, 60)).plain.splitlines()
    assert max(map(cell_len, lines)) <= 60
    start = next(n for n, line in enumerate(lines) if "picture-missing:" in line and "│" not in line)
    assert " ".join(" ".join(lines[start : start + 3]).split()).startswith(f"error picture-missing: {FILE}: odd")


def test_what_the_table_cannot_say_is_said_below_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(capsys, monkeypatch, 80).splitlines()
    assert f"warning many-objects: {FILE}: odd" in lines
    assert not [line for line in lines if line.startswith("warning box-tiny:")]


def test_boxes_and_images_of_each_class(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    index = made_index([(64, 64, [(1, 2, 30, 40), (5, 5, 9, 9), (7, 7, 9, 9)]), (64, 64, [(2, 2, 8, 8)])])
    index = index.replace(labels=[1, 1, 0, 1], names=["cup", "赤血球"], category_ids=[3, 7])
    rows = [line for line in printed(capsys, monkeypatch, 60, index).splitlines() if line.startswith("│")]
    assert [row.replace("│", "|").split("|")[1:-1] for row in rows[:2]] == [
        [f" 赤血球{' ' * 2} ", " 3 (2) ", " 2 (1) ", " 1 (1) "],
        [f" cup{' ' * 5} ", " 1 (1) ", " 1 (1) ", "     0 "],
    ]


def test_names_do_not_command_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    index = made_index([(64, 64, [(1, 2, 30, 40)]), (64, 64, [])]).replace(names=["a\x1b[31mred"])
    evil = Finding(Kind.IMAGE_MISSING, "train", Path("x\x1b]0;title\x07.json"), "odd\r\nerror: none", image="\x1b[2J")
    monkeypatch.setenv("COLUMNS", "80")
    print_check(replace(report(index), findings=[evil]))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\r" not in out
    assert "a\\x1b[31mred" in out
    assert "x\\x1b]0;title\\x07.json: odd\\r\\nerror: none" in out


def test_of_many_classes_the_commonest_and_the_rarest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = [(1.0, 1.0, 9.0, 9.0)] * 3160  # 1 of the first class, 2 of the second, ... 79
    index = made_index([(64, 64, boxes), (64, 64, [])])
    labels = [label for label in range(80) for _ in range(label)]
    index = index.replace(labels=labels, names=[f"class {n}" for n in range(80)], category_ids=range(80))
    rows = [
        line.split("│")[1].strip() for line in printed(capsys, monkeypatch, 80, index).splitlines() if "│ class" in line
    ]
    assert rows[:20] == [f"class {n}" for n in range(79, 59, -1)]
    assert rows[20:30] == [f"class {n}" for n in range(9, -1, -1)]
    print_check(report(index), every=True)
    assert "class 30" in capsys.readouterr().out

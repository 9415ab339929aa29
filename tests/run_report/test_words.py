"""What the page says in words: shares, commands, the course of a training."""

from __future__ import annotations

import math

import pytest

from gfocal.run_report.blocks import Figures, Words
from gfocal.run_report.sections.provenance import command_line
from gfocal.run_report.sections.training import training_section
from gfocal.run_report.sections.verdict import in_ten
from gfocal.runs.curves import History


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((0.9, 0.61), ["9 of 10", "6 of 10"]),
        ((0.9, 0.65), ["90 of 100", "65 of 100"]),
        ((0.999, 0.3), ["99 of 100", "30 of 100"]),
        ((0.0004, 0.3), ["1 of 100", "30 of 100"]),
        ((1.0, 0.0), ["all", "none"]),
        ((0.333, 0.328), ["33 of 100", "33 of 100"]),
    ],
)
def test_neither_all_nor_none_is_said_where_it_is_not_true(parts: tuple[float, float], words: list[str]) -> None:
    assert in_ten(*parts) == words


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (["/a/bin/gfocal", "train", "gfl_nano", "--data", "my pictures"], "gfocal train gfl_nano --data 'my pictures'"),
        (["/a/src/gfocal/__main__.py", "train", "x"], "gfocal train x"),
        (["my train.py", "$HOME;rm"], "python 'my train.py' '$HOME;rm'"),
        (["/a/other/__main__.py"], "python /a/other/__main__.py"),
    ],
)
def test_commands_can_be_pasted(typed: list[str], shown: str) -> None:
    assert command_line(typed) == shown


def test_a_training_that_ran_off() -> None:
    """JSON has null for what is not finite, and a hand may have written anything."""
    lines = [
        {"loss": None, "cls": "x", "lr": 0.1},
        {"loss": math.nan, "cls": None},
        {"loss": 1e30, "cls": [1], "lr": 0},
    ]
    history = History(steps=[1, 2, 3], train=lines, measured=[(3, {"AP": None})], epochs=[(3, 1)])
    section = training_section(history, [{"outcome": 7, "steps": "many", "started": None}])
    (figures,) = (block for block in section.blocks if isinstance(block, Figures))
    assert [figure.title for figure in figures.figures] == ["Loss", "Learning rate"]
    assert section.blocks[0] == Words("Begun at an unknown time. The last call: 7.")


def test_what_is_not_known_is_said() -> None:
    assert training_section(None, []).blocks == [
        Words("This is a file of weights without its run folder: how it was trained is not known here.")
    ]
    (words,) = training_section(History(), []).blocks
    assert isinstance(words, Words)
    assert "has no metrics.jsonl that can be read" in words.text

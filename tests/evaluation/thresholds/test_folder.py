"""The folder that shows how good a detector is: what is in it, and what it replaces."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gfocal.errors import UsageError
from gfocal.evaluation import Findings, confusion_at, write_evaluation
from gfocal.evaluation.thresholds.confusion import judge
from gfocal.evaluation.thresholds.examples import draw_example
from gfocal.evaluation.thresholds.matching import match
from gfocal.images.io import to_image
from gfocal.utils.locks import InUse, is_empty, locked_folder
from helpers.holding import held_by_another
from helpers.made_findings import by_hand

A, B, FAR = (0.0, 0.0, 100.0, 100.0), (200.0, 0.0, 300.0, 100.0), (400.0, 300.0, 500.0, 400.0)
SIZE = (600, 420)
BLUE, ORANGE, PINK = (30, 120, 255), (255, 125, 0), (235, 60, 200)


@pytest.fixture
def street() -> Findings:
    return by_hand(
        ["cat", "dog"],
        [([(A, 0), (B, 1)], [(A, 0, 0.9), (B, 0, 0.8), (FAR, 1, 0.7)]), ([(A, 0)], [(A, 0, 0.95)]), ([(B, 1)], [])],
    )


@pytest.fixture
def path(tmp_path: Path) -> object:
    for row in range(3):
        Image.new("RGB", SIZE, (10, 10, 10)).save(tmp_path / f"{row}.png")
    return lambda row: tmp_path / f"{row}.png"


def test_all_of_it(street: Findings, path: object, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "plots"
    files = write_evaluation(out, street, path, score=0.5, examples=1, title="a model")  # type: ignore[arg-type]
    names = ["precision-recall.png", "f1.png", "confusion.png", "worst-1-0.jpg", "random-1-1.jpg", "evaluation.json"]
    assert [file.name for file in files][:4] == names[:4]
    assert {file.name for file in files} == {file.name for file in out.iterdir()}
    for file in files:
        if file.suffix != ".json":
            with Image.open(file) as image:
                image.load()
                assert min(image.size) > 400
    content = json.loads((out / "evaluation.json").read_text())
    assert content["confusion"] == confusion_at(street, 0.5).to_dict()
    assert content["confusion"]["matrix"] == [[2, 0, 0], [1, 0, 1], [0, 1, 0]]
    assert content["examples"][0]["counts"] == {"right": 1, "missed": 0, "confused": 1, "wrong": 1}
    curves = content["curves"]
    assert curves["thresholds"] == [n / 100 for n in range(100)]
    assert curves["micro"]["precision"][85] == 1.0  # the two cats at .9 and .95
    assert curves["per_class"]["cat"]["recall"][93] == 0.5
    assert curves["per_class"]["dog"]["precision"][75] is None


def test_one_process_at_a_time(street: Findings, path: object, tmp_path: Path) -> None:
    out = tmp_path / "run" / "evaluation"
    with held_by_another(locked_folder(out)):
        with pytest.raises(InUse, match="evaluation is in use by"):
            write_evaluation(out, street, path, examples=0)  # type: ignore[arg-type]
        assert is_empty(out)
    with locked_folder(tmp_path / "run"), locked_folder(out):
        files = write_evaluation(out, street, path, examples=0)  # type: ignore[arg-type]
    assert sorted(out.iterdir()) == sorted(files)


def test_what_an_earlier_call_wrote_is_replaced_and_nothing_else(
    street: Findings, path: object, tmp_path: Path
) -> None:
    out = tmp_path / "plots"
    write_evaluation(out, street, path, examples=3)  # type: ignore[arg-type]
    (out / "notes.txt").write_text("mine")
    write_evaluation(out, street, path, examples=0)  # type: ignore[arg-type]
    assert {file.name for file in out.iterdir()} == {
        "precision-recall.png",
        "f1.png",
        "confusion.png",
        "evaluation.json",
        "notes.txt",
    }
    foreign = tmp_path / "other"
    foreign.mkdir()
    (foreign / "confusion.png").write_bytes(b"a plot of somebody else")
    with pytest.raises(UsageError, match=r"confusion.png was not written by an evaluation; name another folder"):
        write_evaluation(foreign, street, path)  # type: ignore[arg-type]
    assert [file.name for file in foreign.iterdir()] == ["confusion.png"]
    with pytest.raises(UsageError, match="no folder, is there already"):
        write_evaluation(foreign / "confusion.png", street, path)  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [1, 13, 80])
def test_any_number_of_classes_and_no_objects_can_be_drawn(classes: int, tmp_path: Path) -> None:
    names = [f"class {n}" for n in range(classes)]
    some = [([(A, 0)], [(A, classes - 1, 0.9)])]
    for number, images in enumerate(([], [([], [])], [([(A, 0)], [])], [([], [(A, 0, 0.5)])], some)):
        if classes > 1 and images is not some:
            continue
        files = write_evaluation(tmp_path / str(number), by_hand(names, images), Path, examples=0)
        assert len(files) == 4


def test_whatever_classes_and_files_are_called(tmp_path: Path) -> None:
    names = ["猫", "$a_{", "_hidden", "two\nlines", "x" * 300, os.fsdecode(b"\xff\xfe"), ""]
    file = tmp_path / f"{'長' * 80}\nx.png"
    Image.new("RGB", SIZE).save(file)
    found = by_hand(names, [([(A, n) for n in range(7)], [(A, n, 0.9) for n in range(7)] + [(FAR, 3, 0.8)])])
    files = write_evaluation(tmp_path / "out", found, lambda _: file, title=r"a $model_{")
    assert len(files) == 5
    odd = tmp_path / os.fsdecode(b"\xff$.png")
    Image.new("RGB", SIZE).save(odd)
    assert len(write_evaluation(tmp_path / "out", found, lambda _: odd)) == 5


def colours(image: Image.Image, half: int) -> set[tuple[int, ...]]:
    """Which of the three are in one half of an example: the truth (0) or the prediction (1)."""
    table = np.asarray(image)[60:, half * (image.width // 2) : (half + 1) * (image.width // 2)]
    return {colour for colour in (BLUE, ORANGE, PINK) if (table == colour).all(-1).any()}


def example(found: Findings, row: int, size: tuple[int, int] = SIZE, grey: int = 10) -> Image.Image:
    image = to_image(Image.new("RGB", size, (grey, grey, grey)))
    return draw_example(image, found, judge(found, match(found), 0.5), row, "a heading")


def test_an_example_shows_what_is_right_missed_wrong_and_confused(street: Findings) -> None:
    first, second, third = (example(street, row) for row in range(3))
    assert colours(first, 0) == {BLUE, PINK}
    assert colours(first, 1) == {BLUE, PINK, ORANGE}
    assert colours(second, 0) == colours(second, 1) == {BLUE}
    assert colours(third, 0) == {ORANGE}
    assert colours(third, 1) == set()


@pytest.mark.parametrize(
    ("size", "halves"), [((64, 48), (576, 432)), ((4000, 3000), (1400, 1050)), ((1000, 200), None)]
)
def test_examples_of_small_large_and_wide_images(size: tuple[int, int], halves: tuple[int, int] | None) -> None:
    share = (size[0] / 2, size[1] / 2)
    found = by_hand(["cat"], [([((0.0, 0.0, *share), 0)], [((0.0, 0.0, *share), 0, 0.9)])])
    drawn = example(found, 0, size, grey=250)
    if halves is None:  # one above the other
        assert drawn.width == 1000
        assert drawn.height > 400
    else:
        assert drawn.width == 2 * halves[0] + 8
        assert drawn.height - halves[1] < 120

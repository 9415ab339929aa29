"""The figure of classes: every kind of name, no class or many, for light and for dark pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gfocal.analysis.class_plots import MOST, classes_figure, draw_classes
from gfocal.data.checks.classes import ClassCount


def counts(names: list[str], most: int = 1000) -> list[ClassCount]:
    return [ClassCount(name, n, most // (n + 1) // 2, most // (n + 1)) for n, name in enumerate(names)]


ODD = ["N/A", "N/A", "", "$x^2_{$", "赤血球の細胞と白血球", "a\x1b[31m\nb", "\U0001f98a", "long " * 30, "_", "\ue000"]


@pytest.mark.parametrize("names", [[], ["cell"], ODD, [f"class {n}" for n in range(80)]], ids=["0", "1", "odd", "80"])
def test_it_can_be_drawn_for_both_pages(names: list[str], tmp_path: Path) -> None:
    splits = {"train": counts(names), "val": counts(names[1:], 0)}
    light, dark = draw_classes(tmp_path, splits, "bccd $1_{")
    for file, page in ((light, 255), (dark, 22)):
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert abs(int(np.median(pixels[..., 0])) - page) < 3
        assert pixels.std() > 3  # and something on it
    assert [light.name, dark.name] == ["classes.png", "classes-dark.png"]


def labels(figure: object) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]  # type: ignore[attr-defined]


def test_rows_are_classes_the_commonest_first() -> None:
    train = [ClassCount("cup", 1, 2, 3), ClassCount("cell", 2, 5, 50), ClassCount("none", 3, 0, 0)]
    figure = classes_figure({"train": train, "val": [ClassCount("cell", 7, 1, 1), ClassCount("new", 8, 2, 2)]}, "")
    assert labels(figure) == ["cell", "cup", "none", "new"]
    boxes, images = ([line.get_xydata().tolist() for line in panel.lines[:2]] for panel in figure.axes)
    assert boxes == [[[50, 0], [3, 1], [0, 2]], [[1, 0], [2, 3]]]
    assert images == [[[5, 0], [2, 1], [0, 2]], [[1, 0], [2, 3]]]


def test_of_very_many_classes_both_ends() -> None:
    figure = classes_figure({"train": counts([f"class {n}" for n in range(1203)], 10**6)}, "LVIS")
    shown = labels(figure)
    assert len(shown) == MOST
    assert (shown[0], shown[59], shown[60], shown[-1]) == ("class 0", "class 59", "class 1143", "class 1202")
    assert "1,083 classes between" in figure.get_suptitle()

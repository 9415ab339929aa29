"""Sizes from the heads of files, and what reading by threads leaves behind."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import pytest
from PIL import Image

from gfocal.data.formats.image_size import image_size, image_sizes
from gfocal.errors import BrokenInputError
from gfocal.utils.threads import in_threads


def turned(path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 30)).save(path, exif=exif)
    return path


@pytest.mark.parametrize(("orientation", "size"), [(1, (40, 30)), (3, (40, 30)), (6, (30, 40)), (9, (40, 30))])
def test_upright(tmp_path: Path, orientation: int, size: tuple[int, int]) -> None:
    file = turned(tmp_path / "a.jpg", orientation)
    assert image_size(file) == size
    assert image_size(file, apply_exif=False) == (40, 30)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    file = turned(tmp_path / "a.jpg", 6)
    good, bad, missing = image_sizes([file, tmp_path / "text.jpg", tmp_path / "none.jpg"])
    assert good == (30, 40)
    assert "no known picture format" in str(bad)
    assert "does not exist" in str(missing)
    with pytest.raises(BrokenInputError, match="does not exist"):
        image_size(tmp_path / "none.jpg")


def test_threads_leave_the_filters_of_warnings_as_they_were() -> None:
    def warn(seconds: float) -> float:
        time.sleep(seconds)
        warnings.warn("odd metadata", stacklevel=1)
        return seconds

    before = list(warnings.filters)
    waits = [0.002, 0.0, 0.001] * 50  # they begin and end in different orders
    seen = []
    for wait in in_threads(warn, waits):
        assert list(warnings.filters) == before, "who uses the results is warned as before"
        seen.append(wait)
    assert seen == waits
    assert list(warnings.filters) == before

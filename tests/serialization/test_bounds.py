"""Bounds: what the documentation says is what is refused."""

from __future__ import annotations

import pytest

from gfocal.recipe import base
from gfocal.recipe.reading import _DEEPEST, _LONGEST, _MOST_VALUES
from gfocal.runtime import build_limit
from gfocal.serialization import bounds
from gfocal.serialization.bounds import Unreadable, check_at_most
from helpers.paths import ROOT


def test_the_page_has_these_numbers() -> None:
    page = (ROOT / "docs" / "import.md").read_text(encoding="utf-8").partition("## Safety")[2]
    rows = [line for line in page.splitlines() if line.startswith("|")]
    expected = [
        ("header", f"{bounds.HEADER // 2**20} MiB"),
        ("pickle", f"{bounds.PROGRAM // 2**20} MiB, {bounds.OPCODES:,} steps"),
        ("`.pdparams`", f"{bounds.OPCODES:,} steps"),
        ("ONNX", f"{bounds.GRAPH // 2**20} MiB"),
        ("directory", f"{bounds.DIRECTORY // 2**20} MiB"),
        ("tensors |", f"together {bounds.SHARED} times the file"),
        ("dimensions", f"{bounds.DIMENSION:,}"),
        ("network", f"{build_limit.TIMES} times the numbers of the file and {build_limit.SPARE:,} more"),
        ("a recipe", f"{_LONGEST:,} characters, {_DEEPEST} sections deep, {_MOST_VALUES:,} values"),
    ]
    for name, words in expected:
        assert any(name in row and words in row for row in rows), name
    for kind, key in ((base.Channels, "`channels`"), (base.Layers, "`head_depth`"), (base.Bins, "`reg_max`")):
        most = next(part.le for part in kind.__metadata__[0].metadata if hasattr(part, "le"))  # type: ignore[attr-defined]
        assert f"{key} {most:,}" in page


def test_what_is_at_the_bound_is_read() -> None:
    check_at_most(10, 10, "{} of these")
    with pytest.raises(Unreadable, match="1,100 of these, and at most 1,000 are read"):
        check_at_most(1100, 1000, "{} of these")

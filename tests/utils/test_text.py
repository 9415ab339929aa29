"""Words for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gfocal.utils.text import shorten, visible


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("short.jpg", 9, "short.jpg"),
        ("images/train/000001.jpg", 13, "images…01.jpg"),
        ("赤血球の細胞.jpg", 10, "赤血….jpg"),  # letters of two columns: never half of one
        ("赤血球の細胞", 5, "赤…胞"),
        ("abc", 1, "…"),
    ],
)
def test_the_middle_is_left_out(text: str, width: int, shown: str) -> None:
    assert shorten(text, width) == shown


def test_what_would_command_a_terminal_is_written_out() -> None:
    assert visible("a\x1b[31mred\n\t\x9b赤.jpg") == "a\\x1b[31mred\\n\\t\\x9b赤.jpg"
    assert visible("fianc\udce9.jpg") == "fianc\\udce9.jpg"  # a name in another encoding than the system's


@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x9FFF)), st.integers(1, 30))
def test_it_fits(text: str, width: int) -> None:
    assert cell_len(shorten(text, width)) <= width

"""Words for people: numbers, lists, durations."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size

Say = Callable[[str], None]


def program() -> str:
    """How this person types the command: "gfocal", or its path where the shell would not find it."""
    started = Path(sys.argv[0])
    if started.name != "gfocal" or shutil.which("gfocal"):
        return "gfocal"
    near = os.path.relpath(started)
    return shlex.quote(os.path.abspath(started) if near.startswith(os.pardir) else near)


def counted(number: int, one: str, many: str | None = None) -> str:
    """1 image, 2,337 images."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """12 s, 3 min 4 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if whole < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def rounded_duration(seconds: float) -> str:
    """98 s, 3.5 min, 2.1 h: one number, for tables."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def percent(share: float | None) -> str:
    """A share in words: 0.42 %, 0.104 %; "-" where there is none; never 0 % for what is more than nothing."""
    if share is None:
        return "-"
    if share == 0:
        return "0 %"
    return f"{100 * share:.2f} %" if share >= 0.002 else f"{max(100 * share, 0.001):.3f} %"


def decimals(value: float | None) -> str:
    """0.512; "n/a" where there is none."""
    return "n/a" if value is None else f"{value:.3f}"


def listed(items: Sequence[Any]) -> str:
    """0; 0 and 1; 0, 1 and 2."""
    words = [str(item) for item in items]
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def join_some(words: Sequence[str], most: int = 6) -> str:
    """The first few words, and how many there are if these are not all."""
    return ", ".join(words[:most]) + (f", ... ({len(words):,} in all)" if len(words) > most else "")


def shorten(text: str, width: int) -> str:
    """A text of at most ``width`` columns of a terminal, its middle left out; letters of Chinese or Korean take two."""
    if cell_len(text) <= width:
        return text
    end = ""
    for letter in reversed(text):
        if cell_len(letter + end) > width // 2:
            break
        end = letter + end
    return set_cell_size(text, width - 1 - cell_len(end)).rstrip() + "…" + end


def fold_name(name: str, also: str = "") -> str:
    """A name without what people write differently: capitals, blanks, and the characters of ``also``."""
    return "".join(letter for letter in "".join(name.split()) if letter not in also).casefold()


def distinguish(names: Sequence[str]) -> list[tuple[str, int]]:
    """Each name with how often it came before: different even where two classes share a name."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        result.append((name, seen[name]))
        seen[name] += 1
    return result


def distinct(names: Sequence[str]) -> list[str]:
    """Each name, with "(2)" after the second of two that are equal."""
    return [name if before == 0 else f"{name} ({before + 1})" for name, before in distinguish(names)]


_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))  # they turn what follows round
_INVISIBLE = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *_BIDI, *range(0xD800, 0xE000))
_ESCAPED = {code: chr(code).encode("unicode_escape").decode("ascii") for code in _INVISIBLE}


def visible(text: str, keep: str = "") -> str:
    """A text from outside as it may go to a terminal: what would steer that, or cannot be encoded, as escapes.

    File names, class names and words of other programs may hold any character: ESC starts commands to the terminal,
    a newline forges a line, the marks of right-to-left writing turn round what follows. All output passes this.

    Args:
        text: one line.
        keep: characters that stay: a newline where the text has several lines.
    """
    return text.translate(_escapes_without(keep))


@cache  # of a few thousand codes: a page asks for each of its words
def _escapes_without(keep: str) -> dict[int, str]:
    return {code: shown for code, shown in _ESCAPED.items() if chr(code) not in keep}


def say_lines(lines: Iterable[str], say: Say | None) -> None:
    """Say each line, if somebody listens."""
    if say is not None:
        for line in lines:
            say(line)

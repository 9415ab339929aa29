"""How often each class is in each split, as a figure; drawn with matplotlib."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from gfocal.data.checks.classes import ClassCount, by_class
from gfocal.utils.files import write_atomically
from gfocal.utils.text import shorten, visible

MOST = 120
"""Classes in one figure; of more than that it has the commonest and the rarest ones, half of each."""
_NAME = 36  # columns of a terminal, of a class name


class _Colours(NamedTuple):
    page: str
    ink: str
    quiet: str
    splits: tuple[str, str, str]


_LIGHT = _Colours("#ffffff", "#1c1d1f", "#c9ccd1", ("#1f5fa9", "#c2541b", "#2f8f5b"))
_DARK = _Colours("#16181b", "#e7e8ea", "#44484e", ("#7fb2ee", "#f0a070", "#7fcf9f"))
_MARKS = "o", "D", "s"


def draw_classes(out: Path, splits: Mapping[str, Sequence[ClassCount]], title: str) -> list[Path]:
    """Write classes.png, for light pages, and classes-dark.png into a folder that exists.

    Args:
        out: the folder.
        splits: counts by name of the split, the one that decides the order first.
        title: over the figure.

    Returns:
        The files.
    """
    files = []
    for name, dark in (("classes.png", False), ("classes-dark.png", True)):
        figure = classes_figure(splits, title, dark=dark)
        with warnings.catch_warnings():
            # A letter that no font of this machine has is drawn as a frame.
            warnings.filterwarnings("ignore", "Glyph", UserWarning)
            write_atomically(out / name, partial(figure.savefig, format="png", dpi=130))
        files.append(out / name)
    return files


def classes_figure(splits: Mapping[str, Sequence[ClassCount]], title: str, *, dark: bool = False) -> Any:
    """Boxes of each class, and images that show it, as points on logarithmic axes; the commonest class at the top.

    Args:
        splits: counts by name of the split, at most three.
        title: over the figure.
        dark: light on dark.

    Returns:
        A matplotlib figure.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    colours = _DARK if dark else _LIGHT
    rows = by_class(splits)
    left = max(len(rows) - MOST, 0)
    shown = [*rows[: MOST // 2], *rows[-MOST // 2 :]] if left else rows
    with rc_context({"font.family": _fonts("".join(name for name, _ in shown))}):
        height = 1.7 + 0.19 * max(len(shown), 2)
        figure = Figure(figsize=(9, height), layout="constrained", facecolor=colours.page)
        some = f"\n{left:,} classes between the commonest and the rarest are left out" if left else ""
        figure.suptitle(f"Classes\n{title}{some}", fontsize=12, color=colours.ink, parse_math=False)
        if not shown:
            figure.text(0.5, 0.4, "nothing to show: there are no classes", ha="center", color=colours.ink)
            return figure
        boxes, images = figure.subplots(1, 2, sharey=True)
        _panel(boxes, shown, splits, "boxes", colours)
        _panel(images, shown, splits, "images", colours)
        boxes.set_yticks(range(len(shown)), [shorten(visible(name), _NAME) for name, _ in shown], parse_math=False)
        boxes.set_ylim(len(shown) - 0.4, -0.6)
        boxes.set_xlabel("boxes to learn (logarithmic)", color=colours.ink)
        images.set_xlabel("pictures that show the class (logarithmic)", color=colours.ink)
        boxes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=len(splits),
            fontsize=9,
            frameon=False,
            labelcolor=colours.ink,
        )
    return figure


def _panel(panel: Any, rows: Any, splits: Mapping[str, Sequence[ClassCount]], key: str, colours: _Colours) -> None:
    panel.set_facecolor(colours.page)
    most = 1
    for number, (split, mark, colour) in enumerate(zip(splits, _MARKS, colours.splits, strict=False)):
        known = [(row, getattr(counts[split], key)) for row, (_, counts) in enumerate(rows) if split in counts]
        most = max([most, *(count for _, count in known)])
        panel.plot(
            [count for _, count in known],
            [row for row, _ in known],
            mark,
            color=colour,
            label=split,
            markersize=6 - number,
            clip_on=not known,  # a mark at 0 is whole; where there is none, matplotlib could not lay the page out
            zorder=3 + number,
        )
    panel.set_xscale("symlog", linthresh=1)  # which has a place for 0
    ticks = [0, *(10**power for power in range(len(str(most)) + 1))]
    panel.set_xlim(0, most * 1.6)
    panel.set_xticks(
        [tick for tick in ticks if tick <= most * 1.6], [f"{tick:,}" for tick in ticks if tick <= most * 1.6]
    )
    panel.minorticks_off()
    panel.grid(color=colours.quiet, linewidth=0.5)
    panel.set_axisbelow(True)
    panel.tick_params(colors=colours.ink, labelsize=8, length=0, pad=7)
    for side in panel.spines.values():
        side.set_visible(False)


def _fonts(letters: str) -> list[str]:
    """The font of matplotlib, and one of this machine that has most of the letters that it lacks."""
    from matplotlib import font_manager

    own = "DejaVu Sans"
    lacking = {ord(letter) for letter in letters} - _letters_of(font_manager.findfont(own))
    if not lacking:
        return [own]
    others = {font.name: font.fname for font in font_manager.fontManager.ttflist if font.style == "normal"}
    held = {name: len(lacking & _letters_of(file)) for name, file in sorted(others.items())}
    best = max(held, key=lambda name: held[name])
    return [own, best] if held[best] else [own]


@functools.cache
def _letters_of(file: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError):  # a font of a kind that is not read
        return frozenset()

"""Plots in the colours of a page: as a PNG file, or as SVG that follows the page's light or dark form."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

HERE, PAPER, INK, QUIET, PAGE = "#1f5fa9", "#b0480e", "#1c1d1f", "#66696e", "#fefefd"
GREEN, RED = "#17693a", "#a92121"
# In a page these colours become those of its light or dark form.
_THEME = {
    HERE: "--here",
    PAPER: "--paper",
    INK: "--ink",
    QUIET: "--quiet",
    PAGE: "--page",
    GREEN: "--holds",
    RED: "--does-not",
}


UNDER_WORDS: dict[str, Any] = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.5}
"""The box of words that stand on curves."""


def plain_text(text: str) -> str:
    """A text as matplotlib shows it: no formula between dollars, and no leading underscore, which hides a label."""
    plain = text.encode("utf-8", "replace").decode().replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain


def bare(panel: Any) -> None:
    """No frame above and at the right."""
    panel.spines[["top", "right"]].set_visible(False)


def write_png(figure: Any, file: Path, dpi: int = 130) -> None:
    """Write a matplotlib figure as a PNG file, whatever the name of the file ends with."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.savefig(file, dpi=dpi, format="png")


def svg(figure: Any) -> str:
    """A matplotlib figure as an ``<svg>`` element for a page; equal figures give equal text."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    text = StringIO()
    # Text as text: it can be searched and takes the page's fonts. The salt: the same results are the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gfocal"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>\s*", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'<g id="[^"]*"', "<g", drawn)  # several plots in one page would repeat them
    drawn = re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 var(--font)", drawn)
    for colour, variable in _THEME.items():
        drawn = drawn.replace(colour, f"var({variable})")
    return drawn

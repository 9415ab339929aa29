"""What the page is made of. The template has a form for each of these, and knows nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass(frozen=True)
class Bar:
    """A cell with a bar behind its text; ``share`` of the cell's width, in [0, 1]."""

    text: str
    share: float

    @property
    def width(self) -> str:
        return f"{min(max(self.share, 0.0), 1.0):.3f}"


@dataclass(frozen=True)
class Noted:
    """A name with what it means below it."""

    text: str
    note: str


Cell = str | Bar | Noted


@dataclass(frozen=True)
class Words:
    """A paragraph; ``quiet``: how to read what stands above or below."""

    text: str
    quiet: bool = False
    kind: str = field(default="words", init=False)


@dataclass(frozen=True)
class Table:
    """Rows under a heading; the first cell names the row.

    Attributes:
        columns: headings.
        rows: as many cells each.
        caption: for those who hear the page, and above the table.
        words: the columns that hold words, not numbers, beside the first.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    words: Sequence[int] = ()
    kind: str = field(default="table", init=False)


@dataclass(frozen=True)
class Figure:
    """A drawing, what it shows in words, and the numbers that it is drawn from."""

    svg: Markup
    title: str
    caption: str
    numbers: Table


@dataclass(frozen=True)
class Figures:
    """Beside each other where there is room."""

    figures: Sequence[Figure]
    kind: str = field(default="figures", init=False)


@dataclass(frozen=True)
class Matrix:
    """Counts of truth by prediction, each with its share of the row; the last row and column are the background."""

    names: Sequence[str]
    rows: Sequence[Sequence[tuple[str, float]]]
    caption: str
    kind: str = field(default="matrix", init=False)


@dataclass(frozen=True)
class Half:
    """One image as a data URI, with its size in pixels."""

    source: str
    width: int
    height: int


@dataclass(frozen=True)
class Picture:
    """An image twice: with the truth, and with what was found. ``halves`` is None where it cannot be read any more."""

    name: str
    halves: tuple[Half, Half] | None
    truth: str
    found: str
    remark: str = ""
    changes: bool = False


@dataclass(frozen=True)
class Gallery:
    """Images of one kind, and why they are shown."""

    title: str
    text: str
    pictures: Sequence[Picture]
    kind: str = field(default="gallery", init=False)


@dataclass(frozen=True)
class Beside:
    """Tables beside each other where there is room."""

    tables: Sequence[Table]
    kind: str = field(default="beside", init=False)


@dataclass(frozen=True)
class Code:
    """Text to copy."""

    text: str
    kind: str = field(default="code", init=False)


Plain = Words | Table | Figures | Matrix | Gallery | Beside | Code


@dataclass(frozen=True)
class Folded:
    """What is shown when somebody opens it."""

    summary: str
    blocks: Sequence[Plain]
    kind: str = field(default="folded", init=False)


Block = Plain | Folded


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading; ``id`` is where links lead."""

    id: str
    title: str
    blocks: Sequence[Block]

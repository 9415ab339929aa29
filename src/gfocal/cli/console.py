"""Where tables are written; apart from :mod:`gfocal.cli.terminal`, since rich takes a while to load."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from gfocal.utils.text import visible


class PlainConsole(Console):
    """A console of rich that shows what is in texts as it is, without markup, and control characters as escapes."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """A text is one line; what is made of several is a renderable."""
        super().print(*(visible(one) if isinstance(one, str) else one for one in objects), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            plain = segment.text if segment.control else visible(segment.text, keep="\n")
            yield segment if plain == segment.text else Segment(plain, segment.style)

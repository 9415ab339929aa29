"""A page as a browser reads it: what it fetches, which texts it shows, whether its links and labels are whole."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

_FETCHING = {"src", "href", "srcset", "data", "action", "poster", "background", "formaction", "xlink:href", "ping"}
_VOID = {"meta", "img", "br", "link", "input", "hr"}


@dataclass
class Page:
    """What is in it: elements as (name, attributes), texts, and problems of its form."""

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    sheets: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def of(self, name: str) -> list[dict[str, str]]:
        return [attributes for own, attributes in self.elements if own == name]

    @property
    def fetched(self) -> list[str]:
        """Addresses that a browser would ask for: neither inside the page nor part of it."""
        found = [
            value
            for _, attributes in self.elements
            for name, value in attributes.items()
            if name in _FETCHING and not value.startswith(("#", "data:image/jpeg;base64,"))
        ]
        styles = [*self.sheets, *self.styles]
        return found + [address for text in styles for address in re.findall(r"@import|url\((?!#)", text)]

    @property
    def styles(self) -> list[str]:
        return [attributes["style"] for _, attributes in self.elements if "style" in attributes]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page, self.open = Page(), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.page.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.page.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.page.problems.append(f"</{tag}> closes nothing, line {self.getpos()[0]}")

    def handle_data(self, data: str) -> None:
        (self.page.sheets if "style" in self.open else self.page.texts).append(data)


def read_page(html: str) -> Page:
    """Parse it, and see that every element is closed, every id is there once and every link leads somewhere."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    page = reader.page
    page.problems += [f"<{tag}> is never closed" for tag in reader.open]
    ids = [attributes["id"] for tag, attributes in page.elements if "id" in attributes and tag != "clippath"]
    page.problems += [f"id {one} is there twice" for one in {one for one in ids if ids.count(one) > 1}]
    for attributes in page.of("a"):
        if attributes.get("href", "")[1:] not in ids:
            page.problems.append(f"{attributes.get('href')} leads nowhere")
    return page

"""What checkpoints are published, as ``checkpoints.toml`` lists them."""

from __future__ import annotations

import difflib
import functools
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from gfocal.utils.records import from_json

State = Literal["tried", "reads", "needs", "no"]
"""Imported from a copy and measured; readable by its names, shapes and configuration; something is missing; refused."""


@dataclass(frozen=True)
class Source:
    """A project that publishes checkpoints.

    Attributes:
        title: what it is called.
        page: where it lists them.
        licence: of its repository; none of them names the weights apart.
        noncommercial: that licence forbids commercial use.
    """

    title: str
    page: str
    licence: str
    noncommercial: bool = False


@dataclass(frozen=True)
class Published:
    """A checkpoint that somebody publishes.

    Attributes:
        name: what people type.
        source: the project.
        detector, backbone: what it is, in words.
        addresses: where it is, in the order in which they are tried.
        state: whether gfocal reads it.
        reason: the rule by which it does, when it was tried, or why it does not.
        aliases: what the publisher calls it, and its file.
        data: that it was trained on: COCO or VOC.
        about: what else is worth knowing.
        input: of the published figure, in pixels; "" where it is not published.
        epochs: in words; "" where they are not published.
        ap: in percent, as ``measure`` says; None where it is not published.
        test_dev: COCO AP on test-dev in percent.
        code: that a page of Baidu asks for.
        sha256: its first digits, where they are published.
        megabytes: size of the file, where it is published.
        row: recipe that the importer takes it for; "" where there is none.
        style: of its ResNet, for files that do not say it.
    """

    name: str
    source: Source
    detector: str
    backbone: str
    addresses: tuple[str, ...]
    state: State
    reason: str
    aliases: tuple[str, ...] = ()
    data: Literal["COCO", "VOC"] = "COCO"
    about: str = ""
    input: str = ""
    epochs: str = ""
    ap: float | None = None
    test_dev: float | None = None
    measure: str = "COCO val2017, AP"
    code: str = ""
    sha256: str = ""
    megabytes: float | None = None
    row: str = ""
    style: Literal["pytorch", "caffe"] | None = None

    @property
    def is_readable(self) -> bool:
        """Whether gfocal can use it."""
        return self.state in ("tried", "reads")

    @property
    def words(self) -> str:
        """What a person may look for it by."""
        own = (self.name, *self.aliases, self.detector, self.backbone, self.data, self.input)
        return " ".join((*own, self.source.title, self.source.licence)).casefold()


@functools.cache
def published() -> tuple[Published, ...]:
    """All of them, in the order of the file."""
    text = resources.files("gfocal.catalogue").joinpath("checkpoints.toml").read_text(encoding="utf-8")
    return read_entries(text)


def read_entries(text: str) -> tuple[Published, ...]:
    """The entries of a file such as ``checkpoints.toml``.

    Raises:
        ValueError: a key is missing, or its value is of another kind.
    """
    return tuple(
        from_json(Published, {**entry, "source": source})
        for source in tomllib.loads(text)["source"]
        for entry in source["checkpoint"]
    )


def find(name: str) -> Published | None:
    """The checkpoint of a name, the publisher's own included; capitals do not count."""
    wanted = name.casefold()
    for entry in published():
        if wanted in (entry.name, *(alias.casefold() for alias in entry.aliases)):
            return entry
    return None


def near(name: str, count: int = 3) -> list[str]:
    """Names that are spelt nearly so, the nearest first."""
    names = {alias.casefold(): entry.name for entry in published() for alias in (entry.name, *entry.aliases)}
    found = difflib.get_close_matches(name.casefold(), names, n=3 * count, cutoff=0.7)
    return list(dict.fromkeys(names[each] for each in found))[:count]


def matching(words: Sequence[str]) -> list[Published]:
    """Those that have every word somewhere: in name, detector, backbone, data, input, source or licence."""
    folded = [word.casefold() for word in words]
    return [entry for entry in published() if all(word in entry.words for word in folded)]

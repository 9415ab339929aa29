"""``hub:owner/name@revision``: weights in a repository of the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gfocal.errors import UsageError

PREFIX = "hub:"
_PART = r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9_])?"
_NAME = re.compile(rf"hub:(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class HubName:
    """A repository.

    Attributes:
        repo: "owner/name".
        revision: branch, tag or commit; None for its main branch.
    """

    repo: str
    revision: str | None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}{'' if self.revision is None else f'@{self.revision}'}"


def is_hub_name(text: str) -> bool:
    """Whether it is meant as one; it may still be misspelt."""
    return text.startswith(PREFIX)


def parse_hub_name(text: str) -> HubName:
    """The parts of a name.

    Raises:
        UsageError: it is none.
    """
    match = _NAME.fullmatch(text)
    if match is None or ".." in text or "--" in match["repo"]:
        raise UsageError(f"{text} names no repository: write hub:owner/name, with @revision behind it perhaps")
    return HubName(match["repo"], match["revision"])

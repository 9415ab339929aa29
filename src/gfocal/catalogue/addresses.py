"""From a published address to what is asked of a server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from gfocal.catalogue.entries import Published
from gfocal.catalogue.settings import mirror

_DRIVE = re.compile(r"https://drive\.google\.com/(?:file/d/|open\?id=)([\w-]+)")
_BY_HAND = ("pan.baidu.com",)
_SUFFIXES = (".pth", ".pt", ".ckpt", ".pdparams")


@dataclass(frozen=True)
class Address:
    """What a file is asked of.

    Attributes:
        published: the address as published, or the mirror's.
        url: what is asked.
    """

    published: str
    url: str


def file_name(entry: Published) -> str:
    """What the file of a checkpoint is called here: the publisher's name, or ours where the address has none."""
    name = PurePosixPath(unquote(urlsplit(entry.addresses[0]).path)).name
    return name if name.endswith(_SUFFIXES) else f"{entry.name}.pth"


def addresses(entry: Published) -> list[Address]:
    """What can be asked for the file, in order; none where a person has to fetch it.

    A mirror (GFOCAL_MIRROR) stands in for all of them. Of a page of Google Drive the file itself is asked for, by the
    address that its button leads to.
    """
    if (folder := mirror()) is not None:
        url = f"{folder}/{quote(file_name(entry))}"
        return [Address(url, url)]
    found = []
    for address in entry.addresses:
        if match := _DRIVE.match(address):
            file = f"https://drive.usercontent.google.com/download?id={match[1]}&export=download&confirm=t"
            found.append(Address(address, file))
        elif urlsplit(address).hostname not in _BY_HAND:
            found.append(Address(address, address))
    return found

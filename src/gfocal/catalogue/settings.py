"""What the environment says about fetching: ``GFOCAL_OFFLINE``, ``_MIRROR``, ``_TIMEOUT``, ``_YES``."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from gfocal.catalogue.web import quoted, shown
from gfocal.errors import UsageError

_OFF = ("", "0", "false", "no", "off")
_SECONDS = 30.0


def is_offline() -> str | None:
    """The variable that forbids any connection; None where none does."""
    return next((name for name in ("GFOCAL_OFFLINE", "HF_HUB_OFFLINE") if _is_on(name)), None)


def says_yes() -> bool:
    """Whether whoever runs this agrees to licences that forbid commercial use (GFOCAL_YES=1)."""
    return _is_on("GFOCAL_YES")


def mirror() -> str | None:
    """Address of a folder that has the files, without a slash at its end; None where there is none.

    Raises:
        UsageError: see :func:`web_folder`.
    """
    address = os.environ.get("GFOCAL_MIRROR", "").strip()
    return web_folder("GFOCAL_MIRROR", address, "https://example.org/weights") if address else None


def web_folder(variable: str, address: str, example: str) -> str:
    """A folder of the web without a slash at its end, its path written as servers want it.

    Args:
        variable: that names it, for messages.
        address: as a person wrote it, with blanks perhaps.
        example: of an address.

    Raises:
        UsageError: it is no address of the web, or has what is no part of a folder's: a name and password, which would
            be printed and recorded, or a question.
    """
    wrong = UsageError(f"{variable} is the address of a folder, such as {example}, not {shown(address)!r}")
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - it raises for one that is no number
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise wrong from error
    if parts.scheme not in ("http", "https") or not parts.hostname or not re.fullmatch(r"[^\s\\%<>\"]+", parts.netloc):
        raise wrong
    if "@" in parts.netloc:
        raise UsageError(
            f"{variable} has a name or password before its host: it would be printed and recorded, and is not sent. "
            f"Give an address that needs none, such as {shown(address)}"
        )
    if parts.query or parts.fragment:
        raise wrong
    return f"{parts.scheme}://{parts.netloc}{quoted(parts.path.rstrip('/'))}"


def timeout() -> float:
    """Seconds that a server may be silent.

    Raises:
        UsageError: GFOCAL_TIMEOUT is no number above 0.
    """
    text = os.environ.get("GFOCAL_TIMEOUT", "").strip()
    try:
        seconds = float(text) if text else _SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"GFOCAL_TIMEOUT is how many seconds a server may be silent, a number above 0, not {text!r}")
    return seconds


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").strip().casefold() not in _OFF

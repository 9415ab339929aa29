"""What the environment says about fetching: ``GFOCAL_OFFLINE``, ``_MIRROR``, ``_TIMEOUT``, ``_YES``."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

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
        UsageError: it is no address of the web.
    """
    address = os.environ.get("GFOCAL_MIRROR", "").strip().rstrip("/")
    if not address:
        return None
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"GFOCAL_MIRROR is the address of a folder, such as https://example.org/weights, not {address!r}"
        )
    return address


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

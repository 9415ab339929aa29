"""Asking a server for a file: redirects that are said, proxies of the environment, and what went wrong in words."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    getproxies,
    proxy_bypass,
)

import gfocal
from gfocal.errors import GfocalError, UsageError
from gfocal.utils.text import Say, visible

_REDIRECTS = (301, 302, 303, 307, 308)
_LOGIN = re.compile(r"[^\s/@'\"]+@")
_MOST_REDIRECTS = 10
_GONE = (404, 410)
_OTHER_RANGE = 416
_LATER = (408, 425, 429, 500, 502, 503, 504)


class CannotFetch(GfocalError):
    """A file cannot be had from there, and asking again is of no use."""


class CutOff(GfocalError):
    """The connection broke, or the server is busy: asking again may help.

    Attributes:
        useless: what came before is of no use any more.
    """

    useless = False


def ask(url: str, headers: Mapping[str, str], timeout: float, say: Say) -> Any:
    """The server's answer, after redirects; whoever asks closes it.

    Proxies are those of the environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY).

    Args:
        url: of http or https.
        headers: of the request.
        timeout: seconds that the server may be silent.
        say: gets a line where another host answers.

    Raises:
        CannotFetch: nothing is there, or it may not be had.
        CutOff: the server did not answer, or asks for patience.
        UsageError: the environment names a proxy that is none of http.
    """
    opener = _opener()
    _check_proxy(url)
    own = {"User-Agent": f"gfocal/{gfocal.__version__}", "Accept-Encoding": "identity", **headers}
    for _ in range(_MOST_REDIRECTS):
        try:
            return opener.open(Request(url, headers=own), timeout=timeout)
        except HTTPError as error:
            with error:
                if error.code not in _REDIRECTS:
                    raise _by_status(url, error) from None
                target = next_address(url, error.headers.get("Location"))
            if host_of(target) != host_of(url):
                say(f"note: {host_of(url)} leads to {host_of(target)}")
            url = target
            _check_proxy(url)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise explained(url, error) from error
    raise CannotFetch(f"{shown(url)} leads from address to address ({_MOST_REDIRECTS} times)")


def host_of(url: str) -> str:
    """The host that an address names, for messages."""
    return visible(urlsplit(url).hostname or "")


def shown(url: str) -> str:
    """An address for messages and records: without name and password, and without a question, which may be a key."""
    return visible(_LOGIN.sub("", url.partition("?")[0]))


def quoted(path: str) -> str:
    """An address, or its path, with what no address may hold as %..; what is written so already stays."""
    return quote(path, safe="%/:=&?~#+!$,;'@()*[]")


def next_address(url: str, location: str | None) -> str:
    """Where a redirect leads.

    Raises:
        CannotFetch: nowhere, to something else than the web, to an address with a password, or from https to http,
            where anybody on the way could change what comes.
    """
    if not location:
        raise CannotFetch(f"{shown(url)} leads elsewhere without saying where")
    leads = f"{shown(url)} leads to {shown(location)}"
    try:
        target = quoted(urljoin(url, location))
        before, after = urlsplit(url), urlsplit(target)
    except ValueError as error:
        raise CannotFetch(f"{leads}, which is no address of the web") from error
    if after.scheme not in ("http", "https") or not after.hostname:
        raise CannotFetch(f"{leads}, which is no address of the web")
    if "@" in after.netloc:
        raise CannotFetch(f"{leads}, with a name or password before the host: nothing is fetched from there")
    if before.scheme == "https" and after.scheme == "http":
        raise CannotFetch(f"{leads}, which is not encrypted: nothing is fetched from there")
    return target


def explained(url: str, error: BaseException) -> GfocalError:
    """What an error on the way means."""
    host = host_of(url)
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return CannotFetch(
            f"the certificate of {host} cannot be checked ({reason.verify_message}); behind a proxy that opens "
            "connections, SSL_CERT_FILE names its certificate"
        )
    if isinstance(reason, socket.gaierror):
        return CannotFetch(f"the host {host} is not found: there is no network here, or the host is gone")
    if isinstance(reason, TimeoutError):
        return CutOff(f"{host} did not answer in time (GFOCAL_TIMEOUT: seconds that it may be silent)")
    words = visible(_LOGIN.sub("", " ".join(str(reason).split())) or type(reason).__name__)[:200]
    if isinstance(reason, http.client.InvalidURL | ValueError):  # of the address, or of the proxy's
        return CannotFetch(f"{shown(url)} cannot be asked for: there is something wrong with an address ({words})")
    return CutOff(f"the connection to {host} failed ({words})")


def _check_proxy(url: str) -> None:
    """Refuse a proxy that would be spoken to in a language that it does not know.

    Raises:
        UsageError: naming the variable.
    """
    parts = urlsplit(url)
    kind, mark, _ = getproxies().get(parts.scheme, "").partition("://")
    if mark and kind.casefold() not in ("http", "https") and not proxy_bypass(parts.netloc):
        raise UsageError(
            f"{parts.scheme.upper()}_PROXY names a proxy of {visible(kind)[:20]}, and gfocal speaks to those of http "
            f"and https alone: name one of these, or go without one (NO_PROXY={host_of(url)})"
        )


def not_that_part(url: str, why: str = "has another file now than the one that a part is here of") -> CutOff:
    """The error of a server whose answer is of no use for the part that there is."""
    error = CutOff(f"{host_of(url)} {why}")
    error.useless = True
    return error


def _by_status(url: str, error: HTTPError) -> GfocalError:
    host, said = host_of(url), f"{error.code} {visible(str(error.reason))[:80]}"
    if error.code == _OTHER_RANGE:
        return not_that_part(url)
    if error.code in _LATER:
        return CutOff(f"{host} asks for patience ({said})")
    if error.code in _GONE:
        return CannotFetch(f"there is nothing any more at {shown(url)} ({said})")
    return CannotFetch(f"{host} does not give out {shown(url)} ({said})")


def _opener() -> OpenerDirector:
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPHandler(),
        HTTPSHandler(context=ssl.create_default_context()),
        HTTPDefaultErrorHandler(),
        HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
